/*
 * slots.h - what a worker knows of each running request, built from the core's records: block
 * table, sampling parameters, the token sampled last. A new link starts with all slots closed.
 *
 * Records come checked cell by cell (record_check_request); here the relations between them are
 * checked. -EBADMSG means that the core is wrong: the worker does not go on.
 */
#ifndef WORKERS_SLOTS_H
#define WORKERS_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/must.h"
#include "ipc/record.h"
#include "workers/sample.h"

struct slot {
    bool open;
    bool sampled; /* last_id is valid, for position `computed`. */
    uint32_t generation;
    uint32_t computed; /* Tokens whose KV is in the pages: the next row starts here, or, if it
                          says so, further on: another slot computed the pages between. */
    uint32_t last_id;
    uint32_t page_count;
    uint32_t *pages;       /* [pages_max] block table */
    uint32_t stop_ids_due; /* STOP_IDS announced by OPEN that have not come yet. */
    bool adjust_due;       /* Likewise its ADJUST, and by that its biases and allowed ids. */
    uint32_t biases_due;
    uint32_t allowed_due;
    uint64_t step; /* Last step that had a row of this slot: one row a step. */
    struct sample_params sampling;
};

struct slots {
    struct slot *slot; /* [count] */
    uint32_t count;
    uint32_t pages_max; /* Of one slot. */
    uint32_t page_tokens;
};

/* Bytes of the arena that slots_open takes at most. */
size_t slots_bytes(uint32_t count, uint32_t pages_max);

/* 0 or -ENOMEM. */
int slots_open(struct slots *slots, struct arena *arena, uint32_t count, uint32_t pages_max,
               uint32_t page_tokens) MUST_CHECK;

/* Closes all: the core starts anew. */
void slots_reset(struct slots *slots);

/* Applies an OPEN, STOP_IDS, ADJUST, BIASES, ALLOWED, PAGES or CLOSE record. 0 or -EBADMSG. */
int slots_apply(struct slots *slots, const union record *record) MUST_CHECK;

/* The slot a row of `step` may run in: open in this generation, complete, not yet in this step, its
 * pages long enough, and the row begins where the last one ended or skips ahead. NULL: the row is
 * wrong. */
struct slot *slots_row(struct slots *slots, const struct record_row *row, uint64_t step);

#endif /* WORKERS_SLOTS_H */
