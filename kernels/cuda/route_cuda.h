/* route_cuda.h - a choice of experts for each token, and the sum of what they gave, on the device.
 */
#ifndef KERNELS_CUDA_ROUTE_CUDA_H
#define KERNELS_CUDA_ROUTE_CUDA_H

#include <stdint.h>

#include "kernels/dtype.h"

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st;

/* As kern_route_args, for rows r < *rows: the `used` experts with the largest logits, best first,
 * ties to the smallest id, and their softmax: over these alone where normed, else over all. A NaN
 * counts as the least of numbers, so ids stay in range and differ. */
struct cuda_route_args {
    const float *logits;  /* [rows][experts] */
    uint32_t *expert;     /* [rows][used] */
    float *weight;        /* [rows][used] */
    const uint32_t *rows; /* On the device. */
    uint32_t rows_max;    /* Of the bucket: *rows is at most this. */
    uint32_t experts;
    uint32_t used; /* At most 32. */
    uint32_t normed;
    uint32_t ctas; /* 0: as many as the shape wants. */
};

/* x[r] += sum over i of weight[r][i] * y[slot[r][i]], i ascending, for rows r < *rows. */
struct cuda_combine_args {
    const void *y;        /* act [slots][cols] */
    const uint32_t *slot; /* [rows][used] */
    const float *weight;  /* [rows][used] */
    float *x;             /* [rows][cols] */
    const uint32_t *rows; /* On the device. */
    uint32_t rows_max;    /* Of the bucket: *rows is at most this. */
    uint32_t cols;
    uint32_t used;
    uint32_t ctas; /* 0: as many as the shape wants. */
    enum kern_dtype dtype;
};

int cuda_route(const struct cuda_route_args *args, struct CUstream_st *stream);
int cuda_combine(const struct cuda_combine_args *args, struct CUstream_st *stream);

#ifdef __cplusplus
}
#endif

#endif /* KERNELS_CUDA_ROUTE_CUDA_H */
