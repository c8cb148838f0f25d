/* kv_layout.h - where an element lies in a KV page of one layer; the picture is in kern.h. */
#ifndef KERNELS_KV_LAYOUT_H
#define KERNELS_KV_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/kern.h"

struct kv_layout {
    size_t head_k; /* Elements of K of one kv head. */
    size_t head_v;
    size_t first_v; /* Of the page's V part. */
    uint32_t head_dim;
    enum kern_dtype dtype;
};

static inline struct kv_layout kv_layout_of(enum kern_dtype dtype, uint32_t page_tokens,
                                            uint32_t kv_heads, uint32_t head_dim)
{
    const uint32_t padded = dtype == KERN_F32 ? head_dim : (head_dim + 1) & ~1u;
    const size_t head_k = (size_t)page_tokens * padded;
    return (struct kv_layout){head_k, (size_t)page_tokens * head_dim, head_k * kv_heads, head_dim,
                              dtype};
}

/* Index of K[kv_head][token][dim] in elements of the page. */
static inline size_t kv_layout_k(const struct kv_layout *layout, uint32_t kv_head, uint32_t token,
                                 uint32_t dim)
{
    const uint32_t pair = layout->dtype == KERN_F32 ? 1 : 2;
    const size_t padded = (size_t)((layout->head_dim + pair - 1) / pair) * pair;
    const size_t tile = token / KERN_KV_TILE * (padded * KERN_KV_TILE);
    return layout->head_k * kv_head + tile + (size_t)(dim / pair) * KERN_KV_TILE * pair +
           (size_t)(token % KERN_KV_TILE) * pair + dim % pair;
}

/* Index of V[kv_head][token][dim]. */
static inline size_t kv_layout_v(const struct kv_layout *layout, uint32_t kv_head, uint32_t token,
                                 uint32_t dim)
{
    const uint32_t pair = layout->dtype == KERN_F32 ? 1 : 2;
    return layout->first_v + layout->head_v * kv_head +
           (size_t)(token / pair) * layout->head_dim * pair + (size_t)dim * pair + token % pair;
}

#endif /* KERNELS_KV_LAYOUT_H */
