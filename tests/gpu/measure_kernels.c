/*
 * measure_kernels.c - what decides a plan on a GPU, in the shapes of Llama-3-8B in bf16: products
 * and attention over the SMs that they are given, and how they slow each other down. Called by
 * gauge.c on its one thread; owns the attention's lists.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kernels/cuda/attend_work.h"
#include "tests/gpu/gauge.h"

enum {
    HIDDEN = 4096,
    FFN = 14336,
    HEADS = 32,
    KV_HEADS = 8,
    DIM = 128,
    QKV = (HEADS + 2 * KV_HEADS) * DIM,
    PAGE_TOKENS = 16,
    ROWS = 2048,
    SEQUENCES = 64, /* Decoding, */
    CONTEXT = 2048, /* each with so many positions behind it. */
    PROMPT = 8192,
    CTAS_PER_UNIT = 2,
    SLOTS_PER_UNIT = 4,
};

static const struct {
    const char *name;
    uint32_t n;
    uint32_t k;
    bool accumulate;
} products[] = {{"kqv", QKV, HIDDEN, false},
                {"output", HIDDEN, HEADS *DIM, true},
                {"up-gate", 2 * FFN, HIDDEN, false},
                {"down", HIDDEN, FFN, true}};

enum { PRODUCTS = sizeof products / sizeof *products };

static struct accel_product product_of(struct gauge *gauge, size_t index, void *y)
{
    return (struct accel_product){
        .x = gauge->noise,
        .w = gauge->noise + (size_t)ROWS * FFN * 2,
        .y = y,
        .rows = ROWS,
        .n = products[index].n,
        .k = products[index].k,
        .dtype = KERN_BF16,
        .float_y = products[index].accumulate,
        .accumulate = products[index].accumulate,
    };
}

static int put_product(struct gauge *gauge, uint32_t lane, const void *what)
{
    return accel_multiply(gauge->accel, lane, what);
}

/* Each shape on the whole device and on both lanes of each pair, before and after its algorithms
 * were timed. */
void measure_products(struct gauge *gauge)
{
    void *y = gauge_memory(gauge, ACCEL_DEVICE, (size_t)ROWS * 2 * FFN * sizeof(float));
    for (size_t i = 0; i < PRODUCTS; i++) {
        const struct accel_product product = product_of(gauge, i, y);
        const double flops = 2.0 * ROWS * product.n * product.k;
        for (uint32_t lane = 0; lane < GAUGE_LANES; lane++) {
            const double first_us = gauge_time_us(gauge, lane, put_product, &product);
            accel_tune(gauge->accel);
            gauge_check(accel_multiply(gauge->accel, lane, &product), "tuning");
            (void)accel_tuned(gauge->accel);
            const double us = gauge_time_us(gauge, lane, put_product, &product);
            (void)printf("{\"row\": \"product\", \"op\": \"%s\", \"rows\": %d, \"units\": %u, "
                         "\"us\": %.1f, \"tflops\": %.1f, \"untimed_us\": %.1f}\n",
                         products[i].name, (int)ROWS, accel_lane_units(gauge->accel, lane), us,
                         flops / us / 1e6, first_us);
        }
    }
}

/* Attention's lists on the device, for lanes of so many units. */
struct attention {
    struct cuda_attend_args args;
    bool prompts;
};

static int launch_decode(const void *args, struct CUstream_st *stream)
{
    return cuda_attend_decode(args, stream);
}

static int launch_prefill(const void *args, struct CUstream_st *stream)
{
    return cuda_attend_prefill(args, stream);
}

static int put_attention(struct gauge *gauge, uint32_t lane, const void *what)
{
    const struct attention *attention = what;
    return accel_launch(gauge->accel, lane, attention->prompts ? launch_prefill : launch_decode,
                        &attention->args, sizeof attention->args);
}

/* A block of pinned memory and its copy on the device. */
struct mirror {
    void *host;
    void *device;
    size_t bytes;
};

static struct mirror mirror_of(struct gauge *gauge, size_t bytes)
{
    return (struct mirror){gauge_memory(gauge, ACCEL_HOST, bytes),
                           gauge_memory(gauge, ACCEL_DEVICE, bytes), bytes};
}

static struct attention attention_of(struct gauge *gauge, uint32_t units, uint32_t sequences,
                                     uint32_t tokens)
{
    const bool prompts = tokens > 1;
    const uint32_t context = prompts ? tokens : CONTEXT;
    const uint32_t pages = context / PAGE_TOKENS;
    const uint32_t slots = units * SLOTS_PER_UNIT;
    const struct attend_shape shape = {.heads = HEADS,
                                       .kv_heads = KV_HEADS,
                                       .head_dim = DIM,
                                       .ctas = units * CTAS_PER_UNIT,
                                       .dtype = KERN_BF16,
                                       .prompts = prompts};
    const size_t blocks = attend_blocks_max(&shape, sequences * tokens, sequences);
    const struct mirror lists[] = {
        mirror_of(gauge, sequences * sizeof(struct attend_sequence)),
        mirror_of(gauge, (size_t)sequences * pages * sizeof(uint32_t)),
        mirror_of(gauge, sizeof(struct attend_counts)),
        mirror_of(gauge, (sequences + slots) * sizeof(struct attend_item)),
        mirror_of(gauge, slots * sizeof(struct attend_merge)),
        mirror_of(gauge, blocks * sizeof(struct attend_block)),
    };
    struct attend_sequence *sequence = lists[0].host;
    struct attend_work work = {.items = lists[3].host,
                               .merges = lists[4].host,
                               .blocks = lists[5].host,
                               .items_max = sequences + slots,
                               .merges_max = slots,
                               .blocks_max = (uint32_t)blocks,
                               .slots_max = slots};
    for (uint32_t i = 0; i < sequences; i++) {
        sequence[i] = (struct attend_sequence){.row_first = i * tokens,
                                               .row_count = tokens,
                                               .position = context - tokens,
                                               .table = i * pages};
        for (uint32_t page = 0; page < pages; page++) { /* Neighbours in no order. */
            ((uint32_t *)lists[1].host)[i * pages + page] = page * sequences + i;
        }
    }
    gauge_check(attend_work_build(&work, &shape, sequence, sequences), "work lists");
    memcpy(lists[2].host, &work.counts, sizeof work.counts);
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        gauge_send(gauge, lists[i].device, lists[i].host, lists[i].bytes);
    }
    const size_t rows_bytes = (size_t)sequences * tokens * HEADS * DIM * 2;
    return (struct attention){
        .args = {.q = gauge->noise,
                 .pool = gauge->noise + rows_bytes,
                 .out = gauge_memory(gauge, ACCEL_DEVICE, rows_bytes),
                 .sequences = lists[0].device,
                 .tables = lists[1].device,
                 .counts = lists[2].device,
                 .items = lists[3].device,
                 .merges = lists[4].device,
                 .blocks = lists[5].device,
                 .slots = gauge_memory(gauge, ACCEL_DEVICE,
                                       attend_slot_floats(&shape, slots) * sizeof(float)),
                 .heads = HEADS,
                 .kv_heads = KV_HEADS,
                 .head_dim = DIM,
                 .page_tokens = PAGE_TOKENS,
                 .scale = 1 / sqrtf((float)DIM),
                 .dtype = KERN_BF16,
                 .ctas = units < gauge->info.units ? units * CTAS_PER_UNIT : 0},
        .prompts = prompts,
    };
}

void measure_attention(struct gauge *gauge)
{
    const double kv_bytes = 2.0 * SEQUENCES * CONTEXT * KV_HEADS * DIM * 2;
    for (uint32_t i = 0; i <= GAUGE_LEVELS; i++) {
        const uint32_t lane = i == 0 ? 0 : gauge_small(i - 1);
        const uint32_t units = accel_lane_units(gauge->accel, lane);
        const struct attention decode = attention_of(gauge, units, SEQUENCES, 1);
        const double us = gauge_time_us(gauge, lane, put_attention, &decode);
        (void)printf("{\"row\": \"decode-attention\", \"sequences\": %d, \"context\": %d, "
                     "\"units\": %u, \"us\": %.1f, \"gb_per_s\": %.1f, \"gb_per_s_unit\": %.2f}\n",
                     (int)SEQUENCES, (int)CONTEXT, units, us, kv_bytes / us / 1e3,
                     kv_bytes / us / 1e3 / units);
    }
    for (uint32_t tokens = 1024; tokens <= PROMPT; tokens *= 2) {
        const struct attention prefill = attention_of(gauge, gauge->info.units, 1, tokens);
        const double us = gauge_time_us(gauge, 0, put_attention, &prefill);
        const double flops = 2.0 * HEADS * DIM * tokens * tokens; /* Half of the square. */
        (void)printf("{\"row\": \"prefill-attention\", \"tokens\": %u, \"us\": %.1f, "
                     "\"tflops\": %.1f}\n",
                     tokens, us, flops / us / 1e6);
    }
}

/* Decode attention on the small lane beside each product on the large one. */
void measure_pairs(struct gauge *gauge)
{
    void *y = gauge_memory(gauge, ACCEL_DEVICE, (size_t)ROWS * 2 * FFN * sizeof(float));
    for (uint32_t level = 0; level < GAUGE_LEVELS; level++) {
        const uint32_t small = gauge_small(level);
        const uint32_t units = accel_lane_units(gauge->accel, small);
        const struct attention decode = attention_of(gauge, units, SEQUENCES, 1);
        for (size_t i = 0; i < PRODUCTS; i++) {
            const struct accel_product product = product_of(gauge, i, y);
            struct gauge_pair pair = {.lane = {small, gauge_large(level)},
                                      .put = {put_attention, put_product},
                                      .what = {&decode, &product}};
            accel_tune(gauge->accel);
            gauge_check(accel_multiply(gauge->accel, pair.lane[1], &product), "tuning");
            (void)accel_tuned(gauge->accel);
            for (int side = 0; side < 2; side++) {
                pair.alone_us[side] =
                    gauge_time_us(gauge, pair.lane[side], pair.put[side], pair.what[side]);
            }
            gauge_time_pair(gauge, &pair);
            (void)printf("{\"row\": \"pair\", \"units\": %u, \"op\": \"%s\", "
                         "\"decode_alone_us\": %.1f, \"decode_us\": %.1f, "
                         "\"product_alone_us\": %.1f, \"product_us\": %.1f}\n",
                         units, products[i].name, pair.alone_us[0], pair.beside_us[0],
                         pair.alone_us[1], pair.beside_us[1]);
        }
    }
}
