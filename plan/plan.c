/*
 * plan.c - builds the sequential plan and the hash that step records carry. Called by the core,
 * the worker and tests; pure, owns nothing. Invariant: equal plans have equal hashes.
 */
#include "plan/plan.h"

#include <stddef.h>

#include "base/hash.h"

const char *plan_operation_name(uint32_t operation)
{
    static const char *const names[PLAN_OPERATION_COUNT] = {
        [PLAN_ATTENTION_NORM] = "attention-norm",
        [PLAN_KQV] = "kqv",
        [PLAN_ROPE_APPEND] = "rope-append",
        [PLAN_PREFILL_ATTENTION] = "prefill-attention",
        [PLAN_DECODE_ATTENTION] = "decode-attention",
        [PLAN_OUTPUT] = "output",
        [PLAN_FFN_NORM] = "ffn-norm",
        [PLAN_UP_GATE] = "up-gate",
        [PLAN_SILU_MUL] = "silu-mul",
        [PLAN_DOWN] = "down",
        [PLAN_ROUTE] = "route",
        [PLAN_EXPERT_UP_GATE] = "expert-up-gate",
        [PLAN_EXPERT_SILU_MUL] = "expert-silu-mul",
        [PLAN_EXPERT_DOWN] = "expert-down",
        [PLAN_COMBINE] = "combine",
        [PLAN_ATTENDED_GATHER] = "attended-gather",
        [PLAN_OUTPUT_GATHER] = "output-gather",
        [PLAN_OUTPUT_PART] = "output-part",
        [PLAN_OUTPUT_REDUCE] = "output-reduce",
        [PLAN_DOWN_REDUCE] = "down-reduce",
        [PLAN_DOWN_SCATTER] = "down-scatter",
        [PLAN_DOWN_GATHER] = "down-gather",
    };
    return operation < PLAN_OPERATION_COUNT ? names[operation] : "unknown";
}

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
    for (uint32_t i = 0; i <= PLAN_COMBINE; i++) {
        const bool dense_only = i >= PLAN_UP_GATE && i <= PLAN_DOWN;
        const bool experts_only = i >= PLAN_ROUTE;
        if (experts ? !dense_only : !experts_only) {
            plan->nano[plan->nano_count++] =
                (struct plan_nano){.operation = (uint16_t)i, .end = PLAN_WHOLE};
        }
    }
    for (uint32_t i = 0; i < plan->nano_count; i++) {
        plan->edge[plan->edge_count++] = (struct plan_edge){
            .after = (uint16_t)i,
            .before = (uint16_t)((i > 0 ? i : plan->nano_count) - 1),
            .offset = i == 0,
        };
    }
    plan->hash = plan_hash(plan);
}
