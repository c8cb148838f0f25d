/*
 * ranks_cuda_test.c - engines of emulated accelerators that share a model: in f32 they give, bit
 * for bit, the logits of one that has all of it, in any order that events allow and under plans of
 * several lanes; what happens when a rank goes; and what the engine refuses.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/prng.h"
#include "plan/split.h"
#include "tests/unit/workers/choir.h"
#include "tests/unit/workers/probe.h"
#include "tests/unit/workers/relay.h"
#include "tests/unit/workers/tiny_model.h"
#include "workers/trial.h"

enum { TOKENS_MAX = 16, LAYERS = 2, LANES = 3, PLANS = 2, TIMEOUT_US = 60 * 1000000 };

static const struct engine_options usual = {.dtype = KERN_F32, .tokens_max = TOKENS_MAX};

static const struct {
    struct tiny_model model;
    uint32_t ranks;
} cases[] = {
    {{.hidden = 64, .heads = 8, .kv_heads = 4, .head_dim = 8, .ffn = 96, .vocab = 64}, 2},
    {{.hidden = 64, .heads = 8, .kv_heads = 2, .head_dim = 8, .ffn = 96, .vocab = 99, .tied = true},
     4}, /* KV heads that two ranks have, and parts of the vocabulary that differ. */
    {{.hidden = 72, .heads = 6, .kv_heads = 3, .head_dim = 16, .ffn = 120, .vocab = 67}, 3},
    {{.hidden = 64,
      .heads = 4,
      .kv_heads = 2,
      .head_dim = 16,
      .ffn = 48,
      .vocab = 41,
      .experts = 6,
      .experts_used = 2},
     2},
};

enum { CASES = sizeof cases / sizeof cases[0] };

static void write_case(uint32_t i, char path[TINY_MODEL_PATH_BYTES])
{
    struct tiny_model model = cases[i].model;
    model.layers = LAYERS;
    model.positions = 64;
    model.seed = 21 + i;
    tiny_model_write(&model, path);
}

struct solo { /* A case, and what a rank that is alone makes of it. */
    uint32_t index;
    struct engine_options options;
    char path[TINY_MODEL_PATH_BYTES];
    float *logits;
    size_t count;
};

static struct solo solo_open(uint32_t index, const struct engine_options *options)
{
    struct solo solo = {.index = index, .options = *options};
    write_case(index, solo.path);
    must(setenv("SLUICE_EMU_SEED", "0", 1) == 0);
    solo.logits = choir_sing(solo.path, 1, &solo.options, NULL, &solo.count);
    return solo;
}

static void solo_close(struct solo *solo)
{
    free(solo->logits);
    tiny_model_remove(solo->path);
}

/* seed: of the devices' order; 0: as it comes. */
static void check_bits(const struct solo *solo, const struct plan *plan, const char *seed)
{
    const uint32_t ranks = cases[solo->index].ranks;
    size_t count;
    must(setenv("SLUICE_EMU_SEED", seed, 1) == 0);
    float *shared = choir_sing(solo->path, ranks, &solo->options, plan, &count);
    assert_int_equal(count, solo->count);
    const size_t differ = choir_differ(shared, solo->logits, count);
    if (differ > 0) {
        fail_msg("case %u, %u ranks: %zu of %zu logits differ", solo->index, ranks, differ, count);
    }
    free(shared);
}

/* Two nano-batches on several lanes, one of which has all that meets. */
static void deal(struct plan *plan, bool experts, uint32_t ranks, uint64_t seed)
{
    struct graph graph;
    struct split_cuts *cuts = calloc(1, sizeof *cuts);
    uint64_t throws = 0;
    must(cuts);
    graph_build(&graph, experts, ranks, GRAPH_INSIDE);
    split_even(cuts, &graph, 2);
    assert_int_equal(split_plan(plan, &graph, cuts), 0);
    do {
        for (uint32_t i = 0; i < plan->nano_count; i++) {
            const bool meets = graph_find(&graph, plan->nano[i].operation)->meets_ranks;
            plan->nano[i].lane = (uint16_t)(meets ? 0 : prng_bits(seed, throws++, 0) % LANES);
        }
    } while (!trial_passes(plan, &graph, LAYERS));
    plan->hash = plan_hash(plan);
    free(cuts);
}

static void ranks_give_the_same_bits(void **state)
{
    (void)state;
    struct plan *plan = calloc(1, sizeof *plan);
    must(plan);
    for (uint32_t i = 0; i < CASES; i++) {
        struct solo solo = solo_open(i, &usual);
        check_bits(&solo, NULL, "0");
        check_bits(&solo, NULL, "9");
        for (uint64_t seed = 1; seed <= PLANS; seed++) {
            deal(plan, cases[i].model.experts > 0, cases[i].ranks, seed);
            check_bits(&solo, plan, seed % 2 ? "4" : "0");
        }
        solo_close(&solo);
    }
    free(plan);
}

static void check_alike(uint32_t index, const struct engine_options *options)
{
    struct solo solo = solo_open(index, options);
    check_bits(&solo, NULL, "0");
    solo_close(&solo);
}

static void ranks_with_e4m3_pages_too(void **state)
{
    (void)state;
    struct engine_options options = usual;
    options.kv = ENGINE_KV_E4M3;
    check_alike(1, &options);
}

static void ranks_with_fp8_weights_too(void **state)
{
    (void)state;
    struct engine_options options = usual;
    options.weights = MATMUL_WEIGHTS_FP8;
    check_alike(0, &options);
}

/* With products to time, which takes some ranks longer than others. */
static void ranks_in_bf16_too(void **state)
{
    (void)state;
    struct engine_options options = usual;
    options.dtype = KERN_BF16;
    for (uint32_t i = 2; i < CASES; i++) {
        check_alike(i, &options);
    }
}

struct pair {
    struct relay relay;
    struct probe probe[2];
    float *logits[2];
};

static void join(void *context, uint32_t rank)
{
    struct pair *pair = context;
    must(engine_join(pair->probe[rank].engine, pair->relay.comm[rank]) == 0);
}

static void feed(void *context, uint32_t rank)
{
    struct pair *pair = context;
    const uint32_t ids[] = {1, 2, 3};
    probe_restart(&pair->probe[rank]);
    memcpy(pair->logits[rank], probe_feed(&pair->probe[rank], ids, 3),
           pair->probe[rank].vocab * sizeof(float));
}

/* A rank that goes costs the others the step, and no more: in the next epoch they go on. */
static void check_departure(const char *path, const char *seed)
{
    struct pair *pair = calloc(1, sizeof *pair);
    const uint32_t ids[] = {5, 6};
    must(pair && setenv("SLUICE_EMU_SEED", seed, 1) == 0);
    for (uint32_t rank = 0; rank < 2; rank++) {
        struct engine_options options = usual;
        options.rank = options.device = rank;
        options.ranks = 2;
        pair->probe[rank] = probe_open(path, options);
        pair->logits[rank] = calloc(pair->probe[rank].vocab, sizeof(float));
        must(pair->logits[rank]);
    }
    relay_open(&pair->relay, 2, TIMEOUT_US);
    relay_run(2, join, pair);
    relay_run(2, feed, pair); /* Into a graph, which the next epoch must not know. */
    const uint32_t vocab = pair->probe[0].vocab;
    float *expected = calloc(vocab, sizeof *expected);
    must(expected);
    memcpy(expected, pair->logits[0], vocab * sizeof *expected);
    comm_shm_close(pair->relay.comm[1]);
    pair->relay.comm[1] = NULL;
    (void)probe_feed(&pair->probe[0], ids, 2);
    assert_int_equal(comm_error(pair->relay.comm[0]), -ECANCELED);
    assert_null(engine_failure(pair->probe[0].engine));
    relay_close(&pair->relay);
    relay_open(&pair->relay, 2, TIMEOUT_US);
    relay_run(2, join, pair);
    relay_run(2, feed, pair);
    assert_memory_equal(pair->logits[0], expected, vocab * sizeof *expected);
    relay_close(&pair->relay);
    for (uint32_t rank = 0; rank < 2; rank++) {
        probe_close(&pair->probe[rank]);
        free(pair->logits[rank]);
    }
    free(expected);
    free(pair);
}

static void a_rank_that_goes_costs_a_step(void **state)
{
    (void)state;
    char path[TINY_MODEL_PATH_BYTES];
    write_case(0, path);
    check_departure(path, "0");
    check_departure(path, "3");
    tiny_model_remove(path);
}

static int open_with(uint32_t ranks, uint32_t device, struct model_error *error)
{
    char path[TINY_MODEL_PATH_BYTES];
    struct weights *weights;
    struct engine *engine = NULL;
    struct engine_options options = usual;
    options.threads = options.rows_max = 1;
    options.context_max = options.page_tokens = options.device_pages = 16;
    options.ranks = ranks;
    options.device = device;
    write_case(0, path);
    assert_int_equal(weights_open(&weights, path, error), 0);
    const int status = engine_open(&engine, weights, &options, error);
    weights_close(weights);
    engine_close(engine);
    tiny_model_remove(path);
    return status;
}

static void names_both_numbers_of_what_does_not_fit(void **state)
{
    (void)state;
    struct model_error error = {{0}};
    assert_int_equal(open_with(2, 1, &error), 0);
    assert_int_equal(open_with(8, 1, &error), -ENOTSUP); /* 96 of the feed-forward part: 12 each. */
    assert_non_null(strstr(error.text, "workers.tp 8 "));
    assert_non_null(strstr(error.text, "96"));
    must(setenv("SLUICE_EMU_DEVICES", "3", 1) == 0);
    assert_int_equal(open_with(4, 3, &error), -ENODEV);
    assert_non_null(strstr(error.text, "device 3 "));
    assert_non_null(strstr(error.text, "there are 3"));
    must(unsetenv("SLUICE_EMU_DEVICES") == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_give_the_same_bits),
        cmocka_unit_test(ranks_with_e4m3_pages_too),
        cmocka_unit_test(ranks_with_fp8_weights_too),
        cmocka_unit_test(ranks_in_bf16_too),
        cmocka_unit_test(a_rank_that_goes_costs_a_step),
        cmocka_unit_test(names_both_numbers_of_what_does_not_fit),
    };
    return cmocka_run_group_tests_name("ranks_cuda", tests, NULL, NULL);
}
