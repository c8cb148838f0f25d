/*
 * sched_bench.c - the scheduler alone, with a fake worker that takes a step's time from a line:
 *
 *   sched_bench form                what it costs to form a step for 4,096 running requests
 *   sched_bench admission TRACE     known tokens against predicted peaks, over a trace of lengths
 *                                   (CSV: any, prompt tokens, answer tokens)
 *
 * The figures of docs/benchmarks.md come from here. Nothing is asserted.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/sched.h"
#include "base/clock.h"

enum {
    PAGE_TOKENS = 16,
    LENGTHS_MAX = 32768,
    BACKLOG = 256, /* Requests that wait, always. */
    ANSWER_MAX = 2048,
    CONTEXT = 8192,
    STEP_FIXED_US = 3000, /* The line: about that of a small model on two cores. */
    STEP_TOKEN_US = 100,
};

struct lengths_pair {
    uint32_t prompt;
    uint32_t answer;
};

struct world {
    struct arena arena;
    struct sched sched;
    struct sched_step step;
    uint32_t *end; /* [requests_max] tokens at which a request is done */
};

static void open_world(struct world *world, const struct sched_options *options)
{
    *world = (struct world){0};
    must(arena_open(&world->arena, sched_bytes(options) + sched_step_bytes(options->slots_max) +
                                       options->requests_max * sizeof(uint32_t) + 64) == 0);
    must(sched_open(&world->sched, &world->arena, options) == 0);
    must(sched_step_open(&world->step, &world->arena, options->slots_max) == 0);
    world->end = arena_alloc(&world->arena, options->requests_max, sizeof world->end[0]);
    must(world->end);
}

static void add(struct world *world, uint32_t request, const struct lengths_pair *pair)
{
    const struct sched_terms terms = {.answer_tokens_max = ANSWER_MAX};
    sched_add(&world->sched, request, NULL, pair->prompt, &terms);
    world->end[request] = pair->prompt + pair->answer;
}

/* Ends those that are done. How many. */
static uint32_t end_done(struct world *world)
{
    uint32_t ended = 0;
    for (uint32_t i = 0; i < world->step.row_count; i++) {
        const struct sched_row *row = &world->step.rows[i];
        const uint32_t request = row->request;
        if (sched_row_current(&world->sched, row) &&
            world->sched.entry[request].tokens == world->end[request]) {
            sched_end(&world->sched, request);
            ended++;
        }
    }
    return ended;
}

static uint32_t read_lengths(const char *path, struct lengths_pair *pairs)
{
    char line[256];
    uint32_t count = 0;
    FILE *file = fopen(path, "r");
    must(file && fgets(line, sizeof line, file));
    while (count < LENGTHS_MAX && fgets(line, sizeof line, file)) {
        const char *prompt = strchr(line, ',');
        const char *answer = prompt ? strchr(prompt + 1, ',') : NULL;
        if (!answer) {
            continue;
        }
        const unsigned long in = strtoul(prompt + 1, NULL, 10);
        const unsigned long out = strtoul(answer + 1, NULL, 10);
        if (in > 0 && out > 0 && out <= ANSWER_MAX && in + ANSWER_MAX <= CONTEXT) {
            pairs[count++] = (struct lengths_pair){(uint32_t)in, (uint32_t)out};
        }
    }
    (void)fclose(file);
    return count;
}

struct run {
    uint32_t percent; /* Above 100: the answer's true length is known. */
    uint32_t pages;
    uint64_t steps;
    uint64_t virtual_us;
    uint64_t tokens; /* Of answers that ended, with their prompts. */
    uint64_t running;
};

static uint32_t free_request(const struct world *world)
{
    for (uint32_t i = 0; i < world->sched.options.requests_max; i++) {
        if (world->sched.entry[i].state == SCHED_ABSENT) {
            return i;
        }
    }
    return SCHED_NONE;
}

static void run_trace(struct world *world, struct run *run, const struct lengths_pair *pairs,
                      uint32_t count)
{
    struct sched *sched = &world->sched;
    uint32_t at = 0;
    uint32_t live = 0;
    while (at < count || live > 0) {
        while (at < count && sched->fair.waiting_count < BACKLOG) {
            const uint32_t request = free_request(world);
            add(world, request, &pairs[at++]);
            if (run->percent > 100) {
                sched->entry[request].predicted_end = world->end[request];
            }
            live++;
        }
        must(sched_form(sched, &world->step));
        sched_commit(sched, &world->step);
        run->steps++;
        run->running += sched->running_count;
        run->virtual_us += STEP_FIXED_US + (uint64_t)STEP_TOKEN_US * world->step.token_count;
        live -= end_done(world);
    }
    for (uint32_t i = 0; i < count; i++) {
        run->tokens += pairs[i].prompt + pairs[i].answer;
    }
}

static void print_run(const struct world *world, const struct run *run)
{
    const struct sched *sched = &world->sched;
    char name[32] = "known tokens";
    if (run->percent > 100) {
        (void)snprintf(name, sizeof name, "oracle");
    } else if (run->percent > 0) {
        (void)snprintf(name, sizeof name, "peak, %u %%", run->percent);
    }
    printf("| %5u | %-12s | %8.0f | %9llu | %10.2f | %7.1f | %5.1f |\n", run->pages, name,
           (double)run->tokens * 1e6 / (double)run->virtual_us,
           (unsigned long long)sched->preemptions,
           (double)sched->recomputed_tokens * 100 / (double)run->tokens,
           (double)run->running / (double)run->steps,
           sched->outlook.predictions
               ? (double)sched->outlook.predictions_short * 100 / (double)sched->outlook.predictions
               : 0.0);
}

static int bench_admission(const char *path)
{
    static const uint32_t percents[] = {0, 50, 80, 90, 101};
    static const uint32_t pools[] = {1024, 4096};
    struct lengths_pair *pairs = malloc(LENGTHS_MAX * sizeof *pairs);
    must(pairs);
    const uint32_t count = read_lengths(path, pairs);
    printf("%u requests of %s\n", count, path);
    printf("| pages | enter by     | tokens/s | yielded   | recomputed | running | short |\n");
    printf("|------:|--------------|---------:|----------:|-----------:|--------:|------:|\n");
    for (size_t p = 0; p < sizeof pools / sizeof pools[0]; p++) {
        for (size_t i = 0; i < sizeof percents / sizeof percents[0]; i++) {
            struct run run = {.percent = percents[i], .pages = pools[p]};
            const struct sched_options options = {
                .requests_max = 2 * BACKLOG + 256,
                .slots_max = 256,
                .tokens_max = 512,
                .page_tokens = PAGE_TOKENS,
                .page_count = run.pages,
                .context_max = CONTEXT,
                .forecast_percent = run.percent > 100 ? 99 : run.percent,
            };
            struct world world;
            open_world(&world, &options);
            run_trace(&world, &run, pairs, count);
            print_run(&world, &run);
            arena_close(&world.arena);
        }
    }
    free(pairs);
    return 0;
}

static int compare_u64(const void *left, const void *right)
{
    const uint64_t a = *(const uint64_t *)left;
    const uint64_t b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

/* 4,096 run, 64 end and 64 enter in each step. */
static int bench_form(void)
{
    enum { SLOTS = 4096, TURNS = 400, WARM = 600, SPREAD = 64 };
    static uint64_t form_us[TURNS];
    static uint64_t commit_us[TURNS];
    const struct sched_options options = {
        .requests_max = 3 * SLOTS,
        .slots_max = SLOTS,
        .tokens_max = SLOTS + 2048,
        .page_tokens = PAGE_TOKENS,
        .page_count = SLOTS * 64,
        .context_max = 4096,
        .forecast_percent = 50,
    };
    struct world world;
    uint32_t next = 0;
    uint64_t ends = 0;
    open_world(&world, &options);
    for (uint32_t turn = 0; turn < WARM + TURNS; turn++) {
        while (world.sched.fair.waiting_count < 4 * SPREAD) {
            while (world.sched.entry[next % options.requests_max].state != SCHED_ABSENT) {
                next++;
            }
            const struct lengths_pair pair = {32 + next % 256, 64 + next * 37 % 512};
            add(&world, next % options.requests_max, &pair);
        }
        const uint64_t start_us = clock_now_us();
        must(sched_form(&world.sched, &world.step));
        const uint64_t formed_us = clock_now_us();
        sched_commit(&world.sched, &world.step);
        const uint64_t committed_us = clock_now_us();
        if (turn >= WARM) {
            form_us[turn - WARM] = formed_us - start_us;
            commit_us[turn - WARM] = committed_us - formed_us;
            ends += world.step.open_count;
        }
        (void)end_done(&world);
    }
    qsort(form_us, TURNS, sizeof form_us[0], compare_u64);
    qsort(commit_us, TURNS, sizeof commit_us[0], compare_u64);
    printf("running %u, %.1f enter a step: form p50 %llu us, p99 %llu us; commit p50 %llu us, p99 "
           "%llu us\n",
           world.sched.running_count, (double)ends / TURNS, (unsigned long long)form_us[TURNS / 2],
           (unsigned long long)form_us[TURNS * 99 / 100], (unsigned long long)commit_us[TURNS / 2],
           (unsigned long long)commit_us[TURNS * 99 / 100]);
    arena_close(&world.arena);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "form") == 0) {
        return bench_form();
    }
    if (argc == 3 && strcmp(argv[1], "admission") == 0) {
        return bench_admission(argv[2]);
    }
    (void)fprintf(stderr, "usage: sched_bench form | sched_bench admission TRACE.csv\n");
    return 2;
}
