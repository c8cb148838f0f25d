/*
 * plans.h - the plans that the core serves with: those of plan.dir that pass every check, and the
 * sequential one, which is always there.
 */
#ifndef AGENT_PLANS_H
#define AGENT_PLANS_H

#include <stdint.h>

#include "agent/sched.h"
#include "base/config.h"
#include "plan/planfile.h"
#include "plan/regime.h"
#include "plan/table.h"

struct plans {
    bool experts; /* The model has some. */
    struct plan sequential;
    struct plan_table table;
    struct plankey key;    /* That they were made for; none before plans_read(). */
    uint32_t regime_count; /* Of the files that were taken. */
    struct regime regime[TABLE_PLANS_MAX];
    const struct plan *plan[TABLE_PLANS_MAX]; /* For each regime; the sequential one is shared. */
};

/* With the sequential plan alone. */
void plans_open(struct plans *plans, bool experts);

/* Reads plan.dir as plan.mode says, once it is known what runs the plans. What is refused is logged
 * with its reason and left out. */
void plans_read(struct plans *plans, const struct config *config, const struct plankey *here);

/* Whether they were made for such a worker too; one with more units can run them as well. */
bool plans_fit(const struct plans *plans, const struct plankey *worker,
               char error[PLANKEY_ERROR_BYTES_MAX]) MUST_CHECK;

/* The plan made for what is nearest to this step. Pure. */
const struct plan *plans_choose(const struct plans *plans, const struct sched_step *step);

#endif /* AGENT_PLANS_H */
