/*
 * arena.c - bump allocation out of one anonymous mapping. Called at start by the core and the
 * workers on their main thread; owns the mapping. Invariant: used <= bytes, and used never moves
 * once sealed.
 */
#include "base/arena.h"

#include <errno.h>
#include <sys/mman.h>

#include "base/checked.h"

enum { ARENA_ALIGN = 64 };

int arena_open(struct arena *arena, size_t bytes)
{
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        return -ENOMEM;
    }
    *arena = (struct arena){.base = base, .bytes = bytes};
    return 0;
}

void *arena_alloc(struct arena *arena, size_t count, size_t item_bytes)
{
    must(!arena->sealed);
    uint64_t bytes;
    uint64_t end;
    if (!checked_mul(count, item_bytes, &bytes) || !checked_add(bytes, ARENA_ALIGN - 1, &bytes)) {
        return NULL;
    }
    bytes &= ~(uint64_t)(ARENA_ALIGN - 1);
    if (!checked_add(arena->used, bytes, &end) || end > arena->bytes) {
        return NULL;
    }
    void *start = arena->base + arena->used;
    arena->used = end;
    return start;
}

void arena_seal(struct arena *arena)
{
    arena->sealed = true;
}

void arena_close(struct arena *arena)
{
    if (arena->base) {
        must(munmap(arena->base, arena->bytes) == 0);
    }
    *arena = (struct arena){0};
}
