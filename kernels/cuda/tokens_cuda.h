/*
 * tokens_cuda.h - which tokens a step computes, known on the device alone: those that the host
 * lists, and those that a slot sampled last, which the host has not seen yet. And which token
 * stands at each position, kept beside the KV of the same page (workers/history.h), for penalties.
 */
#ifndef KERNELS_CUDA_TOKENS_CUDA_H
#define KERNELS_CUDA_TOKENS_CUDA_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st;

/* In `given`: the rest is a slot, and the id is the one that it sampled last. */
#define CUDA_TOKENS_LAST (UINT32_C(1) << 31)

/* ids[t] = given[t] or last_ids[slot], for tokens t < *tokens; history[page[t]][position[t] % T] =
 * ids[t]. Comes before the embedding, behind the sampling of the step before. */
struct cuda_tokens_args {
    const uint32_t *given;    /* [tokens] */
    const uint32_t *last_ids; /* [slots] as cuda_sample() writes them */
    const uint32_t *page;     /* [tokens] KV page that takes the token */
    const uint32_t *position; /* [tokens] */
    uint32_t *ids;            /* [tokens] */
    uint32_t *history;        /* [pages][page_tokens] */
    const uint32_t *tokens;   /* On the device. */
    uint32_t tokens_max;      /* Of the bucket: *tokens is at most this. */
    uint32_t page_tokens;
};
int cuda_tokens(const struct cuda_tokens_args *args, struct CUstream_st *stream);

#ifdef __cplusplus
}
#endif

#endif /* KERNELS_CUDA_TOKENS_CUDA_H */
