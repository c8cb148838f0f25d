/*
 * pick.h - tokens from rows of logits on the CPU's crew, and what it takes for that: the history
 * of each page and a thread's work space. Part of the engine of a CPU (engine.c).
 */
#ifndef WORKERS_PICK_H
#define WORKERS_PICK_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "workers/crew.h"
#include "workers/engine.h"
#include "workers/history.h"

struct pick {
    struct history history;
    struct crew *crew;
    const struct kern_ops *ops;
    uint32_t vocab;
    uint8_t *work; /* [threads][work_bytes] */
    size_t work_bytes;

    /* Of the call. */
    const float *logits; /* [count][vocab] */
    const struct engine_choice *choices;
    struct sample_result *results;
};

/* Bytes of the arena that pick_open() takes at most. */
size_t pick_bytes(const struct engine_options *options, uint32_t threads, uint32_t vocab);

/* crew and ops are there. 0 or -ENOMEM. */
int pick_open(struct pick *pick, struct arena *arena, const struct engine_options *options,
              uint32_t vocab) MUST_CHECK;

/* The tokens of a batch stand where its rows say. */
void pick_learn(const struct pick *pick, const struct engine_batch *batch);

/* logits: [count][vocab]. */
void pick_run(struct pick *pick, const float *logits, const struct engine_choice *choices,
              uint32_t count, struct sample_result *results);

#endif /* WORKERS_PICK_H */
