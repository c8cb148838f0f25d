/*
 * trial.h - whether a pipe can run a plan to its end. A worker asks before it takes a plan from the
 * core.
 */
#ifndef WORKERS_TRIAL_H
#define WORKERS_TRIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "plan/graph.h"
#include "plan/plan.h"

/* The plan's numbers are in their bounds, the ranges of each operation of the graph tile the batch,
 * one lane alone meets other ranks, and none waits for ever. Whether the edges name all
 * dependencies is the planner's business (plan/verify.h): a plan without them gives wrong numbers,
 * no more. */
bool trial_passes(const struct plan *plan, const struct graph *graph, uint32_t layers);

#endif /* WORKERS_TRIAL_H */
