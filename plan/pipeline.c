/*
 * pipeline.c - see pipeline.h. Called by the choice of plans and tests; pure, owns nothing.
 * Invariant: each group's operations stand together, in the model's order.
 */
#include "plan/pipeline.h"

#include <errno.h>
#include <string.h>

#include "plan/graph.h"
#include "plan/split.h"

enum { GROUP_MAX = 6, UNITS_WANTED = 16 };

struct group {
    uint32_t count;
    uint16_t operation[GROUP_MAX];
};

static const struct group attention = {2, {PLAN_PREFILL_ATTENTION, PLAN_DECODE_ATTENTION}};

static const struct group groups[2][PROBLEM_OPERATIONS] = {
    {
        [PROBLEM_KQV] = {3, {PLAN_ATTENTION_NORM, PLAN_KQV, PLAN_ROPE_APPEND}},
        [PROBLEM_O2] = {1, {PLAN_OUTPUT}},
        [PROBLEM_UG] = {3, {PLAN_FFN_NORM, PLAN_UP_GATE, PLAN_SILU_MUL}},
        [PROBLEM_D] = {1, {PLAN_DOWN}},
    },
    {
        [PROBLEM_KQV] = {3, {PLAN_ATTENTION_NORM, PLAN_KQV, PLAN_ROPE_APPEND}},
        [PROBLEM_O2] = {1, {PLAN_OUTPUT}},
        /* Experts are cut as their choice is. */
        [PROBLEM_UG] = {6,
                        {PLAN_FFN_NORM, PLAN_ROUTE, PLAN_EXPERT_UP_GATE, PLAN_EXPERT_SILU_MUL,
                         PLAN_EXPERT_DOWN, PLAN_COMBINE}},
    },
};

static const struct problem_dep deps[] = {
    {PROBLEM_KQV, PROBLEM_D, 1, false},   {PROBLEM_KQV, PROBLEM_UG, 1, false},
    {PROBLEM_GEMV, PROBLEM_KQV, 0, true}, {PROBLEM_PF, PROBLEM_KQV, 0, true},
    {PROBLEM_O2, PROBLEM_GEMV, 0, false}, {PROBLEM_O2, PROBLEM_PF, 0, false},
    {PROBLEM_UG, PROBLEM_O2, 0, false},   {PROBLEM_D, PROBLEM_UG, 0, false},
};

static const struct group *group_of(enum problem_operation operation, bool experts)
{
    return operation == PROBLEM_GEMV || operation == PROBLEM_PF ? &attention
                                                                : &groups[experts][operation];
}

static double group_duration(const struct profile *profile, uint32_t memory_units,
                             enum problem_operation operation, uint32_t context, uint32_t tokens)
{
    const bool memory = operation == PROBLEM_GEMV || operation == PROBLEM_PF;
    const uint32_t units =
        memory || memory_units == 0 ? memory_units : profile->key.units - memory_units;
    const uint32_t share = profile_share(profile, units);
    const struct group *group = group_of(operation, profile->experts);
    double us = 0;
    for (uint32_t i = 0; i < group->count; i++) {
        const bool other_half =
            memory && (group->operation[i] == PLAN_PREFILL_ATTENTION) != (operation == PROBLEM_PF);
        us +=
            other_half ? 0 : profile_duration(profile, group->operation[i], share, context, tokens);
    }
    return us;
}

/* A grid of at most UNITS_WANTED units, each a multiple of the smallest size measured. */
static void set_grid(struct problem *problem, const struct profile *profile, uint32_t tokens)
{
    const uint32_t tile = profile->token[0];
    const uint32_t tiles = (tokens + tile - 1) / tile;
    problem->grid = (tiles + UNITS_WANTED - 1) / UNITS_WANTED * tile;
    problem->units = (tokens + problem->grid - 1) / problem->grid;
}

void pipeline_problem(struct problem *problem, const struct profile *profile,
                      const struct regime *regime, const struct pipeline_shape *shape)
{
    *problem = (struct problem){0};
    set_grid(problem, profile, regime->tokens);
    const uint32_t units = problem->units;
    uint32_t decode = (regime->decode + problem->grid / 2) / problem->grid;
    decode = decode > units ? units : decode;
    for (uint32_t i = 0; i < PROBLEM_OPERATIONS; i++) {
        const bool absent = i == PROBLEM_AG_ATT || i == PROBLEM_AG_O || i == PROBLEM_AR_O ||
                            i == PROBLEM_AR_D || (profile->experts && i == PROBLEM_D);
        problem->operation[i].first = i == PROBLEM_PF ? decode : 0;
        problem->operation[i].end = absent ? 0 : i == PROBLEM_GEMV ? decode : units;
        problem->operation[i].pieces_max = shape->pieces_max;
        problem->operation[i].stream = i == PROBLEM_GEMV ? PROBLEM_MEMORY
                                       : i == PROBLEM_PF ? shape->prefill
                                                         : PROBLEM_COMPUTE;
        for (uint32_t u = 1; u <= units && !absent && i != PROBLEM_O; u++) {
            problem->operation[i].duration_us[u] =
                group_duration(profile, shape->memory_units, i, regime->context, u * problem->grid);
        }
    }
    memcpy(problem->dep, deps, sizeof deps);
    problem->dep_count = sizeof deps / sizeof deps[0];
}

static uint32_t part_of(uint32_t unit, const struct problem *problem)
{
    return (uint32_t)((uint64_t)unit * PLAN_WHOLE / problem->units);
}

static bool add_group(struct plan *plan, const struct schedule_nano *nano,
                      const struct problem *problem, bool experts)
{
    const struct group *group = group_of(nano->operation, experts);
    for (uint32_t i = 0; i < group->count; i++) {
        if (plan->nano_count == PLAN_NANO_MAX) {
            return false;
        }
        plan->nano[plan->nano_count++] = (struct plan_nano){
            .operation = group->operation[i],
            .lane = (uint16_t)problem->operation[nano->operation].stream,
            .lag = (uint16_t)nano->lag,
            .first = part_of(nano->first, problem),
            .end = part_of(nano->end, problem),
        };
    }
    return true;
}

int pipeline_plan(struct plan *plan, const struct schedule *schedule, const struct problem *problem,
                  bool experts)
{
    struct graph graph;
    bool fits = true;
    memset(plan, 0, sizeof *plan);
    for (uint32_t s = 0; s < PROBLEM_STREAMS; s++) {
        for (uint32_t i = 0; i < schedule->order_count[s] && fits; i++) {
            fits = add_group(plan, &schedule->nano[schedule->order[s][i]], problem, experts);
        }
    }
    graph_build(&graph, experts, 1, GRAPH_INSIDE);
    return fits ? split_edges(plan, &graph) : -E2BIG;
}
