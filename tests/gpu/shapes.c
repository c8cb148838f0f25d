/*
 * shapes.c - see shapes.h. Called by the measurements on gpu_measure's one thread; what it hands
 * out lies in the gauge's memory until that is closed.
 */
#include "tests/gpu/shapes.h"

#include <math.h>
#include <string.h>

#include "kernels/cuda/attend_work.h"

enum {
    HIDDEN = 4096,
    FFN = 14336,
    HEADS = 32,
    KV_HEADS = 8,
    DIM = 128,
    QKV = (HEADS + 2 * KV_HEADS) * DIM,
    PAGE_TOKENS = 16,
    CTAS_PER_UNIT = 2,
    SLOTS_PER_UNIT = 4,
    ACT_BYTES = 2,
};

static const struct {
    const char *name;
    uint32_t n;
    uint32_t k;
    bool accumulate;
} products[SHAPES_PRODUCTS] = {{"kqv", QKV, HIDDEN, false},
                               {"output", HIDDEN, HEADS *DIM, true},
                               {"up-gate", 2 * FFN, HIDDEN, false},
                               {"down", HIDDEN, FFN, true}};

const char *shapes_product_name(uint32_t index)
{
    return products[index].name;
}

/* The noise holds x of the widest product, then the weights of each layer. */
struct accel_product shapes_product(struct gauge *gauge, uint32_t layer, uint32_t index,
                                    uint32_t rows)
{
    size_t at = (size_t)SHAPES_ROWS * FFN * ACT_BYTES;
    for (uint32_t before = 0; before < layer * SHAPES_PRODUCTS + index; before++) {
        const uint32_t i = before % SHAPES_PRODUCTS;
        at += (size_t)products[i].n * products[i].k * ACT_BYTES;
    }
    must(layer < SHAPES_LAYERS && index < SHAPES_PRODUCTS && rows <= SHAPES_ROWS &&
         at + (size_t)products[index].n * products[index].k * ACT_BYTES <= gauge->noise_bytes);
    if (!gauge->y) {
        gauge->y = gauge_memory(gauge, ACCEL_DEVICE, (size_t)SHAPES_ROWS * 2 * FFN * sizeof(float));
    }
    return (struct accel_product){
        .x = gauge->noise,
        .w = gauge->noise + at,
        .y = gauge->y,
        .rows = rows,
        .n = products[index].n,
        .k = products[index].k,
        .dtype = KERN_BF16,
        .float_y = products[index].accumulate,
        .accumulate = products[index].accumulate,
    };
}

double shapes_product_flops(const struct accel_product *product)
{
    return 2.0 * product->rows * product->n * product->k;
}

int shapes_put_product(struct gauge *gauge, uint32_t lane, const void *what)
{
    return accel_multiply(gauge->accel, lane, what);
}

void shapes_tune(struct gauge *gauge, uint32_t lane, const struct accel_product *product)
{
    accel_tune(gauge->accel);
    gauge_check(accel_multiply(gauge->accel, lane, product), "tuning");
    (void)accel_tuned(gauge->accel);
}

double shapes_decode_bytes(void)
{
    return 2.0 * SHAPES_SEQUENCES * SHAPES_CONTEXT * KV_HEADS * DIM * ACT_BYTES;
}

double shapes_prefill_flops(uint32_t tokens)
{
    return 2.0 * HEADS * DIM * tokens * tokens;
}

const float *shapes_kv_scale(struct gauge *gauge)
{
    const size_t bytes = (size_t)2 * KV_HEADS * sizeof(float);
    float *ones = gauge_memory(gauge, ACCEL_HOST, bytes);
    float *scale = gauge_memory(gauge, ACCEL_DEVICE, bytes);
    for (uint32_t i = 0; i < 2 * KV_HEADS; i++) {
        ones[i] = 1;
    }
    gauge_send(gauge, scale, ones, bytes);
    return scale;
}

static int launch_decode(const void *args, struct CUstream_st *stream)
{
    return cuda_attend_decode(args, stream);
}

static int launch_prefill(const void *args, struct CUstream_st *stream)
{
    return cuda_attend_prefill(args, stream);
}

int shapes_put_attention(struct gauge *gauge, uint32_t lane, const void *what)
{
    const struct shapes_attention *attention = what;
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

struct shapes_attention shapes_attend(struct gauge *gauge, uint32_t units, uint32_t sequences,
                                      uint32_t tokens)
{
    const bool prompts = tokens > 1;
    const uint32_t context = prompts ? tokens : SHAPES_CONTEXT;
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
    return (struct shapes_attention){
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
