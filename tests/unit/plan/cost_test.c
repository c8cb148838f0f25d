/*
 * cost_test.c - the cost model against published figures of NanoFlow (Zhu et al. 2024): LLaMA-2-70B
 * on eight A100, an 8B model on an H200. Then what must hold for any numbers.
 */
#include "plan/cost.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { BATCH = 2048 };

static const struct graph_shape llama_70b = {
    .hidden = 8192,
    .heads = 64,
    .kv_heads = 8,
    .head_dim = 128,
    .ffn = 28672,
    .layers = 80,
    .vocab = 32000,
    .ranks = 8,
    .weight_bytes = 2,
    .act_bytes = 2,
    .kv_bytes = 2,
};

static const struct graph_shape mixtral = {
    .hidden = 4096,
    .heads = 32,
    .kv_heads = 8,
    .head_dim = 128,
    .ffn = 14336,
    .experts = 8,
    .experts_used = 2,
    .layers = 32,
    .vocab = 32000,
    .ranks = 1,
    .weight_bytes = 2,
    .act_bytes = 2,
    .kv_bytes = 2,
};

static const struct cost_device a100 = {
    .flops = 312e12, .memory_bytes_s = 2e12, .memory_bytes = 80e9, .network_bytes_s = 300e9};
static const struct cost_device h200 = {
    .flops = 989e12, .memory_bytes_s = 4.8e12, .memory_bytes = 141e9};

/* Equal to so many digits as the figure was printed with. */
static void expect(double value, double figure, double tolerance)
{
    if (!(fabs(value - figure) <= tolerance)) {
        fail_msg("%.6g is not %.6g", value, figure);
    }
}

static void agrees_with_the_published_equations(void **state)
{
    (void)state;
    struct cost_bounds bounds;
    cost_equations(&bounds, &a100, &llama_70b, 70e9, BATCH);
    expect(bounds.compute_s * 1e3, 114.9, 0.05);
    expect(bounds.network_s * 1e3, 31.33, 0.02);
    const struct cost_device a100_measured = {.flops = 260e12};
    expect(cost_optimum(&a100_measured, 70e9), 1857, 0.5);
    const struct cost_device h200_measured = {.flops = 700e12};
    expect(cost_optimum(&h200, 8.03e9), 61.6e3, 50);
    expect(cost_optimum(&h200_measured, 8.03e9), 43.6e3, 50);
    struct graph_shape one = llama_70b;
    one.ranks = 1;
    const double ratios[] = {0.88, 0.44, 0.22};
    for (uint32_t i = 0; i < 3; i++) {
        cost_equations(&bounds, &h200, &one, 8.03e9, BATCH << i);
        expect(bounds.memory_s * 1e3, 29.4, 0.05);
        expect(bounds.memory_s / bounds.compute_s, ratios[i], 0.006);
        expect(bounds.network_s, 0, 0);
    }
    expect(cost_token_bytes(&one), 320 << 10, 0);
    expect(cost_token_bytes(&llama_70b), 40 << 10, 0);
}

static struct graph_work work_of(const struct graph *graph, uint32_t operation,
                                 const struct graph_shape *shape, double tokens, double decode)
{
    const struct graph_tokens_of of = {tokens, decode, 1000};
    const struct graph_operation *at = graph_find(graph, operation);
    assert_non_null(at);
    return graph_work(at, shape, &of);
}

static void counts_the_work_of_70b(void **state)
{
    (void)state;
    struct graph graph;
    struct cost_bounds bounds;
    struct cost_mix mix;
    graph_build(&graph, false, 8, GRAPH_REDUCE);
    const struct graph_work up = work_of(&graph, PLAN_UP_GATE, &llama_70b, BATCH, 1024);
    expect(up.flops * 8 * 80 / 1e9, 153931.6, 0.1);
    expect(up.bytes, 2.0 * 8192 * 2 * 28672 / 8, 0);
    const struct graph_work decode = work_of(&graph, PLAN_DECODE_ATTENTION, &llama_70b, BATCH, 1);
    expect(decode.bytes * 80, 1000 * (40 << 10), 1);
    /* Two gathers and a reduction, as the third equation has it, with its activations of all ranks
     * but one. */
    cost_mix_of(&mix, BATCH, 512, 512);
    cost_step(&bounds, &a100, &graph, &llama_70b, &mix);
    expect(bounds.network_s * 1e3, 31.33, 0.02);
    /* The same bytes, whatever the form of the collectives. */
    struct graph scatter;
    graph_build(&scatter, false, 8, GRAPH_SCATTER);
    cost_step(&bounds, &a100, &scatter, &llama_70b, &mix);
    expect(bounds.network_s * 1e3, 31.33, 0.02);
    const double gathered = work_of(&graph, PLAN_ATTENDED_GATHER, &llama_70b, 1, 1).net_bytes +
                            work_of(&graph, PLAN_OUTPUT_GATHER, &llama_70b, 1, 1).net_bytes;
    expect(work_of(&graph, PLAN_OUTPUT_REDUCE, &llama_70b, 1, 1).net_bytes, gathered, 0);
}

/* Products of all layers are 2 FLOPs a parameter and token, but for embeddings, norms and head. */
static void counts_the_products_of_parameters(void **state)
{
    (void)state;
    struct graph graph;
    graph_build(&graph, true, 1, GRAPH_INSIDE);
    const uint32_t products[] = {PLAN_KQV, PLAN_OUTPUT, PLAN_ROUTE, PLAN_EXPERT_UP_GATE,
                                 PLAN_EXPERT_DOWN};
    double flops = 0, bytes = 0;
    for (uint32_t i = 0; i < sizeof products / sizeof products[0]; i++) {
        const struct graph_work work = work_of(&graph, products[i], &mixtral, 100, 0);
        flops += work.flops;
        bytes += work.bytes;
    }
    const double attention = 4096.0 * (4096 + 2 * 1024 + 4096), expert = 3.0 * 4096 * 14336;
    expect(flops / 100, 2 * (attention + 2 * expert + 8 * 4096), 1);
    expect(bytes, 2 * (attention + 8 * expert + 8 * 4096), 1); /* All eight are met. */
    const struct graph_work one = work_of(&graph, PLAN_EXPERT_DOWN, &mixtral, 1, 1);
    expect(one.bytes, 2 * 2 * 4096.0 * 14336, 1); /* A token meets its two. */
}

static void a_bound_is_below_the_sequence(void **state)
{
    (void)state;
    for (uint32_t ranks = 1; ranks <= 8; ranks *= 2) {
        for (uint32_t tokens = 1; tokens <= 8192; tokens *= 8) {
            struct graph graph;
            struct graph_shape shape = llama_70b;
            struct cost_mix mix;
            struct cost_bounds bounds;
            shape.ranks = ranks;
            graph_build(&graph, false, ranks, GRAPH_REDUCE);
            cost_mix_of(&mix, tokens, 512, 128);
            cost_step(&bounds, &a100, &graph, &shape, &mix);
            const double sum_s = cost_sequential(&a100, &graph, &shape, &mix);
            assert_true(cost_longest(&bounds) > 0 && cost_longest(&bounds) <= sum_s);
            assert_true(sum_s <= bounds.compute_s + bounds.memory_s + bounds.network_s);
            assert_true((ranks == 1) == (bounds.network_s <= 0));
        }
    }
}

static void keeps_pace_of_prompts_and_answers(void **state)
{
    (void)state;
    struct cost_mix mix;
    cost_mix_of(&mix, 640, 512, 128);
    expect(mix.decode, 128, 1e-9);
    expect(mix.decode_context, 576, 0);
    expect(mix.prompt_context, 256.5, 0);
    expect(mix.sequences, 129, 1e-9);
}

static int read(struct cost_device *device, const char *text, char *error)
{
    struct json_error reason;
    struct json *root = NULL;
    assert_int_equal(json_parse(text, strlen(text), &root, &reason), 0);
    const int code = cost_read(device, root, error);
    json_free(root);
    return code;
}

#define RATES "\"flops\":3e14,\"memory_bytes_s\":2e12,\"memory_bytes\":8e10"

static void reads_a_device_and_its_curves(void **state)
{
    (void)state;
    struct cost_device device;
    char error[COST_ERROR_BYTES_MAX];
    assert_int_equal(read(&device,
                          "{\"name\":\"a\"," RATES ",\"network_bytes_s\":3e11,\"collective_us\":20,"
                          "\"interference\":{\"memory\":[[0.1,0.25],[0.2,0.4],[0.9,0.95]]}}",
                          error),
                     0);
    assert_string_equal(device.name, "a");
    expect(device.flops, 3e14, 0);
    expect(cost_collective(&device, 3e8), 20e-6 + 1e-3, 1e-12);
    expect(cost_collective(&device, 0), 0, 0);
    const double points[][2] = {{0, 0},      {0.05, 0.125}, {0.1, 0.25}, {0.15, 0.325},
                                {0.9, 0.95}, {0.95, 0.975}, {1, 1}};
    for (uint32_t i = 0; i < sizeof points / sizeof points[0]; i++) {
        expect(cost_curve_at(&device.memory_curve, points[i][0]), points[i][1], 1e-12);
    }
    expect(cost_curve_at(&device.network_curve, 0.3), 0.3, 1e-12); /* Not measured: its share. */
}

static void refuses_what_is_no_device(void **state)
{
    (void)state;
    const struct {
        const char *text;
        const char *part;
    } cases[] = {
        {"[]", "name must be"},
        {"{\"name\":7}", "name must be"},
        {"{\"name\":\"a\"}", "flops must be"},
        {"{\"name\":\"a\",\"flops\":0}", "flops must be"},
        {"{\"name\":\"a\",\"flops\":1,\"memory_bytes_s\":-1}", "memory_bytes_s must be"},
        {"{\"name\":\"a\"," RATES ",\"network_bytes_s\":-1}", "network_bytes_s must be"},
        {"{\"name\":\"a\"," RATES ",\"interference\":{\"memory\":7}}", "memory must be a list"},
        {"{\"name\":\"a\"," RATES ",\"interference\":{\"memory\":[[0.5,0.4],[0.5,0.5]]}}", "rise"},
        {"{\"name\":\"a\"," RATES ",\"interference\":{\"network\":[[0.5,0.4],[0.6,0.3]]}}", "rise"},
        {"{\"name\":\"a\"," RATES ",\"interference\":{\"network\":[[0.5]]}}", "network must have"},
    };
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct cost_device device;
        char error[COST_ERROR_BYTES_MAX] = "";
        assert_int_equal(read(&device, cases[i].text, error), -EINVAL);
        if (!strstr(error, cases[i].part)) {
            fail_msg("\"%s\" does not say \"%s\"", error, cases[i].part);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_the_published_equations),
        cmocka_unit_test(counts_the_work_of_70b),
        cmocka_unit_test(counts_the_products_of_parameters),
        cmocka_unit_test(a_bound_is_below_the_sequence),
        cmocka_unit_test(keeps_pace_of_prompts_and_answers),
        cmocka_unit_test(reads_a_device_and_its_curves),
        cmocka_unit_test(refuses_what_is_no_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
