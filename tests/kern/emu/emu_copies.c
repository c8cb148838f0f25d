/*
 * emu_copies.c - keeps a thread's asynchronous copies until they land. Called by kernels through
 * emu_language.h. Invariant: copies land in the order of their start; what is never waited for
 * never lands.
 */
#include "tests/kern/emu/emu_copies.h"

#include <stdlib.h>
#include <string.h>

#include "base/must.h"

enum { COPY_BYTES = 16 };

static void land(const struct emu_copy *copy)
{
    if (copy->global) {
        memcpy(copy->shared, copy->global, COPY_BYTES);
    } else {
        memset(copy->shared, 0, COPY_BYTES);
    }
}

void emu_copies_start(struct emu_block *block, void *shared, const void *global, bool valid)
{
    struct emu_copies *copies = &block->threads[block->current].copies;
    const struct emu_copy copy = {shared, valid ? global : NULL};
    if (((uintptr_t)shared | (uintptr_t)copy.global) % COPY_BYTES != 0) {
        emu_block_fail(block, "asynchronous copy that is not aligned to 16 bytes");
    }
    if (block->schedule.eager_copies) {
        land(&copy);
        return;
    }
    if (copies->count == copies->room) {
        copies->room = copies->room > 0 ? 2 * copies->room : 16;
        copies->list = realloc(copies->list, copies->room * sizeof *copies->list);
        must(copies->list);
    }
    copies->list[copies->count++] = copy;
}

void emu_copies_commit(struct emu_block *block)
{
    struct emu_copies *copies = &block->threads[block->current].copies;
    must(copies->group_count < EMU_COPY_GROUPS_MAX);
    copies->groups[copies->group_count++] = copies->count;
}

void emu_copies_wait(struct emu_block *block, uint32_t pending)
{
    struct emu_copies *copies = &block->threads[block->current].copies;
    if (copies->group_count <= pending) {
        return;
    }
    const uint32_t groups = copies->group_count - pending;
    const uint32_t landed = copies->groups[groups - 1];
    for (uint32_t i = 0; i < landed; i++) {
        land(&copies->list[i]);
    }
    copies->count -= landed;
    for (uint32_t i = 0; i < copies->count; i++) {
        copies->list[i] = copies->list[i + landed];
    }
    copies->group_count = pending;
    for (uint32_t i = 0; i < pending; i++) {
        copies->groups[i] = copies->groups[i + groups] - landed;
    }
}
