/*
 * pipe.h - runs the layers of a model as a plan says: nano-operations in order, each through the
 * family's table operation -> function. Today one plan exists, the sequential one.
 */
#ifndef WORKERS_PIPE_H
#define WORKERS_PIPE_H

#include <stdbool.h>
#include <stdint.h>

#include "plan/plan.h"

struct pipe {
    void (*operation[PLAN_OPERATION_COUNT])(void *model, uint32_t layer);
    void *model;
    uint32_t layers;
    uint64_t spent_ns[PLAN_OPERATION_COUNT]; /* Sum over layers and runs, for profiles. */
};

/* A plan that a pipe can run for a model with experts or without: the whole batch, lane 0, the
 * model's order. */
bool pipe_accepts(const struct plan *plan, bool experts);

/* Every layer, every nano-operation. The plan was accepted. */
void pipe_run(struct pipe *pipe, const struct plan *plan);

#endif /* WORKERS_PIPE_H */
