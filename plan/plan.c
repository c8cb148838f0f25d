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

struct plan plan_sequential(bool experts)
{
    struct plan plan = {.id = 0};
    for (uint32_t i = 0; i < PLAN_OPERATION_COUNT; i++) {
        const bool dense_only = i >= PLAN_UP_GATE && i <= PLAN_DOWN;
        const bool experts_only = i >= PLAN_ROUTE;
        if (experts ? !dense_only : !experts_only) {
            plan.nano[plan.nano_count++] =
                (struct plan_nano){.operation = i, .lane = 0, .end_per64k = 1u << 16};
        }
    }
    plan.hash = plan_hash(&plan);
    return plan;
}
