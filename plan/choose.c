/*
 * choose.c - see choose.h. Called by sluice-tune and tests on one thread; owns its work space while
 * it runs. Invariant: one seed and one effort give one answer, whatever the machine's speed.
 */
#include "plan/choose.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/prng.h"
#include "plan/pipeline.h"
#include "plan/search.h"

enum { LOOKS = 200 /* At the heat, of one search. */ };

/* Of the first stage: the pieces at most, and the lane of prompts' attention; each of them with
 * several divisions of the units, for a structure fits the durations that it was made for. */
static const struct pipeline_shape shapes[] = {
    {2, PROBLEM_MEMORY, 0},
    {2, PROBLEM_COMPUTE, 0},
    {4, PROBLEM_MEMORY, 0},
    {4, PROBLEM_COMPUTE, 0},
};

enum { DIVISIONS = 4, STRUCTURES = 4 * (DIVISIONS + 1), REFINED = CHOOSE_BEST_MAX - 1 };

static_assert(sizeof shapes / sizeof shapes[0] * (DIVISIONS + 1) == STRUCTURES, "all shapes");

struct structure {
    struct plan plan;
    double step_us; /* With one division for all. */
};

struct chooser {
    const struct profile *profile;
    const struct regime *regime;
    const struct choose_effort *effort;
    struct choose_result *result;
    uint64_t draws;
    struct problem problem;
    struct search search;
    struct simulate_run run;
    struct plan now;
    struct plan best;
    struct structure structure[STRUCTURES];
    uint32_t structure_count;
};

static uint32_t draw(struct chooser *chooser, uint32_t bound)
{
    return (uint32_t)((prng_bits(chooser->effort->seed, chooser->draws++, 2) >> 32) * bound >> 32);
}

/* INFINITY when it cannot run. */
static double step_of(struct chooser *chooser, const struct plan *plan)
{
    return simulate_plan(plan, chooser->profile, chooser->regime, &chooser->run)
               ? (double)INFINITY
               : chooser->run.step_us;
}

/* Keeps the best few, the fastest first; of equals the first to come. */
static void keep_plan(struct chooser *chooser, struct plan *plan)
{
    struct choose_result *result = chooser->result;
    const double us = step_of(chooser, plan);
    plan->hash = plan_hash(plan);
    uint32_t at = result->count;
    for (uint32_t i = 0; i < result->count; i++) {
        if (result->plan[i].hash == plan->hash) {
            return;
        }
    }
    while (at > 0 && us < result->step_us[at - 1]) {
        at--;
    }
    if (!isfinite(us) || at == CHOOSE_BEST_MAX) {
        return;
    }
    result->count += result->count < CHOOSE_BEST_MAX;
    const uint32_t moved = result->count - at - 1;
    memmove(&result->plan[at + 1], &result->plan[at], moved * sizeof result->plan[0]);
    memmove(&result->step_us[at + 1], &result->step_us[at], moved * sizeof result->step_us[0]);
    memmove(&result->interval_us[at + 1], &result->interval_us[at],
            moved * sizeof result->interval_us[0]);
    result->plan[at] = *plan;
    result->step_us[at] = us;
    result->interval_us[at] = chooser->run.interval_us;
}

/* What stage one finds for a shape; in chooser->now. */
static int find_structure(struct chooser *chooser, const struct pipeline_shape *shape,
                          uint64_t seed)
{
    struct search *search = &chooser->search;
    pipeline_problem(&chooser->problem, chooser->profile, chooser->regime, shape);
    int code = search_open(search, &chooser->problem, seed);
    uint32_t round = 0;
    for (uint32_t i = 0; i < LOOKS && !code; i++) {
        const double part = (double)i / LOOKS;
        if ((uint32_t)(part * SEARCH_COOLINGS) > round) {
            round++;
            search_restart(search);
        }
        search_run(search, search_heat(search, part), chooser->effort->structure_tries / LOOKS);
    }
    if (!code) {
        code = pipeline_plan(&chooser->now, &search->best, &chooser->problem,
                             chooser->profile->experts);
    }
    search_close(search);
    return code;
}

static void set_class(struct chooser *chooser, enum profile_class class, uint32_t units)
{
    for (uint32_t i = 0; i < chooser->now.nano_count; i++) {
        if (profile_class(chooser->now.nano[i].operation) == class) {
            chooser->now.nano[i].units = (uint16_t)units;
        }
    }
}

/* One division between the classes for all: the best to begin with. Returns its step. */
static double divide_units(struct chooser *chooser)
{
    const struct profile *profile = chooser->profile;
    double best_us = step_of(chooser, &chooser->now);
    chooser->best = chooser->now;
    for (uint32_t s = 0; s + 1 < profile->share_count; s++) {
        const uint32_t rest = profile->key.units - profile->share[s];
        set_class(chooser, PROFILE_MEMORY, profile->share[s]);
        set_class(chooser, PROFILE_COMPUTE, profile->share[profile_share(profile, rest)]);
        const double us = step_of(chooser, &chooser->now);
        if (us < best_us) {
            best_us = us;
            chooser->best = chooser->now;
        }
    }
    chooser->now = chooser->best;
    return best_us;
}

/* Another share for one nano-operation and those of its lane that share its range and follow. */
static void change_share(struct chooser *chooser)
{
    struct plan *plan = &chooser->now;
    const struct profile *profile = chooser->profile;
    const uint32_t at = draw(chooser, plan->nano_count);
    const uint16_t units = (uint16_t)profile->share[draw(chooser, profile->share_count)];
    const bool run = draw(chooser, 2);
    for (uint32_t i = at; i < plan->nano_count; i++) {
        if (i > at && (!run || plan->nano[i].lane != plan->nano[at].lane ||
                       plan->nano[i].first != plan->nano[at].first ||
                       plan->nano[i].end != plan->nano[at].end)) {
            break;
        }
        plan->nano[i].units = units;
    }
}

/* Stage two: shares of a structure, by annealing. */
static void find_shares(struct chooser *chooser, const struct structure *structure)
{
    const double hot = 0.005;
    const uint32_t tries = chooser->effort->share_tries;
    double best_us = structure->step_us;
    chooser->now = chooser->best = structure->plan;
    double now_us = best_us;
    for (uint32_t i = 0; i < tries && isfinite(best_us); i++) {
        const struct plan before = chooser->now;
        const double heat_us = best_us * hot * (1 - (double)i / tries);
        const double chance = (double)prng_uniform(chooser->effort->seed, chooser->draws++, 3);
        change_share(chooser);
        if (draw(chooser, 2)) { /* One takes what another gives. */
            change_share(chooser);
        }
        const double us = step_of(chooser, &chooser->now);
        if (us > now_us - heat_us * log(chance > 0 ? chance : 1e-9)) {
            chooser->now = before;
            continue;
        }
        now_us = us;
        if (us < best_us) {
            best_us = us;
            chooser->best = chooser->now;
        }
    }
}

/* Stage one for a shape, and the best single division of the units for what it finds. */
static int add_structure(struct chooser *chooser, const struct pipeline_shape *shape)
{
    const int code =
        find_structure(chooser, shape, chooser->effort->seed + chooser->structure_count);
    if (!code) {
        struct structure *structure = &chooser->structure[chooser->structure_count++];
        structure->step_us = divide_units(chooser);
        structure->plan = chooser->best;
    }
    return code == -ENOMEM ? code : 0;
}

static int add_structures(struct chooser *chooser, struct pipeline_shape shape)
{
    const struct profile *profile = chooser->profile;
    const uint32_t parts = profile->share_count - 1; /* Those that leave compute something. */
    const uint32_t divisions = parts < DIVISIONS ? parts : DIVISIONS;
    int code = add_structure(chooser, &shape);
    for (uint32_t i = 0; i < divisions && !code; i++) {
        shape.memory_units = profile->share[i * parts / divisions];
        code = add_structure(chooser, &shape);
    }
    return code;
}

static int by_step(const void *left, const void *right)
{
    const double left_us = ((const struct structure *)left)->step_us;
    const double right_us = ((const struct structure *)right)->step_us;
    return (left_us > right_us) - (left_us < right_us);
}

int choose_plans(struct choose_result *result, const struct profile *profile,
                 const struct regime *regime, const struct choose_effort *effort)
{
    struct chooser *chooser = calloc(1, sizeof *chooser);
    if (!chooser) {
        return -ENOMEM;
    }
    chooser->profile = profile;
    chooser->regime = regime;
    chooser->effort = effort;
    chooser->result = result;
    memset(result, 0, sizeof *result);
    plan_sequential(&chooser->now, profile->experts);
    const uint64_t sequential = chooser->now.hash;
    keep_plan(chooser, &chooser->now);
    result->sequential_us = result->step_us[0];
    int code = 0;
    for (uint32_t i = 0; i < sizeof shapes / sizeof shapes[0] && !code; i++) {
        code = add_structures(chooser, shapes[i]);
    }
    qsort(chooser->structure, chooser->structure_count, sizeof chooser->structure[0], by_step);
    for (uint32_t i = 0; i < chooser->structure_count && i < REFINED && !code; i++) {
        find_shares(chooser, &chooser->structure[i]);
        keep_plan(chooser, &chooser->best);
    }
    for (uint32_t i = 0; i < result->count; i++) {
        result->sequential = result->plan[i].hash == sequential ? i : result->sequential;
    }
    free(chooser);
    return code;
}
