/*
 * step.h - between the link and the engine: takes the core's records, checks every relation between
 * them, runs each step, samples, and publishes its answer as one.
 *
 * While a device runs a step, the next one that has come is put behind it, before anybody waits for
 * the first:
 *
 *   put 1 | put 2 | take 1, answer 1 | put 3 | take 2, answer 2 | ...
 *
 * Slots are those of the step that was put last, but for ids that are still on the device: there
 * they feed the next step. An engine that is never busy has its steps answered one by one, and so
 * have steps with scores and those of a group of ranks, which need the host before the next.
 */
#ifndef WORKERS_STEP_H
#define WORKERS_STEP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/failpoint.h"
#include "base/must.h"
#include "ipc/link.h"
#include "ipc/record_check.h"
#include "plan/graph.h"
#include "plan/table.h"
#include "workers/comm.h"
#include "workers/engine.h"
#include "workers/sample.h"
#include "workers/slots.h"

/* One row of a step. */
struct step_row {
    struct slot *slot;
    uint32_t slot_index;
    uint32_t generation; /* The slot may have another before the answer. */
    uint32_t source;     /* enum record_source */
    uint32_t ids_first;
    uint32_t score_first; /* Of its tokens, those whose successor is judged. */
    uint32_t score_count;
    uint32_t next_id; /* Successor of the last one. */
};

/* A token judged by the logits of the one before it. */
struct step_score {
    uint32_t row;
    uint32_t position;
    uint32_t id;
};

struct step_choice { /* Rank 0's, for all ranks. */
    uint32_t id;
    uint32_t invalid;
};

/* A step from its records to its answer. */
struct step_turn {
    uint64_t number;
    uint64_t start_us; /* When it was taken. */
    uint64_t idle_us;  /* That the device stood still before it. */
    uint32_t row_count;
    uint32_t sampled_count;
    uint32_t score_count;
    struct step_row *rows;          /* [bounds.rows] */
    struct engine_row *engine_rows; /* [bounds.rows] */
    uint32_t *sampled;              /* [bounds.rows] rows that sample, in order */
    struct sample_result *results;  /* [bounds.rows] one for each sampled row */
};

struct step {
    struct engine *engine;
    struct link *link;           /* Borrowed; set by step_attach. */
    struct comm *comm;           /* Likewise; NULL when alone. */
    struct record_bounds bounds; /* Epoch and group follow the link. */
    struct graph graph;          /* What a plan must run. */
    struct plan sequential;
    struct plan *plans; /* [TABLE_PLANS_MAX] copies of the board's, once a step has named them */
    bool plan_taken[TABLE_PLANS_MAX];
    struct failpoint failpoint;
    struct arena arena;
    struct slots slots;
    uint64_t end_us; /* When an answer was published last; 0: none was. */

    struct step_turn turns[ENGINE_AHEAD_MAX]; /* In turn. */
    uint32_t put;                             /* Steps that the engine was given, */
    uint32_t taken;                           /* and those that it has given back. */

    /* Used up when a step is put. */
    uint32_t *listed;            /* [bounds.tokens] ids as the core lists them */
    uint32_t *ids;               /* [bounds.tokens] ids of the dense batch */
    struct engine_choice *asked; /* [bounds.rows] what the engine chooses now */

    /* Of the step put last. */
    struct step_choice *choices;  /* [bounds.rows] of its results, what the siblings need */
    struct step_score *scores;    /* [LIMIT_STEP_SCORES_MAX] */
    struct sample_result *judged; /* likewise: their results */
    uint32_t *score_tokens;       /* likewise: the token of the dense batch that judges */
};

/* bounds: everything but epoch and group. 0 or -ENOMEM. */
int step_open(struct step *step, struct engine *engine, const struct record_bounds *bounds,
              uint32_t page_tokens, uint32_t ranks) MUST_CHECK;
void step_close(struct step *step); /* An all-zero step is allowed. */

/* From now on records come from this link, and siblings are reached through comm, NULL when alone;
 * all slots are forgotten. As engine_join(). */
int step_attach(struct step *step, struct link *link, struct comm *comm) MUST_CHECK;

/* Takes what the link holds now, running steps as they come, until all are answered. 0; -ECANCELED:
 * the epoch is over, a new link will come; -EBADMSG: the core broke the contract, -ENOBUFS: it does
 * not read its results, -EIO: the device has failed (engine_failure() says how). The last three end
 * the worker, the first two of them logged. */
int step_serve(struct step *step) MUST_CHECK;

#endif /* WORKERS_STEP_H */
