/*
 * reply.h - what a worker says of a step: its results, scores and logprobs, and that it is done.
 * Part of the step (step.c).
 */
#ifndef WORKERS_REPLY_H
#define WORKERS_REPLY_H

#include <stdint.h>

#include "workers/step.h"

/* Of one result: itself and its logprobs. */
enum { REPLY_CELLS_MAX = 1 + (SAMPLE_LOGPROBS_MAX - 1) / RECORD_LOGPROBS_PER_CELL + 1 };

/* Cells of the ring that the answer may take. */
int64_t reply_cells_max(const struct step_turn *turn);

/* Publishes the answer to a step whose results are there, as one. Room was checked. */
void reply_step(struct step *step, const struct step_turn *turn);

/* Publishes that it stands still, and for whom this rank waited last. */
void reply_stalled(struct step *step, const struct step_turn *turn);

#endif /* WORKERS_REPLY_H */
