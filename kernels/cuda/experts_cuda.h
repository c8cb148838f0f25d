/*
 * experts_cuda.h - the products of a mixture of experts on the device: which rows each expert has,
 * and their products with its weights. The host never learns the counts. Before come route, after
 * combine (route_cuda.h); a slot is what model_moe.h calls so.
 *
 * A slot's numbers depend on its own row and expert alone.
 */
#ifndef KERNELS_CUDA_EXPERTS_CUDA_H
#define KERNELS_CUDA_EXPERTS_CUDA_H

#include <stdint.h>

#include "kernels/dtype.h"

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st;

/* What the batch gives to each expert, in device memory. */
struct cuda_experts_shares {
    uint32_t *first; /* [experts + 1] its first slot; behind the last one, all slots */
    uint32_t *tile;  /* [experts + 1] its first tile of rows, likewise */
};

/* Slots for the choices of rows r < *rows: those of an expert lie side by side, in the order of
 * rows. */
struct cuda_group_args {
    const uint32_t *expert; /* [rows][used], each below experts */
    uint32_t *slot;         /* [rows][used] */
    uint32_t *row;          /* [rows * used] the row that a slot belongs to */
    struct cuda_experts_shares shares;
    const uint32_t *rows; /* On the device. */
    uint32_t rows_max;    /* Of the bucket: *rows is at most this. */
    uint32_t experts;     /* At most LIMIT_EXPERTS_MAX. */
    uint32_t used;
};
int cuda_group(const struct cuda_group_args *args, struct CUstream_st *stream);

/* y[s] = x[row[s]] w[e]^T for the slots s of each expert e. bf16: sums are float, k is a multiple
 * of 8 and n of 2. */
struct cuda_experts_args {
    const void *x;       /* act [rows or slots][k] */
    const uint32_t *row; /* [slots] from cuda_group(); NULL: slot s has row s. */
    const void *w;       /* act [experts][n][k] */
    void *y;             /* act [slots][n] */
    struct cuda_experts_shares shares;
    uint32_t slots_max; /* Of the bucket. */
    uint32_t experts;
    uint32_t n;
    uint32_t k;
    uint32_t ctas; /* 0: as many as the shape wants. */
    enum kern_dtype dtype;
};
int cuda_experts(const struct cuda_experts_args *args, struct CUstream_st *stream);

#ifdef __cplusplus
}
#endif

#endif /* KERNELS_CUDA_EXPERTS_CUDA_H */
