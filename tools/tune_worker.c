/*
 * tune_worker.c - see tune_worker.h. Called by the commands of sluice-tune; owns the child while it
 * runs. Each line of the child is a JSON object: with "total" progress, with "error" the end, else
 * the answer.
 */
#include "tools/tune_worker.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/binary.h"
#include "base/clock.h"
#include "tools/options.h"
#include "tools/subprocess.h"

enum {
    LOAD_SECONDS = 600, /* For the model. */
    LAST_SECONDS = 60,  /* For a measurement that has begun, and to end. */
    PROBE_SECONDS = 10, /* For a driver that wakes up its devices. */
    BAR = 32,
    ARGUMENTS_MAX = 24,
};

static int say(const struct tune_worker *worker, const char *what, const char *why)
{
    (void)fprintf(stderr, "%s%s: %s: %s\n", isatty(STDERR_FILENO) ? "\r" : "", worker->command,
                  what, why);
    return EXIT_STATUS_FAILED;
}

static void show_progress(const struct json *line)
{
    char bar[BAR + 1];
    const char *what = "";
    size_t length = 0;
    uint64_t done = 0, total = 0;
    if (!isatty(STDERR_FILENO) || !json_u64(json_get(line, "done"), &done) ||
        !json_u64(json_get(line, "total"), &total) || total == 0 || done > total ||
        !json_text(json_get(line, "what"), &what, &length) || length > INT16_MAX) {
        return;
    }
    memset(bar, '.', BAR);
    memset(bar, '#', BAR * done / total);
    bar[BAR] = '\0';
    (void)fprintf(stderr, "\r[%s] %3u %%  %-60.*s", bar, (unsigned)(100 * done / total),
                  (int)length, what);
}

/* True: it was the last one, with its status. */
static bool take_line(const struct tune_worker *worker, const char *text, int *status)
{
    struct json_error error;
    struct json *line = NULL;
    const char *why;
    size_t length;
    if (json_parse(text, strlen(text), &line, &error)) {
        *status = say(worker, "the worker's answer", error.text);
        return true;
    }
    const bool last = !json_get(line, "total");
    if (json_text(json_get(line, "error"), &why, &length) && length <= INT16_MAX) {
        (void)fprintf(stderr, "%s%s: %.*s\n", isatty(STDERR_FILENO) ? "\n" : "", worker->command,
                      (int)length, why);
        *status = EXIT_STATUS_FAILED;
    } else if (last) {
        *status = worker->take(worker->context, line);
    } else {
        show_progress(line);
    }
    json_free(line);
    return last;
}

static int read_lines(const struct tune_worker *worker, struct subprocess *child)
{
    const uint64_t seconds = (uint64_t)worker->seconds + LOAD_SECONDS + LAST_SECONDS;
    const uint64_t deadline_us = clock_now_us() + seconds * 1000000;
    int status = EXIT_STATUS_FAILED;
    bool last = false;
    while (!last) {
        const char *line = subprocess_line(child, deadline_us);
        if (!line) {
            return say(worker, "the worker", "ended, or hung, before it had an answer");
        }
        last = take_line(worker, line, &status);
    }
    return status;
}

/* Its one line is the device's name; without a device there is none. */
static bool sees_device(const char *path)
{
    const char *const argv[] = {path, "--probe", NULL};
    const uint64_t deadline_us = clock_now_us() + (uint64_t)PROBE_SECONDS * 1000000;
    struct subprocess child;
    if (subprocess_start(&child, path, argv)) {
        return false;
    }
    const bool named = subprocess_line(&child, deadline_us) != NULL;
    return subprocess_stop(&child, deadline_us) && named;
}

/* As an agent chooses it (agent/program.h), so that plans are timed where they will serve. */
static int find_worker(const struct tune_worker *worker, char path[LIMIT_PATH_BYTES_MAX])
{
    char own[LIMIT_PATH_BYTES_MAX];
    const bool only = strcmp(worker->device, "cuda") == 0;
    if (binary_own(own)) {
        return say(worker, "this program's own file", "cannot be found");
    }
    if (strcmp(worker->device, "cpu") != 0 && binary_find(own, "sluice-worker-cuda", path) == 0 &&
        (only || sees_device(path))) {
        return EXIT_STATUS_DONE;
    }
    if (only || binary_find(own, "sluice-worker-cpu", path)) {
        return say(worker, only ? "sluice-worker-cuda" : "sluice-worker-cpu",
                   "is not beside this program");
    }
    return EXIT_STATUS_DONE;
}

bool tune_worker_device(const char *word)
{
    return strcmp(word, "auto") == 0 || strcmp(word, "cpu") == 0 || strcmp(word, "cuda") == 0;
}

int tune_worker_run(const struct tune_worker *worker)
{
    char path[LIMIT_PATH_BYTES_MAX];
    const char *argv[ARGUMENTS_MAX] = {path};
    struct subprocess child;
    for (uint32_t i = 0; worker->arguments[i]; i++) {
        must(i + 2 < ARGUMENTS_MAX);
        argv[i + 1] = worker->arguments[i];
    }
    if (find_worker(worker, path)) {
        return EXIT_STATUS_FAILED;
    }
    if (subprocess_start(&child, path, argv)) {
        return say(worker, path, "cannot be started");
    }
    const int status = read_lines(worker, &child);
    if (isatty(STDERR_FILENO)) {
        (void)fputc('\n', stderr);
    }
    (void)subprocess_stop(&child, clock_now_us() + (uint64_t)LAST_SECONDS * 1000000);
    return status;
}
