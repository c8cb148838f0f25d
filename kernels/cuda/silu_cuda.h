/* silu_cuda.h - silu(gate) * up of rows, on the device. */
#ifndef KERNELS_CUDA_SILU_CUDA_H
#define KERNELS_CUDA_SILU_CUDA_H

#include <stdint.h>

#include "kernels/dtype.h"

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st;

/* y[r][c] = silu(gate[r][c]) * up[r][c] for rows r < *rows, silu(x) = x / (1 + exp(-x)). */
struct cuda_silu_args {
    const void *gate_up;  /* act [rows][2 * cols]: gate then up */
    void *y;              /* act [rows][cols] */
    const uint32_t *rows; /* On the device. */
    uint32_t rows_max;    /* Of the bucket: *rows is at most this. */
    uint32_t cols;
    uint32_t ctas; /* 0: as many as the shape wants. */
    enum kern_dtype dtype;
};

int cuda_silu(const struct cuda_silu_args *args, struct CUstream_st *stream);

#ifdef __cplusplus
}
#endif

#endif /* KERNELS_CUDA_SILU_CUDA_H */
