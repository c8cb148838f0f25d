/*
 * verify_test.c - what the verifier accepts and refuses: the sequential plan, splits into random
 * pieces on random lanes, each of those with an edge less, and plans with one number changed. The
 * truth to compare with is found by brute force over layers unrolled.
 */
#include "plan/verify.h"

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

enum { UNITS = 8, CASES = 400, LAYERS = 4, ENDS_LAYERS = 12, SEED = 20 };

static uint32_t draw(uint64_t *draws, uint32_t bound)
{
    return (uint32_t)(prng_bits(SEED, (*draws)++, 0) % bound);
}

static const struct {
    uint32_t ranks;
    enum graph_collectives collectives;
} kinds[] = {{1, GRAPH_INSIDE}, {2, GRAPH_INSIDE}, {8, GRAPH_REDUCE}, {4, GRAPH_SCATTER}};

enum { KINDS = sizeof kinds / sizeof kinds[0] };

static void expect(const struct plan *plan, const struct graph *graph, const char *part)
{
    char error[VERIFY_ERROR_BYTES_MAX] = "";
    const int code = verify_plan(plan, graph, UNITS, error);
    if (!part) {
        if (code) {
            fail_msg("refused: %s", error);
        }
        return;
    }
    assert_int_equal(code, -EINVAL);
    if (!strstr(error, part)) {
        fail_msg("\"%s\" does not say \"%s\"", error, part);
    }
}

static void cut(uint64_t *draws, struct split_cuts *cuts, uint32_t operation, uint32_t first,
                uint32_t end)
{
    const uint32_t pieces = 1 + draw(draws, 3);
    uint32_t *bound = cuts->operation[operation].bound;
    bound[0] = first;
    for (uint32_t i = 1; i < pieces; i++) {
        const uint32_t left = end - bound[i - 1] - (pieces - i);
        bound[i] = bound[i - 1] + 1 + draw(draws, left / 2 + 1);
    }
    bound[pieces] = end;
    cuts->operation[operation].count = pieces;
}

/* Each operation in 1 to 3 pieces of its own; O in both forms, or in one. */
static void random_plan(uint64_t *draws, struct plan *plan, const struct graph *graph)
{
    struct split_cuts cuts = {0};
    const uint32_t forms[] = {0, PLAN_WHOLE, 1 + draw(draws, PLAN_WHOLE - 100) + 50};
    const uint32_t gathered = forms[draw(draws, 3)];
    for (uint32_t i = 0; i < graph->count; i++) {
        const struct graph_operation *at = &graph->operation[i];
        const uint32_t first = at->tokens == GRAPH_O_REDUCED ? gathered : 0;
        const uint32_t end = at->tokens == GRAPH_O_GATHERED ? gathered : PLAN_WHOLE;
        if (at->alike && at->operation != PLAN_ROUTE) {
            cuts.operation[at->operation] = cuts.operation[PLAN_ROUTE];
        } else if (first < end) {
            cut(draws, &cuts, at->operation, first, end);
        }
    }
    assert_int_equal(split_plan(plan, graph, &cuts), 0);
}

static void accepts_the_sequential_plan(void **state)
{
    (void)state;
    for (uint32_t experts = 0; experts < 2; experts++) {
        for (uint32_t ranks = 1; ranks < 3; ranks++) {
            struct graph graph;
            struct plan plan;
            graph_build(&graph, experts, ranks, GRAPH_INSIDE);
            plan_sequential(&plan, experts);
            expect(&plan, &graph, NULL);
            assert_int_equal(plan.nano_count, graph.count);
        }
    }
}

static void accepts_even_pieces(void **state)
{
    (void)state;
    struct graph graph;
    struct split_cuts cuts;
    struct plan plan;
    for (uint32_t kind = 0; kind < KINDS; kind++) {
        graph_build(&graph, false, kinds[kind].ranks, kinds[kind].collectives);
        split_even(&cuts, &graph, 4);
        assert_int_equal(split_plan(&plan, &graph, &cuts), 0);
        expect(&plan, &graph, NULL);
    }
    split_even(&cuts, &graph, 8);
    assert_int_equal(split_plan(&plan, &graph, &cuts), -E2BIG);
}

/* Two pieces, by hand: every operation waits for its own piece, and prompts' attention of the
 * second piece for both ropes. */
static void splits_into_the_edges_that_are_needed(void **state)
{
    (void)state;
    struct graph graph;
    struct split_cuts cuts;
    struct plan plan;
    graph_build(&graph, false, 1, GRAPH_INSIDE);
    split_even(&cuts, &graph, 2);
    assert_int_equal(split_plan(&plan, &graph, &cuts), 0);
    assert_int_equal(plan.nano_count, 20);
    /* A piece: ten operations in a circle with two attentions side by side are eleven edges. */
    assert_int_equal(plan.edge_count, 2 * 11 + 1);
    uint32_t across = 0, found = 0;
    for (uint32_t i = 0; i < plan.edge_count; i++) {
        const struct plan_nano *after = &plan.nano[plan.edge[i].after];
        const struct plan_nano *before = &plan.nano[plan.edge[i].before];
        across += plan.edge[i].offset;
        if (after->first != before->first) {
            assert_int_equal(after->operation, PLAN_PREFILL_ATTENTION);
            assert_int_equal(before->operation, PLAN_ROPE_APPEND);
            assert_int_equal(before->first, 0);
            found++;
        }
    }
    assert_int_equal(across, 2);
    assert_int_equal(found, 1);
}

static void remove_edge(struct plan *plan, uint32_t edge)
{
    plan->edge[edge] = plan->edge[--plan->edge_count];
}

static void refuses_every_split_with_an_edge_less(void **state)
{
    uint64_t counter = 0, *draws = &counter;
    (void)state;
    uint64_t removed = 0;
    for (uint32_t round = 0; round < CASES; round++) {
        const uint32_t kind = draw(draws, KINDS);
        struct graph graph;
        struct plan plan;
        graph_build(&graph, draw(draws, 2), kinds[kind].ranks, kinds[kind].collectives);
        random_plan(draws, &plan, &graph);
        expect(&plan, &graph, NULL);
        for (uint32_t i = 0; i < plan.edge_count; i++) {
            struct plan less = plan;
            remove_edge(&less, i);
            expect(&less, &graph, "does not wait for");
            removed++;
        }
    }
    assert_true(removed > 10 * (uint64_t)CASES);
}

/* Whether `to` comes after `from` by edges, over layers unrolled: a search, one instance at a time.
 */
static bool comes_after(const struct plan *plan, uint32_t from, uint32_t to, uint32_t to_layer)
{
    uint32_t stack[LAYERS * PLAN_NANO_MAX], depth = 0;
    bool seen[LAYERS][PLAN_NANO_MAX] = {{false}};
    stack[depth++] = from;
    while (depth > 0) {
        const uint32_t at = stack[--depth], layer = at / PLAN_NANO_MAX, nano = at % PLAN_NANO_MAX;
        for (uint32_t i = 0; i < plan->edge_count; i++) {
            const struct plan_edge *edge = &plan->edge[i];
            const uint32_t next = layer + edge->offset;
            if (edge->before == nano && next < LAYERS && !seen[next][edge->after]) {
                seen[next][edge->after] = true;
                stack[depth++] = next * PLAN_NANO_MAX + edge->after;
            }
        }
    }
    return seen[to_layer][to];
}

/* Whether b of a later layer waits for a where it must. */
static bool ordered(const struct plan *plan, const struct graph *graph, uint32_t a, uint32_t b,
                    uint32_t layer)
{
    const struct graph_operation *before = graph_find(graph, plan->nano[a].operation);
    const struct graph_operation *after = graph_find(graph, plan->nano[b].operation);
    if (layer == 0 && after <= before) {
        return true;
    }
    return graph_conflict(after, before, layer, &plan->nano[b], &plan->nano[a]) == GRAPH_BUFFERS ||
           comes_after(plan, a, b, layer);
}

static void agrees_with_layers_unrolled(void **state)
{
    uint64_t counter = 0, *draws = &counter;
    (void)state;
    for (uint32_t round = 0; round < 12; round++) {
        const uint32_t kind = draw(draws, KINDS);
        struct graph graph;
        struct plan plan;
        graph_build(&graph, draw(draws, 2), kinds[kind].ranks, kinds[kind].collectives);
        random_plan(draws, &plan, &graph);
        if (draw(draws, 2)) {
            remove_edge(&plan, draw(draws, plan.edge_count));
        }
        bool all = true;
        for (uint32_t pair = 0; pair < plan.nano_count * plan.nano_count && all; pair++) {
            for (uint32_t layer = 0; layer < LAYERS; layer++) {
                all = all &&
                      ordered(&plan, &graph, pair / plan.nano_count, pair % plan.nano_count, layer);
            }
        }
        char error[VERIFY_ERROR_BYTES_MAX];
        assert_int_equal(verify_plan(&plan, &graph, UNITS, error) == 0, all);
    }
}

static void refuses_numbers_out_of_bounds(void **state)
{
    (void)state;
    struct graph graph;
    struct plan good, plan;
    graph_build(&graph, false, 1, GRAPH_INSIDE);
    plan_sequential(&good, false);
    plan = good, plan.nano_count = PLAN_NANO_MAX + 1, expect(&plan, &graph, "fit");
    plan = good, plan.nano_count = 0, expect(&plan, &graph, "fit");
    plan = good, plan.edge_count = PLAN_EDGE_MAX + 1, expect(&plan, &graph, "fit");
    plan = good, plan.nano[3].operation = PLAN_ROUTE, expect(&plan, &graph, "no operation route");
    plan = good, plan.nano[3].operation = 999, expect(&plan, &graph, "unknown");
    plan = good, plan.nano[3].lane = PLAN_LANE_MAX, expect(&plan, &graph, "lane 4");
    plan = good, plan.nano[3].lag = PLAN_LAG_MAX + 1, expect(&plan, &graph, "lag 4");
    plan = good, plan.nano[3].units = UNITS + 1, expect(&plan, &graph, "9 units");
    plan = good, plan.nano[3].end = PLAN_WHOLE + 1, expect(&plan, &graph, "no range");
    plan = good, plan.nano[3].first = PLAN_WHOLE, expect(&plan, &graph, "no range");
    plan = good, plan.edge[2].after = 10, expect(&plan, &graph, "edge 2");
    plan = good, plan.edge[2].before = 10, expect(&plan, &graph, "edge 2");
    plan = good, plan.edge[2].offset = PLAN_LAG_MAX + 1, expect(&plan, &graph, "edge 2");
    plan = good, plan.edge[2].kind = 2, expect(&plan, &graph, "edge 2");
    plan = good, plan.edge[2].kind = PLAN_AFTER_START, expect(&plan, &graph, "does not wait");
}

static void refuses_ranges_that_do_not_tile(void **state)
{
    (void)state;
    struct graph graph;
    struct split_cuts cuts;
    struct plan good, plan;
    graph_build(&graph, false, 1, GRAPH_INSIDE);
    split_even(&cuts, &graph, 2);
    assert_int_equal(split_plan(&good, &graph, &cuts), 0);
    plan = good, plan.nano[2].end += 5, expect(&plan, &graph, "times");
    plan = good, plan.nano[2].end -= 5, expect(&plan, &graph, "times");
    plan = good, plan.nano[2].first += 5, expect(&plan, &graph, "times");
    plan = good, plan.nano[3].first += 5, expect(&plan, &graph, "times");
    plan = good, plan.nano[3].first -= 5, expect(&plan, &graph, "begins where nothing ends");
    plan = good, plan.nano_count--, plan.edge_count = 0, expect(&plan, &graph, "down has");
    graph_build(&graph, true, 1, GRAPH_INSIDE);
    split_even(&cuts, &graph, 2);
    cuts.operation[PLAN_EXPERT_DOWN].bound[1] += 64;
    assert_int_equal(split_plan(&plan, &graph, &cuts), 0);
    expect(&plan, &graph, "expert-down of [0, 32832) is not cut as route is");
}

static void knows_both_forms_of_output(void **state)
{
    (void)state;
    struct graph graph;
    struct split_cuts cuts;
    struct plan plan;
    graph_build(&graph, false, 8, GRAPH_REDUCE);
    split_even(&cuts, &graph, 2);
    const uint16_t gathered[] = {PLAN_ATTENDED_GATHER, PLAN_OUTPUT, PLAN_OUTPUT_GATHER};
    const uint16_t reduced[] = {PLAN_OUTPUT_PART, PLAN_OUTPUT_REDUCE};
    for (uint32_t i = 0; i < 3; i++) {
        cuts.operation[gathered[i]].count = 1;
    }
    for (uint32_t i = 0; i < 2; i++) {
        cuts.operation[reduced[i]].count = 1;
        cuts.operation[reduced[i]].bound[0] = PLAN_WHOLE / 2;
        cuts.operation[reduced[i]].bound[1] = PLAN_WHOLE;
    }
    assert_int_equal(split_plan(&plan, &graph, &cuts), 0);
    expect(&plan, &graph, NULL);
    cuts.operation[PLAN_OUTPUT_REDUCE].count = 0;
    assert_int_equal(split_plan(&plan, &graph, &cuts), 0);
    expect(&plan, &graph, "output-reduce has the tokens from 32768 of 65536 on 0 times");
    cuts.operation[PLAN_OUTPUT_REDUCE].count = 1;
    cuts.operation[PLAN_OUTPUT_PART].bound[0] = 0;
    assert_int_equal(split_plan(&plan, &graph, &cuts), 0);
    expect(&plan, &graph, "output-part has the tokens from 0 of 65536 on 1 times, not 0");
}

/* The network operations on a lane of their own; one of them elsewhere is refused. */
static void wants_ranks_to_meet_on_one_lane(void **state)
{
    (void)state;
    struct graph graph;
    struct split_cuts cuts;
    struct plan plan;
    graph_build(&graph, false, 2, GRAPH_SCATTER);
    split_even(&cuts, &graph, 2);
    assert_int_equal(split_plan(&plan, &graph, &cuts), 0);
    uint32_t last = 0;
    for (uint32_t i = 0; i < plan.nano_count; i++) {
        if (graph_find(&graph, plan.nano[i].operation)->meets_ranks) {
            plan.nano[i].lane = 1;
            last = i;
        }
    }
    expect(&plan, &graph, NULL);
    plan.nano[last].lane = 2;
    expect(&plan, &graph, "meet the other ranks on two lanes");
}

static void swap_nano(struct plan *plan, uint32_t a, uint32_t b)
{
    const struct plan_nano kept = plan->nano[a];
    plan->nano[a] = plan->nano[b];
    plan->nano[b] = kept;
}

static void refuses_circles(void **state)
{
    (void)state;
    struct graph graph;
    struct split_cuts cuts;
    struct plan plan;
    graph_build(&graph, false, 1, GRAPH_INSIDE);
    plan_sequential(&plan, false);
    swap_nano(&plan, 1, 2); /* Rope before kqv on one lane. */
    assert_int_equal(split_edges(&plan, &graph), 0);
    expect(&plan, &graph, "waits for itself");
    plan.nano[1].lag = 1; /* A round later, on a lane that goes on without it: the tail waits. */
    expect(&plan, &graph, "waits for itself");
    plan_sequential(&plan, false);
    plan.edge[plan.edge_count++] = (struct plan_edge){2, 2, 0, PLAN_AFTER_START};
    expect(&plan, &graph, "waits for itself");
    plan.edge[plan.edge_count - 1] = (struct plan_edge){2, 5, 0, PLAN_AFTER_START};
    expect(&plan, &graph, "waits for itself");
    plan.edge[plan.edge_count - 1] = (struct plan_edge){5, 2, 0, PLAN_AFTER_START};
    expect(&plan, &graph, NULL);
    /* The tail of one half beside the head of the next layer's other half. */
    split_even(&cuts, &graph, 2);
    assert_int_equal(split_plan(&plan, &graph, &cuts), 0);
    plan.nano[19].lag = 1;
    expect(&plan, &graph, "waits for itself"); /* The next layer of its half stands before it. */
    plan.nano[19].lane = 1;
    expect(&plan, &graph, NULL); /* Alone on a lane it is late for no one. */
    struct plan late = plan;
    for (uint32_t i = 1; i < 20; i += 2) {
        late.nano[i].lag = 1;
        late.nano[i].lane = i == 19;
    }
    expect(&late, &graph, NULL);
}

struct lanes { /* A run of some layers, as far as it has come. */
    const struct plan *plan;
    uint32_t at[PLAN_LANE_MAX]; /* Rounds * nano_count + index. */
    bool done[ENDS_LAYERS][PLAN_NANO_MAX];
};

static bool is_ready(const struct lanes *lanes, uint32_t nano, int32_t layer)
{
    for (uint32_t e = 0; e < lanes->plan->edge_count; e++) {
        const struct plan_edge *edge = &lanes->plan->edge[e];
        const int32_t of = layer - edge->offset;
        if (edge->after == nano && of >= 0 && !lanes->done[of][edge->before]) {
            return false;
        }
    }
    return true;
}

/* Runs a lane until it must wait. Whether it moved. */
static bool run_lane(struct lanes *lanes, uint32_t lane, uint32_t steps)
{
    const struct plan *plan = lanes->plan;
    const uint32_t from = lanes->at[lane];
    for (; lanes->at[lane] < steps; lanes->at[lane]++) {
        const uint32_t nano = lanes->at[lane] % plan->nano_count;
        const int32_t layer = (int32_t)(lanes->at[lane] / plan->nano_count) - plan->nano[nano].lag;
        if (plan->nano[nano].lane != lane || layer < 0 || layer >= ENDS_LAYERS) {
            continue;
        }
        if (!is_ready(lanes, nano, layer)) {
            break;
        }
        lanes->done[layer][nano] = true;
    }
    return lanes->at[lane] != from;
}

/* Whether the lanes, each as far as it can, come to their end. */
static bool ends(const struct plan *plan)
{
    struct lanes lanes = {.plan = plan};
    const uint32_t steps = (ENDS_LAYERS + PLAN_LAG_MAX) * plan->nano_count;
    bool moved = true, all = true;
    while (moved) {
        moved = false;
        for (uint32_t lane = 0; lane < PLAN_LANE_MAX; lane++) {
            moved = run_lane(&lanes, lane, steps) || moved;
        }
    }
    for (uint32_t lane = 0; lane < PLAN_LANE_MAX; lane++) {
        all = all && lanes.at[lane] == steps;
    }
    return all;
}

static void accepts_just_the_lanes_that_end(void **state)
{
    uint64_t counter = 0, *draws = &counter;
    (void)state;
    uint32_t good = 0;
    struct graph graph;
    graph_build(&graph, false, 1, GRAPH_INSIDE);
    for (uint32_t round = 0; round < CASES; round++) {
        struct plan plan;
        char error[VERIFY_ERROR_BYTES_MAX];
        random_plan(draws, &plan, &graph);
        for (uint32_t i = draw(draws, 4); i > 0; i--) {
            swap_nano(&plan, draw(draws, plan.nano_count), draw(draws, plan.nano_count));
        }
        for (uint32_t i = draw(draws, 6); i > 0; i--) {
            plan.nano[draw(draws, plan.nano_count)].lane = (uint16_t)draw(draws, PLAN_LANE_MAX);
        }
        const uint16_t lag = (uint16_t)draw(draws, 3);
        for (uint32_t i = draw(draws, plan.nano_count); i < plan.nano_count && lag; i++) {
            plan.nano[i].lag = lag;
        }
        assert_int_equal(split_edges(&plan, &graph), 0);
        const bool accepted = verify_plan(&plan, &graph, UNITS, error) == 0;
        assert_int_equal(accepted, ends(&plan));
        good += accepted;
    }
    assert_in_range(good, CASES / 20, CASES - CASES / 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_the_sequential_plan),
        cmocka_unit_test(accepts_even_pieces),
        cmocka_unit_test(splits_into_the_edges_that_are_needed),
        cmocka_unit_test(refuses_every_split_with_an_edge_less),
        cmocka_unit_test(agrees_with_layers_unrolled),
        cmocka_unit_test(refuses_numbers_out_of_bounds),
        cmocka_unit_test(refuses_ranges_that_do_not_tile),
        cmocka_unit_test(knows_both_forms_of_output),
        cmocka_unit_test(wants_ranks_to_meet_on_one_lane),
        cmocka_unit_test(refuses_circles),
        cmocka_unit_test(accepts_just_the_lanes_that_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
