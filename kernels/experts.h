/*
 * experts.h - arguments of the operations that only mixtures of experts have; a part of kern.h, by
 * its rules. The experts' own products are those of matmul.h, on rows gathered by expert.
 */
#ifndef KERNELS_EXPERTS_H
#define KERNELS_EXPERTS_H

#include <stdbool.h>
#include <stdint.h>

/*
 * The `used` experts with the largest logits of each row, best first, ties to the smallest id, and
 * their softmax: over these alone where `normed`, else over all. Units: rows.
 */
struct kern_route_args {
    const float *logits; /* [rows][experts] */
    uint32_t *expert;    /* [rows][used] */
    float *weight;       /* [rows][used] */
    uint32_t experts;
    uint32_t used; /* From 1 to experts and LIMIT_EXPERTS_USED_MAX. */
    bool normed;
};

/* x[r] += sum over i of weight[r][i] * y[slot[r][i]], i ascending. Units: rows. */
struct kern_combine_args {
    const float *y;       /* [slots][cols] */
    const uint32_t *slot; /* [rows][used] */
    const float *weight;  /* [rows][used] */
    float *x;             /* [rows][cols] */
    uint32_t cols;
    uint32_t used;
};

#endif /* KERNELS_EXPERTS_H */
