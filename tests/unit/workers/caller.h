/*
 * caller.h - the core's side of a worker's step, for tests: records go in over a real link in one
 * process, answers come out checked.
 */
#ifndef TESTS_UNIT_WORKERS_CALLER_H
#define TESTS_UNIT_WORKERS_CALLER_H

#include <stdint.h>

#include "tests/unit/workers/probe.h"
#include "tests/unit/workers/tiny_model.h"
#include "workers/step.h"

enum {
    CALLER_LAYERS = 3,
    CALLER_SLOTS = 4,
    CALLER_TOKENS_MAX = 24,
    CALLER_POSITIONS = 64,
    CALLER_PAGE_TOKENS = 16,
    CALLER_VOCAB = 67,
    CALLER_POISON = 66, /* A token that makes a row NaN. */
    CALLER_PROMPT = 18,
    CALLER_EPOCH = 7,
};

struct caller {
    char path[TINY_MODEL_PATH_BYTES];
    struct probe probe;
    struct record_bounds bounds;
    struct step step;
    struct link core;
    struct link worker;
    uint64_t steps;
};

extern const uint32_t caller_prompt[CALLER_PROMPT];

/* A cmocka fixture: *state is a struct caller, joined in CALLER_EPOCH. */
int caller_set_up(void **state);
int caller_tear_down(void **state);

/* A new link; the old one is closed. */
void caller_join(struct caller *caller, uint32_t epoch);

/* Not visible to the worker before caller_serve(), which returns what step_serve() does. */
void caller_push(struct caller *caller, union record record);
int caller_serve(struct caller *caller);

/* In generation 1; with the stop ids. */
void caller_push_open(struct caller *caller, uint32_t slot, const struct sample_params *params);

/* The slot's block table, apart from those of other slots. */
void caller_push_pages(struct caller *caller, uint32_t slot, uint32_t count);

/* The next step; its rows: of listed ids, and of the token sampled last. */
union record caller_step(struct caller *caller, uint32_t rows, uint32_t tokens, uint32_t ids);
union record caller_row(uint32_t slot, uint32_t position, uint32_t tokens, uint32_t ids_first);
union record caller_last_row(uint32_t slot, uint32_t position);
void caller_push_ids(struct caller *caller, const uint32_t *ids, uint32_t count);

/* The next record of the answer, which is of this kind; there is none. */
union record caller_take(struct caller *caller, uint8_t kind);
void caller_expect_silence(struct caller *caller);

#endif /* TESTS_UNIT_WORKERS_CALLER_H */
