/*
 * choose_test.c - a fake device whose durations and P(R) are tables, made so that the best plan is
 * known by argument.
 *
 * Let compute scale with its units (C us a layer on all U) and memory reach full speed at u of them
 * (M us): a layer then needs at least C * U + M * u unit-microseconds whatever the plan, so no
 * interval is shorter than C + M * u / U. Where memory also needs all units, that is C + M: the
 * sequential plan. The same holds where each slows the other to half.
 *
 * The device itself is also there: it runs a plan by small steps of time, knowing nothing of
 * simulate.c, and its timeline must be the predicted one.
 */
#include "plan/choose.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "plan/graph.h"
#include "plan/verify.h"

enum { UNITS = 10, TOKENS = 256, LAYERS = 32 };

static const struct choose_effort effort = {
    .seed = 3, .structure_tries = 20000, .share_tries = 1500};

struct truth {
    double compute_us; /* Of a layer on all units. */
    double memory_us;
    double launch_us;   /* What each nano-operation of compute or memory costs beside its tokens. */
    uint32_t saturates; /* Units from which on memory is no faster. */
    double keep;        /* Of either beside the other. */
};

static double share_of(uint32_t operation)
{
    switch (operation) { /* Of a layer's compute. */
    case PLAN_KQV:
        return 0.20;
    case PLAN_OUTPUT:
        return 0.10;
    case PLAN_UP_GATE:
    case PLAN_EXPERT_UP_GATE:
        return 0.45;
    case PLAN_DOWN:
    case PLAN_EXPERT_DOWN:
        return 0.23;
    case PLAN_DECODE_ATTENTION:
    case PLAN_PREFILL_ATTENTION:
        return 1;
    default:
        return 0.005;
    }
}

static void fill_operation(struct profile *profile, const struct truth *truth, uint32_t operation)
{
    const bool memory = profile_class(operation) == PROFILE_MEMORY;
    const bool large = share_of(operation) > 0.05;
    for (uint32_t s = 0; s < profile->share_count; s++) {
        const double units = profile->share[s];
        const double speed = memory ? fmin(units / truth->saturates, 1) : units / UNITS;
        for (uint32_t t = 0; t < profile->token_count; t++) {
            const double part = (double)profile->token[t] / TOKENS;
            const double us = (memory ? truth->memory_us : truth->compute_us) *
                              share_of(operation) * part / speed;
            profile->duration_us[operation][s][0][t] = us + (large ? truth->launch_us : 0);
        }
    }
}

static struct profile *make_model(const struct truth *truth, bool experts)
{
    static const uint32_t shares[] = {1, 2, 5, 8, 9, UNITS};
    struct profile *profile = calloc(1, sizeof *profile);
    struct plan *all = calloc(1, sizeof *all);
    assert_true(profile && all);
    profile->layers = LAYERS;
    profile->key.units = UNITS;
    memcpy(profile->share, shares, sizeof shares);
    profile->share_count = sizeof shares / sizeof shares[0];
    profile->context[profile->context_count++] = 512;
    for (uint32_t tokens = 16; tokens <= TOKENS; tokens *= 2) {
        profile->token[profile->token_count++] = tokens;
    }
    profile->experts = experts;
    plan_sequential(all, experts);
    for (uint32_t i = 0; i < all->nano_count; i++) {
        fill_operation(profile, truth, all->nano[i].operation);
    }
    for (uint32_t i = 0; i < PROFILE_CLASSES * PROFILE_CLASSES; i++) {
        for (uint32_t s = 0; s < profile->share_count; s++) {
            profile->keep[i / PROFILE_CLASSES][i % PROFILE_CLASSES][s] = truth->keep;
        }
    }
    free(all);
    return profile;
}

static struct profile *make_device(const struct truth *truth)
{
    return make_model(truth, false);
}

static struct choose_result *choose(const struct profile *profile, uint32_t decode_tokens)
{
    const struct regime regime = {TOKENS, decode_tokens, 512};
    struct choose_result *result = calloc(1, sizeof *result);
    assert_non_null(result);
    assert_int_equal(choose_plans(result, profile, &regime, &effort), 0);
    assert_true(result->count > 0);
    for (uint32_t i = 1; i < result->count; i++) {
        assert_true(result->step_us[i] >= result->step_us[i - 1]);
    }
    return result;
}

/* Pays: within 2 % of the bound, and of course not below it. */
static void overlap_that_pays_is_found(void **state)
{
    (void)state;
    static const struct {
        struct truth truth;
        uint32_t decode_tokens;
    } cases[] = {
        {{.compute_us = 800, .memory_us = 500, .saturates = 2, .keep = 1}, TOKENS},
        {{.compute_us = 800, .memory_us = 1000, .saturates = 2, .keep = 1}, TOKENS},
        {{.compute_us = 1000, .memory_us = 400, .saturates = 1, .keep = 1}, TOKENS},
        {{.compute_us = 500, .memory_us = 1000, .saturates = 5, .keep = 1}, TOKENS},
        {{.compute_us = 800, .memory_us = 500, .saturates = 2, .keep = 1}, TOKENS / 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct truth *truth = &cases[i].truth;
        struct profile *profile = make_device(truth);
        struct choose_result *result = choose(profile, cases[i].decode_tokens);
        const double bound_us = truth->compute_us + truth->memory_us * truth->saturates / UNITS;
        assert_true(result->interval_us[0] >= bound_us * (1 - 1e-6));
        assert_true(result->interval_us[0] <= bound_us * 1.02);
        assert_true(result->step_us[0] <= bound_us * LAYERS * 1.04); /* Filled and drained once. */
        assert_true(result->step_us[0] < result->sequential_us * 0.8);
        free(result);
        free(profile);
    }
}

static void overlap_that_does_not_pay_is_left(void **state)
{
    (void)state;
    static const struct truth truths[] = {
        {.compute_us = 800, .memory_us = 500, .saturates = UNITS, .keep = 1, .launch_us = 1},
        {.compute_us = 500, .memory_us = 800, .saturates = UNITS, .keep = 0.9},
        {.compute_us = 800, .memory_us = 500, .saturates = 2, .keep = 0.5},
        {.compute_us = 800, .memory_us = 20, .saturates = 8, .keep = 1, .launch_us = 10},
    };
    for (size_t i = 0; i < sizeof truths / sizeof truths[0]; i++) {
        struct profile *profile = make_device(&truths[i]);
        struct choose_result *result = choose(profile, TOKENS);
        struct plan *sequential = calloc(1, sizeof *sequential);
        assert_non_null(sequential);
        plan_sequential(sequential, false);
        assert_int_equal(result->sequential, 0);
        assert_int_equal(result->plan[0].hash, sequential->hash);
        assert_true(result->step_us[0] == result->sequential_us);
        free(sequential);
        free(result);
        free(profile);
    }
}

static void verify_choice(const struct truth *truth, bool experts, uint32_t decode_tokens)
{
    char error[VERIFY_ERROR_BYTES_MAX] = "";
    struct graph graph;
    struct profile *profile = make_model(truth, experts);
    struct choose_result *result = choose(profile, decode_tokens);
    graph_build(&graph, experts, 1, GRAPH_INSIDE);
    assert_true(result->count > 2);
    for (uint32_t i = 0; i < result->count; i++) {
        assert_int_equal(verify_plan(&result->plan[i], &graph, UNITS, error), 0);
    }
    free(result);
    free(profile);
}

/* Dense and with experts, all decode, all prompts, and mixed off the grid. */
static void all_plans_pass_the_verifier(void **state)
{
    (void)state;
    static const uint32_t decode_tokens[] = {TOKENS, 0, TOKENS / 2 + 7};
    const struct truth truth = {
        .compute_us = 800, .memory_us = 600, .saturates = 2, .keep = 0.95, .launch_us = 1};
    for (uint32_t i = 0; i < 3; i++) {
        verify_choice(&truth, false, decode_tokens[i]);
        verify_choice(&truth, true, decode_tokens[i]);
    }
}

static void one_seed_gives_one_choice(void **state)
{
    (void)state;
    struct profile *profile = make_device(
        &(struct truth){.compute_us = 700, .memory_us = 500, .saturates = 2, .keep = 1});
    struct choose_result *first = choose(profile, TOKENS / 2);
    struct choose_result *second = choose(profile, TOKENS / 2);
    assert_memory_equal(first, second, sizeof *first);
    free(first);
    free(second);
    free(profile);
}

/* The device itself. */
struct fake {
    const struct plan *plan;
    const struct profile *profile;
    struct regime regime;
    uint32_t lane_at[PLAN_LANE_MAX]; /* Instances of the lane that have started, in its order. */
    uint32_t running[PLAN_LANE_MAX]; /* Nano + 1; 0: nothing. */
    uint32_t layer[PLAN_LANE_MAX];
    double left[PLAN_LANE_MAX]; /* Part of the instance. */
    double start_us[SIMULATE_LAYERS_MAX][PLAN_NANO_MAX];
    double end_us[SIMULATE_LAYERS_MAX][PLAN_NANO_MAX]; /* Below 0: not yet. */
};

static double fake_alone_us(const struct fake *fake, uint32_t nano)
{
    const struct plan_nano *row = &fake->plan->nano[nano];
    return profile_duration(fake->profile, row->operation, profile_share(fake->profile, row->units),
                            fake->regime.context, simulate_tokens(row, &fake->regime));
}

static uint32_t fake_units(const struct fake *fake, uint32_t nano)
{
    const uint32_t units = fake->plan->nano[nano].units;
    return units ? units : UNITS;
}

/* The next instance of a lane. False: there is none. */
static bool fake_next(const struct fake *fake, uint32_t lane, uint32_t *nano, int64_t *layer)
{
    uint32_t mine[PLAN_NANO_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < fake->plan->nano_count; i++) {
        if (fake->plan->nano[i].lane == lane) {
            mine[count++] = i;
        }
    }
    if (count == 0 || fake->lane_at[lane] / count >= SIMULATE_LAYERS_MAX + PLAN_LAG_MAX) {
        return false;
    }
    *nano = mine[fake->lane_at[lane] % count];
    *layer = (int64_t)(fake->lane_at[lane] / count) - fake->plan->nano[*nano].lag;
    return true;
}

static bool fake_may_start(const struct fake *fake, uint32_t nano, uint32_t layer)
{
    uint32_t units = fake_units(fake, nano);
    for (uint32_t i = 0; i < fake->plan->edge_count; i++) {
        const struct plan_edge *edge = &fake->plan->edge[i];
        if (edge->after == nano && edge->offset <= layer &&
            fake->end_us[layer - edge->offset][edge->before] < 0) {
            return false;
        }
    }
    for (uint32_t l = 0; l < PLAN_LANE_MAX; l++) {
        units += fake->running[l] ? fake_units(fake, fake->running[l] - 1) : 0;
    }
    return units <= UNITS || fake_alone_us(fake, nano) == 0;
}

/* Starts all that may start. */
static void fake_start(struct fake *fake, double now_us)
{
    for (uint32_t lane = 0; lane < PLAN_LANE_MAX; lane++) {
        uint32_t nano;
        int64_t layer;
        if (fake->running[lane] || !fake_next(fake, lane, &nano, &layer)) {
            continue;
        }
        const bool exists = layer >= 0 && layer < SIMULATE_LAYERS_MAX;
        if (exists && !fake_may_start(fake, nano, (uint32_t)layer)) {
            continue;
        }
        fake->lane_at[lane]++;
        if (exists) {
            fake->start_us[layer][nano] = now_us;
            fake->running[lane] = nano + 1;
            fake->layer[lane] = (uint32_t)layer;
            fake->left[lane] = 1;
        }
        if (!exists || fake_alone_us(fake, nano) == 0) { /* The lane may go on at once. */
            if (exists) {
                fake->end_us[layer][nano] = now_us;
                fake->running[lane] = 0;
            }
            lane = UINT32_MAX; /* And others with it. */
        }
    }
}

/* One small step of time. Returns whether anything ran. */
static bool fake_step(struct fake *fake, double now_us, double step_us)
{
    bool any = false;
    for (uint32_t lane = 0; lane < PLAN_LANE_MAX; lane++) {
        if (!fake->running[lane]) {
            continue;
        }
        const uint32_t nano = fake->running[lane] - 1;
        double speed = 1 / fake_alone_us(fake, nano);
        for (uint32_t other = 0; other < PLAN_LANE_MAX; other++) {
            if (other != lane && fake->running[other]) {
                const struct plan_nano *beside = &fake->plan->nano[fake->running[other] - 1];
                speed *= fake->profile->keep[profile_class(fake->plan->nano[nano].operation)]
                                            [profile_class(beside->operation)]
                                            [profile_share(fake->profile, beside->units)];
            }
        }
        fake->left[lane] -= speed * step_us;
        any = true;
    }
    for (uint32_t lane = 0; lane < PLAN_LANE_MAX; lane++) {
        if (fake->running[lane] && fake->left[lane] <= 0) {
            fake->end_us[fake->layer[lane]][fake->running[lane] - 1] = now_us + step_us;
            fake->running[lane] = 0;
        }
    }
    return any;
}

static void compare_timelines(const struct plan *plan, const struct profile *profile,
                              uint32_t decode_tokens)
{
    const double step_us = 0.02, tolerance_us = 12; /* Some hundred ends, each a step late. */
    struct fake *fake = calloc(1, sizeof *fake);
    struct simulate_run *run = calloc(1, sizeof *run);
    assert_true(fake && run);
    fake->plan = plan;
    fake->profile = profile;
    fake->regime = (struct regime){TOKENS, decode_tokens, 512};
    assert_int_equal(simulate_plan(plan, profile, &fake->regime, run), 0);
    for (uint32_t i = 0; i < SIMULATE_LAYERS_MAX * PLAN_NANO_MAX; i++) {
        fake->end_us[i / PLAN_NANO_MAX][i % PLAN_NANO_MAX] = -1;
    }
    uint64_t steps = 0;
    do {
        fake_start(fake, (double)steps * step_us);
    } while (fake_step(fake, (double)steps++ * step_us, step_us));
    for (uint32_t l = 0; l < SIMULATE_LAYERS_MAX; l++) {
        for (uint32_t i = 0; i < plan->nano_count; i++) {
            assert_true(fabs(fake->start_us[l][i] - run->start_us[l][i]) < tolerance_us);
            assert_true(fabs(fake->end_us[l][i] - run->end_us[l][i]) < tolerance_us);
        }
    }
    free(run);
    free(fake);
}

static void device_runs_as_predicted(void **state)
{
    (void)state;
    static const struct truth truths[] = {
        {.compute_us = 800, .memory_us = 700, .saturates = 2, .keep = 0.9, .launch_us = 1},
        {.compute_us = 900, .memory_us = 500, .saturates = 2, .keep = 0.8},
    };
    for (size_t i = 0; i < sizeof truths / sizeof truths[0]; i++) {
        struct profile *profile = make_device(&truths[i]);
        struct choose_result *result = choose(profile, TOKENS / 2);
        assert_true(result->count > 1);
        for (uint32_t p = 0; p < 3 && p < result->count; p++) {
            compare_timelines(&result->plan[p], profile, TOKENS / 2);
        }
        free(result);
        free(profile);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(overlap_that_pays_is_found),
        cmocka_unit_test(overlap_that_does_not_pay_is_left),
        cmocka_unit_test(all_plans_pass_the_verifier),
        cmocka_unit_test(one_seed_gives_one_choice),
        cmocka_unit_test(device_runs_as_predicted),
    };
    return cmocka_run_group_tests_name("choose", tests, NULL, NULL);
}
