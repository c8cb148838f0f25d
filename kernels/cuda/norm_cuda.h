/* norm_cuda.h - RMS norm of rows, on the device. */
#ifndef KERNELS_CUDA_NORM_CUDA_H
#define KERNELS_CUDA_NORM_CUDA_H

#include <stdint.h>

#include "kernels/dtype.h"

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st;

/* y[r][c] = x[r][c] * w[c] / sqrt(mean(x[r]^2) + eps) for rows r < *rows; where `add` is given,
 * x[r] += add[r] first. */
struct cuda_norm_args {
    float *x;             /* [rows][cols]; written only with `add`. */
    const float *add;     /* [rows][cols] or NULL */
    const float *w;       /* [cols] */
    void *y;              /* act [rows][cols] */
    const uint32_t *rows; /* On the device. */
    uint32_t rows_max;    /* Of the bucket: *rows is at most this. */
    uint32_t cols;
    float eps;
    uint32_t ctas; /* 0: as many as the shape wants. */
    enum kern_dtype dtype;
};

int cuda_norm(const struct cuda_norm_args *args, struct CUstream_st *stream);

#ifdef __cplusplus
}
#endif

#endif /* KERNELS_CUDA_NORM_CUDA_H */
