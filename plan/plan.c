/*
 * plan.c - builds the sequential plan and the hash that step records carry. Called by the core,
 * the worker and tests; pure, owns nothing. Invariant: equal plans have equal hashes.
 */
#include "plan/plan.h"

#include <stddef.h>
#include <string.h>

#include "base/hash.h"
#include "base/must.h"

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

/* Whether all that it waits for in its own layer has a place. */
static bool has_turn(const struct plan *plan, uint32_t nano, const bool placed[PLAN_NANO_MAX])
{
    for (uint32_t i = 0; i < plan->edge_count; i++) {
        const struct plan_edge *edge = &plan->edge[i];
        if (edge->after == nano && edge->offset == 0 && !placed[edge->before]) {
            return false;
        }
    }
    return true;
}

void plan_flatten(struct plan *plan)
{
    struct plan_nano sorted[PLAN_NANO_MAX];
    bool placed[PLAN_NANO_MAX] = {false};
    uint16_t place[PLAN_NANO_MAX];
    for (uint32_t at = 0; at < plan->nano_count; at++) {
        uint32_t nano = 0;
        while (placed[nano] || !has_turn(plan, nano, placed)) {
            nano++;
            must(nano < plan->nano_count); /* Edges of one layer form no circle. */
        }
        placed[nano] = true;
        place[nano] = (uint16_t)at;
        sorted[at] = plan->nano[nano];
        sorted[at].lane = 0;
        sorted[at].lag = 0;
        sorted[at].units = 0;
    }
    memcpy(plan->nano, sorted, plan->nano_count * sizeof sorted[0]);
    for (uint32_t i = 0; i < plan->edge_count; i++) {
        plan->edge[i].after = place[plan->edge[i].after];
        plan->edge[i].before = place[plan->edge[i].before];
    }
    plan->hash = plan_hash(plan);
}
