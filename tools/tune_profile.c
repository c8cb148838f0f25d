/*
 * tune_profile.c - sluice-tune profile: lets the worker's binary measure a model
 * (workers/measure.h) and writes the profile. Runs once; owns the child. Invariant: what is written
 * was read back as a profile.
 */
#include "tools/tune_profile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "plan/profile.h"
#include "tools/options.h"
#include "tools/tune_worker.h"

#define COMMAND "sluice-tune profile"

enum {
    SECONDS_MAX = 3600,
    TOKENS_MIN = 16,
    NUMBER_BYTES = 16,
};

struct run {
    const char *model;
    const char *out;
    uint32_t tokens_max;
    uint32_t threads;
    uint32_t seconds;
    uint32_t tp;
    const char *device;
    uint32_t seed;
    const char *dtype;
    const char *weights;
    const char *kv;
};

static int write_profile(void *context, const struct json *line)
{
    const struct run *run = context;
    char error[PROFILE_ERROR_BYTES_MAX];
    struct profile *profile = calloc(1, sizeof *profile);
    must(profile);
    const bool good = profile_read(profile, line, error) == 0;
    free(profile);
    if (!good) {
        return options_failed(COMMAND, "the worker's profile", error);
    }
    return json_write_file(line, run->out) ? options_failed(COMMAND, run->out, "cannot be written")
                                           : EXIT_STATUS_DONE;
}

static int profile_model(struct run *run)
{
    char seed[NUMBER_BYTES], tokens[NUMBER_BYTES], threads[NUMBER_BYTES], seconds[NUMBER_BYTES];
    (void)snprintf(seed, sizeof seed, "%u", run->seed);
    (void)snprintf(tokens, sizeof tokens, "%u", run->tokens_max);
    (void)snprintf(threads, sizeof threads, "%u", run->threads);
    (void)snprintf(seconds, sizeof seconds, "%u", run->seconds);
    const char *const arguments[] = {"--measure", run->model, seed,         tokens,  threads,
                                     seconds,     run->dtype, run->weights, run->kv, NULL};
    const struct tune_worker worker = {.command = COMMAND,
                                       .device = run->device,
                                       .arguments = arguments,
                                       .seconds = run->seconds,
                                       .take = write_profile,
                                       .context = run};
    return tune_worker_run(&worker);
}

static const char *const dtypes[] = {"auto", "bf16", "f32", NULL};
static const char *const weights[] = {"auto", "int8", "fp8", NULL};
static const char *const kvs[] = {"auto", "fp8_e4m3", NULL};

static bool is_one_of(const char *word, const char *const *words)
{
    while (*words && strcmp(word, *words) != 0) {
        words++;
    }
    return *words != NULL;
}

int tune_profile_main(int argc, char **argv)
{
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    struct run run = {.tokens_max = 512,
                      .threads = cores > 0 ? (uint32_t)cores : 1,
                      .seconds = 120,
                      .tp = 1,
                      .device = "auto",
                      .dtype = "auto",
                      .weights = "auto",
                      .kv = "auto"};
    const struct options_row rows[] = {
        {"model", OPTIONS_TEXT, 0, &run.model, "PATH", "the model, as in model.path"},
        {"json", OPTIONS_TEXT, 0, &run.out, "OUT", "write the profile to this file"},
        {"tokens-max", OPTIONS_U32, 0, &run.tokens_max, "N",
         "the largest dense batch, as in batch.tokens_max; default 512"},
        {"threads", OPTIONS_U32, 0, &run.threads, "N", "as in workers.threads; default all cores"},
        {"seconds", OPTIONS_U32, 0, &run.seconds, "S", "how long to measure; default 120"},
        {"dtype", OPTIONS_TEXT, 0, &run.dtype, "T", "as in model.dtype; default auto"},
        {"weights", OPTIONS_TEXT, 0, &run.weights, "T", "as in model.weights; default auto"},
        {"kv", OPTIONS_TEXT, 0, &run.kv, "T", "as in kv.dtype; default auto"},
        {"random-weights", OPTIONS_U32, 0, &run.seed, "SEED", TUNE_WORKER_SEED_HELP},
        {"device", OPTIONS_TEXT, 0, &run.device, "D", TUNE_WORKER_DEVICE_HELP},
        {"tp", OPTIONS_U32, 0, &run.tp, "N", "as in workers.tp; only 1 is measured"},
    };
    const struct options options = {COMMAND, "Measures a model's operations on this machine.", rows,
                                    sizeof rows / sizeof rows[0]};
    uint32_t flags;
    int status;
    if (!options_parse(&options, argc, argv, &flags, &status)) {
        return status;
    }
    if (!run.model || !run.out) {
        return options_wrong(COMMAND, "--model and --json are needed");
    }
    if (run.tokens_max < TOKENS_MIN || run.threads < 1 || run.seconds < 1 ||
        run.seconds > SECONDS_MAX) {
        return options_wrong(COMMAND, "--tokens-max is at least 16, --seconds 1 to 3600");
    }
    if (run.tp != 1) {
        return options_wrong(COMMAND, "ranks together are not measured: --tp must be 1");
    }
    if (!is_one_of(run.dtype, dtypes) || !is_one_of(run.weights, weights)) {
        return options_wrong(COMMAND, "--dtype is auto, bf16 or f32, --weights auto, int8 or fp8");
    }
    if (!is_one_of(run.kv, kvs) || !tune_worker_device(run.device)) {
        return options_wrong(COMMAND, "--kv is auto or fp8_e4m3, --device auto, cpu or cuda");
    }
    return profile_model(&run);
}
