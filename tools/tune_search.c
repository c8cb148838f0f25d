/*
 * tune_search.c - sluice-tune search: reads a planning problem, searches for so many seconds on one
 * core, checks the answer by its times alone and writes it as JSON. Called by sluice-tune; runs
 * once and owns what it opens. Invariant: what is written has passed the check.
 */
#include "tools/tune_search.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "plan/search.h"
#include "tools/options.h"

#define COMMAND "sluice-tune search"

enum {
    ROUNDS = 10,         /* Coolings, each from the best so far. */
    TRIES_A_LOOK = 2000, /* At the clock: milliseconds. */
    SECONDS_MAX = 3600,
    SHOW_US = 200000,
};

static const double hot_us = 60; /* Of intervals of some thousand: nearly everything is taken. */
static const double cold_us = 0.5;

struct run {
    const char *problem;
    const char *out;
    bool given_sizes;
    double seconds;
    uint64_t seed;
};

static int say(const char *what, const char *why)
{
    (void)fprintf(stderr, COMMAND ": %s: %s\n", what, why);
    return EXIT_STATUS_FAILED;
}

static bool read_problem(const struct run *run, struct problem *problem)
{
    struct json_error json_error;
    struct json *root = NULL;
    char error[PROBLEM_ERROR_BYTES_MAX];
    if (json_parse_file(run->problem, &root, &json_error)) {
        (void)say(run->problem, json_error.text);
        return false;
    }
    const int code = problem_read(problem, root, run->given_sizes, error);
    json_free(root);
    if (code) {
        (void)say(run->problem, error);
    }
    return code == 0;
}

static void show(const struct search *search, double done, bool last)
{
    if (isatty(STDERR_FILENO)) {
        (void)fprintf(stderr, "\r%3.0f %%  %llu tries  best %.1f us a layer%s", 100 * done,
                      (unsigned long long)search->tries, search->best_us, last ? "\n" : "");
    }
}

static void cool(struct search *search, double seconds)
{
    const uint64_t start_us = clock_now_us();
    const double all_us = seconds * 1e6;
    uint64_t shown_us = 0;
    uint32_t round = 0;
    for (double spent_us = 0; spent_us < all_us;) {
        const double at = spent_us / all_us * ROUNDS;
        if ((uint32_t)at > round) {
            round = (uint32_t)at;
            search_restart(search);
        }
        search_run(search, hot_us * pow(cold_us / hot_us, at - floor(at)), TRIES_A_LOOK);
        const uint64_t now_us = clock_now_us();
        spent_us = (double)(now_us - start_us);
        if (now_us - shown_us > SHOW_US) {
            shown_us = now_us;
            show(search, spent_us / all_us, false);
        }
    }
    show(search, 1, true);
}

static struct json *answer_json(const struct search *search, double interval_us,
                                const double *start_us)
{
    struct json *root = json_new_object(), *list = json_new_array();
    const uint32_t grid = search->problem->grid;
    for (uint32_t i = 0; i < search->best.count; i++) {
        const struct schedule_nano *nano = &search->best.nano[i];
        const char *name = problem_name(nano->operation);
        struct json *item = json_new_object();
        json_add(item, "op", json_new_string(name, strlen(name)));
        json_add(item, "lo", json_new_u64((uint64_t)nano->first * grid));
        json_add(item, "hi", json_new_u64((uint64_t)nano->end * grid));
        json_add(item, "start_us", json_new_f64(start_us[i]));
        json_append(list, item);
    }
    json_add(root, "interval_us", json_new_f64(interval_us));
    json_add(root, "ops", list);
    return root;
}

static int write_answer(const char *path, struct json *root)
{
    char *line = json_dump(root);
    FILE *file = fopen(path, "wb");
    bool good = file && fprintf(file, "%s\n", line) > 0;
    good = file && fclose(file) == 0 && good;
    free(line);
    json_free(root);
    return good ? EXIT_STATUS_DONE : say(path, "cannot be written");
}

static int finish(const struct run *run, struct search *search)
{
    char error[SCHEDULE_ERROR_BYTES_MAX];
    const double us =
        schedule_interval(&search->best, search->problem, &search->graph, (double)INFINITY);
    const double sequential_us = schedule_sequential(search->problem);
    if (schedule_check(&search->best, search->problem, us, search->graph.start_us, error)) {
        return say("the answer is wrong, which is a fault of this program", error);
    }
    (void)printf("%.1f us a layer after %llu tries", us, (unsigned long long)search->tries);
    if (sequential_us > 0) {
        (void)printf("; one operation after the other %.1f", sequential_us);
    }
    (void)putchar('\n');
    return run->out ? write_answer(run->out, answer_json(search, us, search->graph.start_us))
                    : EXIT_STATUS_DONE;
}

static int search_problem(const struct run *run)
{
    struct problem *problem = calloc(1, sizeof *problem);
    struct search *search = calloc(1, sizeof *search);
    must(problem && search);
    int status = EXIT_STATUS_FAILED;
    if (read_problem(run, problem)) {
        if (search_open(search, problem, run->seed)) {
            status = say(run->problem, "its sizes tile no layer");
        } else {
            cool(search, run->seconds);
            status = finish(run, search);
        }
        search_close(search);
    }
    free(search);
    free(problem);
    return status;
}

int tune_search_main(int argc, char **argv)
{
    struct run run = {.seconds = 10, .seed = 1};
    const struct options_row rows[] = {
        {"problem", OPTIONS_TEXT, 0, &run.problem, "FILE", "the planning problem"},
        {"given-sizes", OPTIONS_FLAG, 0, &run.given_sizes, NULL,
         "use only the sizes of its given_us"},
        {"seconds", OPTIONS_F64, 0, &run.seconds, "S", "how long to search; default 10"},
        {"seed", OPTIONS_U64, 0, &run.seed, "N", "of the search; default 1"},
        {"json", OPTIONS_TEXT, 0, &run.out, "OUT", "write the pipeline to this file"},
    };
    const struct options options = {COMMAND, "Searches for a pipeline with a short layer.", rows,
                                    sizeof rows / sizeof rows[0]};
    uint32_t flags;
    int status;
    if (!options_parse(&options, argc, argv, &flags, &status)) {
        return status;
    }
    if (!run.problem) {
        return options_wrong(COMMAND, "--problem is missing");
    }
    if (!(run.seconds > 0 && run.seconds <= SECONDS_MAX)) {
        return options_wrong(COMMAND, "--seconds must be above 0 and at most 3600");
    }
    return search_problem(&run);
}
