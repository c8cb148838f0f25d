/* ids.h - a bounded list of token ids that encoding appends to; the memory is the caller's. */
#ifndef MODEL_IDS_H
#define MODEL_IDS_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#include "base/must.h"

struct ids {
    uint32_t *items;
    size_t max;
    size_t count;
};

/* 0, or -E2BIG when the list is full. */
static inline MUST_CHECK int ids_push(struct ids *ids, uint32_t id)
{
    if (ids->count == ids->max) {
        return -E2BIG;
    }
    ids->items[ids->count++] = id;
    return 0;
}

#endif /* MODEL_IDS_H */
