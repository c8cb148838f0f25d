/*
 * tune_measure.c - see tune_measure.h. Called by sluice-tune plan for each regime; owns nothing.
 */
#include "tools/tune_measure.h"

#include <stdio.h>

#include "tools/options.h"
#include "tools/tune_worker.h"

#define COMMAND "sluice-tune plan"

enum { SECONDS = 10, FIXED = 5, NUMBER_BYTES = 16 };

static int take_answer(void *context, const struct json *answer)
{
    struct tune_measure *measure = context;
    const struct json *list = json_get(answer, "step_us");
    bool good = json_count(list) == measure->count;
    for (uint32_t i = 0; good && i < measure->count; i++) {
        good = json_f64(json_at(list, i), &measure->step_us[i]) && measure->step_us[i] > 0;
    }
    if (!good) {
        (void)fputs(COMMAND ": the worker did not time every plan\n", stderr);
    }
    return good ? EXIT_STATUS_DONE : EXIT_STATUS_FAILED;
}

int tune_measure_plans(struct tune_measure *measure)
{
    char seed[NUMBER_BYTES], threads[NUMBER_BYTES], seconds[NUMBER_BYTES];
    const char *arguments[FIXED + TUNE_MEASURE_PLANS_MAX + 1] = {"--rehearse", measure->model, seed,
                                                                 threads, seconds};
    (void)snprintf(seed, sizeof seed, "%u", measure->seed);
    (void)snprintf(threads, sizeof threads, "%u", measure->threads);
    (void)snprintf(seconds, sizeof seconds, "%d", SECONDS);
    must(measure->count <= TUNE_MEASURE_PLANS_MAX);
    for (uint32_t i = 0; i < measure->count; i++) {
        arguments[FIXED + i] = measure->path[i];
    }
    const struct tune_worker worker = {.command = COMMAND,
                                       .device = measure->device,
                                       .arguments = arguments,
                                       .seconds = SECONDS,
                                       .take = take_answer,
                                       .context = measure};
    return tune_worker_run(&worker);
}
