/* weave_cuda.h - what the ranks of a group computed apart, put side by side, on the device. */
#ifndef KERNELS_CUDA_WEAVE_CUDA_H
#define KERNELS_CUDA_WEAVE_CUDA_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/dtype.h"

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st;

/* y[r] = the columns of all ranks of row r, for rows r < *rows. Rank i has the columns
 * [cols * i / ranks, cols * (i + 1) / ranks), as span_part() cuts them. */
struct cuda_weave_args {
    const void *parts;    /* [ranks][part_items]: each begins with [rows_max][the rank's columns] */
    void *y;              /* [rows][cols] */
    const uint32_t *rows; /* On the device. */
    uint64_t part_items;
    uint32_t rows_max; /* Of the bucket: *rows is at most this. */
    uint32_t cols;
    uint32_t ranks;
    uint32_t ctas; /* 0: as many as the shape wants. */
    enum kern_dtype dtype;
    bool adds; /* To what is in y; wants float. */
};

/* 0, -EINVAL, -EIO. */
int cuda_weave(const struct cuda_weave_args *args, struct CUstream_st *stream);

#ifdef __cplusplus
}
#endif

#endif /* KERNELS_CUDA_WEAVE_CUDA_H */
