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

#include "base/clock.h"
#include "plan/profile.h"
#include "tools/options.h"
#include "tools/subprocess.h"

#define COMMAND "sluice-tune profile"

enum {
    LOAD_SECONDS = 600, /* For the model, beside the time to measure. */
    LAST_SECONDS = 60,  /* For a measurement that has begun. */
    SECONDS_MAX = 3600,
    TOKENS_MIN = 16,
    BAR = 32,
    NUMBER_BYTES = 16,
};

struct run {
    char *model;
    const char *out;
    uint32_t tokens_max;
    uint32_t threads;
    uint32_t seconds;
};

static int say(const char *what, const char *why)
{
    (void)fprintf(stderr, COMMAND ": %s: %s\n", what, why);
    return EXIT_STATUS_FAILED;
}

static void show_progress(const struct json *line)
{
    char bar[BAR + 1];
    const char *what = "";
    size_t length = 0;
    uint64_t done = 0, total = 0;
    if (!json_u64(json_get(line, "done"), &done) || !json_u64(json_get(line, "total"), &total) ||
        total == 0 || done > total || !json_text(json_get(line, "what"), &what, &length) ||
        !isatty(STDERR_FILENO)) {
        return;
    }
    memset(bar, '.', BAR);
    memset(bar, '#', BAR * done / total);
    bar[BAR] = '\0';
    (void)fprintf(stderr, "\r[%s] %3u %%  %-60.*s", bar, (unsigned)(100 * done / total),
                  (int)length, what);
}

static int write_profile(const struct run *run, const struct json *line)
{
    char error[PROFILE_ERROR_BYTES_MAX];
    struct profile *profile = calloc(1, sizeof *profile);
    must(profile);
    const bool good = profile_read(profile, line, error) == 0;
    free(profile);
    if (!good) {
        return say("the worker's profile", error);
    }
    char *text = json_dump(line);
    FILE *file = fopen(run->out, "wb");
    bool written = file && fprintf(file, "%s\n", text) > 0;
    written = file && fclose(file) == 0 && written;
    free(text);
    return written ? EXIT_STATUS_DONE : say(run->out, "cannot be written");
}

/* One line of the worker. True: it was the last one, with its status. */
static bool take_line(const struct run *run, const char *text, int *status)
{
    struct json_error error;
    struct json *line = NULL;
    const char *why;
    size_t length;
    bool last = true;
    if (json_parse(text, strlen(text), &line, &error)) {
        *status = say("the worker's answer", error.text);
        return true;
    }
    if (json_text(json_get(line, "error"), &why, &length)) {
        (void)fprintf(stderr, "\n" COMMAND ": %.*s\n", (int)length, why);
        *status = EXIT_STATUS_FAILED;
    } else if (json_get(line, "profile")) {
        *status = write_profile(run, line);
    } else {
        show_progress(line);
        last = false;
    }
    json_free(line);
    return last;
}

static int profile_model(const struct run *run)
{
    char path[SUBPROCESS_PATH_BYTES_MAX];
    char tokens[NUMBER_BYTES], threads[NUMBER_BYTES], seconds[NUMBER_BYTES];
    char name[] = "sluice-worker-cpu", mode[] = "--measure";
    struct subprocess subprocess;
    int status = EXIT_STATUS_FAILED;
    (void)snprintf(tokens, sizeof tokens, "%u", run->tokens_max);
    (void)snprintf(threads, sizeof threads, "%u", run->threads);
    (void)snprintf(seconds, sizeof seconds, "%u", run->seconds);
    char *const argv[] = {name, mode, run->model, tokens, threads, seconds, NULL};
    if (subprocess_find_worker(path)) {
        return say("sluice-worker-cpu", "is not beside this program");
    }
    if (subprocess_start(&subprocess, path, argv)) {
        return say(path, "cannot be started");
    }
    const uint64_t deadline_us =
        clock_now_us() + (uint64_t)(run->seconds + LOAD_SECONDS + LAST_SECONDS) * 1000000;
    bool last = false;
    while (!last) {
        const char *line = subprocess_line(&subprocess, deadline_us);
        if (!line) {
            status = say("the worker", "ended, or hung, before it had measured everything");
            break;
        }
        last = take_line(run, line, &status);
    }
    if (isatty(STDERR_FILENO)) {
        (void)fputc('\n', stderr);
    }
    (void)subprocess_stop(&subprocess, last ? clock_now_us() + LAST_SECONDS * 1000000ULL : 0);
    return status;
}

int tune_profile_main(int argc, char **argv)
{
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    const char *model = NULL;
    struct run run = {
        .tokens_max = 512, .threads = cores > 0 ? (uint32_t)cores : 1, .seconds = 120};
    const struct options_row rows[] = {
        {"model", OPTIONS_TEXT, 0, &model, "PATH", "the model, as in model.path"},
        {"json", OPTIONS_TEXT, 0, &run.out, "OUT", "write the profile to this file"},
        {"tokens-max", OPTIONS_U32, 0, &run.tokens_max, "N",
         "the largest dense batch, as in batch.tokens_max; default 512"},
        {"threads", OPTIONS_U32, 0, &run.threads, "N", "as in workers.threads; default all cores"},
        {"seconds", OPTIONS_U32, 0, &run.seconds, "S", "how long to measure; default 120"},
    };
    const struct options options = {COMMAND, "Measures a model's operations on this machine.", rows,
                                    sizeof rows / sizeof rows[0]};
    uint32_t flags;
    int status;
    if (!options_parse(&options, argc, argv, &flags, &status)) {
        return status;
    }
    if (!model || !run.out) {
        return options_wrong(COMMAND, "--model and --json are needed");
    }
    if (run.tokens_max < TOKENS_MIN || run.threads < 1 || run.seconds < 1 ||
        run.seconds > SECONDS_MAX) {
        return options_wrong(COMMAND, "--tokens-max is at least 16, --seconds 1 to 3600");
    }
    run.model = strdup(model);
    must(run.model);
    status = profile_model(&run);
    free(run.model);
    return status;
}
