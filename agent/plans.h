/*
 * plans.h - the plans that the core serves with: those of plan.dir that pass every check, and the
 * sequential one, which is always there.
 */
#ifndef AGENT_PLANS_H
#define AGENT_PLANS_H

#include <stdint.h>

#include "agent/sched.h"
#include "base/config.h"
#include "base/must.h"
#include "model/hparams.h"
#include "plan/regime.h"
#include "plan/table.h"

struct plans {
    struct plan sequential;
    struct plan_table table;
    uint32_t regime_count; /* Of the files that were taken. */
    struct regime regime[TABLE_PLANS_MAX];
    const struct plan *plan[TABLE_PLANS_MAX]; /* For each regime; the sequential one is shared. */
};

/* Reads plan.dir as plan.mode says. What is refused is logged with its reason and left out; -ENOMEM
 * alone is an error. */
int plans_open(struct plans *plans, const struct config *config,
               const struct hparams *hparams) MUST_CHECK;

/* The plan made for what is nearest to this step. Pure. */
const struct plan *plans_choose(const struct plans *plans, const struct sched_step *step);

#endif /* AGENT_PLANS_H */
