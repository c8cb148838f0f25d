/*
 * sched.h - which rows run in the next step. Pure: no clock, no I/O, no randomness; the core feeds
 * it in its loop, tests with a fake worker.
 *
 * Continuous batching: decode rows first, then prompts in chunks up to the token budget, in the
 * order of the queue (fair.h). A request enters when pages for all its known tokens and one more
 * are free, less those it can borrow (enter.h, match.h). When a decode row needs a page and none is
 * free, the youngest running request gives all of its pages back, returns to its place in the queue
 * and is later computed again from its token log. The oldest therefore always proceeds, and
 * admission refuses what could never fit: everything finishes.
 *
 * A step may be formed while the one before runs. It takes for granted that each row of that one
 * that samples yields a token and goes on, as the worker keeps that token and runs steps in order;
 * so the state here is the one after all steps in flight. What ends a request earlier, a stop or a
 * cancel, is seen when it has a row in flight already: that row is then not current, and its token
 * nobody's. `tokens_max` is known ahead and costs no row.
 *
 *   ABSENT -> WAITING -> RUNNING -> ABSENT          RUNNING -> WAITING (preempted, worker lost)
 */
#ifndef AGENT_SCHED_H
#define AGENT_SCHED_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/fair.h"
#include "agent/flight.h"
#include "agent/outlook.h"
#include "agent/sched_step.h"
#include "base/arena.h"
#include "base/limits.h"
#include "base/must.h"
#include "kv/pages.h"
#include "kv/prefix.h"

enum {
    /* Records of a step for what is not bounded by its rows: device.c proves that two steps fit. */
    SCHED_OPEN_CELLS_MAX = 8192,  /* A slot with long lists takes 260. */
    SCHED_PAGE_CELLS_MAX = 10000, /* The longest context's block table takes 7282. */
};

enum sched_state { SCHED_ABSENT, SCHED_WAITING, SCHED_RUNNING };

#define SCHED_NONE UINT32_MAX

struct sched_entry { /* One request, by its index in the core's table. */
    enum sched_state state;
    uint64_t order;    /* Age, with its priority: smaller is older, kept over preemption. */
    uint32_t tokens;   /* Ids: prompt and generated, known or to come. */
    uint32_t to_come;  /* Of them, those that steps in flight sample in this residency. */
    uint32_t computed; /* Positions whose KV this residency has after all steps in flight. */
    uint32_t row_end;  /* Where its last row ended, in this residency. */
    uint32_t slot;
    uint32_t page_count;
    uint32_t pages_told;    /* Of them, known to the worker after all steps in flight. */
    uint32_t *pages;        /* Block table, [pages_per_request]. */
    const uint32_t *ids;    /* [tokens] the token log; NULL: shares nothing. */
    uint32_t shared_pages;  /* The first of `pages`, borrowed: match.h. */
    uint32_t shared_tokens; /* Not computed here, in this residency. */
    uint32_t tail_page;     /* To be copied once its writer has been there; PREFIX_NONE. */
    uint32_t tail_tokens;
    uint32_t open_cells; /* Records that its opening takes. */
    uint32_t score_next; /* Positions [score_next, score_end): the token behind is to be judged. */
    uint32_t score_end;
    uint32_t score_known;   /* Positions below were judged by steps that have ended. */
    bool last_on_worker;    /* The newest token was sampled in this residency. */
    bool held;              /* Its reader is behind: once caught up, it keeps its pages idle. */
    bool waits;             /* For the writer of a borrowed page, in the step being formed. */
    uint32_t prompt_tokens; /* Known when it came. */
    uint32_t tokens_max;    /* With the longest answer that it may have. */
    uint32_t predicted_end; /* Its tokens then; 0: not predicted. */
    uint32_t first_predicted_end; /* Before it outlived that. */
    uint64_t tenant;              /* Shares pages with its own alone. */
};

struct sched_options {
    uint32_t requests_max; /* Entries: indices of the core's request table. */
    uint32_t slots_max;
    uint32_t tokens_max; /* Of one step. */
    uint32_t page_tokens;
    uint32_t page_count;
    uint32_t context_max;
    uint32_t forecast_percent; /* Quantile of answers' lengths to enter by; 0: known tokens. */
    struct hash_key salt;      /* Of the prefix index. */
};

struct sched {
    struct sched_options options;
    struct pages pages;
    struct prefix prefix;
    struct sched_entry *entry; /* [requests_max] */
    uint32_t *running;         /* [slots_max], oldest first */
    uint32_t running_count;
    uint32_t dense;       /* Tokens up to which prompts fill a step. */
    uint32_t *free_slots; /* [slots_max] */
    uint32_t free_slot_count;
    uint32_t *generation; /* [slots_max] of the slot's present or last residency */
    struct fair fair;     /* The queue. */
    struct outlook outlook;
    uint64_t waiting_tokens;
    uint64_t next_order;
    uint64_t preemptions;
    uint64_t recomputed_tokens; /* Known KV given up by preemption and lost workers. */
    uint64_t shared_tokens;     /* Not computed: another request had them in its pages. */
    struct sched_slot *opens;   /* Told with the next step, like closes. */
    uint32_t open_count;
    uint32_t open_cells; /* Of all opens. */
    struct sched_slot *closes;
    uint32_t close_count;
    struct flight flight;
    bool resting; /* Nothing is in flight, and there was nothing to run. */
};

int sched_open(struct sched *sched, struct arena *arena,
               const struct sched_options *options) MUST_CHECK;

/* Bytes of arena that sched_open() takes. */
size_t sched_bytes(const struct sched_options *options);

uint32_t sched_pages_for(const struct sched *sched, uint64_t tokens);

/* True when a request of so many tokens in all could ever run. */
bool sched_fits(const struct sched *sched, uint64_t tokens);

struct sched_terms {            /* Of a request: */
    uint64_t tenant;            /* whose it is, any number; 0: of those that name none; */
    int32_t priority;           /* how urgent among those: lower goes first; */
    uint32_t answer_tokens_max; /* how long at most; 0: what the context leaves; */
    uint32_t open_cells;        /* what opening its slot takes in the ring; and how many of its */
    uint32_t scores;            /* tokens want their successor judged by the logits they give. */
};

/* Request joins the queue. tokens: its known ids, at least 1. ids: its token log, borrowed until it
 * leaves, where pages may be shared with other requests; NULL otherwise. terms NULL: all are 0;
 * open_cells is SCHED_OPEN_CELLS_MAX at most, scores below tokens. */
void sched_add(struct sched *sched, uint32_t request, const uint32_t *ids, uint32_t tokens,
               const struct sched_terms *terms);

/* Request leaves, whatever its state. Its pages are free once the steps in flight have ended. */
void sched_remove(struct sched *sched, uint32_t request);

/* As sched_remove(), of one whose answer ended by itself, not by max_tokens: that is learnt from.
 */
void sched_end(struct sched *sched, uint32_t request);

/* Steps to come hold so many tokens, 1 to tokens_max, as far as there is work: answers may exceed
 * it, prompts not. */
void sched_set_dense(struct sched *sched, uint32_t tokens);

void sched_hold(struct sched *sched, uint32_t request, bool held);

/* Forms the next step, with less than FLIGHT_STEPS_MAX in flight. False when there is nothing to
 * run; closes of slots then wait for the next step. */
bool sched_form(struct sched *sched, struct sched_step *step);

/* The oldest step in flight has ended, and the tokens it sampled for rows that are still current
 * are known. Call before sched_remove() of those that finished by it. */
void sched_commit(struct sched *sched, const struct sched_step *step);

/* True when the row's request is still in the residency that the row was formed for. */
bool sched_row_current(const struct sched *sched, const struct sched_row *row);

/* A request that waits leaves `from` and waits in `to`, at the place of its age. */
void sched_move(struct sched *from, struct sched *to, uint32_t request);

/* The worker is gone: no step in flight happened, everyone running waits again. */
void sched_reset(struct sched *sched);

/* must()s the invariants, for tests. */
void sched_verify(const struct sched *sched);

#endif /* AGENT_SCHED_H */
