/*
 * matmul.h - y = x W^T (+ y) with W packed once. Products come from a library: oneDNN on x86.
 *
 * A shape owns the library's primitives (they depend on n, k, dtype and the row count); a weight is
 * one matrix packed for a shape. Many weights share a shape: all layers of a model. A product is
 * cut along n into slices, fixed when the shape is made; each slice is one single-threaded call
 * that any thread may make. A row's result does not depend on the other rows of the call in f32.
 *
 * Eight-bit weights: each row of W has its own scale, made while it is packed (quantise.h); a call
 * scales each row of x likewise, sums products of integers in 32 bits, and scales the sums back.
 * Integer sums are exact: a row has the same bits in any batch, on any CPU, for either dtype.
 */
#ifndef KERNELS_MATMUL_H
#define KERNELS_MATMUL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/must.h"
#include "kernels/kern.h"

struct matmul_shape;
struct matmul_weight;

/* FP8 is of engines on GPUs: here it is refused. */
enum matmul_weights { MATMUL_WEIGHTS_DTYPE, MATMUL_WEIGHTS_INT8, MATMUL_WEIGHTS_FP8 };

enum { MATMUL_INT8_K_MAX = 1 << 17 }; /* 127 * 127 * k stays within 32 bits. */

struct matmul_options {
    uint32_t n;            /* Columns of y, rows of W. Any value >= 1. */
    uint32_t k;            /* Columns of x and of W. Any value >= 1. */
    uint32_t slices;       /* Wanted; fewer when n is small. */
    uint32_t rows_max;     /* Largest m of a call. */
    enum kern_dtype dtype; /* Of x, and of W by default; y is float. */
    enum matmul_weights weights;
};

enum { MATMUL_LIBRARY_BYTES_MAX = 64 };

/* The library and its version, as loaded: "oneDNN 2.6.3". */
void matmul_library(char name[MATMUL_LIBRARY_BYTES_MAX]);

/* -ENOTSUP when this CPU has no such product (bf16 without AVX-512, int8 without VNNI, fp8) or k
 * is too large for it, -ENOMEM. */
int matmul_shape_open(struct matmul_shape **out, const struct matmul_options *options) MUST_CHECK;
void matmul_shape_close(struct matmul_shape *shape);
uint32_t matmul_shape_slices(const struct matmul_shape *shape);

/* x must be readable for this many rows when a call has m rows. What stands past m does not matter,
 * and y is written up to m. */
uint32_t matmul_rows_padded(const struct matmul_shape *shape, uint32_t m);

/* Rows that cost no more than one of them: a batch is best cut on multiples of it. */
uint32_t matmul_rows_step(const struct matmul_shape *shape);

/* Bytes of scratch one thread needs for matmul_run, 64-byte aligned. */
size_t matmul_scratch_bytes(const struct matmul_shape *shape);

/* An empty weight; its memory is huge-page advised. */
int matmul_weight_open(struct matmul_weight **out, const struct matmul_shape *shape) MUST_CHECK;
void matmul_weight_close(struct matmul_weight *weight);
size_t matmul_weight_bytes(const struct matmul_weight *weight);

/* Packs all of one slice. rows is float [slice columns][k], row-major: rows
 * [matmul_slice_first(), + matmul_slice_count()) of W. Scratch-free; different slices may be packed
 * by different threads. 0 or -ENOMEM. */
uint32_t matmul_slice_first(const struct matmul_shape *shape, uint32_t slice);
uint32_t matmul_slice_count(const struct matmul_shape *shape, uint32_t slice);
int matmul_weight_pack(struct matmul_weight *weight, uint32_t slice, const float *rows) MUST_CHECK;

struct matmul_args {
    const struct matmul_weight *weight;
    const void *x;   /* act [m][k], rows contiguous */
    float *y;        /* [m][n], rows contiguous */
    uint32_t m;      /* 1 .. rows_max */
    bool accumulate; /* y += instead of y = */
    void *scratch;   /* Of the calling thread. */
};

/* Computes the columns of one slice. Re-entrant over different slices and weights. */
void matmul_run(const struct matmul_args *args, uint32_t slice);

#endif /* KERNELS_MATMUL_H */
