/*
 * engine_test.c - what the engine refuses, with both numbers and the setting to change; what it
 * says about itself; plans other than the sequential one.
 */
#include "workers/engine.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/workers/tiny_model.h"
#include "workers/trial.h"

enum { LAYERS = 2, POSITIONS = 128, HUGE_PAGES = 1 << 24 };

static const struct tiny_model plain = {.hidden = 64,
                                        .layers = LAYERS,
                                        .heads = 4,
                                        .kv_heads = 4,
                                        .head_dim = 16,
                                        .ffn = 96,
                                        .vocab = 50,
                                        .positions = POSITIONS,
                                        .seed = 3};

static struct engine_options usual(void)
{
    return (struct engine_options){.dtype = KERN_F32,
                                   .isa = kern_isa_detect(),
                                   .threads = 1,
                                   .tokens_max = 16,
                                   .rows_max = 4,
                                   .context_max = POSITIONS,
                                   .page_tokens = 16,
                                   .device_pages = 8};
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

static void opens_with_usual_options(void **state)
{
    (void)state;
    struct model_error error = {{0}};
    const struct engine_options options = usual();
    assert_int_equal(open_model(&plain, &options, &error), 0);
}

static void refuses_more_context_than_positions(void **state)
{
    (void)state;
    struct model_error error = {{0}};
    struct engine_options options = usual();
    options.context_max = POSITIONS + 1;
    assert_int_equal(open_model(&plain, &options, &error), -ENOTSUP);
    assert_non_null(strstr(error.text, "129"));
    assert_non_null(strstr(error.text, "128"));
}

static void refuses_bf16_without_instructions(void **state)
{
    (void)state;
    struct model_error error = {{0}};
    struct engine_options options = usual();
    options.dtype = KERN_BF16;
    options.isa = KERN_ISA_AVX2;
    assert_int_equal(open_model(&plain, &options, &error), -ENOTSUP);
    assert_non_null(strstr(error.text, "model.dtype"));
}

static void refuses_a_pool_beyond_the_machine(void **state)
{
    (void)state;
    struct model_error error = {{0}};
    struct engine_options options = usual();
    options.device_pages = HUGE_PAGES; /* 512 GiB. */
    assert_int_equal(open_model(&plain, &options, &error), -ENOMEM);
    assert_non_null(strstr(error.text, "kv.device_pages"));
}

static bool passes(const struct plan *plan, bool experts, uint32_t ranks)
{
    struct graph graph;
    graph_build(&graph, experts, ranks, GRAPH_INSIDE);
    return trial_passes(plan, &graph, LAYERS);
}

static void accepts_what_it_can_run_to_the_end(void **state)
{
    (void)state;
    struct plan plan;
    plan_sequential(&plan, false);
    assert_true(passes(&plan, false, 1));
    assert_false(passes(&plan, true, 1));
    plan.nano[1].lane = 1;
    assert_true(passes(&plan, false, 1));
    plan_sequential(&plan, true);
    assert_true(passes(&plan, true, 1));
    assert_int_equal(plan.nano[plan.nano_count - 1].operation, PLAN_COMBINE);
}

static void refuses_ranges_that_do_not_tile(void **state)
{
    (void)state;
    struct plan plan;
    plan_sequential(&plan, false);
    plan.nano[3].end /= 2; /* A hole. */
    assert_false(passes(&plan, false, 1));
    plan_sequential(&plan, false);
    plan.nano[plan.nano_count++] = plan.nano[3]; /* Twice. */
    assert_false(passes(&plan, false, 1));
    plan_sequential(&plan, true); /* Experts in two halves that were routed as one. */
    plan.nano[plan.nano_count] = plan.nano[8];
    plan.nano[8].end = plan.nano[plan.nano_count++].first = PLAN_WHOLE / 2;
    assert_false(passes(&plan, true, 1));
}

static void refuses_numbers_out_of_bounds(void **state)
{
    (void)state;
    struct plan plan;
    plan_sequential(&plan, false);
    plan.nano[0].lane = PLAN_LANE_MAX;
    assert_false(passes(&plan, false, 1));
    plan_sequential(&plan, false);
    plan.nano[0].lag = PLAN_LAG_MAX + 1;
    assert_false(passes(&plan, false, 1));
    plan_sequential(&plan, false);
    plan.edge[0].before = (uint16_t)plan.nano_count;
    assert_false(passes(&plan, false, 1));
    plan_sequential(&plan, false);
    plan.nano_count = PLAN_NANO_MAX + 1;
    assert_false(passes(&plan, false, 1));
}

/* A comm serves one lane; what does not meet the other ranks may be on any. */
static void refuses_ranks_that_meet_on_two_lanes(void **state)
{
    (void)state;
    struct plan plan;
    plan_sequential(&plan, false);
    plan.nano[1].lane = 1;
    assert_true(passes(&plan, false, 2));
    plan.nano[9].lane = 1;
    assert_true(passes(&plan, false, 1));
    assert_false(passes(&plan, false, 2));
}

/* In its lane's order, and across lanes. */
static void refuses_plans_that_wait_for_ever(void **state)
{
    (void)state;
    struct plan plan;
    plan_sequential(&plan, false);
    const struct plan_nano first = plan.nano[0];
    plan.nano[0] = plan.nano[1];
    plan.nano[1] = first;
    plan.edge[0] = (struct plan_edge){.after = 0, .before = 1};
    plan.edge[1] = (struct plan_edge){.after = 1, .before = 9, .offset = 1};
    plan.edge[2] = (struct plan_edge){.after = 2, .before = 0};
    assert_false(passes(&plan, false, 1));
    plan.nano[1].lane = 1;
    assert_true(passes(&plan, false, 1));
    plan.edge[1].before = 0;
    plan.edge[1].offset = 0;
    assert_false(passes(&plan, false, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_with_usual_options),
        cmocka_unit_test(refuses_more_context_than_positions),
        cmocka_unit_test(refuses_bf16_without_instructions),
        cmocka_unit_test(refuses_a_pool_beyond_the_machine),
        cmocka_unit_test(accepts_what_it_can_run_to_the_end),
        cmocka_unit_test(refuses_ranges_that_do_not_tile),
        cmocka_unit_test(refuses_numbers_out_of_bounds),
        cmocka_unit_test(refuses_ranks_that_meet_on_two_lanes),
        cmocka_unit_test(refuses_plans_that_wait_for_ever),
    };
    return cmocka_run_group_tests_name("engine", tests, NULL, NULL);
}
