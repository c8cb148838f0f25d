/* logits_cuda.h - maximum, its id and the sum of exponentials of rows of logits, on the device. */
#ifndef KERNELS_CUDA_LOGITS_CUDA_H
#define KERNELS_CUDA_LOGITS_CUDA_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st;

/* As kern_softmax_stats: with finite = 0 only that flag means something. */
struct cuda_logits_stats {
    float max;
    float sum;       /* Of exp(logit - max), in a fixed order. */
    uint32_t argmax; /* Smallest id among equals. */
    uint32_t finite; /* No NaN, no infinity in the row. */
};

enum { CUDA_LOGITS_PART = 8192 }; /* Logits of one unit of work. */

/* stats[r] for rows r < *rows. */
struct cuda_logits_args {
    const float *logits;               /* [rows][vocab] */
    struct cuda_logits_stats *stats;   /* [rows] */
    struct cuda_logits_stats *scratch; /* [rows_max][parts of a row] */
    const uint32_t *rows;              /* On the device. */
    uint32_t rows_max;                 /* Of the bucket: *rows is at most this. */
    uint32_t vocab;
    uint32_t ctas; /* 0: as many as the shape wants. */
};

static inline uint32_t cuda_logits_parts(uint32_t vocab)
{
    return (vocab + CUDA_LOGITS_PART - 1) / CUDA_LOGITS_PART;
}

int cuda_logits(const struct cuda_logits_args *args, struct CUstream_st *stream);

#ifdef __cplusplus
}
#endif

#endif /* KERNELS_CUDA_LOGITS_CUDA_H */
