/*
 * rehearse.c - see rehearse.h. Runs on the main thread of a worker process that serves nobody; owns
 * its rig and the plans. A round runs each plan once, so that what changes with time, clocks and
 * neighbours, meets all alike; what is told is each plan's median over the rounds.
 */
#include "workers/rehearse.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "plan/planfile.h"
#include "plan/verify.h"
#include "workers/rig.h"

enum { PLANS_MAX = 16, ROUNDS_MAX = 101, ROUNDS_MIN = 3, ARGUMENTS = 5 };

struct rehearsal {
    struct rig rig;
    uint32_t seconds;
    uint32_t count;
    struct planfile file[PLANS_MAX];
    double step_us[PLANS_MAX][ROUNDS_MAX];
    uint32_t rounds;
};

/* Before the engine is there: its size follows from the regime. */
static int read_plans(struct rehearsal *rehearsal, char **paths)
{
    for (uint32_t i = 0; i < rehearsal->count; i++) {
        struct planfile *file = &rehearsal->file[i];
        char text[PLANFILE_ERROR_BYTES_MAX];
        struct json_error error;
        struct json *root = NULL;
        if (json_parse_file(paths[i], &root, &error)) {
            return rig_fail(paths[i], error.text);
        }
        const int code = planfile_parse(file, root, text);
        json_free(root);
        if (code) {
            return rig_fail(paths[i], text);
        }
        if (file->regime.tokens != rehearsal->file[0].regime.tokens ||
            file->regime.decode != rehearsal->file[0].regime.decode ||
            file->regime.context != rehearsal->file[0].regime.context) {
            return rig_fail(paths[i], "is for another regime than the first plan");
        }
    }
    return 0;
}

static int check_plans(struct rehearsal *rehearsal, char **paths)
{
    struct graph graph;
    char text[PLANFILE_ERROR_BYTES_MAX];
    graph_build(&graph, engine_hparams(rehearsal->rig.engine)->experts > 0, 1, GRAPH_INSIDE);
    for (uint32_t i = 0; i < rehearsal->count; i++) {
        if (planfile_check(&rehearsal->file[i], &rehearsal->rig.key, &graph, text)) {
            return rig_fail(paths[i], text);
        }
    }
    return 0;
}

static void run_round(struct rehearsal *rehearsal)
{
    for (uint32_t i = 0; i < rehearsal->count; i++) {
        const struct engine_batch batch =
            rig_batch(&rehearsal->rig, &rehearsal->file[i].regime, &rehearsal->file[i].plan);
        struct engine_profile spent;
        const uint64_t start_ns = clock_now_ns();
        engine_run(rehearsal->rig.engine, &batch);
        engine_wait(rehearsal->rig.engine);
        const uint64_t all_ns = clock_now_ns() - start_ns;
        engine_take_profile(rehearsal->rig.engine, &spent);
        rehearsal->step_us[i][rehearsal->rounds] =
            (double)(all_ns - spent.embed_ns - spent.head_ns) / 1e3;
    }
}

static void run_rounds(struct rehearsal *rehearsal)
{
    const uint64_t end_us = clock_now_us() + (uint64_t)rehearsal->seconds * 1000000;
    run_round(rehearsal); /* Caches, pages and clocks wake. */
    do {
        run_round(rehearsal);
        rehearsal->rounds++;
    } while (rehearsal->rounds < ROUNDS_MAX &&
             (rehearsal->rounds < ROUNDS_MIN || clock_now_us() < end_us));
}

static void tell(struct rehearsal *rehearsal)
{
    struct json *root = json_new_object(), *list = json_new_array();
    for (uint32_t i = 0; i < rehearsal->count; i++) {
        double *us = rehearsal->step_us[i];
        rig_sort(us, rehearsal->rounds);
        json_append(list, json_new_f64(us[rehearsal->rounds / 2]));
    }
    json_add(root, "step_us", list);
    rig_print(root);
}

int rehearse_main(int argc, char **argv)
{
    struct rehearsal *rehearsal = calloc(1, sizeof *rehearsal);
    must(rehearsal);
    struct rig *rig = &rehearsal->rig;
    if (argc <= ARGUMENTS || argc > ARGUMENTS + PLANS_MAX ||
        !rig_number(argv[2], 0, UINT32_MAX, &rig->seed) ||
        !rig_number(argv[3], 1, RIG_THREADS_MAX, &rig->threads) ||
        !rig_number(argv[4], 1, RIG_SECONDS_MAX, &rehearsal->seconds)) {
        (void)fputs("usage: WORKER --rehearse MODEL SEED THREADS SECONDS PLAN...\n", stderr);
        free(rehearsal);
        return 2;
    }
    rehearsal->count = (uint32_t)(argc - ARGUMENTS);
    int code = read_plans(rehearsal, argv + ARGUMENTS);
    if (!code) {
        const struct regime *regime = &rehearsal->file[0].regime;
        rig->dtype =
            rehearsal->file[0].key.dtype; /* The others' must be the same: it is checked. */
        rig->weights = rehearsal->file[0].key.weights;
        rig->kv = rehearsal->file[0].key.kv;
        rig->tokens_max = regime->tokens;
        rig->context_max = regime->context + regime->tokens + 1;
        code = rig_open(rig, argv[1]);
    }
    code = code ? code : check_plans(rehearsal, argv + ARGUMENTS);
    if (!code) {
        run_rounds(rehearsal);
        tell(rehearsal);
    }
    rig_close(rig);
    free(rehearsal);
    return code ? 1 : 0;
}
