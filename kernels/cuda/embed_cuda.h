/* embed_cuda.h - rows of the embedding table, on the device. */
#ifndef KERNELS_CUDA_EMBED_CUDA_H
#define KERNELS_CUDA_EMBED_CUDA_H

#include <stdint.h>

#include "kernels/dtype.h"

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st;

/* x[r][c] = table[id[r]][c] for rows r < *rows. An id past the vocabulary gives NaN, which the
 * check of the logits finds. */
struct cuda_embed_args {
    const void *table; /* act [vocab][cols] */
    const uint32_t *ids;
    float *x;             /* [rows][cols] */
    const uint32_t *rows; /* On the device. */
    uint32_t rows_max;    /* Of the bucket: *rows is at most this. */
    uint32_t cols;
    uint32_t vocab;
    uint32_t ctas; /* 0: as many as the shape wants. */
    enum kern_dtype dtype;
};

int cuda_embed(const struct cuda_embed_args *args, struct CUstream_st *stream);

#ifdef __cplusplus
}
#endif

#endif /* KERNELS_CUDA_EMBED_CUDA_H */
