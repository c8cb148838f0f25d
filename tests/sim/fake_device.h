/*
 * fake_device.h - what a worker of the simulation does with a step: reads its records, keeps its
 * slots by the worker's real tables (workers/slots.h), writes the tag and id of every token into
 * the pages that it was told, reads back all that attention would read, and samples by the oracle.
 * Whatever does not hold together is a bug of the core: must().
 */
#ifndef TESTS_SIM_FAKE_DEVICE_H
#define TESTS_SIM_FAKE_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/config.h"
#include "base/must.h"
#include "ipc/record_check.h"
#include "ipc/ring.h"
#include "workers/slots.h"

struct fake_place { /* Of one token in a page. */
    uint64_t tag;   /* 0: nothing was written here. */
    uint64_t step;  /* That wrote it; 0: copied. */
    uint32_t id;
    uint32_t slot; /* Likewise. */
};

struct fake_device {
    struct arena arena;
    struct slots slots;
    struct fake_place *kv; /* [pages][page_tokens] */
    struct record_bounds bounds;
    uint32_t page_tokens;
    uint32_t rank;
    uint64_t step; /* Taken last. */
    uint32_t token_count;
    uint32_t copy_count;     /* Pages, of that step. */
    bool *used;              /* [pages] read or written by it */
    struct record_row *rows; /* [slots] of it */
    uint32_t row_count;
    uint32_t *ids;         /* [tokens] listed ones */
    uint32_t result_count; /* Of the answer. */
    uint32_t score_count;
    uint32_t pair_count;
    union record *answer; /* [answer_max] */
    uint32_t answer_count;
    uint32_t answer_max;
};

/* context: the one that is served. */
void fake_device_open(struct fake_device *device, const struct config *config, uint32_t context);
void fake_device_close(struct fake_device *device);

/* A new link: nothing is known of any slot, and no page holds anything. */
void fake_device_attach(struct fake_device *device, uint32_t epoch, uint32_t group, uint32_t rank);

/* Takes a step and works out its answer. 0; -EAGAIN: there is none. */
int fake_device_take(struct fake_device *device, struct ring_reader *in) MUST_CHECK;

/* Publishes the answer to a step that took so long. */
void fake_device_answer(struct fake_device *device, uint64_t compute_us, struct ring_writer *out);

/* Makes the answer one that a core must not believe. */
void fake_device_spoil(struct fake_device *device, uint64_t bits);

/* Instead of an answer: rank `late` did not come. */
void fake_device_stall(struct fake_device *device, uint32_t late, struct ring_writer *out);

#endif /* TESTS_SIM_FAKE_DEVICE_H */
