/*
 * measure_kernels.c - what decides a plan on a GPU: products and attention over the SMs that they
 * are given. Called by gauge.c on its one thread; owns nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/gpu/shapes.h"

enum { PROMPT_MIN = 1024, PROMPT_MAX = 8192 };

/* Each shape on the whole device and on both lanes of each pair, over a batch and over the half of
 * one, before and after its algorithms were timed. check.sh runs it twice: without the hint of how
 * many SMs a lane has (SLUICE_CUDA_SM_TARGET=off) the difference shows what the hint is worth. */
void measure_products(struct gauge *gauge)
{
    const char *target = getenv("SLUICE_CUDA_SM_TARGET");
    const bool hinted = !target || strcmp(target, "off") != 0;
    for (uint32_t i = 0; i < SHAPES_PRODUCTS * GAUGE_LANES; i++) {
        const uint32_t lane = i % GAUGE_LANES;
        for (uint32_t rows = SHAPES_ROWS / 2; rows <= SHAPES_ROWS; rows *= 2) {
            const struct accel_product product = shapes_product(gauge, 0, i / GAUGE_LANES, rows);
            const double first_us = gauge_time_us(gauge, lane, shapes_put_product, &product);
            shapes_tune(gauge, lane, &product);
            const double us = gauge_time_us(gauge, lane, shapes_put_product, &product);
            (void)printf("{\"row\": \"product\", \"op\": \"%s\", \"rows\": %u, \"units\": %u, "
                         "\"sm_target\": %s, \"us\": %.1f, \"tflops\": %.1f, "
                         "\"untimed_us\": %.1f}\n",
                         shapes_product_name(i / GAUGE_LANES), rows,
                         accel_lane_units(gauge->accel, lane), hinted ? "true" : "false", us,
                         shapes_product_flops(&product) / us / 1e6, first_us);
        }
    }
}

static int put_layers(struct gauge *gauge, uint32_t lane, const void *what)
{
    int error = 0;
    (void)what;
    for (uint32_t i = 0; i < SHAPES_LAYERS * SHAPES_PRODUCTS && !error; i++) {
        const struct accel_product product =
            shapes_product(gauge, i / SHAPES_PRODUCTS, i % SHAPES_PRODUCTS, SHAPES_ROWS);
        error = accel_multiply(gauge->accel, lane, &product);
    }
    return error;
}

static int put_graph(struct gauge *gauge, uint32_t lane, const void *what)
{
    struct accel_graph *const *graph = what;
    return accel_replay(gauge->accel, *graph, lane);
}

/* The products of four layers as a step has them, in a graph and each with weights that no cache
 * holds, against the sum of their own best times, which repeat one product. */
void measure_layers(struct gauge *gauge)
{
    struct accel_graph *graph = NULL;
    double best_us = 0;
    double flops = 0;
    for (uint32_t i = 0; i < SHAPES_PRODUCTS; i++) {
        const struct accel_product product = shapes_product(gauge, 0, i, SHAPES_ROWS);
        shapes_tune(gauge, 0, &product);
        best_us += gauge_time_us(gauge, 0, shapes_put_product, &product);
        flops += shapes_product_flops(&product);
    }
    gauge_check(put_layers(gauge, 0, NULL), "what is captured"); /* No algorithm is new to it. */
    gauge_finish(gauge, 0);
    gauge_check(accel_capture(gauge->accel, 0), "a graph");
    gauge_check(put_layers(gauge, 0, NULL), "a graph");
    gauge_check(accel_captured(gauge->accel, 0, &graph), "a graph");
    const double us = gauge_time_us(gauge, 0, put_graph, &graph) / SHAPES_LAYERS;
    (void)printf("{\"row\": \"products-of-a-layer\", \"rows\": %d, \"us\": %.1f, "
                 "\"tflops\": %.1f, \"own_best_us\": %.1f, \"of_own_best\": %.3f}\n",
                 (int)SHAPES_ROWS, us, flops / us / 1e6, best_us, best_us / us);
}

/* One row a type of pages: those of act, and of e4m3, of half the bytes. */
static void measure_decode(struct gauge *gauge, uint32_t lane, const float *scale, double copy)
{
    const uint32_t units = accel_lane_units(gauge->accel, lane);
    struct shapes_attention decode = shapes_attend(gauge, units, SHAPES_SEQUENCES, 1);
    for (int e4m3 = 0; e4m3 < 2; e4m3++) {
        decode.args.kv_scale = e4m3 ? scale : NULL;
        const double us = gauge_time_us(gauge, lane, shapes_put_attention, &decode);
        const double rate = shapes_decode_bytes() / (1 + e4m3) / us;
        (void)printf("{\"row\": \"decode-attention\", \"kv\": \"%s\", \"sequences\": %d, "
                     "\"context\": %d, \"units\": %u, \"us\": %.1f, \"gb_per_s\": %.1f, "
                     "\"gb_per_s_unit\": %.2f, \"of_copy\": %.3f}\n",
                     e4m3 ? "e4m3" : "bf16", (int)SHAPES_SEQUENCES, (int)SHAPES_CONTEXT, units, us,
                     rate / 1e3, rate / 1e3 / units, rate / copy);
    }
}

static void measure_prefill(struct gauge *gauge, uint32_t tokens, const float *scale)
{
    struct shapes_attention prefill = shapes_attend(gauge, gauge->info.units, 1, tokens);
    for (int e4m3 = 0; e4m3 < 2; e4m3++) {
        prefill.args.kv_scale = e4m3 ? scale : NULL;
        const double us = gauge_time_us(gauge, 0, shapes_put_attention, &prefill);
        (void)printf("{\"row\": \"prefill-attention\", \"kv\": \"%s\", \"tokens\": %u, "
                     "\"us\": %.1f, \"tflops\": %.1f}\n",
                     e4m3 ? "e4m3" : "bf16", tokens, us, shapes_prefill_flops(tokens) / us / 1e6);
    }
}

/* Decode attention in GB/s, for each SM and as a share of what a copy of the same run moves, since
 * both are bound by memory; prefill attention in TFLOP/s. */
void measure_attention(struct gauge *gauge)
{
    const double copy = gauge_copy_bytes_per_us(gauge);
    const float *scale = shapes_kv_scale(gauge);
    for (uint32_t i = 0; i <= GAUGE_LEVELS; i++) {
        measure_decode(gauge, i == 0 ? 0 : gauge_small(i - 1), scale, copy);
    }
    for (uint32_t tokens = PROMPT_MIN; tokens <= PROMPT_MAX; tokens *= 2) {
        measure_prefill(gauge, tokens, scale);
    }
}
