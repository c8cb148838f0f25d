/*
 * quantise.h - arguments of the operations around a product of eight-bit integers; a part of
 * kern.h, by its rules. The product itself, [rows][k] by [k][cols] into 32-bit sums, is matmul.h's.
 */
#ifndef KERNELS_QUANTISE_H
#define KERNELS_QUANTISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/dtype.h"

/*
 * scale[r] = max |x[r]| / 127, q[r][c] = x[r][c] / scale[r] to the nearest even integer, so that q
 * stays within +-127. A row below KERN_QUANTISE_MIN is zero and has the scale 0; one with an
 * infinity or a NaN is zero and has the scale NaN, which whatever is made of it inherits. Units:
 * rows.
 */
#define KERN_QUANTISE_MIN 1e-35f /* 127 divided by it is still a float. */
struct kern_quantise_args {
    const void *x; /* act [rows][cols] */
    int8_t *q;     /* [rows][cols] */
    float *scale;  /* [rows] */
    uint32_t cols;
    enum kern_dtype dtype; /* Of x. */
};

/* y[r][c] = sum[r][c] * row_scale[r] * column_scale[c], or y += it, each product and the sum with a
 * rounding of its own, as where a rank's product is gathered before it is added. Units: rows. */
struct kern_rescale_args {
    const int32_t *sum;        /* [rows][cols] */
    const float *row_scale;    /* [rows] */
    const float *column_scale; /* [cols] */
    float *y;                  /* [rows], y_stride floats apart */
    size_t y_stride;
    uint32_t cols;
    bool accumulate;
};

#endif /* KERNELS_QUANTISE_H */
