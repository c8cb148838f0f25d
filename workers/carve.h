/*
 * carve.h - one block of memory cut into parts. The same function lays out the parts twice: without
 * a base it only counts, with one it hands out addresses. So no list of sizes stands beside the
 * list of parts. Used by the engine of a device on the worker's main thread; owns nothing.
 */
#ifndef WORKERS_CARVE_H
#define WORKERS_CARVE_H

#include <stddef.h>
#include <stdint.h>

#include "base/checked.h"

enum { CARVE_ALIGNMENT = 256 }; /* Of a part: what copies and products on a GPU like best. */

struct carve {
    uint8_t *base;  /* NULL: only count. */
    uint64_t bytes; /* So far; UINT64_MAX once it was more than that. */
};

/* The next part; NULL without a base, or when there is none of it. */
static inline void *carve(struct carve *from, uint64_t count, uint64_t item_bytes)
{
    const uint64_t at = from->bytes;
    uint64_t bytes;
    if (!checked_mul(count, item_bytes, &bytes) ||
        !checked_add(bytes, CARVE_ALIGNMENT - 1, &bytes) ||
        !checked_add(at, bytes / CARVE_ALIGNMENT * CARVE_ALIGNMENT, &from->bytes)) {
        from->bytes = UINT64_MAX;
    }
    return from->base && count > 0 ? from->base + at : NULL;
}

#endif /* WORKERS_CARVE_H */
