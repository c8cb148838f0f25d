/*
 * emu_warp.c - the meeting of a warp's lanes, shuffles and votes. Called by kernels through
 * emu_language.h and by emu_tensor.c. Invariant: a lane's result is written while it waits, and
 * it reads it before it comes to the next operation.
 */
#include "tests/kern/emu/emu_warp.h"

#include "tests/kern/emu/emu_tensor.h"

static const char *const names[] = {"__syncwarp", "shuffle",  "ballot",
                                    "mma",        "ldmatrix", "ldmatrix.trans"};

static void ballot(struct emu_warp *warp, uint32_t lanes)
{
    uint32_t bits = 0;
    for (uint32_t i = 0; i < EMU_WARP; i++) {
        bits |= (uint32_t)((lanes >> i & 1) && warp->lanes[i].value) << i;
    }
    for (uint32_t i = 0; i < EMU_WARP; i++) {
        warp->lanes[i].result = lanes >> i & 1 ? bits : warp->lanes[i].result;
    }
}

static void shuffle(struct emu_warp *warp, uint32_t lanes)
{
    for (uint32_t i = 0; i < EMU_WARP; i++) {
        struct emu_lane *lane = &warp->lanes[i];
        if (lanes >> i & 1) {
            lane->result = lanes >> lane->source & 1 ? warp->lanes[lane->source].value : UINT64_MAX;
        }
    }
}

static void operate(struct emu_block *block, struct emu_warp *warp, uint32_t lanes)
{
    switch (emu_warp_lane(block)->operation) {
    case EMU_SYNC:
        break;
    case EMU_SHUFFLE:
        shuffle(warp, lanes);
        break;
    case EMU_BALLOT:
        ballot(warp, lanes);
        break;
    case EMU_MMA:
        emu_tensor_multiply(warp);
        break;
    case EMU_LDMATRIX:
        emu_tensor_load(warp, false);
        break;
    case EMU_LDMATRIX_TRANS:
        emu_tensor_load(warp, true);
        break;
    }
}

/* All lanes that met are at the same place with the same mask. */
static void check_agreement(struct emu_block *block, const struct emu_warp *warp, uint32_t lanes)
{
    const struct emu_lane *mine = emu_warp_lane(block);
    for (uint32_t i = 0; i < EMU_WARP; i++) {
        const struct emu_lane *lane = &warp->lanes[i];
        if ((lanes >> i & 1) && (lane->operation != mine->operation || lane->mask != mine->mask)) {
            emu_block_fail(block, "%s of mask %08x while lane %u is at %s of mask %08x",
                           names[mine->operation], mine->mask, i, names[lane->operation],
                           lane->mask);
        }
    }
}

void emu_warp_meet(struct emu_block *block, enum emu_operation operation, uint32_t mask)
{
    struct emu_warp *warp = &block->warps[block->current / EMU_WARP];
    const uint32_t me = block->current % EMU_WARP;
    const uint32_t lanes = mask & warp->live;
    struct emu_lane *lane = emu_warp_lane(block);
    if (!(mask >> me & 1)) {
        emu_block_fail(block, "%s of mask %08x, which leaves out lane %u", names[operation], mask,
                       me);
    }
    if (operation >= EMU_MMA && lanes != UINT32_MAX) {
        emu_block_fail(block, "%s without a full warp", names[operation]);
    }
    lane->operation = operation;
    lane->mask = mask;
    warp->waiting |= 1u << me;
    if ((warp->waiting & lanes) != lanes) {
        emu_block_wait(block, EMU_AT_WARP);
        return;
    }
    check_agreement(block, warp, lanes);
    operate(block, warp, lanes);
    warp->waiting &= ~lanes;
    for (uint32_t i = 0; i < EMU_WARP; i++) {
        if (lanes >> i & 1) {
            emu_block_wake(block, (block->current & ~(EMU_WARP - 1u)) + i);
        }
    }
}

uint64_t emu_warp_shuffle(struct emu_block *block, uint32_t mask, uint64_t value, uint32_t source)
{
    struct emu_lane *lane = emu_warp_lane(block);
    lane->value = value;
    lane->source = source;
    emu_warp_meet(block, EMU_SHUFFLE, mask);
    return lane->result;
}

uint32_t emu_warp_ballot(struct emu_block *block, uint32_t mask, bool predicate)
{
    struct emu_lane *lane = emu_warp_lane(block);
    lane->value = predicate;
    emu_warp_meet(block, EMU_BALLOT, mask);
    return (uint32_t)lane->result;
}
