/*
 * emu_shared.c - gives a block its shared memory. Called by emu_block.c around a block and by the
 * kernels where they declare an array. Invariant: nothing of an earlier block is left to be read.
 */
#include "tests/kern/emu/emu_shared.h"

#include <stdlib.h>
#include <string.h>

#include "base/must.h"

enum { ALIGNMENT = 128, POISON = 0xff };

static void *poisoned(size_t bytes)
{
    void *memory = NULL;
    must(posix_memalign(&memory, ALIGNMENT, bytes) == 0);
    memset(memory, POISON, bytes);
    return memory;
}

void emu_shared_open(struct emu_block *block)
{
    const size_t bytes = block->launch->shared_bytes;
    block->array_count = 0;
    block->shared = bytes > 0 ? poisoned(bytes) : NULL;
}

void emu_shared_close(struct emu_block *block)
{
    for (uint32_t i = 0; i < block->array_count; i++) {
        free(block->arrays[i].bytes);
    }
    free(block->shared);
    block->shared = NULL;
}

void *emu_shared_array(struct emu_block *block, const void *key, size_t bytes)
{
    for (uint32_t i = 0; i < block->array_count; i++) {
        if (block->arrays[i].key == key) {
            return block->arrays[i].bytes;
        }
    }
    must(block->array_count < EMU_ARRAYS_MAX);
    struct emu_array *array = &block->arrays[block->array_count++];
    *array = (struct emu_array){key, poisoned(bytes)};
    return array->bytes;
}
