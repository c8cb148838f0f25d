/*
 * measure_pairs.c - decode attention and products beside each other: how they slow each other down,
 * whether products keep to their lane, and what the device sustains for seconds, when power and
 * clocks have settled. Called by gauge.c on its one thread; owns nothing.
 */
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/gpu/occupy_cuda.h"
#include "tests/gpu/shapes.h"

enum {
    LEVEL = 4,             /* Of what is not measured on all: 48 units beside the others. */
    OCCUPY_NS = 40000000,  /* Beside a product: several times as long. */
    OCCUPY_WAIT_US = 1000, /* Until its CTAs are everywhere. */
    CTAS_PER_UNIT = 2,     /* Of the occupant: no other CTA fits beside them. */
    LOAD_US = 3000000,
    LOAD_LAYERS = 8,     /* Put at a time: some 10 ms. */
    LOAD_ATTENTIONS = 4, /* A layer: T_kv / T_gemm is then about 1/2, as of 1024 in and 512 out. */
};

/* Decode attention on the small lane beside each product on the large one. */
void measure_pairs(struct gauge *gauge)
{
    for (uint32_t level = 0; level < GAUGE_LEVELS; level++) {
        const uint32_t small = gauge_small(level);
        const uint32_t units = accel_lane_units(gauge->accel, small);
        const struct shapes_attention decode = shapes_attend(gauge, units, SHAPES_SEQUENCES, 1);
        for (uint32_t i = 0; i < SHAPES_PRODUCTS; i++) {
            const struct accel_product product = shapes_product(gauge, 0, i, SHAPES_ROWS);
            struct gauge_pair pair = {.lane = {small, gauge_large(level)},
                                      .put = {shapes_put_attention, shapes_put_product},
                                      .what = {&decode, &product}};
            shapes_tune(gauge, pair.lane[1], &product);
            for (int side = 0; side < 2; side++) {
                pair.alone_us[side] =
                    gauge_time_us(gauge, pair.lane[side], pair.put[side], pair.what[side]);
            }
            gauge_time_pair(gauge, &pair);
            (void)printf("{\"row\": \"pair\", \"units\": %u, \"op\": \"%s\", "
                         "\"decode_alone_us\": %.1f, \"decode_us\": %.1f, "
                         "\"product_alone_us\": %.1f, \"product_us\": %.1f}\n",
                         units, shapes_product_name(i), pair.alone_us[0], pair.beside_us[0],
                         pair.alone_us[1], pair.beside_us[1]);
        }
    }
}

/* The product's time while all SMs of the other lane are taken. */
static double time_beside_occupant(struct gauge *gauge, uint32_t lane, uint32_t other,
                                   const struct accel_product *product, bool *covered)
{
    const struct cuda_occupy_args args = {
        .ns = OCCUPY_NS, .ctas = CTAS_PER_UNIT * accel_lane_units(gauge->accel, other)};
    float us = 0;
    float left_us = 0;
    gauge_check(accel_launch(gauge->accel, other, cuda_occupy, &args, sizeof args), "an occupant");
    gauge_check(accel_record(gauge->accel, 2, other), "an event");
    (void)usleep(OCCUPY_WAIT_US);
    gauge_check(accel_record(gauge->accel, 0, lane), "an event");
    gauge_check(accel_multiply(gauge->accel, lane, product), "a product");
    gauge_check(accel_record(gauge->accel, 1, lane), "an event");
    gauge_check(accel_fence(gauge->accel, 1, GAUGE_DEADLINE_US), "the device");
    gauge_check(accel_fence(gauge->accel, 2, GAUGE_DEADLINE_US), "the device");
    gauge_check(accel_elapsed_us(gauge->accel, 0, 1, &us), "a time");
    gauge_check(accel_elapsed_us(gauge->accel, 1, 2, &left_us), "a time");
    *covered = left_us > 0;
    return (double)us;
}

/*
 * A product on one lane of a cut, alone and while the other lane's SMs are all taken. Were its CTAs
 * on SMs of the other lane too, it would be slower then, or wait for the occupant's end: equal
 * times say that it keeps to its own. What it runs on cannot be asked: the kernels are cuBLASLt's.
 */
void measure_confined(struct gauge *gauge)
{
    const uint32_t lanes[] = {gauge_small(LEVEL), gauge_large(LEVEL)};
    for (uint32_t side = 0; side < 2; side++) {
        for (uint32_t i = 0; i < SHAPES_PRODUCTS; i++) {
            const struct accel_product product = shapes_product(gauge, 0, i, SHAPES_ROWS);
            bool covered = false;
            shapes_tune(gauge, lanes[side], &product);
            const double us = gauge_time_us(gauge, lanes[side], shapes_put_product, &product);
            const double beside_us =
                time_beside_occupant(gauge, lanes[side], lanes[1 - side], &product, &covered);
            (void)printf("{\"row\": \"confined\", \"op\": \"%s\", \"units\": %u, \"us\": %.1f, "
                         "\"others_taken_us\": %.1f, \"covered\": %s}\n",
                         shapes_product_name(i), accel_lane_units(gauge->accel, lanes[side]), us,
                         beside_us, covered ? "true" : "false");
        }
    }
}

/* Some layers' products on one lane, and attention on another or the same. */
static void put_load(struct gauge *gauge, const uint32_t lane[2],
                     const struct shapes_attention *decode, uint32_t round)
{
    for (uint32_t layer = 0; layer < LOAD_LAYERS; layer++) {
        for (uint32_t i = 0; i < LOAD_ATTENTIONS && decode; i++) {
            gauge_check(shapes_put_attention(gauge, lane[0], decode), "attention");
        }
        for (uint32_t i = 0; i < SHAPES_PRODUCTS; i++) {
            const struct accel_product product =
                shapes_product(gauge, layer % SHAPES_LAYERS, i, SHAPES_ROWS);
            gauge_check(accel_multiply(gauge->accel, lane[1], &product), "a product");
        }
    }
    for (uint32_t i = 0; i < 2; i++) {
        gauge_check(accel_record(gauge->accel, 2 * i + round % 2, lane[i]), "an event");
    }
}

static void wait_load(struct gauge *gauge, uint32_t round)
{
    for (uint32_t i = 0; i < 2; i++) {
        gauge_check(accel_fence(gauge->accel, 2 * i + round % 2, GAUGE_DEADLINE_US), "the device");
    }
}

/* Seconds of it, two rounds on the device at any time: check.sh reads clocks and power meanwhile.
 * Rates are over the host's time, that of the slower lane. */
static void measure_load(struct gauge *gauge, const char *kind, const uint32_t lane[2],
                         const struct shapes_attention *decode)
{
    double flops = 0;
    for (uint32_t i = 0; i < SHAPES_PRODUCTS; i++) {
        const struct accel_product product = shapes_product(gauge, 0, i, SHAPES_ROWS);
        shapes_tune(gauge, lane[1], &product);
        flops += LOAD_LAYERS * shapes_product_flops(&product);
    }
    put_load(gauge, lane, decode, 0);
    wait_load(gauge, 0);
    const uint64_t start_us = clock_now_us();
    uint32_t rounds = 0;
    put_load(gauge, lane, decode, rounds);
    while (clock_now_us() - start_us < LOAD_US) {
        put_load(gauge, lane, decode, ++rounds);
        wait_load(gauge, rounds - 1);
    }
    wait_load(gauge, rounds++);
    const double us = (double)(clock_now_us() - start_us);
    const double bytes = decode ? LOAD_LAYERS * LOAD_ATTENTIONS * shapes_decode_bytes() : 0;
    (void)printf("{\"row\": \"load\", \"kind\": \"%s\", \"units\": [%u, %u], \"s\": %.2f, "
                 "\"tflops\": %.1f, \"gb_per_s\": %.1f}\n",
                 kind, accel_lane_units(gauge->accel, lane[0]),
                 accel_lane_units(gauge->accel, lane[1]), us / 1e6, rounds * flops / us / 1e6,
                 rounds * bytes / us / 1e3);
}

void measure_load_products(struct gauge *gauge)
{
    measure_load(gauge, "products", (const uint32_t[]){0, 0}, NULL);
}

void measure_load_turns(struct gauge *gauge)
{
    const struct shapes_attention decode =
        shapes_attend(gauge, gauge->info.units, SHAPES_SEQUENCES, 1);
    measure_load(gauge, "turns", (const uint32_t[]){0, 0}, &decode);
}

void measure_load_overlap(struct gauge *gauge)
{
    const uint32_t lanes[] = {gauge_small(LEVEL), gauge_large(LEVEL)};
    const struct shapes_attention decode =
        shapes_attend(gauge, accel_lane_units(gauge->accel, lanes[0]), SHAPES_SEQUENCES, 1);
    measure_load(gauge, "overlap", lanes, &decode);
}
