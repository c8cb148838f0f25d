/*
 * models_test.c - every plan that the search emits passes the verifier: for the shapes of three
 * models, for each regime that sluice-tune plan asks for, on devices of several makes. A plan also
 * goes through its file, as the core gets it.
 *
 * Durations are a roofline: what an operation's FLOPs and bytes take on so many of the device's
 * units, with memory at full speed from a few units on, and a price for each start.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "plan/choose.h"
#include "plan/graph.h"
#include "plan/planfile.h"
#include "plan/verify.h"

enum { BUCKETS = 2, QUARTERS = 4, TOKENS_MAX = 512 };

static const struct choose_effort effort = {.seed = 7, .structure_tries = 1500, .share_tries = 150};

/* The published shapes of SmolLM2-135M and Llama-3-8B, and a small mixture of experts. */
static const struct graph_shape models[] = {
    {.hidden = 576, .heads = 9, .kv_heads = 3, .head_dim = 64, .ffn = 1536, .layers = 30},
    {.hidden = 4096, .heads = 32, .kv_heads = 8, .head_dim = 128, .ffn = 14336, .layers = 32},
    {.hidden = 512,
     .heads = 8,
     .kv_heads = 4,
     .head_dim = 64,
     .ffn = 768,
     .experts = 8,
     .experts_used = 2,
     .layers = 8},
};

struct device {
    uint32_t units;
    double flops;       /* Of one unit, a second. */
    double bytes;       /* Of all. */
    uint32_t saturates; /* Units from which on memory is no faster. */
    double start_us;
    double keep; /* Of an operation beside one of the other class. */
};

/* Two CPU cores; many slow units that share well; a device on which overlap does not pay. */
static const struct device devices[] = {
    {.units = 2, .flops = 4e11, .bytes = 3e10, .saturates = 1, .start_us = 3, .keep = 0.9},
    {.units = 132, .flops = 5e12, .bytes = 3e12, .saturates = 40, .start_us = 4, .keep = 0.95},
    {.units = 16, .flops = 1e11, .bytes = 1e11, .saturates = 16, .start_us = 2, .keep = 0.5},
};

static double duration_us(const struct device *device, const struct graph_work *work,
                          uint32_t units)
{
    const double speed = fmin((double)units / device->saturates, 1);
    const double compute_us = work->flops / (device->flops * units) * 1e6;
    const double memory_us = (work->bytes + work->row_bytes) / (device->bytes * speed) * 1e6;
    return device->start_us + fmax(compute_us, memory_us);
}

static void fill_operation(struct profile *profile, const struct device *device,
                           const struct graph_operation *operation, const struct graph_shape *shape)
{
    for (uint32_t s = 0; s < profile->share_count; s++) {
        for (uint32_t c = 0; c < profile->context_count; c++) {
            for (uint32_t t = 0; t < profile->token_count; t++) {
                const double tokens = profile->token[t];
                const struct graph_tokens_of of = {
                    .tokens = tokens,
                    .decode = operation->operation == PLAN_PREFILL_ATTENTION ? 0 : tokens,
                    .context = profile->context[c]};
                const struct graph_work work = graph_work(operation, shape, &of);
                profile->duration_us[operation->operation][s][c][t] =
                    duration_us(device, &work, profile->share[s]);
            }
        }
    }
}

static void fill_profile(struct profile *profile, const struct device *device,
                         const struct graph *graph, const struct graph_shape *shape)
{
    static const uint32_t contexts[] = {64, 256, 1024};
    const uint32_t shares = device->units < 8 ? device->units : 8;
    *profile = (struct profile){.layers = shape->layers,
                                .experts = shape->experts > 0,
                                .context_count = sizeof contexts / sizeof contexts[0]};
    profile->key = (struct plankey){.model = "m", .device = "d", .tp = 1, .units = device->units};
    memcpy(profile->context, contexts, sizeof contexts);
    for (uint32_t i = 1; i <= shares; i++) {
        profile->share[profile->share_count++] = device->units * i / shares;
    }
    for (uint32_t tokens = 16; tokens <= TOKENS_MAX; tokens *= 2) {
        profile->token[profile->token_count++] = tokens;
    }
    for (uint32_t i = 0; i < graph->count; i++) {
        fill_operation(profile, device, &graph->operation[i], shape);
    }
    for (uint32_t i = 0; i < PROFILE_CLASSES * PROFILE_CLASSES; i++) {
        for (uint32_t s = 0; s < profile->share_count; s++) {
            profile->keep[i / PROFILE_CLASSES][i % PROFILE_CLASSES][s] = device->keep;
        }
    }
}

struct bench {
    struct profile profile;
    struct graph graph;
    struct choose_result result;
    struct planfile file;
    struct planfile again;
    uint32_t plans;
    uint32_t cut; /* Of these, not sequential. */
};

static void expect_good(struct bench *bench, const struct regime *regime, uint32_t index)
{
    char error[PLANFILE_ERROR_BYTES_MAX] = "";
    bench->file = (struct planfile){.key = bench->profile.key, .regime = *regime};
    bench->file.plan = bench->result.plan[index];
    struct json *root = planfile_json(&bench->file);
    assert_int_equal(planfile_parse(&bench->again, root, error), 0);
    json_free(root);
    assert_int_equal(bench->again.plan.hash, bench->result.plan[index].hash);
    if (planfile_check(&bench->again, &bench->profile.key, &bench->graph, error)) {
        fail_msg("regime %u:%u:%u, plan %u: %s", regime->tokens, regime->decode, regime->context,
                 index, error);
    }
    bench->plans++;
    bench->cut += index != bench->result.sequential;
}

static void plan_regime(struct bench *bench, const struct regime *regime)
{
    assert_int_equal(choose_plans(&bench->result, &bench->profile, regime, &effort), 0);
    for (uint32_t i = 0; i < bench->result.count; i++) {
        expect_good(bench, regime, i);
    }
}

/* Those that sluice-tune plan asks for. */
static void plan_all(struct bench *bench)
{
    uint32_t tokens = TOKENS_MAX;
    for (uint32_t b = 0; b < BUCKETS; b++, tokens /= 2) {
        for (uint32_t d = 0; d <= QUARTERS; d++) {
            for (uint32_t c = 0; c < bench->profile.context_count; c++) {
                const uint32_t context = bench->profile.context[c];
                plan_regime(bench, &(struct regime){tokens, tokens * d / QUARTERS, context});
            }
        }
    }
}

static void every_plan_passes_the_verifier(void **state)
{
    (void)state;
    struct bench *bench = calloc(1, sizeof *bench);
    assert_non_null(bench);
    for (uint32_t m = 0; m < sizeof models / sizeof models[0]; m++) {
        struct graph_shape shape = models[m];
        shape.ranks = 1;
        shape.weight_bytes = shape.act_bytes = shape.kv_bytes = 2;
        graph_build(&bench->graph, shape.experts > 0, 1, GRAPH_INSIDE);
        bench->plans = bench->cut = 0;
        for (uint32_t d = 0; d < sizeof devices / sizeof devices[0]; d++) {
            fill_profile(&bench->profile, &devices[d], &bench->graph, &shape);
            plan_all(bench);
        }
        print_message("hidden %u: %u plans, %u of them not sequential\n", shape.hidden,
                      bench->plans, bench->cut);
        assert_true(bench->cut > 90); /* Else this says nothing. */
    }
    free(bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_plan_passes_the_verifier)};
    return cmocka_run_group_tests_name("models", tests, NULL, NULL);
}
