/*
 * check_cuda_pages.c - checks of the CUDA kernels that write KV pages: rope with append, against
 * ref through both layouts, and the moves of whole pages. Runs in the process of check_cuda.c.
 * Invariant: what a kernel was not told to write stays as it was.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/must.h"
#include "kernels/bf16.h"
#include "kernels/cuda/kv_pages_cuda.h"
#include "kernels/cuda/rope_cuda.h"
#include "kernels/kv_layout.h"
#include "kernels/ref/ref.h"
#include "tests/kern/check_cuda.h"

enum { ROUNDS = 16, ROWS_SPARE = 2, POOL_PAGES = 5, POSITIONS = 90, POISON = 0xff };

/* One round's arguments for both sides; the pool of ref has ref's layout. */
struct rope_case {
    struct cuda_rope_args cuda;
    struct kern_rope_append_args ref;
    size_t pool_values; /* Of the CUDA pool. */
    size_t q_values;
    uint32_t rows;
};

static void draw_shape(struct check_random *random, struct cuda_rope_args *args)
{
    static const uint32_t dims[] = {2, 20, 33, 64, 96, 128, 256};
    args->kv_heads = check_between(random, 1, 3);
    args->heads = args->kv_heads * check_between(random, 1, 4);
    args->head_dim = dims[check_between(random, 0, 6)];
    args->rope_dim = args->head_dim / 2 * 2;
    if (check_between(random, 0, 3) == 0) { /* Part of the head only. */
        args->rope_dim = check_between(random, 0, args->head_dim / 2) * 2;
    }
    args->page_tokens = 16u << check_between(random, 0, 2);
    args->norm_eps = 1e-5f;
}

/* Rows of a batch go to tokens of the pool that no other row has. */
static void draw_places(struct check_random *random, struct rope_case *c)
{
    const uint32_t room = c->rows + ROWS_SPARE;
    const uint32_t tokens = c->cuda.page_tokens;
    uint32_t *page = check_alloc(room * sizeof *page);
    uint32_t *position = check_alloc(room * sizeof *position);
    const uint32_t first = check_between(random, 0, tokens - 1);
    for (uint32_t r = 0; r < c->rows; r++) { /* Consecutive tokens of one long sequence. */
        position[r] = (first + r) % POSITIONS;
        page[r] = (position[r] / tokens * 2 + 1) % POOL_PAGES;
    }
    c->cuda.page = page;
    c->cuda.position = position;
}

static float *draw_some(struct check_random *random, bool given, size_t count)
{
    return given ? check_floats(random, CHECK_FILL_UNIT, count) : NULL;
}

static void draw_case(struct check_cuda *check, struct rope_case *c)
{
    struct check_random *random = &check->random;
    struct cuda_rope_args *args = &c->cuda;
    *c = (struct rope_case){.rows = check_between(random, 0, 6)};
    draw_shape(random, args);
    draw_places(random, c);
    const uint32_t room = c->rows + ROWS_SPARE;
    const size_t columns = ((size_t)args->heads + 2 * (size_t)args->kv_heads) * args->head_dim;
    const bool normed = check_between(random, 0, 1);
    const size_t bytes = kern_dtype_bytes(check->dtype);
    c->pool_values = (size_t)POOL_PAGES * 2 * args->kv_heads * args->page_tokens * args->head_dim;
    c->q_values = (size_t)room * args->heads * args->head_dim;
    args->qkv = check_acts(random, CHECK_FILL_UNIT, room * columns, check->dtype);
    args->bias = draw_some(random, check_between(random, 0, 1), columns);
    args->q_norm = draw_some(random, normed, args->head_dim);
    args->k_norm = draw_some(random, normed, args->head_dim);
    args->cosine = check_floats(random, CHECK_FILL_UNIT, (size_t)POSITIONS * args->rope_dim / 2);
    args->sine = check_floats(random, CHECK_FILL_UNIT, (size_t)POSITIONS * args->rope_dim / 2);
    args->q = check_alloc(c->q_values * bytes);
    args->pool = check_alloc(c->pool_values * bytes);
    args->rows = &c->rows;
    args->rows_max = room;
    args->ctas = check->ctas;
    args->dtype = check->dtype;
}

/* The same for ref, on floats of the same values. */
static void mirror(struct rope_case *c)
{
    const struct cuda_rope_args *args = &c->cuda;
    const size_t columns = ((size_t)args->heads + 2 * (size_t)args->kv_heads) * args->head_dim;
    const size_t count = (size_t)c->rows * columns;
    const size_t pool_bytes = POOL_PAGES * kern_kv_page_bytes(args->dtype, args->page_tokens,
                                                              args->kv_heads, args->head_dim);
    float *qkv = check_alloc((count + 1) * sizeof *qkv);
    for (size_t i = 0; i < count; i++) {
        qkv[i] = act_load(args->qkv, i, args->dtype);
    }
    c->ref = (struct kern_rope_append_args){
        .qkv = qkv,
        .bias = args->bias,
        .q_norm = args->q_norm,
        .k_norm = args->k_norm,
        .q = check_alloc(c->q_values * kern_dtype_bytes(args->dtype)),
        .pool = check_alloc(pool_bytes),
        .page = args->page,
        .position = args->position,
        .rows = c->rows,
        .cosine = args->cosine,
        .sine = args->sine,
        .heads = args->heads,
        .kv_heads = args->kv_heads,
        .head_dim = args->head_dim,
        .rope_dim = args->rope_dim,
        .page_tokens = args->page_tokens,
        .norm_eps = args->norm_eps,
        .dtype = args->dtype,
    };
}

/* Puts K and V of the row's token, taken from ref's pool, where the CUDA layout has them. */
static void carry_over(const struct rope_case *c, uint32_t row, void *pool)
{
    const struct kern_rope_append_args *ref = &c->ref;
    const enum kern_dtype dtype = ref->dtype;
    const struct kv_layout layout =
        kv_layout_of(dtype, ref->page_tokens, ref->kv_heads, ref->head_dim);
    const size_t page_bytes =
        kern_kv_page_bytes(dtype, ref->page_tokens, ref->kv_heads, ref->head_dim);
    const uint8_t *page = (const uint8_t *)ref->pool + ref->page[row] * page_bytes;
    const uint32_t token = ref->position[row] % ref->page_tokens;
    for (uint32_t h = 0; h < ref->kv_heads; h++) {
        const size_t slot = (size_t)ref->page[row] * 2 * ref->kv_heads + h;
        const size_t k = (slot * ref->page_tokens + token) * ref->head_dim;
        const size_t v = k + (size_t)ref->kv_heads * ref->page_tokens * ref->head_dim;
        for (uint32_t d = 0; d < ref->head_dim; d++) {
            const size_t from_k = kv_layout_k(&layout, h, token, d);
            const size_t from_v = kv_layout_v(&layout, h, token, d);
            act_store(pool, k + d, act_load(page, from_k, dtype), dtype);
            act_store(pool, v + d, act_load(page, from_v, dtype), dtype);
        }
    }
}

static void free_case(struct rope_case *c)
{
    free((void *)c->ref.qkv);
    free(c->ref.q);
    free(c->ref.pool);
    free((void *)c->cuda.qkv);
    free((void *)c->cuda.bias);
    free((void *)c->cuda.q_norm);
    free((void *)c->cuda.k_norm);
    free((void *)c->cuda.page);
    free((void *)c->cuda.position);
    free((void *)c->cuda.cosine);
    free((void *)c->cuda.sine);
    free(c->cuda.q);
    free(c->cuda.pool);
}

static void rope_round(struct check_cuda *check)
{
    struct rope_case c;
    draw_case(check, &c);
    mirror(&c);
    const size_t bytes = c.pool_values * kern_dtype_bytes(check->dtype);
    void *want = check_alloc(bytes);
    ref_rope_append(&c.ref, 0, c.rows);
    for (uint32_t r = 0; r < c.rows; r++) {
        carry_over(&c, r, want);
    }
    assert_int_equal(cuda_rope(&c.cuda, check->stream), 0);
    check_close(c.cuda.q, c.ref.q, c.q_values, check->dtype, 2e-6f, 1);
    check_close(c.cuda.pool, want, c.pool_values, check->dtype, 2e-6f, 1);
    check_cuda_result(check, c.cuda.q, c.q_values * kern_dtype_bytes(check->dtype));
    check_cuda_result(check, c.cuda.pool, bytes);
    free(want);
    free_case(&c);
}

void check_cuda_rope(void **state)
{
    (void)state;
    check_cuda_schedules(rope_round, ROUNDS);
}

/* A number of e4m3 and no NaN: sign, 4 bits of exponent above -7, 3 of mantissa. */
static float e4m3_value(uint8_t bits)
{
    const int exponent = bits >> 3 & 15;
    const float size =
        ldexpf((float)(bits & 7) + (exponent ? 8.0f : 0.0f), (exponent ? exponent : 1) - 10);
    return bits & 0x80 ? -size : size;
}

/* Whether a cell is as near to a value as any other is; an act was rounded before. */
static bool is_nearest(uint8_t cell, float value, enum kern_dtype dtype)
{
    const float slack = dtype == KERN_BF16 ? fabsf(value) / 128 : 0;
    const float off = fabsf(e4m3_value(cell) - value);
    for (uint32_t bits = 0; bits < 256; bits++) {
        if (bits % 128 != 127 && fabsf(e4m3_value((uint8_t)bits) - value) + slack < off) {
            return false;
        }
    }
    return cell % 128 != 127;
}

/* Makes a number of a value NaN. Its cell in the pool, or SIZE_MAX. */
static size_t stain(struct check_cuda *check, const struct rope_case *c)
{
    struct check_random *random = &check->random;
    const struct cuda_rope_args *args = &c->cuda;
    const size_t heads = (size_t)args->heads + 2 * (size_t)args->kv_heads;
    if (c->rows == 0 || check_between(random, 0, 1)) {
        return SIZE_MAX;
    }
    const uint32_t row = check_between(random, 0, c->rows - 1);
    const uint32_t head = check_between(random, 0, args->kv_heads - 1);
    const uint32_t d = check_between(random, 0, args->head_dim - 1);
    const size_t slot = ((size_t)args->page[row] * 2 + 1) * args->kv_heads + head;
    act_store((void *)args->qkv, ((row + 1) * heads - args->kv_heads + head) * args->head_dim + d,
              NAN, check->dtype);
    return (slot * args->page_tokens + args->position[row] % args->page_tokens) * args->head_dim +
           d;
}

/* The cells of e4m3 pages are what pages of acts hold, rounded; the others stay. */
static void rope_bytes_round(struct check_cuda *check)
{
    static const float units[] = {1, 0.3f, 0.001f, 40}; /* Some past 448, some all small. */
    struct rope_case c;
    draw_case(check, &c);
    const size_t scales = (size_t)2 * c.cuda.kv_heads;
    const size_t head_values = (size_t)c.cuda.page_tokens * c.cuda.head_dim;
    must(scales > 0 && head_values > 0);
    float *scale = check_alloc(scales * sizeof *scale);
    uint8_t *cells = check_alloc(c.pool_values);
    struct cuda_rope_args args = c.cuda;
    for (size_t i = 0; i < scales; i++) {
        scale[i] = units[check_between(&check->random, 0, 3)];
    }
    args.kv_scale = scale;
    args.pool = cells;
    const size_t stained = stain(check, &c);
    assert_int_equal(cuda_rope(&c.cuda, check->stream), 0);
    assert_int_equal(cuda_rope(&args, check->stream), 0);
    for (size_t i = 0; i < c.pool_values; i++) {
        const float value = act_load(c.cuda.pool, i, check->dtype);
        if (i == stained || i + c.cuda.kv_heads * head_values == stained) {
            assert_int_equal(cells[i] % 128, 127); /* Of the value, and of its key. */
        } else if (isnan(value)) {
            assert_int_equal(cells[i], POISON);
        } else {
            assert_true(
                is_nearest(cells[i], value / scale[i / head_values % scales], check->dtype));
        }
    }
    check_cuda_result(check, cells, c.pool_values);
    free(scale);
    free(cells);
    free_case(&c);
}

void check_cuda_rope_bytes(void **state)
{
    (void)state;
    check_cuda_schedules(rope_bytes_round, ROUNDS);
}

/* Pages of a pool of some layers; each byte tells its place. */
struct pool {
    uint8_t *bytes;
    size_t size;
    size_t page_bytes;
    size_t layer_bytes;
    uint32_t layers;
};

static struct pool draw_pool(struct check_random *random)
{
    struct pool pool = {.page_bytes = 16 * (size_t)check_between(random, 1, 300),
                        .layers = check_between(random, 1, 4)};
    pool.layer_bytes = POOL_PAGES * pool.page_bytes + 16 * (size_t)check_between(random, 0, 2);
    pool.size = pool.layers * pool.layer_bytes;
    pool.bytes = check_alloc(pool.size);
    for (size_t i = 0; i < pool.size; i++) {
        pool.bytes[i] = (uint8_t)(i % 251);
    }
    return pool;
}

static uint8_t *page_at(const struct pool *pool, uint32_t layer, uint32_t page)
{
    return pool->bytes + layer * pool->layer_bytes + page * pool->page_bytes;
}

static void move_round(struct check_cuda *check)
{
    struct check_random *random = &check->random;
    const struct pool pool = draw_pool(random);
    const uint32_t pages[] = {check_between(random, 0, 1), 3, 2};
    const uint32_t count = check_between(random, 0, 3);
    const size_t piece = pool.page_bytes;
    uint8_t *staging = check_alloc((size_t)3 * pool.layers * piece);
    uint8_t *before = check_alloc(pool.size);
    const struct cuda_kv_pages_args args = {.pool = pool.bytes,
                                            .staging = staging,
                                            .pages = pages,
                                            .count = &count,
                                            .count_max = 3,
                                            .layers = pool.layers,
                                            .layer_bytes = pool.layer_bytes,
                                            .page_bytes = piece,
                                            .ctas = check->ctas};
    memcpy(before, pool.bytes, pool.size);
    assert_int_equal(cuda_kv_pages_gather(&args, check->stream), 0);
    for (uint32_t i = 0; i < 3 * pool.layers; i++) {
        const uint8_t *page = page_at(&pool, i % pool.layers, pages[i / pool.layers]);
        for (size_t b = 0; b < piece; b++) {
            assert_int_equal(staging[i * piece + b], i / pool.layers < count ? page[b] : POISON);
        }
    }
    for (uint32_t i = 0; i < count; i++) { /* Spoilt pages come back from staging. */
        for (uint32_t layer = 0; layer < pool.layers; layer++) {
            memset(page_at(&pool, layer, pages[i]), POISON, piece);
        }
    }
    assert_int_equal(cuda_kv_pages_scatter(&args, check->stream), 0);
    assert_memory_equal(pool.bytes, before, pool.size);
    free(staging);
    free(before);
    free(pool.bytes);
}

void check_cuda_kv_pages_move(void **state)
{
    (void)state;
    check_cuda_schedules(move_round, ROUNDS / 2);
}

static void copy_round(struct check_cuda *check)
{
    const struct pool pool = draw_pool(&check->random);
    const uint32_t count = check_between(&check->random, 0, 3);
    const struct cuda_kv_pages_copy_args args = {.pool = pool.bytes,
                                                 .source = {0, 1, 4}, /* What the first wrote. */
                                                 .target = {1, 2, 3},
                                                 .count = count,
                                                 .layers = pool.layers,
                                                 .layer_bytes = pool.layer_bytes,
                                                 .page_bytes = pool.page_bytes,
                                                 .ctas = check->ctas};
    struct pool want = pool;
    want.bytes = check_alloc(pool.size);
    memcpy(want.bytes, pool.bytes, pool.size);
    for (uint32_t i = 0; i < count * pool.layers; i++) {
        const uint32_t layer = i % pool.layers;
        memcpy(page_at(&want, layer, args.target[i / pool.layers]),
               page_at(&want, layer, args.source[i / pool.layers]), pool.page_bytes);
    }
    assert_int_equal(cuda_kv_pages_copy(&args, check->stream), 0);
    assert_memory_equal(pool.bytes, want.bytes, pool.size);
    free(want.bytes);
    free(pool.bytes);
}

void check_cuda_kv_pages_copy(void **state)
{
    (void)state;
    check_cuda_schedules(copy_round, ROUNDS / 2);
}
