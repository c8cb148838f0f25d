/*
 * model_moe.h - what a mixture of experts has in place of one feed-forward part: a router, and
 * products grouped by expert. It is part of struct llama (model_llama.h), whose attention it
 * shares; model_moe.c computes.
 *
 * Every choice of a token (it makes experts_used of them) is one row of the gathered arrays, its
 * slot. The rows of an expert lie side by side from a slot on, with room for the padding that
 * products want:
 *
 *   slots   | expert 0: its tokens' rows, padding | expert 2: rows, padding | ...
 */
#ifndef WORKERS_MODEL_MOE_H
#define WORKERS_MODEL_MOE_H

#include <stdint.h>

#include "plan/plan.h"

struct llama;

struct moe_share { /* Rows of one expert in this batch. */
    uint32_t expert;
    uint32_t first; /* Slot. */
    uint32_t rows;  /* At least 1. */
};

struct moe {
    float *logits;           /* [tokens][experts] of the router */
    uint32_t *expert;        /* [tokens][used] best first */
    float *weight;           /* [tokens][used] */
    uint32_t *slot;          /* [tokens][used] */
    uint32_t *rows;          /* [experts] work space of the grouping */
    struct moe_share *share; /* [shares] experts with rows, by id */
    uint32_t shares;
    uint32_t slots;  /* All that this batch uses, padding included. */
    void *gathered;  /* act [slots][hidden] */
    float *down;     /* [slots][hidden] */
    float *own_down; /* [slots][own hidden]; `down` when alone */
};

/* Slots that any batch of so many tokens fits into. Wants the shapes open. */
uint32_t moe_slots_max(const struct llama *llama, uint32_t tokens);

/* Operations of a layer that differ from a Llama's; NULL where they do not. */
extern void (*const moe_operations[PLAN_OPERATION_COUNT])(void *model, uint32_t layer);

#endif /* WORKERS_MODEL_MOE_H */
