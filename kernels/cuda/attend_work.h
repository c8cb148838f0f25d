/*
 * attend_work.h - the work lists of paged attention on a device: what the kernels of
 * attend_cuda.h walk, built on the host once a step for each group of rows that is attended
 * together (a nano-batch, or the whole batch), copied to the device with the rest of the step's
 * state, and used by all layers.
 *
 *   rows of one token   -> items, and merges where a row's context is shared out
 *   rows of several     -> blocks
 */
#ifndef KERNELS_CUDA_ATTEND_WORK_H
#define KERNELS_CUDA_ATTEND_WORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/must.h"
#include "kernels/cuda/attend_cuda.h"

struct attend_shape {
    uint32_t heads;
    uint32_t kv_heads; /* Divides heads. */
    uint32_t head_dim;
    uint32_t window; /* As in kern_attend_args. */
    uint32_t ctas;   /* That will walk the items; not 0. */
    enum kern_dtype dtype;
    bool prompts; /* All rows are pieces of prompts: those of one token are blocks too. */
};

/* The lists, in memory of the caller. */
struct attend_work {
    struct attend_item *items;
    struct attend_merge *merges;
    struct attend_block *blocks;
    struct attend_counts counts;
    uint32_t items_max;  /* Rows of one token + slots_max is always enough, */
    uint32_t merges_max; /* slots_max / 2 likewise, */
    uint32_t blocks_max; /* and attend_blocks_max(). */
    uint32_t slots_max;  /* 0: nothing is shared out. When they run out, rows stay whole. */
};

/* Query rows of one block. */
uint32_t attend_block_rows(const struct attend_shape *shape);

/* Blocks that no step of so many tokens in so many sequences exceeds. */
size_t attend_blocks_max(const struct attend_shape *shape, uint32_t tokens, uint32_t sequences);

/* Floats of the memory that slots stand for. */
size_t attend_slot_floats(const struct attend_shape *shape, uint32_t slots);

/*
 * Fills the lists, longest work first: CTAs take it in turn, so the loads of two differ by one
 * item at most, give or take 1/16 of what a turn holds. Rows are shared out while an item is more
 * than 1/8 of a CTA's fair share. The same input gives the same lists. -ENOSPC: a list is too
 * short; work->counts is 0 then. O(sequences + items + blocks), twice.
 */
int attend_work_build(struct attend_work *work, const struct attend_shape *shape,
                      const struct attend_sequence *sequences, uint32_t count) MUST_CHECK;

#endif /* KERNELS_CUDA_ATTEND_WORK_H */
