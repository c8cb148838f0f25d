/*
 * model_moe.h - what a mixture of experts has in place of one feed-forward part: a router, and
 * products grouped by expert. It is part of struct llama (model_llama.h), whose attention it
 * shares; model_moe.c computes.
 *
 * Every choice of a token (it makes experts_used of them) is one row of the gathered arrays, its
 * slot. The choices of the rows [first, end) that were routed together have the slots from
 * first * used to end * used, and among these the rows of an expert lie side by side:
 *
 *   slots   | rows [0, 8): expert 0, expert 2, ... | rows [8, 20): expert 1, expert 2, ... | ...
 */
#ifndef WORKERS_MODEL_MOE_H
#define WORKERS_MODEL_MOE_H

#include <stddef.h>
#include <stdint.h>

#include "plan/plan.h"
#include "workers/pipe.h"

struct llama;

struct moe_share { /* Rows of one expert among those routed together. */
    uint32_t expert;
    uint32_t first; /* Slot. */
    uint32_t rows;  /* At least 1. */
};

struct moe {
    float *logits;           /* [tokens][experts] of the router */
    uint32_t *expert;        /* [tokens][used] best first */
    float *weight;           /* [tokens][used] */
    uint32_t *slot;          /* [tokens][used] */
    struct moe_share *share; /* [tokens][used] from first * used: experts with rows, by id */
    uint32_t *shares;        /* [tokens] at first: how many */
    void *gathered;          /* act [slots][hidden] */
    float *down;             /* [slots][hidden] */
    float *own_down;         /* [slots][own hidden]; `down` when alone */
};

/* Bytes of a thread's scratch that routing takes. */
size_t moe_scratch_bytes(const struct llama *llama);

/* Operations of a layer that differ from a Llama's; no stages where they do not. */
extern const struct pipe_operation moe_operations[PLAN_OPERATION_COUNT];

#endif /* WORKERS_MODEL_MOE_H */
