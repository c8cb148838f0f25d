/*
 * attend_cuda.h - paged causal attention with grouped query heads on a device: what kern_attend()
 * computes, for rows of one token (decode) and of several (prefill), over the lists of
 * attend_work.h.
 *
 * KV page of one layer: [k, v][kv head][token][D], act; the pages of a pool follow each other. D
 * is not padded. Only positions that a row of the same block sees are read, so what lies in the
 * rest of a page does not matter.
 *
 * With kv_scale, pages hold e4m3 instead: a key or value is the number there times the scale of its
 * head. Products are those of the numbers, in bf16 exactly or in float; the scales come in behind.
 * A NaN among keys stays one; among values it would count as 480, so cuda_rope() puts it in both.
 *
 * In decode, the positions that a row sees are cut into splits, aligned to ATTEND_SPLIT; the sums
 * of a split are added to those before it, in order, by the one CTA that has the whole row or by
 * the kernel that merges. So the lists may share out the work as they like, and bits of a row
 * depend on its own q, keys and values alone: not on other rows, on the count of CTAs or on how a
 * prompt is cut into chunks. In float the two kernels give the same bits; in bf16 they do not,
 * because decode cuts a row over warps.
 */
#ifndef KERNELS_CUDA_ATTEND_CUDA_H
#define KERNELS_CUDA_ATTEND_CUDA_H

#include <stdint.h>

#include "kernels/dtype.h"

struct CUstream_st;

enum {
    CUDA_ATTEND_DIM_MAX = 256,
    ATTEND_SPLIT = 512,       /* Positions; 3 % of its traffic are sums at a group of 8 heads. */
    ATTEND_SLOT_NONE = -1,    /* As uint32_t: the item is a whole row. */
    ATTEND_UNIT_HEADS = 16,   /* Query heads of a kv head that one unit of decode takes. */
    ATTEND_BLOCK_ROWS = 128,  /* Query rows, (token, head of the group), that share keys, */
    ATTEND_BLOCK_WIDE = 128,  /* with heads up to this size, */
    ATTEND_BLOCK_SMALL = 64,  /* with larger ones: registers, */
    ATTEND_BLOCK_FLOATS = 16, /* and in float, a row at a time. */
};

/* Rows of one sequence: consecutive positions, KV already appended. A piece of a sequence is a
 * sequence of its own with the same table. */
struct attend_sequence {
    uint32_t row_first; /* In q and out. */
    uint32_t row_count;
    uint32_t position; /* Of row_first. */
    uint32_t table;    /* Where its block table, from position 0, begins in the tables. */
};

struct attend_item {
    uint32_t sequence;
    uint32_t first; /* Positions [first, end): a split's part of those seen, or all. */
    uint32_t end;
    uint32_t slot; /* Where the split's sums go, or ATTEND_SLOT_NONE. */
};

struct attend_merge { /* A row whose splits are items of their own, in slots from `slot` on. */
    uint32_t sequence;
    uint32_t slot;
    uint32_t count;
    uint32_t reserved;
};

struct attend_block {
    uint32_t sequence;
    uint32_t row; /* First query row; its token is row / group. */
};

struct attend_counts {
    uint32_t items;
    uint32_t merges;
    uint32_t blocks;
    uint32_t reserved;
};

struct cuda_attend_args {
    const void *q;    /* act [rows][heads][D] */
    const void *pool; /* Pages of this layer. */
    void *out;        /* act [rows][heads][D] */
    const struct attend_sequence *sequences;
    const uint32_t *tables; /* Block tables of all sequences. */
    const struct attend_counts *counts;
    const struct attend_item *items;
    const struct attend_merge *merges;
    const struct attend_block *blocks;
    float *slots;          /* attend_slot_floats() */
    const float *kv_scale; /* [k, v][kv_heads], or NULL: pages hold acts */
    uint32_t heads;
    uint32_t kv_heads; /* Divides heads. */
    uint32_t head_dim;
    uint32_t page_tokens; /* 16, 32 or 64 */
    uint32_t window;      /* As in kern_attend_args. */
    float scale;
    enum kern_dtype dtype;
    uint32_t ctas; /* Of the launch, 0: as many as fit on a device. */
};

#ifdef __cplusplus
extern "C" {
#endif

/* Rows of one token: args->items, then args->merges. 0, -EINVAL, -EIO. */
int cuda_attend_decode(const struct cuda_attend_args *args, struct CUstream_st *stream);

/* Rows of several tokens: args->blocks. 0, -EINVAL, -EIO. */
int cuda_attend_prefill(const struct cuda_attend_args *args, struct CUstream_st *stream);

#ifdef __cplusplus
}
#endif

#endif /* KERNELS_CUDA_ATTEND_CUDA_H */
