/*
 * arena.h - the big memory of a process: one mapping, filled at start, then sealed.
 *
 * Everything with the life of the process comes from here. After arena_seal() an allocation is a
 * bug (must), so that the request path cannot grow the process.
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/must.h"

struct arena {
    uint8_t *base;
    size_t bytes; /* Reserved. Pages become resident when first touched. */
    size_t used;
    bool sealed;
};

/* Reserves bytes of zeroed memory. 0 or -ENOMEM. */
int arena_open(struct arena *arena, size_t bytes) MUST_CHECK;

/* count * item_bytes zeroed bytes aligned to 64. NULL when the reservation is used up. */
void *arena_alloc(struct arena *arena, size_t count, size_t item_bytes);

void arena_seal(struct arena *arena);
void arena_close(struct arena *arena);

#endif /* BASE_ARENA_H */
