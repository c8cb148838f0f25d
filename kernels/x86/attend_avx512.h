/*
 * attend_avx512.h - paged attention on AVX-512; the text of two spellings, float and bf16. In both
 * a "unit" is 32 bits: one float, or a pair of bf16 along the axis of the sum. attend_madd() and
 * attend_pack() are all that differs.
 *
 * Four query vectors (rows x heads of one kv head) share the loads of K and V: scores of 4 x 64
 * positions, then outputs of 4 x 64 dimensions, each in 16 registers. A vector's own sums run in
 * one order, whatever stands beside it: aligned blocks of KERN_ATTEND_BLOCK positions from 0 on.
 */
#ifndef KERNELS_X86_ATTEND_AVX512_H
#define KERNELS_X86_ATTEND_AVX512_H

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

/* Scores to weights of one vector: its first `count` positions of the block, 0 for the others.
 * Rescales what it has summed so far. */
static inline void attend_soften(const struct attend *at, uint32_t vector, uint32_t count)
{
    float *p = at->p + (size_t)vector * KERN_ATTEND_BLOCK;
    float *out = at->out + vector * at->padded;
    const __m512 scale = _mm512_set1_ps(at->args->scale);
    __m512 scores[ATTEND_TILES];
    __m512 most = _mm512_set1_ps(at->max[vector]);
    for (uint32_t t = 0; t < ATTEND_TILES; t++) {
        const uint32_t left = count > t * 16 ? count - t * 16 : 0;
        const __m512 raw = _mm512_mul_ps(_mm512_loadu_ps(p + (size_t)t * 16), scale);
        scores[t] = _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), vector_mask(left), raw);
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

/* out += p V over `units` units of the block that starts at position, for `vectors` vectors and
 * `chunks` chunks of 16 dimensions from dimension `from` on. */
static inline __attribute__((always_inline)) void attend_gather(const struct attend *at,
                                                                uint32_t first, uint32_t position,
                                                                uint32_t units, size_t from,
                                                                const int vectors, const int chunks)
{
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
        const uint32_t token = position + u * at->unit_tokens;
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
static inline __attribute__((always_inline)) void attend_output(const struct attend *at,
                                                                uint32_t first, uint32_t position,
                                                                uint32_t units, const int vectors)
{
    size_t from = 0;
    for (; from + 48 < at->args->head_dim; from += 64) {
        if (at->args->head_dim - from < 64) {
            break;
        }
        attend_gather(at, first, position, units, from, vectors, ATTEND_SHARE);
    }
    for (; from < at->args->head_dim; from += 16) {
        attend_gather(at, first, position, units, from, vectors, 1);
    }
}

/* Last position that a vector sees. */
static inline uint32_t attend_last(const struct attend *at, uint32_t vector)
{
    return at->first_position + vector / at->group;
}

static inline __attribute__((always_inline)) void
attend_block(const struct attend *at, uint32_t first, uint32_t position, const int vectors)
{
    const uint8_t *tiles[ATTEND_TILES];
    const uint32_t last = attend_last(at, first + (uint32_t)vectors - 1);
    const uint32_t seen =
        last - position + 1 < KERN_ATTEND_BLOCK ? last - position + 1 : KERN_ATTEND_BLOCK;
    for (uint32_t t = 0; t < ATTEND_TILES; t++) {
        /* A tile past the last position is masked later: any readable one does. */
        const uint32_t token = t * KERN_KV_TILE < seen ? position + t * KERN_KV_TILE : position;
        const size_t element =
            kv_layout_k(&at->layout, at->kv_head, token % at->args->page_tokens, 0);
        tiles[t] = attend_page(at, token) + element * kern_dtype_bytes(at->args->dtype);
    }
    attend_scores(at, first, tiles, vectors);
    for (uint32_t v = first; v < first + (uint32_t)vectors; v++) {
        const uint32_t own = attend_last(at, v);
        attend_soften(at, v, own >= position ? own - position + 1 : 0);
    }
    attend_output(at, first, position, (seen + at->unit_tokens - 1) / at->unit_tokens, vectors);
}

/* Up to four vectors over all of their positions. */
static inline void attend_vectors(const struct attend *at, uint32_t first, uint32_t vectors)
{
    const uint32_t last = attend_last(at, first + vectors - 1);
    for (uint32_t position = 0; position <= last; position += KERN_ATTEND_BLOCK) {
        switch (vectors) {
        case 1:
            attend_block(at, first, position, 1);
            break;
        case 2:
            attend_block(at, first, position, 2);
            break;
        case 3:
            attend_block(at, first, position, 3);
            break;
        default:
            attend_block(at, first, position, 4);
            break;
        }
    }
}

static inline size_t attend_index(const struct attend *at, const struct kern_attend_item *item,
                                  uint32_t vector)
{
    const size_t row = at->sequence->row_first + item->row_first + vector / at->group;
    const size_t head = (size_t)at->kv_head * at->group + vector % at->group;
    return (row * at->args->heads + head) * at->args->head_dim;
}

static inline void attend_item(struct attend *at, const struct kern_attend_item *item)
{
    const size_t bytes = kern_dtype_bytes(at->args->dtype);
    const uint32_t dim = at->args->head_dim;
    for (uint32_t v = 0; v < at->vectors; v++) {
        uint32_t *query = at->query + v * at->padded;
        query[at->units - 1] = 0; /* The odd half of a last pair. */
        memcpy(query, (const uint8_t *)at->args->q + attend_index(at, item, v) * bytes,
               dim * bytes);
        memset(at->out + v * at->padded, 0, at->padded * sizeof(float));
        at->max[v] = -INFINITY;
        at->sum[v] = 0;
    }
    for (uint32_t v = 0; v < at->vectors; v += ATTEND_SHARE) {
        const uint32_t left = at->vectors - v;
        attend_vectors(at, v, left < ATTEND_SHARE ? left : ATTEND_SHARE);
    }
    for (uint32_t v = 0; v < at->vectors; v++) {
        const __m512 sum = _mm512_set1_ps(at->sum[v]);
        for (size_t d = 0; d < dim; d += 16) {
            const __m512 y = _mm512_div_ps(_mm512_loadu_ps(at->out + v * at->padded + d), sum);
            vector_store_act(at->args->out, attend_index(at, item, v) + d, vector_mask(dim - d), y,
                             at->args->dtype);
        }
    }
}

static inline void attend_items(const struct kern_attend_args *args, uint32_t first, uint32_t count,
                                uint32_t unit_tokens)
{
    struct attend at = {
        .args = args,
        .layout = kv_layout_of(args->dtype, args->page_tokens, args->kv_heads, args->head_dim),
        .page_bytes =
            kern_kv_page_bytes(args->dtype, args->page_tokens, args->kv_heads, args->head_dim),
        .group = args->heads / args->kv_heads,
        .units = (args->head_dim + unit_tokens - 1) / unit_tokens,
        .unit_tokens = unit_tokens,
        .padded = (args->head_dim + 15u) & ~(size_t)15,
    };
    const size_t vectors_max = (size_t)KERN_ATTEND_ROWS_MAX * at.group;
    at.out = args->scratch;
    at.query = (uint32_t *)(at.out + vectors_max * at.padded);
    at.p = at.out + 2 * vectors_max * at.padded;
    at.max = at.p + vectors_max * KERN_ATTEND_BLOCK;
    at.sum = at.max + vectors_max;
    for (size_t i = first; i < (size_t)first + count; i++) {
        const struct kern_attend_item *item = &args->items[i];
        at.sequence = &args->sequences[item->sequence];
        at.kv_head = item->kv_head;
        at.vectors = item->row_count * at.group;
        at.first_position = at.sequence->position + item->row_first;
        attend_item(&at, item);
    }
}

#endif /* KERNELS_X86_ATTEND_AVX512_H */
