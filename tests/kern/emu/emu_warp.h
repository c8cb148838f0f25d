/*
 * emu_warp.h - what the 32 lanes of a warp do together. Each lane leaves what it brings; the last
 * one to come does the operation for all, so a value cannot be overwritten before it is read. All
 * lanes of a mask must come to the same operation with the same mask, ended ones excepted.
 */
#ifndef TESTS_KERN_EMU_EMU_WARP_H
#define TESTS_KERN_EMU_EMU_WARP_H

#include "tests/kern/emu/emu_block.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The lane of the current thread. */
static inline struct emu_lane *emu_warp_lane(struct emu_block *block)
{
    return &block->warps[block->current / EMU_WARP].lanes[block->current % EMU_WARP];
}

/* Waits for the lanes of mask; the results are in the lane then. */
void emu_warp_meet(struct emu_block *block, enum emu_operation operation, uint32_t mask);

/* The value that lane `source` brought; ones when it brought none. */
uint64_t emu_warp_shuffle(struct emu_block *block, uint32_t mask, uint64_t value, uint32_t source);

/* A bit for each lane of mask whose predicate holds. */
uint32_t emu_warp_ballot(struct emu_block *block, uint32_t mask, bool predicate);

#ifdef __cplusplus
}
#endif

#endif /* TESTS_KERN_EMU_EMU_WARP_H */
