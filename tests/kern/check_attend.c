/*
 * check_attend.c - checks of rope with append, and of paged attention. Pools start as NaN, pages
 * are scattered, and sequences are appended in chunks of random size, so that anything read past
 * the last token shows. Runs in the process of check.c.
 * Invariant: a row gives the same bits alone and beside others; no tolerance there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/bf16.h"
#include "kernels/ref/ref.h"
#include "tests/kern/check.h"

enum { CHECK_ROUNDS = 40, CHECK_PAGES_MAX = 24, CHECK_POSITIONS_MAX = 200 };

struct scene { /* One sequence in scattered pages. */
    uint32_t heads;
    uint32_t kv_heads;
    uint32_t dim;
    uint32_t page_tokens;
    uint32_t tokens;
    uint32_t window;
    enum kern_dtype dtype;
    size_t pool_bytes;
    size_t q_count;
    uint32_t pages[CHECK_PAGES_MAX];
    uint32_t page[CHECK_POSITIONS_MAX];
    uint32_t position[CHECK_POSITIONS_MAX];
    float *qkv;
    float *bias;   /* NULL: none */
    float *q_norm; /* NULL: none */
    float *k_norm;
    float *cosine;
    float *sine;
};

static void scene_open(struct scene *scene, struct check_random *random, enum kern_dtype dtype)
{
    static const uint32_t dims[] = {2, 6, 7, 16, 18, 48, 64, 80, 128, 130};
    const uint32_t group = check_between(random, 1, 5);
    scene->dtype = dtype;
    scene->kv_heads = check_between(random, 1, 3);
    scene->heads = scene->kv_heads * group;
    scene->dim = dims[check_between(random, 0, 9)];
    scene->page_tokens = 16u << check_between(random, 0, 2);
    scene->tokens = check_between(random, 1, CHECK_POSITIONS_MAX);
    scene->window = check_between(random, 0, 2) > 0 ? check_between(random, 1, scene->tokens) : 0;
    scene->pool_bytes = CHECK_PAGES_MAX *
                        kern_kv_page_bytes(dtype, scene->page_tokens, scene->kv_heads, scene->dim);
    scene->q_count = (size_t)scene->tokens * scene->heads * scene->dim;
    for (uint32_t p = 0; p < CHECK_PAGES_MAX; p++) {
        scene->pages[p] = (p * 7 + 3) % CHECK_PAGES_MAX;
    }
    for (uint32_t t = 0; t < scene->tokens; t++) {
        scene->position[t] = t;
        scene->page[t] = scene->pages[t / scene->page_tokens];
    }
    const size_t columns = (size_t)(scene->heads + 2 * scene->kv_heads) * scene->dim;
    scene->qkv = check_floats(random, CHECK_FILL_UNIT, scene->tokens * columns);
    const bool biased = check_between(random, 0, 1);
    const bool normed = check_between(random, 0, 1);
    scene->bias = biased ? check_floats(random, CHECK_FILL_UNIT, columns) : NULL;
    scene->q_norm = normed ? check_floats(random, CHECK_FILL_UNIT, scene->dim) : NULL;
    scene->k_norm = normed ? check_floats(random, CHECK_FILL_UNIT, scene->dim) : NULL;
    scene->cosine = check_floats(random, CHECK_FILL_UNIT, (size_t)scene->tokens * scene->dim);
    scene->sine = check_floats(random, CHECK_FILL_UNIT, (size_t)scene->tokens * scene->dim);
}

static void scene_close(struct scene *scene)
{
    free(scene->qkv);
    free(scene->bias);
    free(scene->q_norm);
    free(scene->k_norm);
    free(scene->cosine);
    free(scene->sine);
}

/* Appends rows [first, first + count) as a batch of their own. */
static void scene_append(const struct scene *scene, const struct kern_ops *ops, uint32_t first,
                         uint32_t count, void *q, void *pool)
{
    const size_t q_cols = (size_t)scene->heads * scene->dim;
    const size_t cols = q_cols + 2 * (size_t)scene->kv_heads * scene->dim;
    const struct kern_rope_append_args args = {
        .qkv = scene->qkv + first * cols,
        .bias = scene->bias,
        .q_norm = scene->q_norm,
        .k_norm = scene->k_norm,
        .norm_eps = 1e-5f,
        .q = (uint8_t *)q + first * q_cols * kern_dtype_bytes(scene->dtype),
        .pool = pool,
        .page = scene->page + first,
        .position = scene->position + first,
        .rows = count,
        .cosine = scene->cosine,
        .sine = scene->sine,
        .heads = scene->heads,
        .kv_heads = scene->kv_heads,
        .head_dim = scene->dim,
        .rope_dim = scene->dim / 2 * 2,
        .page_tokens = scene->page_tokens,
        .dtype = scene->dtype,
    };
    ops->rope_append(&args, count / 2, count - count / 2);
    ops->rope_append(&args, 0, count / 2);
}

static void scene_append_all(const struct scene *scene, const struct kern_ops *ops,
                             struct check_random *random, void *q, void *pool)
{
    for (uint32_t first = 0; first < scene->tokens;) {
        const uint32_t count = check_between(random, 1, scene->tokens - first);
        scene_append(scene, ops, first, count, q, pool);
        first += count;
    }
}

static void rope_round(const struct kern_ops *ops, struct check_random *random,
                       enum kern_dtype dtype)
{
    struct scene scene;
    struct kern_ops ref;
    scene_open(&scene, random, dtype);
    ref_fill(&ref);
    const size_t bytes = kern_dtype_bytes(dtype);
    void *want_q = check_alloc(scene.q_count * bytes);
    void *got_q = check_alloc(scene.q_count * bytes);
    void *want = check_alloc(scene.pool_bytes);
    void *got = check_alloc(scene.pool_bytes);
    struct check_random same = *random;
    scene_append_all(&scene, &ref, &same, want_q, want);
    scene_append_all(&scene, ops, random, got_q, got);
    check_close(got_q, want_q, scene.q_count, dtype, 1e-6f, 1);
    check_close(got, want, scene.pool_bytes / bytes, dtype, 1e-6f, 1);
    free(want_q);
    free(got_q);
    free(want);
    free(got);
    scene_close(&scene);
}

void check_rope(void **state)
{
    (void)state;
    check_spellings(rope_round, CHECK_ROUNDS);
}

/* Attention of rows [first, tokens) in items of at most `each` rows. */
static void scene_attend(const struct scene *scene, const struct kern_ops *ops, const void *q,
                         const void *pool, uint32_t each, void *out)
{
    const struct kern_sequence sequence = {scene->pages, 0, scene->tokens, 0, 0};
    struct kern_attend_args args = {
        .q = q,
        .pool = pool,
        .out = out,
        .sequences = &sequence,
        .heads = scene->heads,
        .kv_heads = scene->kv_heads,
        .head_dim = scene->dim,
        .page_tokens = scene->page_tokens,
        .window = scene->window,
        .scale = 0.3f,
        .dtype = scene->dtype,
        .scratch = check_alloc(
            sizeof(float) * kern_attend_scratch_floats(scene->heads, scene->kv_heads, scene->dim)),
    };
    for (uint32_t head = 0; head < scene->kv_heads; head++) {
        for (uint32_t row = 0; row < scene->tokens; row += each) {
            const uint32_t left = scene->tokens - row;
            const struct kern_attend_item item = {0, row, left < each ? left : each, head};
            args.items = &item;
            ops->attend(&args, 0, 1);
        }
    }
    free(args.scratch);
}

/* Fills q and pool, appended by ref. */
static void scene_prepare(struct scene *scene, struct check_random *random, enum kern_dtype dtype,
                          void **q, void **pool)
{
    struct kern_ops ref;
    scene_open(scene, random, dtype);
    ref_fill(&ref);
    *q = check_alloc(scene->q_count * kern_dtype_bytes(dtype));
    *pool = check_alloc(scene->pool_bytes);
    scene_append_all(scene, &ref, random, *q, *pool);
}

static void attend_round(const struct kern_ops *ops, struct check_random *random,
                         enum kern_dtype dtype)
{
    struct scene scene;
    struct kern_ops ref;
    void *q;
    void *pool;
    scene_prepare(&scene, random, dtype, &q, &pool);
    ref_fill(&ref);
    void *want = check_alloc(scene.q_count * kern_dtype_bytes(dtype));
    void *got = check_alloc(scene.q_count * kern_dtype_bytes(dtype));
    scene_attend(&scene, &ref, q, pool, KERN_ATTEND_ROWS_MAX, want);
    scene_attend(&scene, ops, q, pool, check_between(random, 1, KERN_ATTEND_ROWS_MAX), got);
    check_close(got, want, scene.q_count, dtype, dtype == KERN_F32 ? 1e-5f : 8e-3f, 1);
    free(q);
    free(pool);
    free(want);
    free(got);
    scene_close(&scene);
}

void check_attend(void **state)
{
    (void)state;
    check_spellings(attend_round, CHECK_ROUNDS);
}

static void alone_round(const struct kern_ops *ops, struct check_random *random,
                        enum kern_dtype dtype)
{
    struct scene scene;
    void *q;
    void *pool;
    scene_prepare(&scene, random, dtype, &q, &pool);
    const size_t bytes = scene.q_count * kern_dtype_bytes(dtype);
    void *alone = check_alloc(bytes);
    void *together = check_alloc(bytes);
    scene_attend(&scene, ops, q, pool, 1, alone);
    scene_attend(&scene, ops, q, pool, check_between(random, 2, KERN_ATTEND_ROWS_MAX), together);
    assert_memory_equal(alone, together, bytes);
    free(q);
    free(pool);
    free(alone);
    free(together);
    scene_close(&scene);
}

void check_attend_alone(void **state)
{
    (void)state;
    check_spellings(alone_round, CHECK_ROUNDS);
}
