/* quantise_cuda.h - rows of acts as e4m3 with a scale each, on the device. */
#ifndef KERNELS_CUDA_QUANTISE_CUDA_H
#define KERNELS_CUDA_QUANTISE_CUDA_H

#include <stdint.h>

#include "kernels/dtype.h"

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st;

/*
 * For rows r < *rows: scale[r] = max |x[r][c]| / 448, and q[r][c] is the e4m3 nearest to
 * x[r][c] * (448 / max |x[r][c]|). A row of numbers below 1e-30 becomes zeros, of scale 0. The max
 * looks past NaN, which is NaN in q, as is an infinity.
 */
struct cuda_quantise_args {
    const void *x;        /* act [rows][cols] */
    uint8_t *q;           /* [rows][cols] */
    float *scale;         /* [rows] */
    const uint32_t *rows; /* On the device. */
    uint32_t rows_max;    /* Of the bucket: *rows is at most this. */
    uint32_t cols;
    uint32_t ctas; /* 0: as many as the shape wants. */
    enum kern_dtype dtype;
};

int cuda_quantise(const struct cuda_quantise_args *args, struct CUstream_st *stream);

#ifdef __cplusplus
}
#endif

#endif /* KERNELS_CUDA_QUANTISE_CUDA_H */
