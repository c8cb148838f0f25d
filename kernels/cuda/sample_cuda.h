/*
 * sample_cuda.h - rows of logits to token ids on the device, as workers/sample.h says it: the same
 * order of filters, the same ids at ties, the same random numbers. From equal logits the ids are
 * those of the CPU, bit for bit; a logprob is within 1e-6 * (1 + |logprob|) of the exact one.
 *
 * A row depends on its own logits, slot and history alone. One with a NaN or an infinity is
 * invalid, and the others go on.
 */
#ifndef KERNELS_CUDA_SAMPLE_CUDA_H
#define KERNELS_CUDA_SAMPLE_CUDA_H

#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st;

enum { CUDA_SAMPLE_STOP_IDS_MAX = LIMIT_STOP_IDS_MAX + LIMIT_EOS_IDS_MAX };

/* How a request samples: struct sample_params, for the device. */
struct cuda_sample_slot {
    uint64_t seed;
    float temperature; /* 0: greedy. */
    float reach;       /* sample_reach() */
    float top_p;       /* 1: off. */
    uint32_t top_k;    /* 0: off. */
    uint32_t logprobs; /* 1: the chosen token's is wanted, and */
    uint32_t top_logprobs;
    uint32_t score_top;
    uint32_t min_position;
    uint32_t stop_id_count;
    uint32_t stop_ids[CUDA_SAMPLE_STOP_IDS_MAX];
    uint32_t adjusts; /* 1: the rest means something. */
    uint32_t prompt_tokens;
    float repetition;
    float presence;
    float frequency;
    uint32_t bias_first; /* In args.biases. Those that are finite name distinct ids. */
    uint32_t bias_count;
    uint32_t allowed_first; /* In args.allowed. */
    uint32_t allowed_count;
};

struct cuda_sample_bias {
    uint32_t id;
    float bias; /* -INFINITY: never. */
};

struct cuda_sample_row {
    uint32_t slot;
    uint32_t last;        /* Where in args.last_ids its id goes. */
    uint32_t position;    /* Of the token to be sampled: so many come before it. */
    uint32_t pages_first; /* Of its block table, in args.pages; read when the slot adjusts. */
    uint32_t judges;      /* 1: nothing is drawn, `id` is judged. */
    uint32_t id;
};

struct cuda_sample_result {
    uint32_t id;
    uint32_t invalid; /* 1: the row has a NaN or an infinity; id is 0, nothing else is set. */
    uint32_t top_count;
    float logprob; /* Of id, where asked for. */
};

struct cuda_sample_top {
    uint32_t id;
    float logprob;
};

struct cuda_sample_args {
    const float *logits; /* [rows][stride] */
    const struct cuda_sample_row *rows;
    const uint32_t *row_count; /* At most rows_max. */
    const struct cuda_sample_slot *slots;
    const struct cuda_sample_bias *biases;
    const uint32_t *allowed;
    const uint32_t *history;            /* [pages][page_tokens] token ids */
    const uint32_t *pages;              /* Block tables. */
    uint32_t *last_ids;                 /* Tokens sampled last; not those of judged rows. */
    struct cuda_sample_result *results; /* [rows] */
    struct cuda_sample_top *tops;       /* [rows][LIMIT_TOP_LOGPROBS_MAX] falling */
    void *work; /* [ctas] of cuda_sample_work_bytes(vocab), zero before the first launch */
    uint32_t vocab;
    uint32_t stride;
    uint32_t page_tokens;
    uint32_t rows_max;
    uint32_t ctas; /* At least 1. */
};

size_t cuda_sample_work_bytes(uint32_t vocab);

/* 0, -EINVAL, -EIO. */
int cuda_sample(const struct cuda_sample_args *args, struct CUstream_st *stream);

#ifdef __cplusplus
}
#endif

#endif /* KERNELS_CUDA_SAMPLE_CUDA_H */
