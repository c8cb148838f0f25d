/*
 * pipe_test.c - plans on lanes: in f32 every order that a plan's edges allow gives the bits of the
 * sequential plan, with any lanes, lags, unit shares and threads; and each edge of the reduction is
 * needed: without it chaos finds an order that gives others. All of it on one engine and on two
 * ranks. A dense model and one with experts; stories260K with SLUICE_TEST_DATA. Prints its seed;
 * SLUICE_SEED sets it.
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
#include "tests/unit/workers/bed.h"
#include "workers/trial.h"

enum { ORDERS_MAX = 500, PLANS = 40, THREADS_MAX = 3, CHAOS_SEEDS = 20 };

static const struct tiny_model dense = {.hidden = 40,
                                        .layers = 3,
                                        .heads = 4,
                                        .kv_heads = 2,
                                        .head_dim = 12,
                                        .ffn = 56,
                                        .vocab = 61,
                                        .positions = BED_CONTEXT,
                                        .seed = 5};

static const struct tiny_model experts = {.hidden = 40,
                                          .layers = 3,
                                          .heads = 4,
                                          .kv_heads = 2,
                                          .head_dim = 12,
                                          .ffn = 24,
                                          .vocab = 61,
                                          .positions = BED_CONTEXT,
                                          .experts = 5,
                                          .experts_used = 2,
                                          .seed = 6};

struct dice {
    uint64_t seed;
    uint64_t throws;
};

static uint32_t below(struct dice *dice, uint32_t bound)
{
    return (uint32_t)(prng_bits(dice->seed, dice->throws++, 0) % bound);
}

static struct dice open_dice(void)
{
    const char *seed = getenv("SLUICE_SEED");
    const struct dice dice = {.seed = seed ? strtoull(seed, NULL, 10) : 1};
    print_message("seed %llu\n", (unsigned long long)dice.seed);
    return dice;
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
static void random_plan(const struct bed *bed, struct dice *dice, struct plan *plan)
{
    struct split_cuts *cuts = calloc(1, sizeof *cuts);
    must(cuts);
    for (uint32_t i = 0; i < PLAN_OPERATION_COUNT; i++) {
        const uint32_t pieces = 1 + below(dice, 3);
        cuts->operation[i].count = graph_find(&bed->graph, i) ? pieces : 0;
        for (uint32_t p = 1; p <= pieces; p++) {
            const uint32_t step = (PLAN_WHOLE - cuts->operation[i].bound[p - 1]) / 2;
            cuts->operation[i].bound[p] = cuts->operation[i].bound[p - 1] + 1 + below(dice, step);
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
static void shuffle(const struct bed *bed, struct dice *dice, struct plan *plan)
{
    for (uint32_t n = 0; n < 20 * plan->nano_count; n++) {
        const uint16_t at = (uint16_t)below(dice, plan->nano_count - 1);
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
    const uint32_t lanes = 1 + below(dice, PLAN_LANE_MAX);
    do {
        const uint32_t lags = 1 + below(dice, 2);
        for (uint32_t i = 0; i < plan->nano_count; i++) {
            const bool meets = graph_find(&bed->graph, plan->nano[i].operation)->meets_ranks;
            plan->nano[i].lane = meets ? 0 : (uint16_t)below(dice, lanes);
            plan->nano[i].units = (uint16_t)below(dice, THREADS_MAX);
            plan->nano[i].lag = (uint16_t)below(dice, lags);
        }
    } while (!trial_passes(plan, &bed->graph, bed->layers));
    plan->hash = plan_hash(plan);
}

static void check_lanes(const char *path, const struct tiny_model *model, uint32_t ranks)
{
    struct plan *plan = calloc(1, sizeof *plan);
    struct dice dice = open_dice();
    must(plan);
    for (uint32_t threads = 1; threads <= THREADS_MAX; threads++) {
        struct bed *bed = bed_open(path, model, threads, ranks);
        for (uint32_t i = 0; i < PLANS; i++) {
            char error[VERIFY_ERROR_BYTES_MAX];
            dice = (struct dice){.seed = dice.seed + i + UINT64_C(1000) * threads};
            random_plan(bed, &dice, plan);
            shuffle(bed, &dice, plan);
            assert_int_equal(verify_plan(plan, &bed->graph, THREADS_MAX, error), 0);
            assert_true(bed_run(bed, i % BED_MIXES, plan, 0));
        }
        bed_close(bed);
    }
    free(plan);
}

static void any_lanes_give_the_same_bits(void **state)
{
    (void)state;
    check_lanes(NULL, &dense, 1);
    check_lanes(NULL, &experts, 1);
}

static void any_lanes_of_two_ranks_give_the_same_bits(void **state)
{
    (void)state;
    check_lanes(NULL, &dense, 2);
    check_lanes(NULL, &experts, 2);
}

static void check_orders(const char *path, const struct tiny_model *model, uint32_t ranks)
{
    struct plan *plan = calloc(1, sizeof *plan);
    must(plan);
    struct bed *bed = bed_open(path, model, 2, ranks);
    for (uint32_t pieces = 1; pieces <= 4; pieces++) {
        even_plan(bed, pieces, plan);
        for (uint64_t seed = 1; seed <= CHAOS_SEEDS; seed++) {
            assert_true(bed_run(bed, (uint32_t)seed % BED_MIXES, plan, seed));
        }
    }
    bed_close(bed);
    free(plan);
}

static void any_order_gives_the_same_bits(void **state)
{
    (void)state;
    check_orders(NULL, &dense, 1);
    check_orders(NULL, &experts, 1);
}

static void any_order_of_two_ranks_gives_the_same_bits(void **state)
{
    (void)state;
    check_orders(NULL, &dense, 2);
    check_orders(NULL, &experts, 2);
}

/* Orders that chaos tried before one was wrong; 0: none was. */
static uint32_t find_wrong_order(struct bed *bed, const struct plan *plan)
{
    for (uint32_t order = 1; order <= ORDERS_MAX; order++) {
        if (!bed_run(bed, order % BED_MIXES, plan, order)) {
            return order;
        }
    }
    return 0;
}

static void check_edges(const char *path, const struct tiny_model *model, uint32_t pieces,
                        uint32_t ranks)
{
    struct plan *whole = calloc(2, sizeof *whole);
    must(whole);
    struct plan *plan = whole + 1;
    struct bed *bed = bed_open(path, model, 1, ranks);
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
        assert_true(bed_run(bed, e % BED_MIXES, whole, 0)); /* Nothing is left of it. */
    }
    print_message("  %u edges, each missed within %u orders\n", whole->edge_count, most);
    bed_close(bed);
    free(whole);
}

static void every_edge_is_needed(void **state)
{
    (void)state;
    check_edges(NULL, &dense, 1, 1);
    check_edges(NULL, &dense, 2, 1);
    check_edges(NULL, &dense, 3, 1);
}

static void every_edge_is_needed_with_experts(void **state)
{
    (void)state;
    check_edges(NULL, &experts, 1, 1);
    check_edges(NULL, &experts, 2, 1);
    check_edges(NULL, &experts, 3, 1);
}

/* With ranks, operations gather what other ones wrote: other edges than one engine's. */
static void every_edge_of_two_ranks_is_needed(void **state)
{
    (void)state;
    check_edges(NULL, &dense, 1, 2);
    check_edges(NULL, &dense, 2, 2);
    check_edges(NULL, &experts, 2, 2);
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
    check_lanes(path, NULL, 1);
    check_lanes(path, NULL, 2);
    check_orders(path, NULL, 1);
    check_edges(path, NULL, 2, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_lanes_give_the_same_bits),
        cmocka_unit_test(any_lanes_of_two_ranks_give_the_same_bits),
        cmocka_unit_test(any_order_gives_the_same_bits),
        cmocka_unit_test(any_order_of_two_ranks_gives_the_same_bits),
        cmocka_unit_test(every_edge_is_needed),
        cmocka_unit_test(every_edge_is_needed_with_experts),
        cmocka_unit_test(every_edge_of_two_ranks_is_needed),
        cmocka_unit_test(stories_on_lanes),
    };
    return cmocka_run_group_tests_name("pipe", tests, NULL, NULL);
}
