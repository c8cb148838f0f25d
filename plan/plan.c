/*
 * plan.c - builds the sequential plan and the hash that step records carry. Called by the core,
 * the worker and tests; pure, owns nothing. Invariant: equal plans have equal hashes.
 */
#include "plan/plan.h"

#include "base/hash.h"

uint64_t plan_hash(const struct plan *plan)
{
    struct plan copy = *plan;
    copy.hash = 0;
    return hash_u64(&copy, sizeof copy);
}

struct plan plan_sequential(void)
{
    struct plan plan = {.id = 0, .nano_count = PLAN_OPERATION_COUNT};
    for (uint32_t i = 0; i < PLAN_OPERATION_COUNT; i++) {
        plan.nano[i] = (struct plan_nano){.operation = i, .lane = 0, .end_per64k = 1u << 16};
    }
    plan.hash = plan_hash(&plan);
    return plan;
}
