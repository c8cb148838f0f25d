/*
 * attend_items_avx512.h - the second half of attend_math_avx512.h: walks items, their vectors and
 * blocks. Included once by each spelling, after it has defined attend_madd() and attend_pack().
 */
#ifndef KERNELS_X86_ATTEND_ITEMS_AVX512_H
#define KERNELS_X86_ATTEND_ITEMS_AVX512_H

#include "kernels/x86/attend_math_avx512.h"

/* Last position that a vector sees: its own. */
static inline uint32_t attend_last(const struct attend *at, uint32_t vector)
{
    return at->first_position + vector / at->group;
}

/* Weights of one vector in a block of its item, which it may see in part or not at all. */
static inline void attend_weigh(const struct attend *at, uint32_t vector, uint32_t position)
{
    const uint32_t own = attend_last(at, vector);
    const uint32_t first = kern_attend_first(at->args, own);
    if (own < position || first >= position + KERN_ATTEND_BLOCK) {
        memset(at->p + (size_t)vector * KERN_ATTEND_BLOCK, 0, KERN_ATTEND_BLOCK * sizeof *at->p);
        return;
    }
    const uint32_t count = own - position + 1;
    attend_soften(at, vector, first > position ? first - position : 0,
                  count < KERN_ATTEND_BLOCK ? count : KERN_ATTEND_BLOCK);
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
        attend_weigh(at, v, position);
    }
    const struct attend_span span = {first, position,
                                     (seen + at->unit_tokens - 1) / at->unit_tokens};
    attend_output(at, &span, vectors);
}

/* Up to four vectors over all of their positions. */
static inline void attend_vectors(const struct attend *at, uint32_t first, uint32_t vectors)
{
    const uint32_t last = attend_last(at, first + vectors - 1);
    const uint32_t seen = kern_attend_first(at->args, attend_last(at, first));
    uint32_t position = seen / KERN_ATTEND_BLOCK * KERN_ATTEND_BLOCK;
    for (; position <= last; position += KERN_ATTEND_BLOCK) {
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

#endif /* KERNELS_X86_ATTEND_ITEMS_AVX512_H */
