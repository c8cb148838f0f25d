/*
 * simulate.c - see simulate.h. Called by the search, many thousand times for a plan, and once for a
 * picture; owns nothing. Invariant: the units of what runs at one time are at most the device's.
 */
#include "plan/simulate.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { NONE = PLAN_NANO_MAX };

struct lane {
    uint8_t order[PLAN_NANO_MAX]; /* Its nano-operations. */
    uint32_t count;
    uint32_t at; /* In order, of this round. */
    uint32_t round;
    uint32_t running; /* Nano, or NONE. */
    uint32_t layer;   /* Of what runs. */
    double left_us;   /* That it would still take alone. */
    double speed;
};

struct state {
    const struct plan *plan;
    const struct profile *profile;
    uint32_t layers;
    uint32_t rounds;
    struct lane lane[PLAN_LANE_MAX];
    double alone_us[PLAN_NANO_MAX];
    uint16_t units[PLAN_NANO_MAX];
    uint8_t share[PLAN_NANO_MAX];
    uint16_t edge_first[PLAN_NANO_MAX + 1]; /* Of what each waits for, in edge. */
    uint16_t edge[PLAN_EDGE_MAX];
    uint32_t free_units;
    double now_us;
    struct simulate_run *run; /* A start or end before it happened is infinite. */
};

static uint32_t scale(uint32_t part, uint32_t tokens)
{
    return (uint32_t)(((uint64_t)part * tokens + PLAN_WHOLE / 2) / PLAN_WHOLE);
}

uint32_t simulate_tokens(const struct plan_nano *nano, const struct regime *regime)
{
    uint32_t first = scale(nano->first, regime->tokens);
    uint32_t end = scale(nano->end, regime->tokens);
    if (nano->operation == PLAN_DECODE_ATTENTION && end > regime->decode) {
        end = regime->decode;
    }
    if (nano->operation == PLAN_PREFILL_ATTENTION && first < regime->decode) {
        first = regime->decode;
    }
    return end > first ? end - first : 0;
}

static void sort_edges(struct state *state)
{
    const struct plan *plan = state->plan;
    uint32_t count = 0;
    for (uint32_t i = 0; i < plan->nano_count; i++) {
        state->edge_first[i] = (uint16_t)count;
        for (uint32_t e = 0; e < plan->edge_count; e++) {
            if (plan->edge[e].after == i) {
                state->edge[count++] = (uint16_t)e;
            }
        }
    }
    state->edge_first[plan->nano_count] = (uint16_t)count;
}

static void prepare(struct state *state, const struct regime *regime)
{
    const struct plan *plan = state->plan;
    const struct profile *profile = state->profile;
    uint32_t lag_max = 0;
    for (uint32_t i = 0; i < PLAN_LANE_MAX; i++) {
        state->lane[i].running = NONE;
    }
    for (uint32_t i = 0; i < plan->nano_count; i++) {
        const struct plan_nano *nano = &plan->nano[i];
        struct lane *lane = &state->lane[nano->lane];
        const uint32_t share = profile_share(profile, nano->units);
        lane->order[lane->count++] = (uint8_t)i;
        lag_max = nano->lag > lag_max ? nano->lag : lag_max;
        state->share[i] = (uint8_t)share;
        state->units[i] = (uint16_t)profile->share[share];
        state->alone_us[i] = profile_duration(profile, nano->operation, share, regime->context,
                                              simulate_tokens(nano, regime));
    }
    state->free_units = profile->key.units;
    state->layers = profile->layers < SIMULATE_LAYERS_MAX ? profile->layers : SIMULATE_LAYERS_MAX;
    state->rounds = state->layers + lag_max;
    for (uint32_t l = 0; l < state->layers; l++) {
        for (uint32_t i = 0; i < plan->nano_count; i++) {
            state->run->start_us[l][i] = (double)INFINITY;
            state->run->end_us[l][i] = (double)INFINITY;
        }
    }
    sort_edges(state);
}

static bool allowed(const struct state *state, uint32_t nano, uint32_t layer)
{
    for (uint32_t e = state->edge_first[nano]; e < state->edge_first[nano + 1]; e++) {
        const struct plan_edge *edge = &state->plan->edge[state->edge[e]];
        if (edge->offset > layer) {
            continue;
        }
        const uint32_t other = layer - edge->offset;
        const double us = edge->kind == PLAN_AFTER_START ? state->run->start_us[other][edge->before]
                                                         : state->run->end_us[other][edge->before];
        if (!isfinite(us)) {
            return false;
        }
    }
    return true;
}

static void go_on(struct lane *lane)
{
    if (++lane->at == lane->count) {
        lane->at = 0;
        lane->round++;
    }
}

/* Starts what the lane can start now; what takes no time also ends. True: something happened. */
static bool start_next(struct state *state, struct lane *lane)
{
    if (lane->running != NONE || lane->round == state->rounds || lane->count == 0) {
        return false;
    }
    const uint32_t nano = lane->order[lane->at];
    const uint32_t lag = state->plan->nano[nano].lag;
    if (lane->round < lag || lane->round - lag >= state->layers) {
        go_on(lane); /* No such layer. */
        return true;
    }
    const uint32_t layer = lane->round - lag;
    if (!allowed(state, nano, layer)) {
        return false;
    }
    if (state->alone_us[nano] <= 0) {
        state->run->start_us[layer][nano] = state->run->end_us[layer][nano] = state->now_us;
        go_on(lane);
        return true;
    }
    if (state->units[nano] > state->free_units) {
        return false;
    }
    state->free_units -= state->units[nano];
    state->run->start_us[layer][nano] = state->now_us;
    lane->running = nano;
    lane->layer = layer;
    lane->left_us = state->alone_us[nano];
    return true;
}

/* Whatever can: lower lanes first where two want the same units. */
static void start_all(struct state *state)
{
    for (uint32_t i = 0; i < PLAN_LANE_MAX;) {
        i = start_next(state, &state->lane[i]) ? 0 : i + 1;
    }
}

static enum profile_class class_of(const struct state *state, const struct lane *lane)
{
    return profile_class(state->plan->nano[lane->running].operation);
}

/* Sets the speeds; how long until the first of what runs ends, INFINITY when nothing runs. */
static double next_end(struct state *state)
{
    double first_us = (double)INFINITY;
    for (uint32_t i = 0; i < PLAN_LANE_MAX; i++) {
        struct lane *lane = &state->lane[i];
        if (lane->running == NONE) {
            continue;
        }
        lane->speed = 1;
        for (uint32_t j = 0; j < PLAN_LANE_MAX; j++) {
            const struct lane *other = &state->lane[j];
            if (j != i && other->running != NONE) {
                lane->speed *= state->profile->keep[class_of(state, lane)][class_of(state, other)]
                                                   [state->share[other->running]];
            }
        }
        first_us = fmin(first_us, lane->left_us / lane->speed);
    }
    return first_us;
}

static void advance(struct state *state, double us)
{
    const double epsilon_us = 1e-9;
    state->now_us += us;
    for (uint32_t i = 0; i < PLAN_LANE_MAX; i++) {
        struct lane *lane = &state->lane[i];
        if (lane->running == NONE) {
            continue;
        }
        lane->left_us -= us * lane->speed;
        if (lane->left_us <= epsilon_us) {
            state->run->end_us[lane->layer][lane->running] = state->now_us;
            state->free_units += state->units[lane->running];
            lane->running = NONE;
            go_on(lane);
        }
    }
}

/* From the middle layers, which neither filling nor draining touches. */
static double steady_interval(const struct state *state)
{
    const uint32_t from = state->layers / 3;
    const uint32_t to = state->layers - state->layers / 3 - 1;
    if (to <= from) {
        return state->now_us / state->layers;
    }
    double sum_us = 0;
    for (uint32_t i = 0; i < state->plan->nano_count; i++) {
        sum_us += state->run->end_us[to][i] - state->run->end_us[from][i];
    }
    return sum_us / state->plan->nano_count / (to - from);
}

int simulate_plan(const struct plan *plan, const struct profile *profile,
                  const struct regime *regime, struct simulate_run *run)
{
    struct state state = {.plan = plan, .profile = profile, .run = run};
    prepare(&state, regime);
    for (;;) {
        start_all(&state);
        const double us = next_end(&state);
        if (!isfinite(us)) {
            break;
        }
        advance(&state, us);
    }
    for (uint32_t i = 0; i < PLAN_LANE_MAX; i++) {
        if (state.lane[i].count > 0 && state.lane[i].round < state.rounds) {
            return -EDEADLK;
        }
    }
    run->interval_us = steady_interval(&state);
    run->step_us = state.now_us + (profile->layers - state.layers) * run->interval_us;
    return 0;
}
