/*
 * tune_plan.c - sluice-tune plan: chooses a plan for each regime of a profiled device, lets the
 * worker's binary time the best few where that is wanted, and writes plan files. Runs once; owns
 * what it opens. Invariant: each plan written has passed the verifier.
 */
#include "tools/tune_plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "plan/choose.h"
#include "plan/graph.h"
#include "plan/planfile.h"
#include "plan/profile.h"
#include "plan/verify.h"
#include "tools/options.h"
#include "tools/tune_measure.h"
#include "tools/tune_picture.h"
#include "tools/tune_worker.h"

#define COMMAND "sluice-tune plan"

enum {
    BUCKETS = 2, /* Of the dense batch: the largest that was measured, and its half: the core's
                  * table holds 32 plans. */
    DECODE_SHARES = 4, /* Besides none: quarters. */
    BUCKET_MIN = 16,
    PATH_BYTES = 1024,
};

static const struct choose_effort effort = {
    .seed = 1, .structure_tries = 40000, .share_tries = 2000};

struct run {
    const char *profile_path;
    const char *out;
    const char *model;
    const char *device;
    uint32_t seed;
    const char *only; /* TOKENS:DECODE:CONTEXT */
    const char *picture;
    const char *trace;
    uint32_t measured; /* How many of the best plans are timed. */
    struct profile profile;
    struct graph graph;
    struct choose_result result;
    struct planfile file;
    double measured_us[CHOOSE_BEST_MAX];
    char candidate[CHOOSE_BEST_MAX + 1][PATH_BYTES]; /* Files while they are timed. */
};

static int read_profile(struct run *run)
{
    struct json_error json_error;
    struct json *root = NULL;
    char error[PROFILE_ERROR_BYTES_MAX];
    if (json_parse_file(run->profile_path, &root, &json_error)) {
        return options_failed(COMMAND, run->profile_path, json_error.text);
    }
    const int code = profile_read(&run->profile, root, error);
    json_free(root);
    graph_build(&run->graph, run->profile.experts, 1, GRAPH_INSIDE);
    return code ? options_failed(COMMAND, run->profile_path, error) : EXIT_STATUS_DONE;
}

static int write_plan(const struct run *run, const char *path)
{
    struct json *root = planfile_json(&run->file);
    const int code = json_write_file(root, path);
    json_free(root);
    return code ? options_failed(COMMAND, path, "cannot be written") : EXIT_STATUS_DONE;
}

/* The file of one of the plans that were chosen. */
static int write_chosen(struct run *run, const struct regime *regime, uint32_t index,
                        const char *path)
{
    char error[VERIFY_ERROR_BYTES_MAX];
    run->file = (struct planfile){.key = run->profile.key,
                                  .regime = *regime,
                                  .plan = run->result.plan[index],
                                  .predicted_us = run->result.step_us[index],
                                  .measured_us = run->measured_us[index],
                                  .sequential_us = run->measured_us[run->result.sequential]};
    if (verify_plan(&run->file.plan, &run->graph, run->profile.key.units, error)) {
        return options_failed(COMMAND, "a found plan is wrong, which is a fault of this program",
                              error);
    }
    return write_plan(run, path);
}

/* Writes the best few, lets the worker time them, and says which was the fastest. */
static int measure_best(struct run *run, const struct regime *regime, uint32_t *best)
{
    const uint32_t count = run->measured < run->result.count ? run->measured : run->result.count;
    uint32_t index[CHOOSE_BEST_MAX + 1];
    uint32_t listed = 0;
    int status = EXIT_STATUS_DONE;
    index[listed++] = run->result.sequential; /* The baseline of the same run. */
    for (uint32_t i = 0; i < count; i++) {
        if (i != run->result.sequential) {
            index[listed++] = i;
        }
    }
    struct tune_measure measure = {.model = run->model,
                                   .device = run->device,
                                   .seed = run->seed,
                                   .threads = run->profile.key.units};
    for (uint32_t i = 0; i < listed && !status; i++) {
        (void)snprintf(run->candidate[i], PATH_BYTES, "%s/candidate-%u.tmp", run->out, i);
        measure.path[measure.count++] = run->candidate[i];
        status = write_chosen(run, regime, index[i], run->candidate[i]);
    }
    status = status ? status : tune_measure_plans(&measure);
    *best = run->result.sequential;
    for (uint32_t i = 0; i < listed && !status; i++) {
        run->measured_us[index[i]] = measure.step_us[i];
        *best = measure.step_us[i] < run->measured_us[*best] ? index[i] : *best;
    }
    for (uint32_t i = 0; i < measure.count; i++) {
        (void)remove(measure.path[i]);
    }
    return status;
}

static void report(const struct run *run, const struct regime *regime, uint32_t best)
{
    const struct choose_result *result = &run->result;
    (void)printf("%6u tokens, %6u decode, context %5u: predicted %9.0f us, sequential %9.0f",
                 regime->tokens, regime->decode, regime->context, result->step_us[best],
                 result->sequential_us);
    if (run->measured > 0) {
        (void)printf("; measured %9.0f, sequential %9.0f", run->measured_us[best],
                     run->measured_us[result->sequential]);
    }
    (void)printf("%s\n", best == result->sequential ? "  (sequential)" : "");
    for (uint32_t i = 0; run->measured > 0 && i < result->count; i++) {
        if (run->measured_us[i] > 0) {
            (void)printf("    plan %u of %u nano-operations: predicted %9.0f us, measured %9.0f\n",
                         i, result->plan[i].nano_count, result->step_us[i], run->measured_us[i]);
        }
    }
    (void)fflush(stdout);
}

static int plan_regime(struct run *run, const struct regime *regime)
{
    char path[PATH_BYTES];
    uint32_t best = 0;
    int status = EXIT_STATUS_DONE;
    memset(run->measured_us, 0, sizeof run->measured_us);
    must(choose_plans(&run->result, &run->profile, regime, &effort) == 0);
    if (run->measured > 0) {
        status = measure_best(run, regime, &best);
    }
    (void)snprintf(path, sizeof path, "%s/%u-%u-%u.json", run->out, regime->tokens, regime->decode,
                   regime->context);
    status = status ? status : write_chosen(run, regime, best, path);
    if (!status) {
        report(run, regime, best);
        const struct tune_picture picture = {&run->result.plan[best], &run->profile, regime,
                                             run->picture, run->trace};
        status = tune_picture_draw(&picture)
                     ? options_failed(COMMAND, "the picture", "cannot be written")
                     : status;
    }
    return status;
}

static int plan_all(struct run *run)
{
    const struct profile *profile = &run->profile;
    int status = EXIT_STATUS_DONE;
    uint32_t tokens = profile->token[profile->token_count - 1];
    for (uint32_t b = 0; b < BUCKETS && tokens >= BUCKET_MIN; b++, tokens /= 2) {
        for (uint32_t d = 0; d <= DECODE_SHARES; d++) {
            for (uint32_t c = 0; c < profile->context_count && !status; c++) {
                const struct regime regime = {tokens, tokens * d / DECODE_SHARES,
                                              profile->context[c]};
                status = plan_regime(run, &regime);
            }
        }
    }
    return status;
}

/* TOKENS:DECODE:CONTEXT */
static bool read_regime(const char *text, struct regime *regime)
{
    uint32_t *const number[] = {&regime->tokens, &regime->decode, &regime->context};
    const uint32_t count = sizeof number / sizeof number[0];
    for (uint32_t i = 0; i < count; i++) {
        char *end = NULL;
        const unsigned long value = strtoul(text, &end, 10);
        if (end == text || *end != (i + 1 < count ? ':' : '\0') || value > REGIME_TOKENS_MAX) {
            return false;
        }
        *number[i] = (uint32_t)value;
        text = end + 1;
    }
    return regime->tokens > 0 && regime->context > 0 && regime->decode <= regime->tokens;
}

static int plan_device(struct run *run)
{
    struct regime only;
    if (mkdir(run->out, 0777) && errno != EEXIST) {
        return options_failed(COMMAND, run->out, strerror(errno));
    }
    int status = read_profile(run);
    if (status) {
        return status;
    }
    if (!run->only) {
        return plan_all(run);
    }
    if (!read_regime(run->only, &only)) {
        return options_wrong(COMMAND, "--regime must be TOKENS:DECODE:CONTEXT");
    }
    return plan_regime(run, &only);
}

int tune_plan_main(int argc, char **argv)
{
    struct run *run = calloc(1, sizeof *run);
    must(run);
    run->device = "auto";
    const struct options_row rows[] = {
        {"profile", OPTIONS_TEXT, 0, &run->profile_path, "FILE", "of sluice-tune profile"},
        {"out", OPTIONS_TEXT, 0, &run->out, "DIR", "write the plan files there, as in plan.dir"},
        {"regime", OPTIONS_TEXT, 0, &run->only, "T:D:C",
         "only for T tokens, D of them decode, in a mean context of C"},
        {"measure", OPTIONS_U32, 0, &run->measured, "K",
         "time the K best plans of each regime, and the sequential one"},
        {"model", OPTIONS_TEXT, 0, &run->model, "PATH", "the model to time them with"},
        {"random-weights", OPTIONS_U32, 0, &run->seed, "SEED", TUNE_WORKER_SEED_HELP},
        {"device", OPTIONS_TEXT, 0, &run->device, "D", TUNE_WORKER_DEVICE_HELP},
        {"timeline", OPTIONS_TEXT, 0, &run->picture, "FILE.svg", "draw the plan of --regime"},
        {"trace", OPTIONS_TEXT, 0, &run->trace, "FILE.json", "write it in Chrome's trace format"},
    };
    const struct options options = {COMMAND, "Chooses plans for a profiled device.", rows,
                                    sizeof rows / sizeof rows[0]};
    uint32_t flags;
    int status;
    if (options_parse(&options, argc, argv, &flags, &status)) {
        if (!run->profile_path || !run->out) {
            status = options_wrong(COMMAND, "--profile and --out are needed");
        } else if ((run->measured > 0) != (run->model != NULL) || run->measured > CHOOSE_BEST_MAX) {
            status = options_wrong(COMMAND, "--measure 1 to 8 and --model belong together");
        } else if (!tune_worker_device(run->device)) {
            status = options_wrong(COMMAND, "--device is auto, cpu or cuda");
        } else if ((run->picture || run->trace) && !run->only) {
            status = options_wrong(COMMAND, "--timeline and --trace show one --regime");
        } else {
            status = plan_device(run);
        }
    }
    free(run);
    return status;
}
