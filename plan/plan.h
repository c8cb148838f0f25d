/*
 * plan.h - how one step is run: a list of nano-operations on lanes. For now one kind exists: one
 * nano-batch on one lane, operations in the model's order. Its place in the step record, in the
 * core's segment and in the worker is final; search and overlap fill it later.
 */
#ifndef PLAN_PLAN_H
#define PLAN_PLAN_H

#include <stdbool.h>
#include <stdint.h>

enum plan_operation {
    PLAN_ATTENTION_NORM,
    PLAN_KQV,
    PLAN_ROPE_APPEND,
    PLAN_ATTENTION,
    PLAN_OUTPUT,
    PLAN_FFN_NORM,
    PLAN_UP_GATE,
    PLAN_SILU_MUL,
    PLAN_DOWN,
    /* A mixture of experts has these in place of the last three. */
    PLAN_ROUTE,
    PLAN_EXPERT_UP_GATE,
    PLAN_EXPERT_SILU_MUL,
    PLAN_EXPERT_DOWN,
    PLAN_COMBINE,
    PLAN_OPERATION_COUNT,
};

enum { PLAN_NANO_MAX = 64 }; /* Nano-operations of one layer. */

struct plan_nano {
    uint32_t operation; /* enum plan_operation */
    uint32_t lane;
    uint32_t first_per64k; /* Token range of the dense batch, in 1/65536 of it: [first, end). */
    uint32_t end_per64k;
};

struct plan {
    uint32_t id;
    uint32_t nano_count;
    uint64_t hash;                        /* plan_hash() of the rest. */
    struct plan_nano nano[PLAN_NANO_MAX]; /* In issue order; on one lane that is the dependency. */
};

/* The plan that is always there: id 0, every operation of the model, with experts or without, over
 * the whole batch on lane 0. */
struct plan plan_sequential(bool experts);

uint64_t plan_hash(const struct plan *plan);

#endif /* PLAN_PLAN_H */
