/* kv_pages_cuda.h - whole pages of KV between the pool and staging, and within the pool, on the
 * device. */
#ifndef KERNELS_CUDA_KV_PAGES_CUDA_H
#define KERNELS_CUDA_KV_PAGES_CUDA_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st;

/*
 * The pool holds the pages of one layer after those of another; staging holds whole pages:
 *
 *   pool      [layers][pages of the pool] page of one layer, layer l at l * layer_bytes
 *   staging   [count][layers] page of one layer
 *
 * so that a page of all layers is one piece on its way to the host.
 */
struct cuda_kv_pages_args {
    void *pool;
    void *staging;
    const uint32_t *pages; /* [count] */
    const uint32_t *count; /* On the device. */
    uint32_t count_max;    /* *count is at most this. */
    uint32_t layers;
    uint64_t layer_bytes;
    uint64_t page_bytes; /* Of one layer; a multiple of 16, as are the addresses. */
    uint32_t ctas;       /* 0: as many as the shape wants. */
};

enum { CUDA_KV_PAGES_PAIRS_MAX = 32 };

/* Copies page source[i] to target[i] of the same pool, one pair after the other. The pairs come
 * with the launch, so that nothing waits for a list on its way to the device. */
struct cuda_kv_pages_copy_args {
    void *pool;
    uint32_t source[CUDA_KV_PAGES_PAIRS_MAX];
    uint32_t target[CUDA_KV_PAGES_PAIRS_MAX];
    uint32_t count;
    uint32_t layers;
    uint64_t layer_bytes;
    uint64_t page_bytes; /* Of one layer; a multiple of 16, as is the address. */
    uint32_t ctas;       /* 0: as many as the shape wants. */
};

int cuda_kv_pages_gather(const struct cuda_kv_pages_args *args, struct CUstream_st *stream);
int cuda_kv_pages_scatter(const struct cuda_kv_pages_args *args, struct CUstream_st *stream);
int cuda_kv_pages_copy(const struct cuda_kv_pages_copy_args *args, struct CUstream_st *stream);

#ifdef __cplusplus
}
#endif

#endif /* KERNELS_CUDA_KV_PAGES_CUDA_H */
