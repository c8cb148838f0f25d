/*
 * engine_bench.c - engine_bench MODEL [THREADS] [f32|bf16|int8] [plans]: tokens per second of the
 * bare engine in the cases of docs/benchmarks.md, with the time of each operation. int8 is of the
 * weights and has bf16 around it. Best of a few runs. With `plans` instead: three mixes, each by
 * the sequential plan, by two nano-batches on one lane, and by those on two lanes, in turns. Not a
 * test.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/must.h"
#include "plan/split.h"
#include "tests/unit/workers/probe.h"

enum {
    BATCH_MAX = 64,
    PREFILL = 512,
    REPEATS = 5,
    TURNS = 11, /* Of each plan. */
    CONTEXT = 1024,
    PAGE_TOKENS = 16,
    PLANS = 4,
};

struct bench {
    struct probe probe;
    uint32_t ids[PREFILL];
    uint32_t pages[BATCH_MAX][CONTEXT / PAGE_TOKENS];
};

static const char *const operation_names[PLAN_OPERATION_COUNT] = {
    [PLAN_ATTENTION_NORM] = "attention norm",
    [PLAN_KQV] = "kqv",
    [PLAN_ROPE_APPEND] = "rope, append",
    [PLAN_PREFILL_ATTENTION] = "prefill attention",
    [PLAN_DECODE_ATTENTION] = "decode attention",
    [PLAN_OUTPUT] = "output",
    [PLAN_FFN_NORM] = "ffn norm",
    [PLAN_UP_GATE] = "up, gate",
    [PLAN_SILU_MUL] = "silu mul",
    [PLAN_DOWN] = "down",
    [PLAN_ROUTE] = "route",
    [PLAN_EXPERT_UP_GATE] = "experts' up, gate",
    [PLAN_EXPERT_SILU_MUL] = "experts' silu mul",
    [PLAN_EXPERT_DOWN] = "experts' down",
    [PLAN_COMBINE] = "combine",
};

static void print_share(const char *name, uint64_t ns, uint64_t total_ns)
{
    (void)printf("    %-18s %9.3f ms %5.1f %%\n", name, (double)ns / 1e6,
                 100.0 * (double)ns / (double)total_ns);
}

/* Runs the batch REPEATS times; prints the best and its profile. */
static void measure(struct bench *bench, const char *name, const struct engine_batch *batch,
                    uint32_t tokens)
{
    struct engine_profile best = {0};
    uint64_t best_ns = UINT64_MAX;
    engine_run(bench->probe.engine, batch); /* Touches the pages, wakes the cores. */
    for (int i = 0; i < REPEATS; i++) {
        struct engine_profile profile;
        engine_take_profile(bench->probe.engine, &profile);
        const uint64_t start_ns = clock_now_ns();
        engine_run(bench->probe.engine, batch);
        const uint64_t spent_ns = clock_now_ns() - start_ns;
        engine_take_profile(bench->probe.engine, &profile);
        if (spent_ns < best_ns) {
            best_ns = spent_ns;
            best = profile;
        }
    }
    (void)printf("%-28s %9.1f tokens/s, %8.3f ms a step\n", name, tokens * 1e9 / (double)best_ns,
                 (double)best_ns / 1e6);
    print_share("embed", best.embed_ns, best_ns);
    for (uint32_t i = 0; i < PLAN_OPERATION_COUNT; i++) {
        if (best.operation_ns[i] > 0) {
            print_share(operation_names[i], best.operation_ns[i], best_ns);
        }
    }
    print_share("head", best.head_ns, best_ns);
}

static void measure_prefill(struct bench *bench)
{
    const struct engine_row row = {
        .pages = bench->pages[0], .tokens = PREFILL, .wants_logits = true};
    const struct engine_batch batch = {
        .ids = bench->ids, .rows = &row, .row_count = 1, .plan = &bench->probe.plan};
    measure(bench, "prefill 512", &batch, PREFILL);
}

/* One token of each of `rows` sequences at `position`. What the KV holds there costs the same. */
static void measure_decode(struct bench *bench, uint32_t rows, uint32_t position)
{
    struct engine_row row[BATCH_MAX];
    for (uint32_t i = 0; i < rows; i++) {
        row[i] = (struct engine_row){.pages = bench->pages[i],
                                     .first = i,
                                     .tokens = 1,
                                     .position = position,
                                     .wants_logits = true};
    }
    const struct engine_batch batch = {
        .ids = bench->ids, .rows = row, .row_count = rows, .plan = &bench->probe.plan};
    char name[64];
    (void)snprintf(name, sizeof name, "decode m = %u, context %u", rows, position);
    measure(bench, name, &batch, rows);
}

/* Real keys and values below `position` for all sequences. */
static void fill_context(struct bench *bench, uint32_t position)
{
    for (uint32_t i = 0; i < BATCH_MAX; i++) {
        const struct engine_row row = {.pages = bench->pages[i], .tokens = position};
        const struct engine_batch batch = {
            .ids = bench->ids, .rows = &row, .row_count = 1, .plan = &bench->probe.plan};
        engine_run(bench->probe.engine, &batch);
    }
}

/* How a mix is run. Two lanes share all threads, or have one each. */
static const char *const plan_names[PLANS] = {"sequential", "nano-batched", "overlapped",
                                              "overlapped, a thread each"};

static void make_plan(const struct bench *bench, uint32_t kind, struct plan *plan)
{
    const bool experts = engine_hparams(bench->probe.engine)->experts > 0;
    struct graph graph;
    struct split_cuts cuts;
    if (kind == 0) {
        *plan = bench->probe.plan;
        return;
    }
    graph_build(&graph, experts, 1, GRAPH_INSIDE);
    split_even(&cuts, &graph, 2);
    must(split_plan(plan, &graph, &cuts) == 0);
    for (uint32_t i = 0; i < plan->nano_count && kind > 1; i++) {
        plan->nano[i].lane = plan->nano[i].first > 0;
        plan->nano[i].units = kind == 3;
    }
    plan->hash = plan_hash(plan);
}

static int by_size(const void *a, const void *b)
{
    const uint64_t *left = a;
    const uint64_t *right = b;
    return (*left > *right) - (*left < *right);
}

/* `decode` single tokens at position 512, then a prompt of the rest of the batch. */
static void measure_mix(struct bench *bench, const char *name, uint32_t decode, uint32_t tokens)
{
    struct engine_row row[BATCH_MAX];
    uint64_t spent_ns[PLANS][TURNS];
    struct plan *plans = calloc(PLANS, sizeof *plans);
    must(plans);
    for (uint32_t i = 0; i < decode; i++) {
        row[i] = (struct engine_row){.pages = bench->pages[i],
                                     .first = i,
                                     .tokens = 1,
                                     .position = PREFILL,
                                     .wants_logits = true};
    }
    if (tokens > decode) {
        row[decode] = (struct engine_row){.pages = bench->pages[decode],
                                          .first = decode,
                                          .tokens = tokens - decode,
                                          .wants_logits = true};
    }
    struct engine_batch batch = {
        .ids = bench->ids, .rows = row, .row_count = decode + (tokens > decode)};
    for (uint32_t turn = 0; turn < TURNS; turn++) {
        for (uint32_t i = 0; i < PLANS; i++) {
            make_plan(bench, i, &plans[i]);
            batch.plan = &plans[i];
            const uint64_t start_ns = clock_now_ns();
            engine_run(bench->probe.engine, &batch);
            spent_ns[i][turn] = clock_now_ns() - start_ns;
        }
    }
    (void)printf("%s\n", name);
    for (uint32_t i = 0; i < PLANS; i++) {
        const uint64_t *median_ns = &spent_ns[i][TURNS / 2];
        qsort(spent_ns[i], TURNS, sizeof spent_ns[i][0], by_size);
        (void)printf("    %-26s best %9.3f ms, median %9.3f ms\n", plan_names[i],
                     (double)spent_ns[i][0] / 1e6, (double)*median_ns / 1e6);
    }
    free(plans);
}

static void measure_plans(struct bench *bench)
{
    fill_context(bench, PREFILL);
    measure_mix(bench, "decode 64 at 512", BATCH_MAX, BATCH_MAX);
    measure_mix(bench, "prefill 512", 0, PREFILL);
    measure_mix(bench, "decode 63 at 512, prefill 449", BATCH_MAX - 1, PREFILL);
}

/* Pages that are this process's own: weights, buffers, what was touched of the KV pool. */
static void print_private_memory(const char *when)
{
    char line[128];
    FILE *file = fopen("/proc/self/status", "r");
    must(file);
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, "RssAnon:", 8) == 0) {
            (void)printf("private memory %s: %.1f MB\n", when,
                         (double)strtoul(line + 8, NULL, 10) * 1024 / 1e6);
        }
    }
    (void)fclose(file);
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 5 || (argc == 5 && strcmp(argv[4], "plans") != 0)) {
        (void)fprintf(stderr, "usage: engine_bench MODEL [THREADS] [f32|bf16|int8] [plans]\n");
        return 2;
    }
    const char *numbers = argc > 3 ? argv[3] : "bf16";
    struct bench *bench = calloc(1, sizeof *bench);
    must(bench);
    const uint64_t start_ns = clock_now_ns();
    bench->probe = probe_open(
        argv[1],
        (struct engine_options){.dtype = strcmp(numbers, "f32") == 0 ? KERN_F32 : KERN_BF16,
                                .weights = strcmp(numbers, "int8") == 0 ? MATMUL_WEIGHTS_INT8
                                                                        : MATMUL_WEIGHTS_DTYPE,
                                .isa = kern_isa_detect(),
                                .threads = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 2,
                                .tokens_max = PREFILL,
                                .rows_max = BATCH_MAX,
                                .context_max = CONTEXT,
                                .page_tokens = PAGE_TOKENS,
                                .device_pages = BATCH_MAX * (CONTEXT / PAGE_TOKENS)});
    (void)printf("loaded in %.2f s, weights %.1f MB\n", (double)(clock_now_ns() - start_ns) / 1e9,
                 (double)engine_weight_bytes(bench->probe.engine) / 1e6);
    for (uint32_t i = 0; i < PREFILL; i++) {
        bench->ids[i] = (i * 7919u + 13u) % bench->probe.vocab;
    }
    for (uint32_t i = 0; i < BATCH_MAX; i++) {
        for (uint32_t j = 0; j < CONTEXT / PAGE_TOKENS; j++) {
            bench->pages[i][j] = j * BATCH_MAX + i;
        }
    }
    print_private_memory("loaded");
    if (argc == 5) {
        measure_plans(bench);
    } else {
        measure_prefill(bench);
        fill_context(bench, 190);
        measure_decode(bench, 1, 190);
        measure_decode(bench, BATCH_MAX, 190);
    }
    print_private_memory("at the end");
    (void)printf("KV pool: %.1f MB\n", (double)engine_kv_bytes(bench->probe.engine) / 1e6);
    probe_close(&bench->probe);
    free(bench);
    return 0;
}
