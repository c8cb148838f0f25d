/*
 * plan.c - builds the sequential plan and the hash that step records carry. Called by the core,
 * the worker and tests; pure, owns nothing. Invariant: equal plans have equal hashes.
 */
#include "plan/plan.h"

#include <stddef.h>

#include "base/hash.h"

uint64_t plan_hash(const struct plan *plan)
{
    const size_t counted = offsetof(struct plan, hash);
    const uint64_t parts[] = {
        hash_u64(plan, counted),
        hash_u64(plan->nano, plan->nano_count * sizeof plan->nano[0]),
        hash_u64(plan->edge, plan->edge_count * sizeof plan->edge[0]),
    };
    return hash_u64(parts, sizeof parts);
}

void plan_sequential(struct plan *plan, bool experts)
{
    *plan = (struct plan){.id = 0};
    for (uint16_t i = 0; i < PLAN_OPERATION_COUNT; i++) {
        const bool dense_only = i >= PLAN_UP_GATE && i <= PLAN_DOWN;
        const bool experts_only = i >= PLAN_ROUTE;
        if (experts ? !dense_only : !experts_only) {
            plan->nano[plan->nano_count++] = (struct plan_nano){.operation = i, .end = PLAN_WHOLE};
        }
    }
    for (uint16_t i = 0; i < plan->nano_count; i++) {
        plan->edge[plan->edge_count++] = (struct plan_edge){
            .after = i,
            .before = (uint16_t)((i > 0 ? i : plan->nano_count) - 1),
            .offset = i == 0,
        };
    }
    plan->hash = plan_hash(plan);
}
