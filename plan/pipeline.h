/*
 * pipeline.h - between what a device was measured to do and what it is to run: a profile becomes a
 * planning problem without interference, a schedule of that problem becomes a plan.
 *
 * Operations that only touch what their neighbour has just made (norms, rope, silu) stay with it:
 * they share its ranges and lane. An attention piece is a pair, decode and prefill, on one range:
 * the half that finds no work costs nothing, and the pairs tile the batch whatever it is made of.
 */
#ifndef PLAN_PIPELINE_H
#define PLAN_PIPELINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/must.h"
#include "plan/plan.h"
#include "plan/problem.h"
#include "plan/profile.h"
#include "plan/schedule.h"
#include "plan/simulate.h"

struct pipeline_shape { /* What kind of pipeline a search is to look for. */
    uint32_t pieces_max;
    enum problem_stream prefill; /* The lane of prompts' attention. */
    uint32_t memory_units;       /* Of attention; compute has the rest. 0: both have all. */
};

/* Durations alone, with the shape's division of units. */
void pipeline_problem(struct problem *problem, const struct profile *profile,
                      const struct regime *regime, const struct pipeline_shape *shape);

/* Lanes and lags as in the schedule, all units for each, every edge. -E2BIG: does not fit. */
int pipeline_plan(struct plan *plan, const struct schedule *schedule, const struct problem *problem,
                  bool experts) MUST_CHECK;

#endif /* PLAN_PIPELINE_H */
