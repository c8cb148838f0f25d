/*
 * choose.h - chooses how a profiled device runs one regime, in two stages as NanoFlow does: first
 * structures (cuts, orders, lags, lanes) without interference, then the unit shares of each with
 * it, keeping the structure. The best by the simulation come first; the sequential plan is always
 * among them, and first where nothing is faster.
 */
#ifndef PLAN_CHOOSE_H
#define PLAN_CHOOSE_H

#include <stdint.h>

#include "base/must.h"
#include "plan/plan.h"
#include "plan/profile.h"
#include "plan/simulate.h"

enum { CHOOSE_BEST_MAX = 8 };

struct choose_effort {
    uint64_t seed;
    uint32_t structure_tries; /* Of each structure's search. */
    uint32_t share_tries;     /* Simulations for each structure. */
};

struct choose_result {
    uint32_t count;
    struct plan plan[CHOOSE_BEST_MAX]; /* The fastest first. */
    double step_us[CHOOSE_BEST_MAX];   /* Predicted. */
    double interval_us[CHOOSE_BEST_MAX];
    double sequential_us; /* A step of the sequential plan, predicted. */
    uint32_t sequential;  /* Where it stands. */
};

/* -ENOMEM. */
int choose_plans(struct choose_result *result, const struct profile *profile,
                 const struct regime *regime, const struct choose_effort *effort) MUST_CHECK;

#endif /* PLAN_CHOOSE_H */
