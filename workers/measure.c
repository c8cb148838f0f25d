/*
 * measure.c - see measure.h. Runs on the main thread of a worker process that serves nobody; owns
 * the engine, and batches whose tokens mean nothing.
 *
 * One run of a plan gives the time of each operation in it, summed over layers. What is kept is the
 * lower quartile over runs, of a layer: what disturbs a run only ever makes it longer. Sequences
 * take pages in turn from a pool of thousands, so that attention reads memory as in a real batch,
 * not one hot page.
 */
#include "workers/measure.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/json.h"
#include "model/weights.h"
#include "plan/profile.h"
#include "workers/engine.h"

enum {
    PAGE_TOKENS = 16,
    PAGES = 4096,
    RUNS_MAX = 9,
    SHARES = 8,
    TOKENS_MIN = 16,
    TOKENS_LIMIT = 1 << 14,
    THREADS_LIMIT = 256,
    SECONDS_LIMIT = 3600,
    REPEAT_MAX = PLAN_NANO_MAX / 4, /* Of the shorter side, beside the longer. */
};

static const uint32_t contexts[] = {64, 256, 1024};

struct measure {
    const char *path;
    uint32_t tokens_max;
    uint32_t threads;
    uint32_t seconds;
    struct engine *engine;
    struct profile profile;
    uint32_t *pages; /* [tokens_max][pages of a sequence] */
    uint32_t *ids;
    struct engine_row *rows;
    uint32_t context_max;
    enum kern_dtype dtype;
    uint64_t end_us; /* When all should be done. */
    uint32_t done;
    uint32_t total;
    struct plan plan;
    double us[PLAN_OPERATION_COUNT]; /* Of the last measurement, of one layer. */
};

static void print_json(struct json *root)
{
    char *text = json_dump(root);
    (void)printf("%s\n", text);
    (void)fflush(stdout);
    free(text);
    json_free(root);
}

static struct json *text_json(const char *text)
{
    return json_new_string(text, strlen(text));
}

static int fail(const char *what, const char *why)
{
    char text[256];
    struct json *root = json_new_object();
    (void)snprintf(text, sizeof text, "%s: %s", what, why);
    json_add(root, "error", text_json(text));
    print_json(root);
    return -EIO;
}

static void tell_progress(struct measure *measure, const char *what)
{
    struct json *root = json_new_object();
    json_add(root, "done", json_new_u64(measure->done++));
    json_add(root, "total", json_new_u64(measure->total));
    json_add(root, "what", text_json(what));
    print_json(root);
}

static uint32_t pages_of_sequence(const struct measure *measure)
{
    return (measure->context_max + PAGE_TOKENS - 1) / PAGE_TOKENS;
}

/* Rows of one token each at this context, or one prompt whose tokens see this many in the mean. */
static struct engine_batch make_batch(struct measure *measure, uint32_t tokens, uint32_t context,
                                      bool prompt)
{
    const uint32_t rows = prompt ? 1 : tokens;
    const uint32_t each = pages_of_sequence(measure);
    for (uint32_t i = 0; i < rows; i++) {
        const uint32_t past =
            prompt ? (context > tokens / 2 ? context - tokens / 2 : 0) : context - 1;
        const uint32_t most = measure->context_max - (prompt ? tokens : 1);
        measure->rows[i] = (struct engine_row){.pages = measure->pages + (size_t)i * each,
                                               .first = i,
                                               .tokens = prompt ? tokens : 1,
                                               .position = past < most ? past : most};
    }
    return (struct engine_batch){
        .ids = measure->ids, .rows = measure->rows, .row_count = rows, .plan = &measure->plan};
}

static int by_value(const void *left, const void *right)
{
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* Runs measure->plan on a batch, as often as its part of the time allows: fills us. */
static void time_batch(struct measure *measure, const struct engine_batch *batch)
{
    double run_us[PLAN_OPERATION_COUNT][RUNS_MAX];
    struct engine_profile spent;
    const uint32_t left = measure->total - measure->done + 1;
    uint64_t now_us = clock_now_us();
    const uint64_t until_us =
        now_us + (measure->end_us > now_us ? (measure->end_us - now_us) / left : 0);
    uint32_t runs = 0;
    engine_run(measure->engine, batch); /* Caches, pages and clocks wake. */
    engine_take_profile(measure->engine, &spent);
    do {
        engine_run(measure->engine, batch);
        engine_take_profile(measure->engine, &spent);
        for (uint32_t i = 0; i < PLAN_OPERATION_COUNT; i++) {
            run_us[i][runs] = (double)spent.operation_ns[i] / 1e3 / measure->profile.layers;
        }
        runs++;
        now_us = clock_now_us();
    } while (runs < RUNS_MAX && now_us < until_us);
    for (uint32_t i = 0; i < PLAN_OPERATION_COUNT; i++) {
        qsort(run_us[i], runs, sizeof run_us[i][0], by_value);
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
    return fail(text, "could not be measured: the clock saw no time pass in it");
}

/* All but attention, over so many tokens with a share: the same for each context. */
static int time_products(struct measure *measure, uint32_t share, uint32_t token)
{
    struct profile *profile = &measure->profile;
    char what[96];
    int code = 0;
    (void)snprintf(what, sizeof what, "products over %u tokens, %u threads", profile->token[token],
                   profile->share[share]);
    tell_progress(measure, what);
    plan_sequential(&measure->plan, profile->experts);
    set_units(&measure->plan, profile->share[share]);
    const struct engine_batch batch =
        make_batch(measure, profile->token[token], profile->context[0], false);
    time_batch(measure, &batch);
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
        (void)snprintf(what, sizeof what, "%s over %u tokens at %u, %u threads",
                       plan_operation_name(operation), profile->token[token], profile->context[c],
                       profile->share[share]);
        tell_progress(measure, what);
        measure->plan = (struct plan){.id = 0};
        add_nano(&measure->plan, operation, 0, profile->share[share]);
        const struct engine_batch batch =
            make_batch(measure, profile->token[token], profile->context[c],
                       operation == PLAN_PREFILL_ATTENTION);
        time_batch(measure, &batch);
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
    const struct engine_batch batch =
        make_batch(measure, profile->token[profile->token_count - 1], profile->context[1], false);
    time_batch(measure, &batch);
    sum_us[0] = measure->us[PLAN_KQV] + measure->us[PLAN_OUTPUT];
    sum_us[1] = measure->us[PLAN_DECODE_ATTENTION];
}

static uint32_t times_of(double longer_us, double shorter_us)
{
    const double times = longer_us / shorter_us + 0.5;
    return times < 1 ? 1 : times < REPEAT_MAX ? (uint32_t)times : REPEAT_MAX;
}

/* How products and attention slow each other, attention on share[share] threads. */
static int time_interference(struct measure *measure, uint32_t share)
{
    struct profile *profile = &measure->profile;
    const uint32_t memory_units = profile->share[share];
    double alone_us[2], other_us[2], both_us[2];
    char what[96];
    (void)snprintf(what, sizeof what, "products beside decode-attention on %u threads",
                   memory_units);
    tell_progress(measure, what);
    time_pair(measure, memory_units, (const uint32_t[]){1, 0}, alone_us);
    time_pair(measure, memory_units, (const uint32_t[]){0, 1}, other_us);
    alone_us[1] = other_us[1];
    if (!(alone_us[0] > 0 && alone_us[1] > 0)) {
        return fail(what, "could not be measured: the clock saw no time pass in it");
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

static int measure_all(struct measure *measure)
{
    struct profile *profile = &measure->profile;
    const uint32_t points = profile->share_count * profile->token_count;
    measure->total = points * (1 + 2 * profile->context_count) + profile->share_count - 1;
    measure->end_us = clock_now_us() + (uint64_t)measure->seconds * 1000000;
    int code = 0;
    for (uint32_t i = 0; i < points && !code; i++) {
        const uint32_t share = i / profile->token_count, token = i % profile->token_count;
        code = time_products(measure, share, token);
        code = code ? code : time_attention(measure, PLAN_DECODE_ATTENTION, share, token);
        code = code ? code : time_attention(measure, PLAN_PREFILL_ATTENTION, share, token);
    }
    for (uint32_t a = 0; a < PROFILE_CLASSES; a++) {
        for (uint32_t b = 0; b < PROFILE_CLASSES; b++) {
            for (uint32_t s = 0; s < profile->share_count; s++) {
                profile->keep[a][b][s] = 1;
            }
        }
    }
    for (uint32_t s = 0; s + 1 < profile->share_count && !code; s++) {
        code = time_interference(measure, s);
    }
    return code;
}

/* What plan files of this machine are for, as the core will ask. */
static void name_key(struct planfile_key *key, enum kern_dtype dtype, const struct hparams *hparams)
{
    char text[HPARAMS_TEXT_BYTES_MAX];
    hparams_text(hparams, text);
    (void)snprintf(key->model, sizeof key->model, "%s", text);
    (void)snprintf(key->dtype, sizeof key->dtype, "%s", dtype == KERN_BF16 ? "bf16" : "f32");
    cpu_name(key->device, sizeof key->device);
    (void)snprintf(key->versions, sizeof key->versions, "sluice %s", SLUICE_VERSION);
    key->tp = 1;
}

static void set_knots(struct measure *measure, const struct hparams *hparams)
{
    struct profile *profile = &measure->profile;
    name_key(&profile->key, measure->dtype, hparams);
    profile->layers = hparams->layers;
    profile->experts = hparams->experts > 0;
    profile->key.units = measure->threads;
    const uint32_t shares = measure->threads < SHARES ? measure->threads : SHARES;
    for (uint32_t i = 1; i <= shares; i++) {
        profile->share[profile->share_count++] = measure->threads * i / shares;
    }
    for (uint32_t i = 0; i < sizeof contexts / sizeof contexts[0]; i++) {
        if (profile->context_count < 2 || contexts[i] <= measure->context_max) {
            profile->context[profile->context_count++] = contexts[i];
        }
    }
    for (uint32_t tokens = TOKENS_MIN; tokens < measure->tokens_max; tokens *= 2) {
        profile->token[profile->token_count++] = tokens;
    }
    profile->token[profile->token_count++] = measure->tokens_max;
}

static int open_engine(struct measure *measure, const struct weights *weights)
{
    const struct hparams *hparams = weights_hparams(weights);
    const unsigned isa = kern_isa_detect();
    const uint32_t longest = contexts[sizeof contexts / sizeof contexts[0] - 1];
    struct model_error error = {"out of memory"};
    const uint32_t wanted = longest + measure->tokens_max;
    measure->context_max = wanted < hparams->positions_max ? wanted : hparams->positions_max;
    measure->dtype = isa & (KERN_ISA_AVX512_BF16 | KERN_ISA_AMX_BF16) ? KERN_BF16 : KERN_F32;
    const struct engine_options options = {
        .dtype = measure->dtype,
        .isa = isa,
        .threads = measure->threads,
        .tokens_max = measure->tokens_max,
        .rows_max = measure->tokens_max,
        .context_max = measure->context_max,
        .page_tokens = PAGE_TOKENS,
        .device_pages = PAGES,
    };
    if (measure->context_max <= measure->tokens_max) {
        return fail("the model", "has no positions beyond a batch of --tokens-max");
    }
    return engine_open(&measure->engine, weights, &options, &error) ? fail("the model", error.text)
                                                                    : 0;
}

static int prepare(struct measure *measure)
{
    struct model_error error = {"out of memory"};
    struct weights *weights = NULL;
    if (weights_open(&weights, measure->path, &error)) {
        return fail("the model", error.text);
    }
    const int code = open_engine(measure, weights);
    if (!code) {
        const size_t pages = (size_t)measure->tokens_max * pages_of_sequence(measure);
        set_knots(measure, weights_hparams(weights));
        measure->pages = calloc(pages, sizeof *measure->pages);
        measure->ids = calloc(measure->tokens_max, sizeof *measure->ids);
        measure->rows = calloc(measure->tokens_max, sizeof *measure->rows);
        must(measure->pages && measure->ids && measure->rows);
        for (size_t i = 0; i < pages; i++) {
            measure->pages[i] = (uint32_t)(i % PAGES);
        }
    }
    weights_close(weights);
    return code;
}

/* A whole number of at most `most`. */
static bool take_number(const char *text, uint32_t most, uint32_t *out)
{
    char *end = NULL;
    errno = 0;
    const unsigned long value = strtoul(text, &end, 10);
    *out = (uint32_t)value;
    return !errno && end != text && *end == '\0' && value >= 1 && value <= most;
}

int measure_main(int argc, char **argv)
{
    struct measure *measure = calloc(1, sizeof *measure);
    must(measure);
    if (argc != 5 || !take_number(argv[2], TOKENS_LIMIT, &measure->tokens_max) ||
        measure->tokens_max < TOKENS_MIN ||
        !take_number(argv[3], THREADS_LIMIT, &measure->threads) ||
        !take_number(argv[4], SECONDS_LIMIT, &measure->seconds)) {
        (void)fputs("usage: sluice-worker-cpu --measure MODEL TOKENS_MAX THREADS SECONDS\n",
                    stderr);
        free(measure);
        return 2;
    }
    measure->path = argv[1];
    int code = prepare(measure);
    code = code ? code : measure_all(measure);
    if (!code) {
        print_json(profile_json(&measure->profile));
    }
    engine_close(measure->engine);
    free(measure->rows);
    free(measure->ids);
    free(measure->pages);
    free(measure);
    return code ? 1 : 0;
}
