/*
 * plans.h - the plans that the core serves with: those of plan.dir that pass every check, and the
 * sequential one, which is always there. Counts what runs by them.
 */
#ifndef AGENT_PLANS_H
#define AGENT_PLANS_H

#include <stdint.h>

#include "agent/sched.h"
#include "base/config.h"
#include "plan/planfile.h"
#include "plan/regime.h"
#include "plan/table.h"
#include "wire/message.h"

enum { PLANS_ROWS_MAX = 1 + TABLE_PLANS_MAX, PLANS_FILE_BYTES_MAX = 64 };

struct plans_row { /* The steps for which one file was made; row 0: those for which none was. */
    char file[PLANS_FILE_BYTES_MAX];
    const struct plan *plan; /* The sequential one is shared. */
    uint64_t steps;
    uint64_t compute_us;
};

struct plans_refusal {
    char file[PLANS_FILE_BYTES_MAX];
    char reason[PLANFILE_ERROR_BYTES_MAX];
};

struct plans {
    bool experts; /* The model has some. */
    struct plan sequential;
    struct plan_table table;
    struct plankey key; /* That they were made for; none before plans_read(). */
    uint32_t row_count;
    struct plans_row row[PLANS_ROWS_MAX];
    struct regime regime[TABLE_PLANS_MAX]; /* Of row i + 1. */
    uint32_t refused_count;
    struct plans_refusal refused[TABLE_PLANS_MAX]; /* The first ones. */
};

/* With the sequential plan alone. */
void plans_open(struct plans *plans, bool experts);

/* Reads plan.dir as plan.mode says, once it is known what runs the plans. What is refused is logged
 * with its reason, kept for plans_tell() and left out. */
void plans_read(struct plans *plans, const struct config *config, const struct plankey *here);

/* Whether they were made for such a worker too; one with more units can run them as well. */
bool plans_fit(const struct plans *plans, const struct plankey *worker,
               char error[PLANKEY_ERROR_BYTES_MAX]) MUST_CHECK;

/* The row of what was made for what is nearest to this step. Pure. */
uint32_t plans_choose(const struct plans *plans, const struct sched_step *step);

/* A step of this row has been answered. */
void plans_count(struct plans *plans, uint32_t row, uint64_t compute_us);

struct plans_told { /* For a message; borrows from the plans. */
    struct wire_plans message;
    struct wire_plan row[PLANS_ROWS_MAX];
    struct wire_refusal refused[TABLE_PLANS_MAX];
};
void plans_tell(const struct plans *plans, struct plans_told *told);

#endif /* AGENT_PLANS_H */
