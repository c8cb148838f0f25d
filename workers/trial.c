/*
 * trial.c - see trial.h. Called by whoever has a plan that came from elsewhere, once a plan; pure.
 * Invariant: what it passes, a pipe runs without leaving its buffers and without waiting for ever.
 */
#include "workers/trial.h"

#include <stddef.h>

static bool in_bounds(const struct plan *plan)
{
    if (plan->nano_count == 0 || plan->nano_count > PLAN_NANO_MAX ||
        plan->edge_count > PLAN_EDGE_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < plan->nano_count; i++) {
        const struct plan_nano *nano = &plan->nano[i];
        if (nano->operation >= PLAN_OPERATION_COUNT || nano->lane >= PLAN_LANE_MAX ||
            nano->lag > PLAN_LAG_MAX || nano->first >= nano->end || nano->end > PLAN_WHOLE) {
            return false;
        }
    }
    for (uint32_t i = 0; i < plan->edge_count; i++) {
        const struct plan_edge *edge = &plan->edge[i];
        if (edge->after >= plan->nano_count || edge->before >= plan->nano_count ||
            edge->kind > PLAN_AFTER_START) {
            return false;
        }
    }
    return true;
}

/* The nano-operation of an operation whose range begins at first, or NULL. */
static const struct plan_nano *begins_at(const struct plan *plan, uint32_t operation,
                                         uint32_t first)
{
    for (uint32_t i = 0; i < plan->nano_count; i++) {
        if (plan->nano[i].operation == operation && plan->nano[i].first == first) {
            return &plan->nano[i];
        }
    }
    return NULL;
}

/* Every token once, and experts by the ranges in which they were chosen. Takes what it has seen off
 * `left`. */
static bool tiles(const struct plan *plan, const struct graph_operation *operation, uint32_t *left)
{
    uint32_t at = 0;
    while (at < PLAN_WHOLE) {
        const struct plan_nano *nano = begins_at(plan, operation->operation, at);
        const struct plan_nano *route = begins_at(plan, PLAN_ROUTE, at);
        if (!nano || *left == 0 || (operation->alike && (!route || route->end != nano->end))) {
            return false;
        }
        at = nano->end;
        (*left)--;
    }
    return true;
}

/* A comm serves one lane: two at a time would mix up its rounds, and ranks their order. */
static bool meets_on_one_lane(const struct plan *plan, const struct graph *graph)
{
    uint32_t lane = PLAN_LANE_MAX;
    for (uint32_t i = 0; i < plan->nano_count; i++) {
        const struct plan_nano *nano = &plan->nano[i];
        if (!graph_find(graph, nano->operation)->meets_ranks) {
            continue;
        }
        if (lane != PLAN_LANE_MAX && nano->lane != lane) {
            return false;
        }
        lane = nano->lane;
    }
    return true;
}

struct trial { /* A run in which everything takes no time. */
    uint32_t ended[PLAN_NANO_MAX];
    uint32_t round[PLAN_LANE_MAX];
    uint32_t at[PLAN_LANE_MAX]; /* Next in the plan's list, of this lane or not. */
};

static bool trial_may_start(const struct trial *trial, const struct plan *plan, uint32_t nano,
                            uint32_t layer)
{
    for (uint32_t i = 0; i < plan->edge_count; i++) {
        const struct plan_edge *edge = &plan->edge[i];
        if (edge->after == nano && trial->ended[edge->before] + edge->offset < layer + 1) {
            return false;
        }
    }
    return true;
}

/* As far as the lane comes now. */
static bool trial_moves(struct trial *trial, const struct plan *plan, uint32_t lane,
                        uint32_t layers)
{
    const uint32_t rounds = layers + PLAN_LAG_MAX;
    bool moved = false;
    for (; trial->round[lane] < rounds; trial->round[lane]++, trial->at[lane] = 0) {
        for (; trial->at[lane] < plan->nano_count; trial->at[lane]++) {
            const uint32_t nano = trial->at[lane];
            const uint32_t layer = trial->round[lane] - plan->nano[nano].lag;
            if (plan->nano[nano].lane != lane || layer >= layers) {
                continue;
            }
            if (!trial_may_start(trial, plan, nano, layer)) {
                return moved;
            }
            trial->ended[nano]++;
            moved = true;
        }
    }
    return moved;
}

/* What starts also ends, so an order that ends once ends however long things take. */
static bool comes_to_an_end(const struct plan *plan, uint32_t layers)
{
    struct trial trial = {0};
    bool moved = true;
    while (moved) {
        moved = false;
        for (uint32_t lane = 0; lane < PLAN_LANE_MAX; lane++) {
            moved = trial_moves(&trial, plan, lane, layers) || moved;
        }
    }
    for (uint32_t i = 0; i < plan->nano_count; i++) {
        if (trial.ended[i] != layers) {
            return false;
        }
    }
    return true;
}

bool trial_passes(const struct plan *plan, const struct graph *graph, uint32_t layers)
{
    if (!in_bounds(plan)) {
        return false;
    }
    uint32_t left = plan->nano_count;
    for (uint32_t i = 0; i < graph->count; i++) {
        if (!tiles(plan, &graph->operation[i], &left)) {
            return false;
        }
    }
    if (left > 0) {
        return false; /* Operations that the model does not have. */
    }
    return meets_on_one_lane(plan, graph) && comes_to_an_end(plan, layers);
}
