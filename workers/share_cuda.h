/*
 * share_cuda.h - how ranks that share a model meet on their devices: each computes its own columns
 * of a product (workers/shard.h), and where the next operation wants all of them they are gathered
 * and woven into whole rows. Alone, own columns are all columns and nothing happens. Operations
 * that meet are put on one lane (workers/trial.h), and so can use the same memory.
 */
#ifndef WORKERS_SHARE_CUDA_H
#define WORKERS_SHARE_CUDA_H

#include "workers/model_cuda.h"

struct cuda_share {
    const void *own;       /* [rows][own columns]; NULL: it is where cuda_own() says. */
    void *full;            /* [rows][columns] */
    const uint32_t *valid; /* On the device: how many of the rows anybody wants. */
    uint32_t rows;
    uint32_t columns; /* Of all ranks. */
    enum kern_dtype dtype;
    bool adds; /* To what is in full, which is float. */
};

/* Where this rank's columns are to be written: one such product at a time. */
void *cuda_own(const struct cuda_model *model, const struct cuda_share *share);

/* Puts the gather on a lane, and what completes `full`. */
int cuda_share(const struct cuda_model *model, const struct cuda_batch *batch, uint32_t lane,
               const struct cuda_share *share) MUST_CHECK;

/* Of the memory that gathers fill, in batches of so many tokens and logits of so many rows; 0 for a
 * rank that is alone. */
size_t cuda_share_bytes(const struct cuda_model *model, uint32_t tokens, uint32_t rows);

#endif /* WORKERS_SHARE_CUDA_H */
