/*
 * pipe_test.c - plans on lanes: in f32 every order that a plan's edges allow gives the bits of the
 * sequential plan, with any lanes, lags, unit shares and threads; and each edge of the reduction is
 * needed: without it chaos finds an order that gives others. A dense model and one with experts;
 * stories260K with SLUICE_TEST_DATA. Prints its seed; SLUICE_SEED sets it.
 */
#include "workers/pipe.h"

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
#include "plan/verify.h"
#include "tests/unit/workers/probe.h"
#include "tests/unit/workers/tiny_model.h"
#include "workers/trial.h"

enum {
    SEQUENCES = 8,
    CONTEXT = 128,
    PAGE_TOKENS = 16,
    PAGES = CONTEXT / PAGE_TOKENS,
    TOKENS = 96, /* Of a batch. Cuts go to multiples of 8, within prompts of 16 positions. */
    PAST = 21,   /* Positions before the batch's: within a tile, odd. */
    MIXES = 2,
    ORDERS_MAX = 500,
    PLANS = 40,
    THREADS_MAX = 3,
    CHAOS_SEEDS = 20,
};

static const struct tiny_model dense = {.hidden = 40,
                                        .layers = 3,
                                        .heads = 4,
                                        .kv_heads = 2,
                                        .head_dim = 12,
                                        .ffn = 56,
                                        .vocab = 61,
                                        .positions = CONTEXT,
                                        .seed = 5};

static const struct tiny_model experts = {.hidden = 40,
                                          .layers = 3,
                                          .heads = 4,
                                          .kv_heads = 2,
                                          .head_dim = 12,
                                          .ffn = 24,
                                          .vocab = 61,
                                          .positions = CONTEXT,
                                          .experts = 5,
                                          .experts_used = 2,
                                          .seed = 6};

/* Tokens of each row. Single tokens and prompts on both sides of each cut, prompts across it; and
 * one prompt across all. */
static const uint32_t mixes[MIXES][SEQUENCES] = {{14, 1, 1, 20, 1, 40, 1, 18}, {TOKENS}};

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
    uint32_t row_count;
    float *expected[MIXES]; /* [SEQUENCES][vocab] */
};

static void set_mix(struct bed *bed, uint32_t mix)
{
    uint32_t first = 0;
    bed->row_count = 0;
    for (uint32_t i = 0; i < SEQUENCES && mixes[mix][i] > 0; i++) {
        const uint32_t tokens = mixes[mix][i];
        bed->rows[bed->row_count++] = (struct engine_row){.pages = bed->pages[i],
                                                          .first = first,
                                                          .tokens = tokens,
                                                          .position = PAST,
                                                          .wants_logits = true};
        first += tokens;
    }
    must(first == TOKENS);
}

static void run(struct bed *bed, const struct plan *plan, uint64_t chaos_seed)
{
    const struct engine_batch batch = {.ids = bed->ids,
                                       .rows = bed->rows,
                                       .row_count = bed->row_count,
                                       .plan = plan,
                                       .chaos_seed = chaos_seed};
    engine_run(bed->probe.engine, &batch);
}

static bool as_expected(const struct bed *bed, uint32_t mix)
{
    const size_t vocab = bed->probe.vocab;
    for (uint32_t i = 0; i < bed->row_count; i++) {
        if (memcmp(engine_logits(bed->probe.engine, i), bed->expected[mix] + i * vocab,
                   vocab * sizeof(float)) != 0) {
            return false;
        }
    }
    return true;
}

static void fill_past(struct bed *bed)
{
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        for (uint32_t j = 0; j < PAGES; j++) {
            bed->pages[i][j] = j * SEQUENCES + i;
        }
        const struct engine_row row = {.pages = bed->pages[i], .tokens = PAST};
        const struct engine_batch batch = {
            .ids = bed->ids + i, .rows = &row, .row_count = 1, .plan = &bed->probe.plan};
        engine_run(bed->probe.engine, &batch);
    }
}

/* path NULL: of the tiny model. */
static struct bed *bed_open(const char *path, const struct tiny_model *model, uint32_t threads)
{
    struct bed *bed = calloc(1, sizeof *bed);
    must(bed);
    if (!path) {
        tiny_model_write(model, bed->path);
        path = bed->path;
    }
    bed->probe = probe_open(path, (struct engine_options){.dtype = KERN_F32,
                                                          .isa = kern_isa_detect(),
                                                          .threads = threads,
                                                          .tokens_max = TOKENS,
                                                          .rows_max = SEQUENCES,
                                                          .context_max = CONTEXT,
                                                          .page_tokens = PAGE_TOKENS,
                                                          .device_pages = SEQUENCES * PAGES});
    const struct hparams *hparams = engine_hparams(bed->probe.engine);
    const char *seed = getenv("SLUICE_SEED");
    bed->layers = hparams->layers;
    bed->dice.seed = seed ? strtoull(seed, NULL, 10) : 1;
    print_message("seed %llu\n", (unsigned long long)bed->dice.seed);
    graph_build(&bed->graph, hparams->experts > 0, 1, GRAPH_INSIDE);
    for (uint32_t i = 0; i < TOKENS; i++) {
        bed->ids[i] = (i * 31 + 7) % bed->probe.vocab;
    }
    fill_past(bed);
    for (uint32_t mix = 0; mix < MIXES; mix++) {
        const size_t vocab = bed->probe.vocab;
        bed->expected[mix] = calloc(SEQUENCES * vocab, sizeof(float));
        must(bed->expected[mix]);
        set_mix(bed, mix);
        run(bed, &bed->probe.plan, 0);
        for (uint32_t i = 0; i < bed->row_count; i++) {
            memcpy(bed->expected[mix] + i * vocab, engine_logits(bed->probe.engine, i),
                   vocab * sizeof(float));
        }
    }
    return bed;
}

static void bed_close(struct bed *bed)
{
    probe_close(&bed->probe);
    if (bed->path[0]) {
        tiny_model_remove(bed->path);
    }
    for (uint32_t mix = 0; mix < MIXES; mix++) {
        free(bed->expected[mix]);
    }
    free(bed);
}

static void even_plan(const struct bed *bed, uint32_t pieces, struct plan *plan)
{
    struct split_cuts *cuts = calloc(1, sizeof *cuts);
    must(cuts);
    split_even(cuts, &bed->graph, pieces);
    assert_int_equal(split_plan(plan, &bed->graph, cuts), 0);
    free(cuts);
}

/* Each operation in pieces of its own, where experts allow it. */
static void random_plan(struct bed *bed, struct plan *plan)
{
    struct split_cuts *cuts = calloc(1, sizeof *cuts);
    must(cuts);
    for (uint32_t i = 0; i < PLAN_OPERATION_COUNT; i++) {
        const uint32_t pieces = 1 + below(&bed->dice, 3);
        cuts->operation[i].count = graph_find(&bed->graph, i) ? pieces : 0;
        for (uint32_t p = 1; p <= pieces; p++) {
            const uint32_t step = (PLAN_WHOLE - cuts->operation[i].bound[p - 1]) / 2;
            cuts->operation[i].bound[p] =
                cuts->operation[i].bound[p - 1] + 1 + below(&bed->dice, step);
        }
        cuts->operation[i].bound[pieces] = PLAN_WHOLE;
        if (i > PLAN_ROUTE && i <= PLAN_COMBINE && bed->graph.experts) {
            cuts->operation[i] = cuts->operation[PLAN_ROUTE];
        }
    }
    assert_int_equal(split_plan(plan, &bed->graph, cuts), 0);
    free(cuts);
}

/* Swaps nano-operations at random where neither waits for the other in the same layer, and deals
 * out lanes, lags and units until lanes do not wait for each other for ever. */
static void shuffle(struct bed *bed, struct plan *plan)
{
    for (uint32_t n = 0; n < 20 * plan->nano_count; n++) {
        const uint16_t at = (uint16_t)below(&bed->dice, plan->nano_count - 1);
        bool waits = false;
        for (uint32_t e = 0; e < plan->edge_count; e++) {
            const struct plan_edge *edge = &plan->edge[e];
            waits = waits || (edge->before == at && edge->after == at + 1 && edge->offset == 0);
        }
        if (waits) {
            continue;
        }
        const struct plan_nano nano = plan->nano[at];
        plan->nano[at] = plan->nano[at + 1];
        plan->nano[at + 1] = nano;
        for (uint32_t e = 0; e < plan->edge_count; e++) {
            uint16_t *ends[] = {&plan->edge[e].after, &plan->edge[e].before};
            for (uint32_t i = 0; i < 2; i++) {
                const uint16_t end = *ends[i];
                *ends[i] = end == at ? at + 1 : end == at + 1 ? at : end;
            }
        }
    }
    const bool experts_too = bed->graph.experts;
    const uint32_t lanes = 1 + below(&bed->dice, PLAN_LANE_MAX);
    do {
        const uint32_t lags = 1 + below(&bed->dice, 2);
        for (uint32_t i = 0; i < plan->nano_count; i++) {
            plan->nano[i].lane = (uint16_t)below(&bed->dice, lanes);
            plan->nano[i].units = (uint16_t)below(&bed->dice, THREADS_MAX);
            plan->nano[i].lag = (uint16_t)below(&bed->dice, lags);
        }
    } while (!trial_passes(plan, experts_too, bed->layers));
    plan->hash = plan_hash(plan);
}

static void check_lanes(const char *path, const struct tiny_model *model)
{
    struct plan *plan = calloc(1, sizeof *plan);
    must(plan);
    for (uint32_t threads = 1; threads <= THREADS_MAX; threads++) {
        struct bed *bed = bed_open(path, model, threads);
        for (uint32_t i = 0; i < PLANS; i++) {
            char error[VERIFY_ERROR_BYTES_MAX];
            const uint32_t mix = i % MIXES;
            bed->dice = (struct dice){.seed = bed->dice.seed + i + UINT64_C(1000) * threads};
            random_plan(bed, plan);
            shuffle(bed, plan);
            assert_int_equal(verify_plan(plan, &bed->graph, THREADS_MAX, error), 0);
            set_mix(bed, mix);
            run(bed, plan, 0);
            assert_true(as_expected(bed, mix));
        }
        bed_close(bed);
    }
    free(plan);
}

static void any_lanes_give_the_same_bits(void **state)
{
    (void)state;
    check_lanes(NULL, &dense);
}

static void any_lanes_give_the_same_bits_with_experts(void **state)
{
    (void)state;
    check_lanes(NULL, &experts);
}

static void check_orders(const char *path, const struct tiny_model *model)
{
    struct plan *plan = calloc(1, sizeof *plan);
    must(plan);
    struct bed *bed = bed_open(path, model, 2);
    for (uint32_t pieces = 1; pieces <= 4; pieces++) {
        even_plan(bed, pieces, plan);
        for (uint64_t seed = 1; seed <= CHAOS_SEEDS; seed++) {
            const uint32_t mix = (uint32_t)seed % MIXES;
            set_mix(bed, mix);
            run(bed, plan, seed);
            assert_true(as_expected(bed, mix));
        }
    }
    bed_close(bed);
    free(plan);
}

static void any_order_gives_the_same_bits(void **state)
{
    (void)state;
    check_orders(NULL, &dense);
}

static void any_order_gives_the_same_bits_with_experts(void **state)
{
    (void)state;
    check_orders(NULL, &experts);
}

/* Orders that chaos tried before one was wrong; 0: none was. */
static uint32_t find_wrong_order(struct bed *bed, const struct plan *plan)
{
    for (uint32_t order = 1; order <= ORDERS_MAX; order++) {
        const uint32_t mix = order % MIXES;
        set_mix(bed, mix);
        run(bed, plan, order);
        if (!as_expected(bed, mix)) {
            return order;
        }
    }
    return 0;
}

static void check_edges(const char *path, const struct tiny_model *model, uint32_t pieces)
{
    struct plan *whole = calloc(2, sizeof *whole);
    must(whole);
    struct plan *plan = whole + 1;
    struct bed *bed = bed_open(path, model, 1);
    even_plan(bed, pieces, whole);
    uint32_t most = 0;
    for (uint32_t e = 0; e < whole->edge_count; e++) {
        char error[VERIFY_ERROR_BYTES_MAX];
        *plan = *whole;
        plan->edge[e] = plan->edge[--plan->edge_count];
        assert_int_not_equal(verify_plan(plan, &bed->graph, 1, error), 0);
        const uint32_t orders = find_wrong_order(bed, plan);
        if (orders == 0) {
            const struct plan_edge *edge = &whole->edge[e];
            fail_msg("%u pieces: nobody misses the edge from %s %u to %s %u, offset %u", pieces,
                     plan_operation_name(whole->nano[edge->before].operation), edge->before,
                     plan_operation_name(whole->nano[edge->after].operation), edge->after,
                     edge->offset);
        }
        most = orders > most ? orders : most;
    }
    print_message("  %u edges, each missed within %u orders\n", whole->edge_count, most);
    bed_close(bed);
    free(whole);
}

static void every_edge_is_needed(void **state)
{
    (void)state;
    check_edges(NULL, &dense, 1);
    check_edges(NULL, &dense, 2);
    check_edges(NULL, &dense, 3);
}

static void every_edge_is_needed_with_experts(void **state)
{
    (void)state;
    check_edges(NULL, &experts, 1);
    check_edges(NULL, &experts, 2);
    check_edges(NULL, &experts, 3);
}

static void stories_on_lanes(void **state)
{
    (void)state;
    const char *data = getenv("SLUICE_TEST_DATA");
    if (!data) {
        skip();
    }
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/models/stories260K-hf", data);
    check_lanes(path, NULL);
    check_orders(path, NULL);
    check_edges(path, NULL, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_lanes_give_the_same_bits),
        cmocka_unit_test(any_lanes_give_the_same_bits_with_experts),
        cmocka_unit_test(any_order_gives_the_same_bits),
        cmocka_unit_test(any_order_gives_the_same_bits_with_experts),
        cmocka_unit_test(every_edge_is_needed),
        cmocka_unit_test(every_edge_is_needed_with_experts),
        cmocka_unit_test(stories_on_lanes),
    };
    return cmocka_run_group_tests_name("pipe", tests, NULL, NULL);
}
