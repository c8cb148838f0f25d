/*
 * batch_cuda.h - from the rows of a step to the iteration block of an accelerator: ids, positions,
 * block tables and attention's work lists, cut where the plan cuts the bucket.
 */
#ifndef WORKERS_BATCH_CUDA_H
#define WORKERS_BATCH_CUDA_H

#include <stddef.h>
#include <stdint.h>

#include "base/must.h"
#include "workers/carve.h"
#include "workers/engine.h"
#include "workers/model_cuda.h"

/* Rows of the smallest bucket that holds so many: powers of two, then multiples of 1/8 of the
 * power; at most 12 % are lost beyond the first few, and the count of graphs stays small. */
uint32_t batch_cuda_bucket(uint32_t rows, uint32_t most);

/* The parts of a block, in memory of the device or the host. */
void batch_cuda_lay_out(struct cuda_block *block, const struct cuda_model *model,
                        const struct engine_options *options, struct carve *from);

/* Fills the host's block and *batch, whose plan and lanes are there. The rows are within the
 * options' limits. */
void batch_cuda_fill(struct cuda_batch *batch, const struct cuda_block *block,
                     const struct cuda_model *model, const struct engine_batch *in,
                     const struct engine_options *options);

/* Other tokens' logits instead, by their index in the batch. */
void batch_cuda_head(struct cuda_batch *batch, const struct cuda_block *block,
                     const uint32_t *tokens, uint32_t count, uint32_t rows_max);

#endif /* WORKERS_BATCH_CUDA_H */
