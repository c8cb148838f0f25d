/*
 * attend_math_avx512.h - paged attention on AVX-512; the text of two spellings, float and bf16. In
 * both a "unit" is 32 bits: one float, or a pair of bf16 along the axis of the sum. attend_madd()
 * and attend_pack() are all that differs.
 *
 * Four query vectors (rows x heads of one kv head) share the loads of K and V: scores of 4 x 64
 * positions, then outputs of 4 x 64 dimensions, each in 16 registers. A vector's own sums run in
 * one order, whatever stands beside it: aligned blocks of KERN_ATTEND_BLOCK positions. A block that
 * only its neighbours see leaves it as it was.
 */
#ifndef KERNELS_X86_ATTEND_MATH_AVX512_H
#define KERNELS_X86_ATTEND_MATH_AVX512_H

#include <math.h>
#include <string.h>

#include "kernels/kv_layout.h"
#include "kernels/x86/vector_avx512.h"

enum {
    ATTEND_TILES = KERN_ATTEND_BLOCK / KERN_KV_TILE,
    ATTEND_SHARE = 4, /* Vectors, and chunks of 16 dimensions, in registers at one time. */
};

struct attend { /* One item: its vectors and where everything is. */
    const struct kern_attend_args *args;
    const struct kern_sequence *sequence;
    struct kv_layout layout;
    size_t page_bytes;
    uint32_t kv_head;
    uint32_t group;
    uint32_t vectors;
    uint32_t first_position; /* Of the item's first row. */
    uint32_t units;          /* Of a query: head_dim, or pairs of it. */
    uint32_t unit_tokens;    /* Positions of a unit of V: 1 or 2. */
    size_t padded;           /* head_dim rounded up to 16. */
    float *out;              /* [vectors][padded] */
    uint32_t *query;         /* [vectors][padded] units */
    float *p;                /* [vectors][KERN_ATTEND_BLOCK]: scores, then packed weights */
    float *max;              /* [vectors] */
    float *sum;              /* [vectors] */
};

static inline __m512 attend_madd(__m512 sum, __m512i a, __m512i b);
static inline void attend_pack(float *p); /* KERN_ATTEND_BLOCK floats to units, in place. */

static inline const uint8_t *attend_page(const struct attend *at, uint32_t position)
{
    const uint32_t page = at->sequence->pages[position / at->args->page_tokens];
    return (const uint8_t *)at->args->pool + page * at->page_bytes;
}

/* Raw scores of `vectors` (1 to 4) queries against a block, into their p. */
static inline __attribute__((always_inline)) void
attend_scores(const struct attend *at, uint32_t first, const uint8_t *const tiles[ATTEND_TILES],
              const int vectors)
{
    __m512 sums[ATTEND_SHARE][ATTEND_TILES];
    for (int v = 0; v < vectors; v++) {
        for (int t = 0; t < ATTEND_TILES; t++) {
            sums[v][t] = _mm512_setzero_ps();
        }
    }
    for (size_t u = 0; u < at->units; u++) {
        __m512i k[ATTEND_TILES];
        for (int t = 0; t < ATTEND_TILES; t++) {
            k[t] = _mm512_loadu_si512(tiles[t] + u * 64);
        }
        for (int v = 0; v < vectors; v++) {
            const __m512i q =
                _mm512_set1_epi32((int)at->query[(first + (size_t)v) * at->padded + u]);
            for (int t = 0; t < ATTEND_TILES; t++) {
                sums[v][t] = attend_madd(sums[v][t], k[t], q);
            }
        }
    }
    for (int v = 0; v < vectors; v++) {
        for (int t = 0; t < ATTEND_TILES; t++) {
            _mm512_storeu_ps(at->p + (first + (size_t)v) * KERN_ATTEND_BLOCK + t * 16, sums[v][t]);
        }
    }
}

/* Scores to weights of one vector: positions [begin, end) of the block, which are some, 0 for the
 * others. Rescales what it has summed so far. */
static inline void attend_soften(const struct attend *at, uint32_t vector, uint32_t begin,
                                 uint32_t end)
{
    float *p = at->p + (size_t)vector * KERN_ATTEND_BLOCK;
    float *out = at->out + vector * at->padded;
    const __m512 scale = _mm512_set1_ps(at->args->scale);
    __m512 scores[ATTEND_TILES];
    __m512 most = _mm512_set1_ps(at->max[vector]);
    for (uint32_t t = 0; t < ATTEND_TILES; t++) {
        const __mmask16 ended = vector_mask(end > t * 16 ? end - t * 16 : 0);
        const __mmask16 before = vector_mask(begin > t * 16 ? begin - t * 16 : 0);
        const __m512 raw = _mm512_mul_ps(_mm512_loadu_ps(p + (size_t)t * 16), scale);
        scores[t] =
            _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), _kandn_mask16(before, ended), raw);
        most = _mm512_max_ps(most, scores[t]);
    }
    const float max = _mm512_reduce_max_ps(most);
    __m512 sum = _mm512_setzero_ps();
    for (uint32_t t = 0; t < ATTEND_TILES; t++) {
        scores[t] = vector_exp(_mm512_sub_ps(scores[t], _mm512_set1_ps(max)));
        sum = _mm512_add_ps(sum, scores[t]);
        _mm512_storeu_ps(p + (size_t)t * 16, scores[t]);
    }
    const __m512 shrink = vector_exp(_mm512_set1_ps(at->max[vector] - max));
    at->sum[vector] = at->sum[vector] * _mm512_cvtss_f32(shrink) + _mm512_reduce_add_ps(sum);
    at->max[vector] = max;
    for (size_t d = 0; d < at->padded; d += 16) {
        _mm512_storeu_ps(out + d, _mm512_mul_ps(_mm512_loadu_ps(out + d), shrink));
    }
    attend_pack(p);
}

struct attend_span { /* Vectors from `first` on, the block from `position` on, as units of V. */
    uint32_t first;
    uint32_t position;
    uint32_t units;
};

/* out += p V over a span, for `vectors` vectors and `chunks` chunks of 16 dimensions from dimension
 * `from` on. */
static inline __attribute__((always_inline)) void attend_gather(const struct attend *at,
                                                                const struct attend_span *span,
                                                                size_t from, const int vectors,
                                                                const int chunks)
{
    const uint32_t first = span->first;
    const uint32_t units = span->units;
    const uint32_t dim = at->args->head_dim;
    const uint32_t page_units = at->args->page_tokens / at->unit_tokens;
    const __mmask16 tail = vector_mask(dim - from - (size_t)(chunks - 1) * 16);
    __m512 sums[ATTEND_SHARE][ATTEND_SHARE];
    for (int v = 0; v < vectors; v++) {
        for (int c = 0; c < chunks; c++) {
            sums[v][c] =
                _mm512_loadu_ps(at->out + (first + (size_t)v) * at->padded + from + (size_t)c * 16);
        }
    }
    for (uint32_t u = 0; u < units;) {
        const uint32_t token = span->position + u * at->unit_tokens;
        const size_t head = at->layout.first_v + at->layout.head_v * at->kv_head;
        const size_t bytes = head * kern_dtype_bytes(at->args->dtype);
        const uint32_t in_page = token % at->args->page_tokens / at->unit_tokens;
        const uint32_t *v_units = (const uint32_t *)(attend_page(at, token) + bytes);
        const uint32_t run = units - u < page_units - in_page ? units - u : page_units - in_page;
        for (uint32_t i = 0; i < run; i++, u++) {
            const uint32_t *row = v_units + (size_t)(in_page + i) * dim + from;
            __m512i values[ATTEND_SHARE];
            for (int c = 0; c < chunks; c++) {
                values[c] = _mm512_maskz_loadu_epi32(c + 1 == chunks ? tail : (__mmask16)0xffff,
                                                     row + (size_t)c * 16);
            }
            for (int v = 0; v < vectors; v++) {
                const uint32_t *weights =
                    (const uint32_t *)(at->p + (first + (size_t)v) * KERN_ATTEND_BLOCK);
                const __m512i p = _mm512_set1_epi32((int)weights[u]);
                for (int c = 0; c < chunks; c++) {
                    sums[v][c] = attend_madd(sums[v][c], values[c], p);
                }
            }
        }
    }
    for (int v = 0; v < vectors; v++) {
        for (int c = 0; c < chunks; c++) {
            _mm512_storeu_ps(at->out + (first + (size_t)v) * at->padded + from + (size_t)c * 16,
                             sums[v][c]);
        }
    }
}

/* All dimensions: four chunks at a time, then one. */
static inline __attribute__((always_inline)) void
attend_output(const struct attend *at, const struct attend_span *span, const int vectors)
{
    size_t from = 0;
    for (; at->args->head_dim - from >= 64; from += 64) {
        attend_gather(at, span, from, vectors, ATTEND_SHARE);
    }
    for (; from < at->args->head_dim; from += 16) {
        attend_gather(at, span, from, vectors, 1);
    }
}

#endif /* KERNELS_X86_ATTEND_MATH_AVX512_H */
