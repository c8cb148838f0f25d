/*
 * check_cuda_attend.c - checks of paged attention on the device against a sum in double. Pools
 * start as NaN and only what a row may see is filled in, pages are scattered, contexts end around
 * every edge of a tile, a split and a window. Runs in the process of check_cuda.c.
 * Invariant: a row gives the same bits beside other rows, with other work lists, with other cuts of
 * its prompt, and in float by either kernel; no tolerance there.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/must.h"
#include "kernels/bf16.h"
#include "kernels/cuda/attend_cuda.h"
#include "kernels/cuda/attend_work.h"
#include "tests/kern/check_cuda.h"

enum {
    ROUNDS = 12,
    SEQUENCES_MAX = 4,
    PAGES_MAX = 160, /* Of one sequence. */
    SLOTS_MAX = 16,
    CUT_ROWS = 20,
};

struct scene {
    struct check_cuda *check;
    struct attend_shape shape;
    uint32_t page_tokens;
    float scale;
    uint32_t count;
    struct attend_sequence sequences[SEQUENCES_MAX];
    uint32_t tables[SEQUENCES_MAX * PAGES_MAX];
    size_t row_acts;
    size_t rows;
    void *q;
    void *pool;
    float *kv_scale; /* [k, v][kv_heads]: the pool holds e4m3; or NULL. */
};

static uint32_t pick(struct check_random *random, const uint32_t *values, uint32_t count)
{
    return values[check_between(random, 0, count - 1)];
}

static uint32_t first_seen(const struct scene *scene, uint32_t position)
{
    const uint32_t window = scene->shape.window;
    return window > 0 && position >= window ? position - window + 1 : 0;
}

/* Index in the pool of a position's key (or value) of one head. */
static size_t kv_at(const struct scene *scene, const struct attend_sequence *sequence,
                    uint32_t position, uint32_t kv_head, uint32_t value)
{
    const uint32_t page = scene->tables[sequence->table + position / scene->page_tokens];
    const size_t head = ((size_t)page * 2 + value) * scene->shape.kv_heads + kv_head;
    return (head * scene->page_tokens + position % scene->page_tokens) * scene->shape.head_dim;
}

static void draw_shape(struct scene *scene, struct check_cuda *check)
{
    static const struct {
        uint32_t dim;
        bool bytes; /* Pages hold e4m3. */
    } heads[ROUNDS] = {{128, false}, {64, true},  {96, false}, {128, true},
                       {192, false}, {256, true}, {80, true},  {7, false},
                       {40, false},  {130, true}, {64, false}, {256, false}};
    static const uint32_t groups[] = {1, 4, 7, 8, 32, 17};
    static const uint32_t windows[] = {0, 0, 1, 16, 100, 512, 600};
    struct check_random *random = &check->random;
    const size_t turn = random->seed / 2 % ROUNDS; /* Each, in either type. */
    const uint32_t kv_heads = check_between(random, 1, 2);
    scene->check = check;
    scene->page_tokens = 16u << check_between(random, 0, 2);
    scene->scale = check_between(random, 0, 3) ? 0.2f : 1.5f;
    scene->shape = (struct attend_shape){
        .heads = kv_heads * pick(random, groups, 6),
        .kv_heads = kv_heads,
        .head_dim = heads[turn].dim,
        .window = pick(random, windows, 7),
        .ctas = check_between(random, 1, 40),
        .dtype = check->dtype,
    };
    if (heads[turn].bytes) {
        scene->kv_scale = check_floats(random, CHECK_FILL_UNIT, (size_t)2 * kv_heads);
        for (uint32_t i = 0; i < 2 * kv_heads; i++) {
            scene->kv_scale[i] = 1.5f + scene->kv_scale[i];
        }
    }
}

/* A cell of the pool as the kernels count with it: without its scale. */
static float load_cell(const struct scene *scene, size_t at)
{
    if (!scene->kv_scale) {
        return act_load(scene->pool, at, scene->shape.dtype);
    }
    const uint8_t bits = ((const uint8_t *)scene->pool)[at];
    const int exponent = bits >> 3 & 15;
    const float size =
        ldexpf((float)(bits & 7) + (exponent ? 8.0f : 0.0f), (exponent ? exponent : 1) - 10);
    return bits & 0x80 ? -size : size;
}

/* Cells of one token: acts, or bytes of any size up to 1. */
static void fill_cells(struct scene *scene, struct check_random *random, size_t at, float *values)
{
    const uint32_t dim = scene->shape.head_dim;
    if (!scene->kv_scale) {
        check_fill(random, CHECK_FILL_UNIT, values, dim);
        for (uint32_t d = 0; d < dim; d++) {
            act_store(scene->pool, at + d, values[d], scene->shape.dtype);
        }
        return;
    }
    for (uint32_t d = 0; d < dim; d++) {
        const uint32_t bits = check_between(random, 0, 0x38) | check_between(random, 0, 1) << 7;
        ((uint8_t *)scene->pool)[at + d] = (uint8_t)bits;
    }
}

/* Appends a sequence whose rows stand at [position, position + rows). */
static void add_sequence(struct scene *scene, uint32_t position, uint32_t rows)
{
    must(scene->count < SEQUENCES_MAX);
    scene->sequences[scene->count] =
        (struct attend_sequence){(uint32_t)scene->rows, rows, position, scene->count * PAGES_MAX};
    scene->count++;
    scene->rows += rows;
}

/* Keys and values of what the rows of a sequence see. */
static void fill_sequence(struct scene *scene, const struct attend_sequence *sequence)
{
    const uint32_t dim = scene->shape.head_dim;
    struct check_random random = {.seed = scene->check->random.seed + 1000 + sequence->table};
    float *values = check_alloc(dim * sizeof *values);
    const uint32_t end = sequence->position + sequence->row_count;
    for (uint32_t p = first_seen(scene, sequence->position); p < end; p++) {
        for (uint32_t i = 0; i < 2 * scene->shape.kv_heads; i++) {
            fill_cells(scene, &random, kv_at(scene, sequence, p, i / 2, i % 2), values);
        }
    }
    free(values);
}

/* Pages, queries, keys and values of the sequences that were added. */
static void fill_scene(struct scene *scene)
{
    struct check_random *random = &scene->check->random;
    const struct attend_shape *shape = &scene->shape;
    const size_t page_acts = (size_t)2 * shape->kv_heads * scene->page_tokens * shape->head_dim;
    uint32_t pages = 0;
    for (uint32_t i = 0; i < scene->count; i++) {
        const struct attend_sequence *sequence = &scene->sequences[i];
        const uint32_t end = sequence->position + sequence->row_count;
        for (uint32_t p = 0; p * scene->page_tokens < end; p++) {
            scene->tables[sequence->table + p] = pages++;
        }
    }
    must(pages > 0);
    const uint32_t turn = check_between(random, 0, pages - 1);
    for (uint32_t i = 0; i < scene->count * PAGES_MAX; i++) { /* Backwards, from anywhere. */
        scene->tables[i] = (2 * pages - scene->tables[i] % pages - 1 + turn) % pages;
    }
    scene->row_acts = (size_t)shape->heads * shape->head_dim;
    scene->pool =
        check_alloc(pages * page_acts * (scene->kv_scale ? 1 : kern_dtype_bytes(shape->dtype)));
    scene->q = check_acts(random, CHECK_FILL_UNIT, scene->rows * scene->row_acts, shape->dtype);
    for (uint32_t i = 0; i < scene->count; i++) {
        fill_sequence(scene, &scene->sequences[i]);
    }
}

static void close_scene(struct scene *scene)
{
    free(scene->q);
    free(scene->pool);
    free(scene->kv_scale);
}

/* What attention gives for some sequences, by lists for a device of `ctas` and so many slots. */
static void *attend(const struct scene *scene, const struct attend_sequence *sequences,
                    uint32_t count, uint32_t slots)
{
    const struct attend_shape *shape = &scene->shape;
    const size_t blocks = attend_blocks_max(shape, (uint32_t)scene->rows, count);
    struct attend_work work = {
        .items = check_alloc((count + slots) * sizeof *work.items),
        .merges = check_alloc((slots / 2 + 1) * sizeof *work.merges),
        .blocks = check_alloc(blocks * sizeof *work.blocks),
        .items_max = count + slots,
        .merges_max = slots / 2,
        .blocks_max = (uint32_t)blocks,
        .slots_max = slots,
    };
    const size_t slot_floats = attend_slot_floats(shape, slots);
    void *out = check_alloc(scene->rows * scene->row_acts * kern_dtype_bytes(shape->dtype));
    assert_int_equal(attend_work_build(&work, shape, sequences, count), 0);
    const struct cuda_attend_args args = {
        .q = scene->q,
        .pool = scene->pool,
        .out = out,
        .sequences = sequences,
        .tables = scene->tables,
        .counts = &work.counts,
        .items = work.items,
        .merges = work.merges,
        .blocks = work.blocks,
        .slots = check_alloc(slot_floats * sizeof(float)),
        .kv_scale = scene->kv_scale,
        .heads = shape->heads,
        .kv_heads = shape->kv_heads,
        .head_dim = shape->head_dim,
        .page_tokens = scene->page_tokens,
        .window = shape->window,
        .scale = scene->scale,
        .dtype = shape->dtype,
        .ctas = scene->check->ctas ? scene->check->ctas : 9,
    };
    assert_int_equal(cuda_attend_decode(&args, scene->check->stream), 0);
    assert_int_equal(cuda_attend_prefill(&args, scene->check->stream), 0);
    free(work.items);
    free(work.merges);
    free(work.blocks);
    free(args.slots);
    return out;
}

/* out[] of one row and head, in double. */
static void expect_head(const struct scene *scene, const struct attend_sequence *sequence,
                        uint32_t row, uint32_t head, double *out)
{
    const enum kern_dtype dtype = scene->shape.dtype;
    const uint32_t dim = scene->shape.head_dim;
    const uint32_t kv_head = head / (scene->shape.heads / scene->shape.kv_heads);
    const uint32_t last = sequence->position + row;
    const size_t q = (sequence->row_first + row) * scene->row_acts + (size_t)head * dim;
    const float *scale = scene->kv_scale;
    const double key_scale = scale ? (double)scale[kv_head] : 1;
    const double value_scale = scale ? (double)scale[scene->shape.kv_heads + kv_head] : 1;
    double max = -INFINITY;
    double sum = 0;
    memset(out, 0, dim * sizeof *out);
    for (uint32_t p = first_seen(scene, last); p <= last; p++) {
        const size_t key = kv_at(scene, sequence, p, kv_head, 0);
        const size_t value = kv_at(scene, sequence, p, kv_head, 1);
        double score = 0;
        for (uint32_t d = 0; d < dim; d++) {
            score += (double)act_load(scene->q, q + d, dtype) * (double)load_cell(scene, key + d);
        }
        score *= (double)scene->scale * key_scale;
        const double greatest = fmax(max, score);
        const double keep = exp(max - greatest);
        const double weight = exp(score - greatest);
        sum = sum * keep + weight;
        max = greatest;
        for (uint32_t d = 0; d < dim; d++) {
            out[d] = out[d] * keep + weight * (double)load_cell(scene, value + d);
        }
    }
    for (uint32_t d = 0; d < dim; d++) {
        out[d] *= value_scale / sum;
    }
}

static void expect(const struct scene *scene, const void *got)
{
    const enum kern_dtype dtype = scene->shape.dtype;
    const uint32_t dim = scene->shape.head_dim;
    double *want = check_alloc(dim * sizeof *want);
    float *floats = check_alloc(dim * sizeof *floats);
    float *gotten = check_alloc(dim * sizeof *gotten);
    for (uint32_t i = 0; i < scene->count; i++) {
        const struct attend_sequence *sequence = &scene->sequences[i];
        for (uint32_t j = 0; j < sequence->row_count * scene->shape.heads; j++) {
            const size_t at = sequence->row_first * scene->row_acts + (size_t)j * dim;
            expect_head(scene, sequence, j / scene->shape.heads, j % scene->shape.heads, want);
            for (uint32_t d = 0; d < dim; d++) {
                floats[d] = (float)want[d];
                gotten[d] = act_load(got, at + d, dtype);
            }
            check_close(gotten, floats, dim, KERN_F32, dtype == KERN_F32 ? 2e-5f : 1e-2f, 0.5f);
        }
    }
    free(want);
    free(floats);
    free(gotten);
}

/* Lengths around the edges of tiles, pages, warps' turns and splits. */
static uint32_t draw_length(struct check_random *random)
{
    static const uint32_t edges[] = {1,   2,   15,  16,  17,  31,  32,  33,  63,   64,  65,
                                     127, 128, 129, 300, 511, 512, 513, 700, 1024, 1025};
    return pick(random, edges, sizeof edges / sizeof *edges);
}

static void finish(struct scene *scene, void *out)
{
    const size_t bytes = scene->rows * scene->row_acts * kern_dtype_bytes(scene->shape.dtype);
    expect(scene, out);
    check_cuda_result(scene->check, out, bytes);
    free(out);
    close_scene(scene);
}

static void decode_round(struct check_cuda *check)
{
    struct scene scene = {0};
    draw_shape(&scene, check);
    const uint32_t count = check_between(&check->random, 1, 3);
    for (uint32_t i = 0; i < count; i++) {
        add_sequence(&scene, draw_length(&check->random) - 1, 1);
    }
    fill_scene(&scene);
    const uint32_t slots = check_between(&check->random, 0, 2) ? SLOTS_MAX : 0;
    finish(&scene, attend(&scene, scene.sequences, scene.count, slots));
}

void check_cuda_attend_decode(void **state)
{
    (void)state;
    check_cuda_schedules(decode_round, 2 * ROUNDS);
}

static void prefill_round(struct check_cuda *check)
{
    struct scene scene = {0};
    draw_shape(&scene, check);
    const uint32_t count = check_between(&check->random, 1, 2);
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t past = draw_length(&check->random) - 1;
        const uint32_t most = check->dtype == KERN_F32 ? 140 : 530; /* Float is slow here. */
        add_sequence(&scene, past < most ? past : most, check_between(&check->random, 2, 24));
    }
    add_sequence(&scene, 5, 1); /* And a row for the other kernel. */
    fill_scene(&scene);
    finish(&scene, attend(&scene, scene.sequences, scene.count, 0));
}

void check_cuda_attend_prefill(void **state)
{
    (void)state;
    check_cuda_schedules(prefill_round, ROUNDS);
}

/* The rows of two results are the same bits. */
static void expect_same(const struct scene *scene, const void *a, const void *b,
                        const struct attend_sequence *rows)
{
    const size_t bytes = scene->row_acts * kern_dtype_bytes(scene->shape.dtype);
    assert_memory_equal((const uint8_t *)a + rows->row_first * bytes,
                        (const uint8_t *)b + rows->row_first * bytes, rows->row_count * bytes);
}

/* A row alone and whole, and beside others and shared out. */
static void decode_alone_round(struct check_cuda *check)
{
    struct scene scene = {0};
    draw_shape(&scene, check);
    add_sequence(&scene, 1099, 1);
    add_sequence(&scene, draw_length(&check->random) - 1, 1);
    add_sequence(&scene, 640, 1);
    fill_scene(&scene);
    scene.shape.ctas = 1000; /* All that is long is shared out. */
    void *together = attend(&scene, scene.sequences, scene.count, SLOTS_MAX);
    for (uint32_t i = 0; i < scene.count; i++) {
        void *alone = attend(&scene, &scene.sequences[i], 1, 0);
        expect_same(&scene, together, alone, &scene.sequences[i]);
        free(alone);
    }
    free(together);
    close_scene(&scene);
}

void check_cuda_attend_decode_alone(void **state)
{
    (void)state;
    check_cuda_schedules(decode_alone_round, 6);
}

/* A prompt in one chunk, and in two; in float also token by token, which the other kernel takes. */
static void prefill_cut_round(struct check_cuda *check)
{
    struct scene scene = {0};
    draw_shape(&scene, check);
    if (scene.shape.heads > 16) { /* Many of one kind: for the checks above. */
        scene.shape.heads = scene.shape.kv_heads;
    }
    add_sequence(&scene, check_between(&check->random, 0, 3) * 170, CUT_ROWS);
    fill_scene(&scene);
    const struct attend_sequence whole = scene.sequences[0];
    const uint32_t cut = check_between(&check->random, 1, CUT_ROWS - 1);
    struct attend_sequence pieces[CUT_ROWS] = {whole, whole};
    pieces[0].row_count = cut;
    pieces[1].row_first += cut;
    pieces[1].position += cut;
    pieces[1].row_count -= cut;
    scene.shape.prompts = true;
    void *once = attend(&scene, &whole, 1, 0);
    void *twice = attend(&scene, pieces, 2, 0);
    expect_same(&scene, once, twice, &whole);
    free(twice);
    for (uint32_t i = 0; check->dtype == KERN_F32 && i < CUT_ROWS; i++) {
        pieces[i] = (struct attend_sequence){i, 1, whole.position + i, whole.table};
    }
    if (check->dtype == KERN_F32) {
        scene.shape.prompts = false;
        void *singly = attend(&scene, pieces, CUT_ROWS, SLOTS_MAX);
        expect_same(&scene, once, singly, &whole);
        free(singly);
    }
    free(once);
    close_scene(&scene);
}

void check_cuda_attend_prefill_cut(void **state)
{
    (void)state;
    check_cuda_schedules(prefill_cut_round, 6);
}

/* The NaN of one key or value, and who has to show it. */
struct stain {
    uint32_t position;
    uint32_t kv_head;
    uint32_t d;
    bool value; /* Of a key, every number of what sees it is NaN. */
};

static void put_stain(const struct scene *scene, const struct stain *stain)
{
    const size_t at = kv_at(scene, scene->sequences, stain->position, stain->kv_head, stain->value);
    if (scene->kv_scale) {
        ((uint8_t *)scene->pool)[at + stain->d] |= 0x7f;
    } else {
        act_store(scene->pool, at + stain->d, NAN, scene->shape.dtype);
    }
}

static void expect_stain(const struct scene *scene, const struct stain *stain, const void *got)
{
    const struct attend_sequence *sequence = scene->sequences;
    const uint32_t group = scene->shape.heads / scene->shape.kv_heads;
    for (size_t i = 0; i < scene->rows * scene->row_acts; i++) {
        const uint32_t d = (uint32_t)(i % scene->shape.head_dim);
        const uint32_t head = (uint32_t)(i % scene->row_acts / scene->shape.head_dim);
        const uint32_t position = sequence->position + (uint32_t)(i / scene->row_acts);
        const bool sees =
            first_seen(scene, position) <= stain->position && stain->position <= position;
        const bool stained =
            sees && head / group == stain->kv_head && (!stain->value || d == stain->d);
        assert_int_equal(isnan(act_load(got, i, scene->shape.dtype)) != 0, stained);
    }
}

/* Nothing makes a number of what is none: by the NaN in its logits a request fails. */
static void stain_round(struct check_cuda *check)
{
    struct scene scene = {0};
    struct check_random *random = &check->random;
    draw_shape(&scene, check);
    const uint32_t rows = check_between(random, 0, 1) ? check_between(random, 2, 20) : 1;
    const uint32_t past = check_between(random, 0, 300);
    add_sequence(&scene, past, rows);
    fill_scene(&scene);
    const struct stain stain = {
        .position = check_between(random, first_seen(&scene, past), past + rows - 1),
        .kv_head = check_between(random, 0, scene.shape.kv_heads - 1),
        .d = check_between(random, 0, scene.shape.head_dim - 1),
        .value = !scene.kv_scale && check_between(random, 0, 1),
    };
    put_stain(&scene, &stain);
    void *out = attend(&scene, scene.sequences, 1, SLOTS_MAX);
    expect_stain(&scene, &stain, out);
    free(out);
    close_scene(&scene);
}

void check_cuda_attend_stain(void **state)
{
    (void)state;
    check_cuda_schedules(stain_round, ROUNDS);
}

/* Shapes without an instance change nothing. */
void check_cuda_attend_refuses(void **state)
{
    const struct cuda_attend_args good = {.heads = 4,
                                          .kv_heads = 2,
                                          .head_dim = 64,
                                          .page_tokens = 16,
                                          .scale = 1,
                                          .dtype = KERN_BF16};
    struct cuda_attend_args bad[5] = {good, good, good, good, good};
    (void)state;
    bad[0].head_dim = 257;
    bad[1].head_dim = 0;
    bad[2].kv_heads = 3;
    bad[3].page_tokens = 48;
    bad[4].scale = 0;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(cuda_attend_decode(&bad[i], NULL), -EINVAL);
        assert_int_equal(cuda_attend_prefill(&bad[i], NULL), -EINVAL);
    }
}
