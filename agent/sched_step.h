/*
 * sched_step.h - a step as the scheduler forms it: what the worker is told, with requests by their
 * index in the core's table.
 */
#ifndef AGENT_SCHED_STEP_H
#define AGENT_SCHED_STEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/must.h"

struct sched_row {
    uint32_t request;
    uint32_t slot;
    uint32_t generation;
    uint32_t position;
    uint32_t tokens;
    bool from_last; /* Source: the token sampled last. */
    bool sample;
    bool skips;           /* Its pages hold what lies between the slot's last row and it. */
    uint32_t pages_told;  /* Of its request's block table, known to the worker before this step. */
    uint32_t score_first; /* Of its tokens, those whose successor is judged: a SCORE each. */
    uint32_t score_count;
};

struct sched_slot { /* A slot opened or closed by this step. */
    uint32_t request;
    uint32_t slot;
    uint32_t generation;
};

struct sched_copy { /* The worker copies a page of every layer before the step runs. */
    uint32_t source;
    uint32_t target;
};

/* What the worker is told: closes, opens, new pages of the rows, copies, then the rows. */
struct sched_step {
    uint64_t number;        /* Of its scheduler's, from 1 on. */
    struct sched_row *rows; /* [slots_max] */
    uint32_t row_count;
    uint32_t token_count;
    uint32_t score_count;     /* Over the rows, at most LIMIT_STEP_SCORES_MAX. */
    uint32_t page_cells;      /* Likewise, at most SCHED_PAGE_CELLS_MAX. */
    struct sched_slot *opens; /* [slots_max] */
    uint32_t open_count;
    struct sched_slot *closes; /* [slots_max] */
    uint32_t close_count;
    struct sched_copy *copies; /* [slots_max] */
    uint32_t copy_count;
    bool rested; /* There was nothing to run before: the worker has not waited for the core. */
};

/* An empty step with room for so many rows. -ENOMEM. */
int sched_step_open(struct sched_step *step, struct arena *arena, uint32_t slots_max) MUST_CHECK;

/* Bytes of arena that sched_step_open() takes. */
size_t sched_step_bytes(uint32_t slots_max);

#endif /* AGENT_SCHED_STEP_H */
