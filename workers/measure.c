/*
 * measure.c - see measure.h. Runs on the main thread of a worker process that serves nobody; owns
 * its rig.
 *
 * One run of a plan gives the time of each operation in it, summed over layers. What is kept is the
 * lower quartile over runs, of a layer: what disturbs a run only ever makes it longer. All is
 * measured in several passes, of which the median counts: a neighbour that was busy for a while
 * disturbs one of them.
 */
#include "workers/measure.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "plan/profile.h"
#include "workers/engine.h"
#include "workers/rig.h"

enum {
    RUNS_MAX = 9,
    PASSES = 3,
    SHARES = 8,
    TOKENS_MIN = 16,
    TOKENS_LIMIT = 1 << 14,
    REPEAT_MAX = PLAN_NANO_MAX / 4, /* Of the shorter side, beside the longer. */
};

static const uint32_t contexts[] = {64, 256, 1024};

struct measure {
    struct rig rig;
    struct profile profile;
    struct profile pass[PASSES];
    uint32_t seconds;
    uint64_t end_us; /* When all should be done. */
    uint32_t done;
    uint32_t total;
    struct plan plan;
    double us[PLAN_OPERATION_COUNT]; /* Of the last measurement, of one layer. */
};

static void tell_progress(struct measure *measure, const char *what)
{
    struct json *root = json_new_object();
    json_add(root, "done", json_new_u64(measure->done++));
    json_add(root, "total", json_new_u64(measure->total));
    json_add(root, "what", json_new_string(what, strlen(what)));
    rig_print(root);
}

/* Runs measure->plan on such a batch, as often as its part of the time allows: fills us. */
static void time_batch(struct measure *measure, const struct regime *regime)
{
    const struct engine_batch batch = rig_batch(&measure->rig, regime, &measure->plan);
    double run_us[PLAN_OPERATION_COUNT][RUNS_MAX];
    struct engine_profile spent;
    const uint32_t left = measure->total - measure->done + 1;
    uint64_t now_us = clock_now_us();
    const uint64_t until_us =
        now_us + (measure->end_us > now_us ? (measure->end_us - now_us) / left : 0);
    uint32_t runs = 0;
    engine_run(measure->rig.engine, &batch); /* Caches, pages and clocks wake. */
    engine_wait(measure->rig.engine);
    engine_take_profile(measure->rig.engine, &spent);
    do {
        engine_run(measure->rig.engine, &batch);
        engine_wait(measure->rig.engine);
        engine_take_profile(measure->rig.engine, &spent);
        for (uint32_t i = 0; i < PLAN_OPERATION_COUNT; i++) {
            run_us[i][runs] = (double)spent.operation_ns[i] / 1e3 / measure->profile.layers;
        }
        runs++;
        now_us = clock_now_us();
    } while (runs < RUNS_MAX && now_us < until_us);
    for (uint32_t i = 0; i < PLAN_OPERATION_COUNT; i++) {
        rig_sort(run_us[i], runs);
        measure->us[i] = run_us[i][runs / 4];
    }
}

static void set_units(struct plan *plan, uint32_t units)
{
    for (uint32_t i = 0; i < plan->nano_count; i++) {
        plan->nano[i].units = (uint16_t)units;
    }
}

/* A plan of one operation, so many times, on a lane; edges are not needed: results mean nothing. */
static void add_nano(struct plan *plan, uint32_t operation, uint32_t lane, uint32_t units)
{
    must(plan->nano_count < PLAN_NANO_MAX);
    plan->nano[plan->nano_count++] = (struct plan_nano){.operation = (uint16_t)operation,
                                                        .lane = (uint16_t)lane,
                                                        .units = (uint16_t)units,
                                                        .end = PLAN_WHOLE};
}

static int keep_time(struct measure *measure, uint32_t operation, double *us)
{
    char text[128];
    *us = measure->us[operation];
    if (*us > 0) {
        return 0;
    }
    (void)snprintf(text, sizeof text, "%s", plan_operation_name(operation));
    return rig_fail(text, "could not be measured: the clock saw no time pass in it");
}

/* All but attention, over so many tokens with a share: the same for each context. */
static int time_products(struct measure *measure, uint32_t share, uint32_t token)
{
    struct profile *profile = &measure->profile;
    char what[96];
    int code = 0;
    (void)snprintf(what, sizeof what, "products over %u tokens, %u units", profile->token[token],
                   profile->share[share]);
    tell_progress(measure, what);
    plan_sequential(&measure->plan, profile->experts);
    set_units(&measure->plan, profile->share[share]);
    const uint32_t tokens = profile->token[token];
    time_batch(measure, &(struct regime){tokens, tokens, profile->context[0]});
    for (uint32_t i = 0; i < measure->plan.nano_count && !code; i++) {
        const uint32_t operation = measure->plan.nano[i].operation;
        for (uint32_t c = 0; c < profile->context_count && !code; c++) {
            code = operation == PLAN_PREFILL_ATTENTION
                       ? 0
                       : keep_time(measure, operation,
                                   &profile->duration_us[operation][share][c][token]);
        }
    }
    return code;
}

static int time_attention(struct measure *measure, uint32_t operation, uint32_t share,
                          uint32_t token)
{
    struct profile *profile = &measure->profile;
    char what[96];
    int code = 0;
    for (uint32_t c = 0; c < profile->context_count && !code; c++) {
        (void)snprintf(what, sizeof what, "%s over %u tokens at %u, %u units",
                       plan_operation_name(operation), profile->token[token], profile->context[c],
                       profile->share[share]);
        tell_progress(measure, what);
        measure->plan = (struct plan){.id = 0};
        add_nano(&measure->plan, operation, 0, profile->share[share]);
        const uint32_t tokens = profile->token[token];
        time_batch(measure,
                   &(struct regime){tokens, operation == PLAN_PREFILL_ATTENTION ? 0 : tokens,
                                    profile->context[c]});
        code = keep_time(measure, operation, &profile->duration_us[operation][share][c][token]);
    }
    return code;
}

/* Products on lane 0 and attention on lane 1, each so often; 0: not at all. Sums of a layer. */
static void time_pair(struct measure *measure, uint32_t memory_units, const uint32_t times[2],
                      double sum_us[2])
{
    static const uint16_t products[] = {PLAN_KQV, PLAN_OUTPUT};
    const struct profile *profile = &measure->profile;
    measure->plan = (struct plan){.id = 0};
    for (uint32_t i = 0; i < times[0]; i++) {
        for (uint32_t p = 0; p < sizeof products / sizeof products[0]; p++) {
            add_nano(&measure->plan, products[p], 0, profile->key.units - memory_units);
        }
    }
    for (uint32_t i = 0; i < times[1]; i++) {
        add_nano(&measure->plan, PLAN_DECODE_ATTENTION, 1, memory_units);
    }
    const uint32_t tokens = profile->token[profile->token_count - 1];
    time_batch(measure, &(struct regime){tokens, tokens, profile->context[1]});
    sum_us[0] = measure->us[PLAN_KQV] + measure->us[PLAN_OUTPUT];
    sum_us[1] = measure->us[PLAN_DECODE_ATTENTION];
}

static uint32_t times_of(double longer_us, double shorter_us)
{
    const double times = longer_us / shorter_us + 0.5;
    return times < 1 ? 1 : times < REPEAT_MAX ? (uint32_t)times : REPEAT_MAX;
}

/* How products and attention slow each other, attention on share[share] units. */
static int time_interference(struct measure *measure, uint32_t share)
{
    struct profile *profile = &measure->profile;
    const uint32_t memory_units = profile->share[share];
    double alone_us[2], other_us[2], both_us[2];
    char what[96];
    (void)snprintf(what, sizeof what, "products beside decode-attention on %u units", memory_units);
    tell_progress(measure, what);
    time_pair(measure, memory_units, (const uint32_t[]){1, 0}, alone_us);
    time_pair(measure, memory_units, (const uint32_t[]){0, 1}, other_us);
    alone_us[1] = other_us[1];
    if (!(alone_us[0] > 0 && alone_us[1] > 0)) {
        return rig_fail(what, "could not be measured: the clock saw no time pass in it");
    }
    const uint32_t times[2] = {times_of(alone_us[1], alone_us[0]),
                               times_of(alone_us[0], alone_us[1])};
    time_pair(measure, memory_units, times, both_us);
    const uint32_t rest = profile_share(profile, profile->key.units - memory_units);
    const double compute = alone_us[0] * times[0] / both_us[0];
    const double memory = alone_us[1] * times[1] / both_us[1];
    profile->keep[PROFILE_COMPUTE][PROFILE_MEMORY][share] = compute < 1 ? compute : 1;
    profile->keep[PROFILE_MEMORY][PROFILE_COMPUTE][rest] = memory < 1 ? memory : 1;
    return 0;
}

static int measure_pass(struct measure *measure)
{
    struct profile *profile = &measure->profile;
    const uint32_t points = profile->share_count * profile->token_count;
    int code = 0;
    for (uint32_t i = 0; i < points && !code; i++) {
        const uint32_t share = i / profile->token_count, token = i % profile->token_count;
        code = time_products(measure, share, token);
        code = code ? code : time_attention(measure, PLAN_DECODE_ATTENTION, share, token);
        code = code ? code : time_attention(measure, PLAN_PREFILL_ATTENTION, share, token);
    }
    for (uint32_t s = 0; s + 1 < profile->share_count && !code; s++) {
        code = time_interference(measure, s);
    }
    return code;
}

static void take_medians(double *out, const double *const pass[PASSES], size_t count)
{
    for (size_t i = 0; i < count; i++) {
        double sorted[PASSES];
        for (uint32_t p = 0; p < PASSES; p++) {
            sorted[p] = pass[p][i];
        }
        rig_sort(sorted, PASSES);
        out[i] = sorted[PASSES / 2];
    }
}

static int measure_all(struct measure *measure)
{
    struct profile *profile = &measure->profile;
    const uint32_t points = profile->share_count * profile->token_count;
    const double *durations[PASSES], *keeps[PASSES];
    int code = 0;
    measure->total =
        PASSES * (points * (1 + 2 * profile->context_count) + profile->share_count - 1);
    measure->end_us = clock_now_us() + (uint64_t)measure->seconds * 1000000;
    for (uint32_t i = 0; i < PASSES && !code; i++) {
        code = measure_pass(measure);
        measure->pass[i] = *profile;
        durations[i] = &measure->pass[i].duration_us[0][0][0][0];
        keeps[i] = &measure->pass[i].keep[0][0][0];
    }
    if (!code) {
        take_medians(&profile->duration_us[0][0][0][0], durations,
                     sizeof profile->duration_us / sizeof(double));
        take_medians(&profile->keep[0][0][0], keeps, sizeof profile->keep / sizeof(double));
    }
    return code;
}

static void set_knots(struct measure *measure)
{
    struct profile *profile = &measure->profile;
    const struct hparams *hparams = engine_hparams(measure->rig.engine);
    profile->key = measure->rig.key;
    profile->layers = hparams->layers;
    profile->experts = hparams->experts > 0;
    const uint32_t units = measure->rig.key.units;
    const uint32_t shares = units < SHARES ? units : SHARES;
    for (uint32_t i = 1; i <= shares; i++) {
        profile->share[profile->share_count++] = units * i / shares;
    }
    for (uint32_t i = 0; i < sizeof contexts / sizeof contexts[0]; i++) {
        if (profile->context_count < 2 || contexts[i] <= measure->rig.context_max) {
            profile->context[profile->context_count++] = contexts[i];
        }
    }
    for (uint32_t tokens = TOKENS_MIN; tokens < measure->rig.tokens_max; tokens *= 2) {
        profile->token[profile->token_count++] = tokens;
    }
    profile->token[profile->token_count++] = measure->rig.tokens_max;
    for (uint32_t i = 0; i < sizeof profile->keep / sizeof(double); i++) {
        (&profile->keep[0][0][0])[i] = 1;
    }
}

int measure_main(int argc, char **argv)
{
    struct measure *measure = calloc(1, sizeof *measure);
    must(measure);
    struct rig *rig = &measure->rig;
    if (argc != 9 || !rig_number(argv[2], 0, UINT32_MAX, &rig->seed) ||
        !rig_number(argv[3], TOKENS_MIN, TOKENS_LIMIT, &rig->tokens_max) ||
        !rig_number(argv[4], 1, RIG_THREADS_MAX, &rig->threads) ||
        !rig_number(argv[5], 1, RIG_SECONDS_MAX, &measure->seconds)) {
        (void)fputs("usage: WORKER --measure MODEL SEED TOKENS_MAX THREADS SECONDS DTYPE WEIGHTS "
                    "KV\n",
                    stderr);
        free(measure);
        return 2;
    }
    rig->dtype = argv[6];
    rig->weights = argv[7];
    rig->kv = argv[8];
    rig->context_max = contexts[sizeof contexts / sizeof contexts[0] - 1] + rig->tokens_max;
    rig->timed = true;
    int code = rig_open(rig, argv[1]);
    if (!code) {
        set_knots(measure);
        code = measure_all(measure);
    }
    if (!code) {
        rig_print(profile_json(&measure->profile));
    }
    rig_close(rig);
    free(measure);
    return code ? 1 : 0;
}
