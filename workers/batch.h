/*
 * batch.h - from the rows of a step to what the model's operations read: positions, pages,
 * attention items, cut where the plan cuts.
 */
#ifndef WORKERS_BATCH_H
#define WORKERS_BATCH_H

#include "workers/engine.h"
#include "workers/model_llama.h"

/* Fills llama->batch. The rows are within the options' limits. */
void batch_fill(struct llama *llama, const struct engine_batch *in,
                const struct engine_options *options);

#endif /* WORKERS_BATCH_H */
