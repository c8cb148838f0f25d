/* rope_cuda.h - rotation of q and k, and the append of k and v to their page, on the device. */
#ifndef KERNELS_CUDA_ROPE_CUDA_H
#define KERNELS_CUDA_ROPE_CUDA_H

#include <stdint.h>

#include "kernels/dtype.h"

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st;

/*
 * As kern_rope_append_args, for rows r < *rows: adds the bias, norms each head of q and k, rotates
 * them by the position of the row (half-split pairs, rope_dim <= head_dim, even), writes q and
 * appends k and v. A NULL bias or norm leaves its step out. A page of the layer is
 *
 *   [K, V][kv head][page_tokens][head_dim]
 *
 * without padding. Two rows never name the same (page, token). With kv_scale a page holds e4m3, the
 * nearest to k or v over the scale of its head, as attend_cuda.h reads them; past 448, 448. There k
 * is NaN also where v is.
 */
struct cuda_rope_args {
    const void *qkv;          /* act [rows][(heads + 2 * kv_heads) * D] */
    const float *bias;        /* [(heads + 2 * kv_heads) * D] or NULL */
    const float *q_norm;      /* [D] or NULL, both or neither */
    const float *k_norm;      /* [D] */
    void *q;                  /* act [rows][heads][D] */
    void *pool;               /* act (or e4m3), pages of this layer */
    const float *kv_scale;    /* [k, v][kv_heads] or NULL */
    const uint32_t *page;     /* [rows] page of the token */
    const uint32_t *position; /* [rows] in the sequence; the token in the page is % page_tokens */
    const float *cosine;      /* [positions][rope_dim / 2], attention factor included */
    const float *sine;
    const uint32_t *rows; /* On the device. */
    uint32_t rows_max;    /* Of the bucket: *rows is at most this. */
    uint32_t heads;
    uint32_t kv_heads;
    uint32_t head_dim;
    uint32_t rope_dim;
    uint32_t page_tokens;
    float norm_eps;
    uint32_t ctas; /* 0: as many as the shape wants. */
    enum kern_dtype dtype;
};

int cuda_rope(const struct cuda_rope_args *args, struct CUstream_st *stream);

#ifdef __cplusplus
}
#endif

#endif /* KERNELS_CUDA_ROPE_CUDA_H */
