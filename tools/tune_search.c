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
#include "tools/lanes.h"
#include "tools/options.h"

#define COMMAND "sluice-tune search"

enum {
    TRIES_A_LOOK = 2000, /* At the clock: milliseconds. */
    SECONDS_MAX = 3600,
    SHOW_US = 200000,
    LAYERS_BESIDE = 4, /* Shown before and after the layer of a picture. */
    BOXES_MAX = (2 * LAYERS_BESIDE + 1) * SCHEDULE_NANO_MAX + PROBLEM_OPERATIONS,
};

struct run {
    const char *problem;
    const char *out;
    const char *picture;
    const char *trace;
    bool given_sizes;
    double seconds;
    uint64_t seed;
};

static bool read_problem(const struct run *run, struct problem *problem)
{
    struct json_error json_error;
    struct json *root = NULL;
    char error[PROBLEM_ERROR_BYTES_MAX];
    if (json_parse_file(run->problem, &root, &json_error)) {
        (void)options_failed(COMMAND, run->problem, json_error.text);
        return false;
    }
    const int code = problem_read(problem, root, run->given_sizes, error);
    json_free(root);
    if (code) {
        (void)options_failed(COMMAND, run->problem, error);
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
        const double part = spent_us / all_us;
        if ((uint32_t)(part * SEARCH_COOLINGS) > round) {
            round++;
            search_restart(search);
        }
        search_run(search, search_heat(search, part), TRIES_A_LOOK);
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
    const int code = json_write_file(root, path);
    json_free(root);
    return code ? options_failed(COMMAND, path, "cannot be written") : EXIT_STATUS_DONE;
}

/* Whole operations one after the other, in a row of their own below the streams. */
static uint32_t add_sequential(const struct problem *problem, double from_us, struct lanes_box *box)
{
    bool by_row;
    (void)schedule_sequential(problem, &by_row);
    uint32_t count = 0;
    for (uint32_t i = 0; i < PROBLEM_OPERATIONS; i++) {
        const uint32_t first = problem->operation[i].first, end = problem->operation[i].end;
        const bool column_form = i == PROBLEM_AG_ATT || i == PROBLEM_O || i == PROBLEM_AG_O;
        const bool row_form = i == PROBLEM_O2 || i == PROBLEM_AR_O;
        if (first == end || (by_row ? column_form : row_form)) {
            continue;
        }
        const double us = problem->operation[i].duration_us[end - first];
        box[count++] = (struct lanes_box){.name = problem_name(i),
                                          .lane = PROBLEM_STREAMS,
                                          .series = problem->operation[i].stream,
                                          .first = first * problem->grid,
                                          .end = end * problem->grid,
                                          .start_us = from_us,
                                          .end_us = from_us + us};
        from_us += us;
    }
    return count;
}

static uint32_t add_pipeline(const struct search *search, double interval_us,
                             const double *start_us, struct lanes_box *box)
{
    const struct problem *problem = search->problem;
    uint32_t count = 0;
    for (int32_t layer = -LAYERS_BESIDE; layer <= LAYERS_BESIDE; layer++) {
        for (uint32_t i = 0; i < search->best.count; i++) {
            const struct schedule_nano *nano = &search->best.nano[i];
            const double us = start_us[i] + layer * interval_us;
            box[count++] = (struct lanes_box){
                .name = problem_name(nano->operation),
                .lane = problem->operation[nano->operation].stream,
                .series = problem->operation[nano->operation].stream,
                .layer = layer,
                .first = nano->first * problem->grid,
                .end = nano->end * problem->grid,
                .start_us = us,
                .end_us =
                    us + problem->operation[nano->operation].duration_us[nano->end - nano->first]};
        }
    }
    return count;
}

/* Two layers of the steady state, and what one layer takes without overlap. */
static int draw(const struct run *run, const struct search *search, double interval_us,
                const double *start_us)
{
    bool by_row;
    const double sequential_us = schedule_sequential(search->problem, &by_row);
    struct lanes_box *box = calloc(BOXES_MAX, sizeof *box);
    char summary[160];
    must(box);
    double from_us = start_us[0];
    for (uint32_t i = 1; i < search->best.count; i++) {
        from_us = fmin(from_us, start_us[i]);
    }
    uint32_t count = add_pipeline(search, interval_us, start_us, box);
    int length = snprintf(summary, sizeof summary, "%.0f us a layer", interval_us);
    if (sequential_us > 0) {
        count += add_sequential(search->problem, from_us, box + count);
        (void)snprintf(summary + length, sizeof summary - (size_t)length,
                       "; one operation after the other %.0f us: %.2f times faster", sequential_us,
                       sequential_us / interval_us);
    }
    const struct lanes lanes = {.title = "One layer as overlapped nano-operations",
                                .summary = summary,
                                .lane = {"compute", "memory", "network", "sequential"},
                                .lane_count = PROBLEM_STREAMS + (sequential_us > 0),
                                .box = box,
                                .box_count = count,
                                .from_us = from_us,
                                .to_us = from_us + fmax(2 * interval_us, sequential_us),
                                .interval_us = interval_us};
    int status = EXIT_STATUS_DONE;
    if (run->picture && lanes_draw(&lanes, run->picture)) {
        status = options_failed(COMMAND, run->picture, "cannot be written");
    }
    if (run->trace && lanes_trace(&lanes, run->trace)) {
        status = options_failed(COMMAND, run->trace, "cannot be written");
    }
    free(box);
    return status;
}

static int finish(const struct run *run, struct search *search)
{
    char error[SCHEDULE_ERROR_BYTES_MAX];
    const double us =
        schedule_interval(&search->best, search->problem, &search->graph, (double)INFINITY);
    bool by_row;
    const double sequential_us = schedule_sequential(search->problem, &by_row);
    if (schedule_check(&search->best, search->problem, us, search->graph.start_us, error)) {
        return options_failed(COMMAND, "the answer is wrong, which is a fault of this program",
                              error);
    }
    (void)printf("%.1f us a layer after %llu tries", us, (unsigned long long)search->tries);
    if (sequential_us > 0) {
        (void)printf("; one operation after the other %.1f", sequential_us);
    }
    (void)putchar('\n');
    const int drawn = draw(run, search, us, search->graph.start_us);
    return run->out && drawn == EXIT_STATUS_DONE
               ? write_answer(run->out, answer_json(search, us, search->graph.start_us))
               : drawn;
}

static int search_problem(const struct run *run)
{
    struct problem *problem = calloc(1, sizeof *problem);
    struct search *search = calloc(1, sizeof *search);
    must(problem && search);
    int status = EXIT_STATUS_FAILED;
    if (read_problem(run, problem)) {
        if (search_open(search, problem, run->seed)) {
            status = options_failed(COMMAND, run->problem, "its sizes tile no layer");
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
        {"timeline", OPTIONS_TEXT, 0, &run.picture, "FILE.svg", "draw two layers of it"},
        {"trace", OPTIONS_TEXT, 0, &run.trace, "FILE.json", "write it in Chrome's trace format"},
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
