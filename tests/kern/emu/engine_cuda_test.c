/*
 * engine_cuda_test.c - the engine of an accelerator on the emulated one: its lanes give the bits of
 * the sequential plan, whatever order the events allow; each event is needed; and what the engine
 * refuses. Prints its seed; SLUICE_SEED sets it.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/prng.h"
#include "kernels/cuda/kv_pages_cuda.h"
#include "plan/split.h"
#include "plan/verify.h"
#include "tests/unit/workers/probe.h"
#include "tests/unit/workers/tiny_model.h"
#include "workers/batch_cuda.h"
#include "workers/lanes_cuda.h"
#include "workers/trial.h"

enum {
    SEQUENCES = 8,
    CONTEXT = 128,
    PAGE_TOKENS = 16,
    PAGES = CONTEXT / PAGE_TOKENS,
    TOKENS = 48,
    PAST = 21,
    PLANS = 6,
    LANES = 3,
    ORDERS = 60, /* That miss an event, at most, before a wrong one. */
    PROMPT_STEPS = 6,
    POISON = 13, /* A token. */
};

#define BF16_ERROR_MAX 0.06 /* Relative, of a row's logits: the CPU's bf16 engine has 0.01. */

/* Keys and values keep 4 bits: each is off by 2^-4 of itself at most, by 0.026 in the root mean
 * square, and attention's part of the logits is off by no more; four times that is an error. */
#define E4M3_ERROR_MAX 0.10

/* A number of a product is off by 0.026 * sqrt(2), as x and w both are, and four products a layer
 * and three layers add up like noise: 0.13. Twice that is an error. */
#define FP8_ERROR_MAX 0.26

static const struct tiny_model dense = {.hidden = 32,
                                        .layers = 3,
                                        .heads = 4,
                                        .kv_heads = 2,
                                        .head_dim = 16,
                                        .ffn = 48,
                                        .vocab = 61,
                                        .positions = CONTEXT,
                                        .seed = 5};

static const struct tiny_model experts = {.hidden = 32,
                                          .layers = 3,
                                          .heads = 4,
                                          .kv_heads = 2,
                                          .head_dim = 16,
                                          .ffn = 24,
                                          .vocab = 61,
                                          .positions = CONTEXT,
                                          .experts = 5,
                                          .experts_used = 2,
                                          .seed = 6};

/* Single tokens and prompts; one token of a prompt alone behind a cut. */
static const uint32_t mix[SEQUENCES] = {7, 1, 1, 16, 1, 1, 20, 1};

struct dice {
    uint64_t seed;
    uint64_t throws;
};

static uint32_t below(struct dice *dice, uint32_t bound)
{
    return (uint32_t)(prng_bits(dice->seed, dice->throws++, 0) % bound);
}

struct bed {
    char path[TINY_MODEL_PATH_BYTES];
    struct probe probe;
    struct graph graph;
    uint32_t layers;
    struct dice dice;
    uint32_t ids[TOKENS];
    uint32_t pages[SEQUENCES][PAGES];
    struct engine_row rows[SEQUENCES];
    float *expected; /* [SEQUENCES][vocab] */
};

static struct engine_options usual(void)
{
    return (struct engine_options){.dtype = KERN_F32,
                                   .threads = 1,
                                   .tokens_max = TOKENS,
                                   .rows_max = SEQUENCES,
                                   .slots_max = SEQUENCES,
                                   .context_max = CONTEXT,
                                   .page_tokens = PAGE_TOKENS,
                                   .device_pages = SEQUENCES * PAGES};
}

static void run(struct bed *bed, const struct plan *plan)
{
    const struct engine_batch batch = {
        .ids = bed->ids, .rows = bed->rows, .row_count = SEQUENCES, .plan = plan};
    engine_run(bed->probe.engine, &batch);
    assert_null(engine_failure(bed->probe.engine));
}

static bool as_expected(const struct bed *bed)
{
    const size_t vocab = bed->probe.vocab;
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        if (memcmp(engine_logits(bed->probe.engine, i), bed->expected + i * vocab,
                   vocab * sizeof(float)) != 0) {
            return false;
        }
    }
    return true;
}

static void fill_past(struct bed *bed)
{
    uint32_t first = 0;
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        for (uint32_t j = 0; j < PAGES; j++) {
            bed->pages[i][j] = j * SEQUENCES + i;
        }
        const struct engine_row past = {.pages = bed->pages[i], .tokens = PAST};
        const struct engine_batch batch = {
            .ids = bed->ids + i, .rows = &past, .row_count = 1, .plan = &bed->probe.plan};
        engine_run(bed->probe.engine, &batch);
        bed->rows[i] = (struct engine_row){.pages = bed->pages[i],
                                           .first = first,
                                           .tokens = mix[i],
                                           .position = PAST,
                                           .wants_logits = true};
        first += mix[i];
    }
    assert_int_equal(first, TOKENS);
}

/* seed: of the device's order; 0: as it comes. Expected are the bits of the sequential plan. */
static struct bed *bed_open(const struct tiny_model *model, enum matmul_weights weights,
                            const char *seed)
{
    struct bed *bed = calloc(1, sizeof *bed);
    must(bed && setenv("SLUICE_EMU_SEED", seed, 1) == 0);
    tiny_model_write(model, bed->path);
    bed->layers = model->layers;
    struct engine_options options = usual();
    options.weights = weights;
    bed->probe = probe_open(bed->path, options);
    graph_build(&bed->graph, model->experts > 0, 1, GRAPH_INSIDE);
    const char *own = getenv("SLUICE_SEED");
    bed->dice.seed = own ? strtoull(own, NULL, 10) : 1;
    print_message("seed %llu\n", (unsigned long long)bed->dice.seed);
    for (uint32_t i = 0; i < TOKENS; i++) {
        bed->ids[i] = (i * 31 + 7) % bed->probe.vocab;
    }
    fill_past(bed);
    run(bed, &bed->probe.plan);
    const size_t vocab = bed->probe.vocab;
    bed->expected = calloc(SEQUENCES * vocab, sizeof(float));
    must(bed->expected);
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        memcpy(bed->expected + i * vocab, engine_logits(bed->probe.engine, i),
               vocab * sizeof(float));
    }
    return bed;
}

static void bed_close(struct bed *bed)
{
    probe_close(&bed->probe);
    tiny_model_remove(bed->path);
    free(bed->expected);
    free(bed);
}

static void split_into(const struct bed *bed, uint32_t pieces, struct plan *plan)
{
    struct split_cuts *cuts = calloc(1, sizeof *cuts);
    must(cuts);
    split_even(cuts, &bed->graph, pieces);
    assert_int_equal(split_plan(plan, &bed->graph, cuts), 0);
    free(cuts);
}

/* An even split in pieces, its nano-operations dealt out to lanes, with lags, until no lane waits
 * for ever. */
static void deal(struct bed *bed, struct plan *plan)
{
    split_into(bed, 1 + below(&bed->dice, 3), plan);
    const bool parted = below(&bed->dice, 2) > 0;
    const uint32_t lanes = 2 + below(&bed->dice, LANES - 1);
    do {
        const uint32_t lags = 1 + below(&bed->dice, 2);
        for (uint32_t i = 0; i < plan->nano_count; i++) {
            plan->nano[i].lane = (uint16_t)below(&bed->dice, lanes);
            plan->nano[i].units = parted ? plan->nano[i].lane + 1 : 0;
            plan->nano[i].lag = (uint16_t)below(&bed->dice, lags);
        }
    } while (!trial_passes(plan, &bed->graph, bed->layers));
    plan->hash = plan_hash(plan);
}

static void check_lanes(const struct tiny_model *model, enum matmul_weights weights,
                        const char *seed)
{
    struct plan *plan = calloc(1, sizeof *plan);
    must(plan);
    struct bed *bed = bed_open(model, weights, seed);
    for (uint64_t i = 0; i < PLANS; i++) {
        char error[VERIFY_ERROR_BYTES_MAX];
        bed->dice.throws = 1000 * i;
        deal(bed, plan);
        assert_int_equal(verify_plan(plan, &bed->graph, LANES, error), 0);
        run(bed, plan); /* Captured, */
        assert_true(as_expected(bed));
        run(bed, plan); /* and replayed. */
        assert_true(as_expected(bed));
    }
    bed_close(bed);
    free(plan);
}

static void any_lanes_give_the_same_bits(void **state)
{
    (void)state;
    check_lanes(&dense, MATMUL_WEIGHTS_DTYPE, "0");
    check_lanes(&experts, MATMUL_WEIGHTS_DTYPE, "0");
}

static void any_order_gives_the_same_bits(void **state)
{
    (void)state;
    check_lanes(&dense, MATMUL_WEIGHTS_DTYPE, "1");
    check_lanes(&experts, MATMUL_WEIGHTS_DTYPE, "2");
    check_lanes(&dense, MATMUL_WEIGHTS_FP8, "3");
}

/* A plan without one of its edges between lanes comes out wrong in some order. */
static void every_event_is_needed(void **state)
{
    (void)state;
    struct plan *whole = calloc(2, sizeof *whole);
    must(whole);
    struct plan *plan = whole + 1;
    struct bed *bed = bed_open(&dense, MATMUL_WEIGHTS_DTYPE, "3");
    split_into(bed, 1, whole);
    for (uint32_t i = 0; i < whole->nano_count; i++) {
        whole->nano[i].lane = (uint16_t)(i % 2);
    }
    uint32_t crossing = 0;
    for (uint32_t e = 0; e < whole->edge_count; e++) {
        const struct plan_edge *edge = &whole->edge[e];
        if (whole->nano[edge->before].lane == whole->nano[edge->after].lane) {
            continue;
        }
        *plan = *whole;
        plan->edge[e] = plan->edge[--plan->edge_count];
        plan->hash = plan_hash(plan);
        uint32_t orders = 0;
        do {
            run(bed, plan);
            orders++;
        } while (as_expected(bed) && orders < ORDERS);
        if (orders == ORDERS) {
            fail_msg("nobody misses the event of edge %u, from %s to %s", e,
                     plan_operation_name(whole->nano[edge->before].operation),
                     plan_operation_name(whole->nano[edge->after].operation));
        }
        crossing++;
    }
    assert_true(crossing > 0);
    print_message("  %u events, each missed\n", crossing);
    bed_close(bed);
    free(whole);
}

/* What a slot was given never has to come to the host before it goes into the next step. */
static void feeds_what_it_sampled(void **state)
{
    (void)state;
    struct bed *bed = bed_open(&dense, MATMUL_WEIGHTS_DTYPE, "4");
    const size_t vocab = bed->probe.vocab;
    const struct sample_params greedy = {.top_p = 1};
    const struct engine_choice choice = {
        .params = &greedy, .pages = bed->pages[0], .position = PAST + mix[0], .slot = 5};
    struct sample_result result;
    engine_choose(bed->probe.engine, &choice, 1, &result);
    engine_take(bed->probe.engine);
    assert_false(result.invalid);
    assert_int_equal(result.id, probe_best(bed->expected, bed->probe.vocab, NULL));
    float *expected = calloc(vocab, sizeof *expected);
    must(expected);
    for (uint32_t fed = 0; fed < 2; fed++) {
        const uint32_t id = fed > 0 ? (result.id + 1) % bed->probe.vocab : result.id;
        const struct engine_row row = {.pages = bed->pages[0],
                                       .tokens = 1,
                                       .position = choice.position,
                                       .wants_logits = true,
                                       .fed = fed > 0 ? 1 + choice.slot : 0};
        const struct engine_batch batch = {
            .ids = &id, .rows = &row, .row_count = 1, .plan = &bed->probe.plan};
        engine_run(bed->probe.engine, &batch);
        const float *logits = engine_logits(bed->probe.engine, 0);
        if (fed > 0) {
            assert_memory_equal(logits, expected, vocab * sizeof *expected);
        }
        memcpy(expected, logits, vocab * sizeof *expected);
    }
    free(expected);
    bed_close(bed);
}

/* The types of numbers of an engine, and how it differs from that in float. */
struct numbers {
    enum kern_dtype dtype;
    enum engine_kv kv;
    enum matmul_weights weights;
    double error_max; /* Relative, of a row's logits, more than 0. */
    uint32_t kv_share;
};

/* Logits of a prompt in two chunks and of a few tokens behind it, with any one's experts. Bytes of
 * the KV pool. */
static uint64_t feed_prompt(const char *path, const struct numbers *numbers, float *logits)
{
    struct engine_options options = usual();
    options.dtype = numbers->dtype;
    options.kv = numbers->kv;
    options.weights = numbers->weights;
    struct probe probe = probe_open(path, options);
    const uint64_t kv_bytes = engine_kv_bytes(probe.engine);
    for (uint32_t i = 0; i < PROMPT_STEPS; i++) {
        const uint32_t count = i == 0 ? TOKENS + 5 : 1;
        uint32_t ids[TOKENS + 5];
        for (uint32_t j = 0; j < count; j++) {
            ids[j] = (7 * i + 11 * j + 3) % probe.vocab;
        }
        memcpy(logits + (size_t)i * probe.vocab, probe_feed(&probe, ids, count),
               probe.vocab * sizeof *logits);
    }
    probe_close(&probe);
    return kv_bytes;
}

static double relative_error(const float *got, const float *want, size_t count)
{
    double error = 0;
    double square = 0;
    for (size_t i = 0; i < count; i++) {
        const double difference = (double)got[i] - (double)want[i];
        error += difference * difference;
        square += (double)want[i] * (double)want[i];
    }
    return sqrt(error / square);
}

static void check_near(const struct tiny_model *model, const struct numbers *numbers)
{
    static const struct numbers exact = {.dtype = KERN_F32};
    char path[TINY_MODEL_PATH_BYTES];
    const size_t count = (size_t)PROMPT_STEPS * model->vocab;
    float *logits = calloc(2 * count, sizeof *logits);
    must(logits && setenv("SLUICE_EMU_SEED", "0", 1) == 0);
    tiny_model_write(model, path);
    const uint64_t kv_bytes = feed_prompt(path, &exact, logits);
    assert_int_equal(feed_prompt(path, numbers, logits + count), kv_bytes / numbers->kv_share);
    for (size_t first = 0; first < count; first += model->vocab) {
        const double error = relative_error(logits + count + first, logits + first, model->vocab);
        print_message("  relative error %.1e\n", error);
        assert_true(error > 0 && error < numbers->error_max);
    }
    tiny_model_remove(path);
    free(logits);
}

/* Rounding may turn a choice between two experts that nearly tie. */
static struct tiny_model all_experts(void)
{
    struct tiny_model all = experts;
    all.experts_used = all.experts;
    return all;
}

/* Tensor cores and rounded activations: 8 bits of each number, and errors that add up like noise.
 */
static void bf16_is_near_f32(void **state)
{
    (void)state;
    const struct tiny_model all = all_experts();
    const struct numbers bf16 = {.dtype = KERN_BF16, .error_max = BF16_ERROR_MAX, .kv_share = 2};
    check_near(&dense, &bf16);
    check_near(&all, &bf16);
}

static void e4m3_pages_are_near_f32(void **state)
{
    (void)state;
    const struct tiny_model all = all_experts();
    struct numbers pages = {
        .dtype = KERN_F32, .kv = ENGINE_KV_E4M3, .error_max = E4M3_ERROR_MAX, .kv_share = 4};
    check_near(&dense, &pages);
    pages.error_max = 3 * E4M3_ERROR_MAX; /* As bf16's are larger. */
    check_near(&all, &pages);
    pages.dtype = KERN_BF16;
    pages.error_max = BF16_ERROR_MAX + E4M3_ERROR_MAX;
    check_near(&dense, &pages);
}

/* Weights and what they are multiplied with keep 4 bits; so do the pages, last. */
static void fp8_weights_are_near_f32(void **state)
{
    (void)state;
    struct numbers fp8 = {.dtype = KERN_F32,
                          .weights = MATMUL_WEIGHTS_FP8,
                          .error_max = FP8_ERROR_MAX,
                          .kv_share = 1};
    check_near(&dense, &fp8);
    fp8.dtype = KERN_BF16;
    fp8.error_max += BF16_ERROR_MAX;
    fp8.kv_share = 2;
    check_near(&dense, &fp8);
    fp8.kv = ENGINE_KV_E4M3;
    fp8.error_max += E4M3_ERROR_MAX;
    fp8.kv_share = 4;
    check_near(&dense, &fp8);
}

/* A copy of a sequence's pages answers as the sequence does. Of more pairs than a launch takes the
 * last ones count. */
static void e4m3_pages_are_copied(void **state)
{
    (void)state;
    enum { FILLED = PAST / PAGE_TOKENS + 1, PAIRS = CUDA_KV_PAGES_PAIRS_MAX + FILLED };
    uint32_t sources[PAIRS] = {0};
    uint32_t targets[PAIRS] = {0};
    char path[TINY_MODEL_PATH_BYTES];
    struct engine_options options = usual();
    uint32_t pages[2][PAGES];
    const uint32_t ids[PAST] = {3, 1, 4, 1, 5, 9, 2, 6};
    tiny_model_write(&dense, path);
    must(setenv("SLUICE_EMU_SEED", "0", 1) == 0);
    options.kv = ENGINE_KV_E4M3;
    struct probe probe = probe_open(path, options);
    (void)probe_feed(&probe, ids, PAST);
    for (uint32_t i = 0; i < PAGES; i++) {
        pages[0][i] = i;
        pages[1][i] = PAGES + i;
    }
    memcpy(sources + PAIRS - FILLED, pages[0], FILLED * sizeof *sources);
    memcpy(targets + PAIRS - FILLED, pages[1], FILLED * sizeof *targets);
    engine_copy_pages(probe.engine, sources, targets, PAIRS);
    const struct engine_row rows[] = {
        {.pages = pages[0], .tokens = 1, .position = PAST, .wants_logits = true},
        {.pages = pages[1], .first = 1, .tokens = 1, .position = PAST, .wants_logits = true}};
    const struct engine_batch batch = {
        .ids = (const uint32_t[]){7, 7}, .rows = rows, .row_count = 2, .plan = &probe.plan};
    engine_run(probe.engine, &batch);
    assert_true(isfinite(engine_logits(probe.engine, 0)[0]));
    assert_memory_equal(engine_logits(probe.engine, 0), engine_logits(probe.engine, 1),
                        probe.vocab * sizeof(float));
    probe_close(&probe);
    tiny_model_remove(path);
}

/* Of a token long before the last one, which sees it in the pages alone. */
static void a_nan_stays_in_e4m3_pages(void **state)
{
    (void)state;
    char path[TINY_MODEL_PATH_BYTES];
    struct tiny_model poisoned = dense;
    struct engine_options options = usual();
    poisoned.poison_id = POISON;
    tiny_model_write(&poisoned, path);
    must(setenv("SLUICE_EMU_SEED", "0", 1) == 0);
    options.kv = ENGINE_KV_E4M3;
    for (uint32_t i = 0; i < 2; i++) {
        options.dtype = i > 0 ? KERN_BF16 : KERN_F32;
        struct probe probe = probe_open(path, options);
        (void)probe_feed(&probe, (const uint32_t[]){1, POISON, 2}, 3);
        assert_true(isnan(probe_feed(&probe, (const uint32_t[]){4}, 1)[0]));
        probe_close(&probe);
    }
    tiny_model_remove(path);
}

/* The host waits no longer than a step may take, and says which setting that was. */
static void a_hang_has_an_end(void **state)
{
    (void)state;
    char path[TINY_MODEL_PATH_BYTES];
    struct engine_options options = usual();
    const struct engine_row row = {.pages = (const uint32_t[PAGES]){0}, .tokens = 1};
    tiny_model_write(&dense, path);
    must(setenv("SLUICE_EMU_SEED", "0", 1) == 0 && setenv("SLUICE_EMU_FAULT", "hang:40", 1) == 0);
    options.timeout_ms = 20;
    struct probe probe = probe_open(path, options);
    const struct engine_batch batch = {
        .ids = (const uint32_t[]){7}, .rows = &row, .row_count = 1, .plan = &probe.plan};
    for (uint32_t i = 0; i < 40; i++) {
        engine_run(probe.engine, &batch);
        engine_wait(probe.engine);
    }
    assert_non_null(engine_failure(probe.engine));
    assert_non_null(strstr(engine_failure(probe.engine), "workers.step_timeout_ms"));
    probe_close(&probe);
    must(unsetenv("SLUICE_EMU_FAULT") == 0);
    tiny_model_remove(path);
}

/* On one lane and on parted ones; what was not run takes no time. */
static void times_each_operation(void **state)
{
    (void)state;
    char path[TINY_MODEL_PATH_BYTES];
    struct engine_options options = usual();
    struct engine_profile spent;
    tiny_model_write(&dense, path);
    must(setenv("SLUICE_EMU_SEED", "0", 1) == 0);
    options.timed = true;
    struct probe probe = probe_open(path, options);
    for (uint32_t parted = 0; parted < 2; parted++) {
        for (uint32_t i = 0; i < probe.plan.nano_count; i++) {
            probe.plan.nano[i].units = (uint16_t)(2 * parted);
            probe.plan.nano[i].lane = (uint16_t)(parted * (i % 2));
        }
        (void)probe_feed(&probe, (const uint32_t[]){1, 2, 3}, 3);
        engine_take_profile(probe.engine, &spent);
        for (uint32_t i = 0; i < PLAN_OPERATION_COUNT; i++) {
            assert_int_equal(spent.operation_ns[i] > 0, i <= PLAN_DOWN);
        }
    }
    probe_close(&probe);
    tiny_model_remove(path);
}

/* Two lanes of a plan that part the device get lanes of the device that part it as nearly so; any
 * other plan's get the whole of it. */
static void parted_plans_get_parts(void **state)
{
    (void)state;
    struct accel *accel;
    struct accel_info info;
    struct model_error error;
    uint32_t lane[PLAN_NANO_MAX];
    struct lanes_cuda *lanes = calloc(1, sizeof *lanes);
    struct plan *plan = calloc(1, sizeof *plan);
    must(lanes && plan);
    assert_int_equal(accel_open(&accel, 0, &error), 0);
    accel_info(accel, &info);
    assert_int_equal(lanes_cuda_open(lanes, accel, 1, 0), 0);
    plan_sequential(plan, false);
    for (uint32_t first = 0; first < info.units; first += info.unit_step) {
        for (uint32_t i = 0; i < plan->nano_count; i++) {
            plan->nano[i].lane = (uint16_t)(i % 2);
            plan->nano[i].units = (uint16_t)(i % 2 ? info.units - first : first);
        }
        lanes_cuda_assign(lanes, plan, lane);
        const bool parted = first > 0;
        assert_int_equal(accel_lane_units(accel, lane[0]), parted ? first : info.units);
        assert_int_equal(accel_lane_units(accel, lane[1]), info.units - first);
    }
    accel_close(accel);
    free(lanes);
    free(plan);
}

static void buckets_are_few_and_tight(void **state)
{
    (void)state;
    uint32_t count = 0;
    uint32_t last = 0;
    for (uint32_t rows = 1; rows <= 2048; rows++) {
        const uint32_t bucket = batch_cuda_bucket(rows, 2000);
        assert_true(bucket >= rows || bucket == 2000);
        assert_true(bucket <= rows + rows / 8 + 1);
        assert_true(bucket >= last);
        count += bucket != last;
        last = bucket;
    }
    assert_true(count <= 80);
}

static int open_model(const struct tiny_model *model, const struct engine_options *options,
                      struct model_error *error)
{
    char path[TINY_MODEL_PATH_BYTES];
    struct weights *weights;
    struct engine *engine = NULL;
    tiny_model_write(model, path);
    assert_int_equal(weights_open(&weights, path, error), 0);
    const int status = engine_open(&engine, weights, options, error);
    weights_close(weights);
    engine_close(engine);
    tiny_model_remove(path);
    return status;
}

static int open_with(const struct engine_options *options, struct model_error *error)
{
    return open_model(&dense, options, error);
}

static void names_what_does_not_fit(void **state)
{
    (void)state;
    struct model_error error = {{0}};
    struct engine_options options = usual();
    options.device_pages = 1 << 24;
    assert_int_equal(open_with(&options, &error), -ENOMEM);
    assert_non_null(strstr(error.text, "kv.device_pages"));
    options = usual();
    options.tokens_max = 1 << 24;
    assert_int_equal(open_with(&options, &error), -ENOMEM);
    assert_non_null(strstr(error.text, "batch.tokens_max"));
}

static void refuses_what_it_cannot_do(void **state)
{
    (void)state;
    struct model_error error = {{0}};
    struct engine_options options = usual();
    options.weights = MATMUL_WEIGHTS_INT8;
    assert_int_equal(open_with(&options, &error), -ENOTSUP);
    assert_non_null(strstr(error.text, "model.weights"));
    options.weights = MATMUL_WEIGHTS_FP8;
    assert_int_equal(open_with(&options, &error), 0);
    must(setenv("SLUICE_EMU_OLD", "1", 1) == 0);
    assert_int_equal(open_with(&options, &error), -ENOTSUP);
    must(unsetenv("SLUICE_EMU_OLD") == 0);
    assert_non_null(strstr(error.text, "set model.weights to auto"));
}

/* Each step of it would fail. */
static void refuses_experts_of_sizes_without_a_kernel(void **state)
{
    (void)state;
    struct model_error error = {{0}};
    struct engine_options options = usual();
    struct tiny_model odd = experts;
    odd.ffn = 20;
    assert_int_equal(open_model(&odd, &options, &error), 0);
    options.dtype = KERN_BF16;
    assert_int_equal(open_model(&odd, &options, &error), -ENOTSUP);
    assert_non_null(strstr(error.text, "set model.dtype to f32"));
    assert_int_equal(open_model(&experts, &options, &error), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_lanes_give_the_same_bits),
        cmocka_unit_test(any_order_gives_the_same_bits),
        cmocka_unit_test(every_event_is_needed),
        cmocka_unit_test(feeds_what_it_sampled),
        cmocka_unit_test(bf16_is_near_f32),
        cmocka_unit_test(e4m3_pages_are_near_f32),
        cmocka_unit_test(e4m3_pages_are_copied),
        cmocka_unit_test(a_nan_stays_in_e4m3_pages),
        cmocka_unit_test(a_hang_has_an_end),
        cmocka_unit_test(fp8_weights_are_near_f32),
        cmocka_unit_test(times_each_operation),
        cmocka_unit_test(parted_plans_get_parts),
        cmocka_unit_test(buckets_are_few_and_tight),
        cmocka_unit_test(names_what_does_not_fit),
        cmocka_unit_test(refuses_what_it_cannot_do),
        cmocka_unit_test(refuses_experts_of_sizes_without_a_kernel),
    };
    return cmocka_run_group_tests_name("engine_cuda", tests, NULL, NULL);
}
