/*
 * simulate.h - predicts the timeline of a plan on a profiled device: which nano-operation of which
 * layer runs when, with unit shares and interference. Runs as the executor does: each lane in its
 * order, an instance as soon as its edges allow and its units are free.
 *
 * An instance with u units alone takes its duration at u units. While others run it goes on at
 * keep[its class][their class] of that speed, the product over all others: what was measured for
 * pairs is taken to compose. Speeds change only when an instance starts or ends, so the simulation
 * steps from one such moment to the next.
 */
#ifndef PLAN_SIMULATE_H
#define PLAN_SIMULATE_H

#include <stdint.h>

#include "base/must.h"
#include "plan/plan.h"
#include "plan/profile.h"
#include "plan/regime.h"

enum { SIMULATE_LAYERS_MAX = 12 };

struct simulate_run {
    double start_us[SIMULATE_LAYERS_MAX][PLAN_NANO_MAX];
    double end_us[SIMULATE_LAYERS_MAX][PLAN_NANO_MAX];
    double interval_us; /* Between layers, once the pipeline is full. */
    double step_us;     /* All layers of the model, with filling and draining. */
};

/* Tokens of a nano-operation in this regime, whose single tokens come first in the batch; 0: it
 * finds no work. */
uint32_t simulate_tokens(const struct plan_nano *nano, const struct regime *regime);

/* -EDEADLK: orders, lags and edges contradict each other. */
int simulate_plan(const struct plan *plan, const struct profile *profile,
                  const struct regime *regime, struct simulate_run *run) MUST_CHECK;

#endif /* PLAN_SIMULATE_H */
