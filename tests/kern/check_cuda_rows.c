/*
 * check_cuda_rows.c - checks of the CUDA kernels that work row by row: feed, embed, norm, silu,
 * weave. Each round draws a shape and a fill; rows of the bucket past the batch's own must stay as
 * they were. Runs in the process of check_cuda.c. Invariant: no input here leaves the range of
 * float.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/bf16.h"
#include "kernels/cuda/embed_cuda.h"
#include "kernels/cuda/feed_cuda.h"
#include "kernels/cuda/norm_cuda.h"
#include "kernels/cuda/silu_cuda.h"
#include "kernels/cuda/weave_cuda.h"
#include "kernels/ref/ref.h"
#include "tests/kern/check_cuda.h"

enum { ROUNDS = 12, ROWS_SPARE = 3 };

/* Fewer than the threads of a block, or more. */
static uint32_t draw_cols(struct check_random *random)
{
    const uint32_t cols = check_between(random, 1, check_between(random, 0, 1) ? 200 : 2500);
    return check_between(random, 0, 1) ? cols : (cols + 3) / 4 * 4;
}

static void feed_round(struct check_cuda *check)
{
    struct check_random *random = &check->random;
    enum {
        ROWS = 600,
        SLOTS = 9,
        PAGE_TOKENS = 16,
        TOKENS = (ROWS / PAGE_TOKENS + 1) * PAGE_TOKENS
    };
    const uint32_t rows = check_between(random, 0, 1) ? check_between(random, 0, 5)
                                                      : check_between(random, 250, ROWS - 1);
    uint32_t ids[ROWS], want[ROWS], source[ROWS], page[ROWS], position[ROWS];
    uint32_t last_ids[SLOTS], history[TOKENS], noted[TOKENS];
    memset(history, 0xff, sizeof history);
    memset(noted, 0xff, sizeof noted);
    for (uint32_t i = 0; i < SLOTS; i++) {
        last_ids[i] = check_between(random, 0, 1000);
    }
    for (uint32_t i = 0; i < ROWS; i++) {
        ids[i] = want[i] = check_between(random, 0, 1000);
        source[i] = check_between(random, 0, SLOTS);
        page[i] = i / PAGE_TOKENS;
        position[i] = i + 5 * PAGE_TOKENS; /* Pages need not be in the order of positions. */
        if (i < rows) {
            want[i] = source[i] > 0 ? last_ids[source[i] - 1] : ids[i];
            noted[i] = want[i];
        }
    }
    const struct cuda_feed_args args = {.ids = ids,
                                        .source = source,
                                        .last_ids = last_ids,
                                        .page = page,
                                        .position = position,
                                        .history = history,
                                        .rows = &rows,
                                        .rows_max = ROWS,
                                        .page_tokens = PAGE_TOKENS,
                                        .ctas = check->ctas};
    assert_int_equal(cuda_feed(&args, check->stream), 0);
    check_cuda_result(check, ids, sizeof ids);
    assert_memory_equal(ids, want, sizeof ids);
    assert_memory_equal(history, noted, sizeof history);
}

void check_cuda_feed(void **state)
{
    (void)state;
    check_cuda_schedules(feed_round, ROUNDS);
}

static void embed_round(struct check_cuda *check)
{
    struct check_random *random = &check->random;
    const uint32_t rows = check_between(random, 0, 7);
    const uint32_t cols = draw_cols(random);
    const uint32_t vocab = check_between(random, 1, 30);
    const size_t count = (size_t)(rows + ROWS_SPARE) * cols;
    void *table = check_acts(random, CHECK_FILL_WIDE, (size_t)vocab * cols, check->dtype);
    float *want = check_alloc(count * sizeof *want);
    float *got = check_alloc(count * sizeof *got);
    uint32_t *ids = check_alloc((rows + ROWS_SPARE) * sizeof *ids);
    for (uint32_t r = 0; r < rows + ROWS_SPARE; r++) {
        ids[r] = check_between(random, 0, vocab - 1);
    }
    const struct kern_embed_args spec = {table, ids, want, cols, check->dtype};
    const struct cuda_embed_args args = {.table = table,
                                         .ids = ids,
                                         .x = got,
                                         .rows = &rows,
                                         .rows_max = rows + ROWS_SPARE,
                                         .cols = cols,
                                         .vocab = vocab,
                                         .ctas = check->ctas,
                                         .dtype = check->dtype};
    ref_embed(&spec, 0, rows);
    if (rows > 0) { /* An id past the vocabulary never leaves the table; its row says so. */
        ids[rows - 1] = vocab;
    }
    assert_int_equal(cuda_embed(&args, check->stream), 0);
    check_cuda_result(check, got, count * sizeof *got);
    for (size_t c = 0; c < cols && rows > 0; c++) {
        float *value = &got[(rows - 1) * (size_t)cols + c];
        assert_true(isnan(*value));
        *value = want[(rows - 1) * (size_t)cols + c];
    }
    assert_memory_equal(got, want, count * sizeof *got);
    free(table);
    free(want);
    free(got);
    free(ids);
}

void check_cuda_embed(void **state)
{
    (void)state;
    check_cuda_schedules(embed_round, ROUNDS);
}

static void norm_round(struct check_cuda *check)
{
    struct check_random *random = &check->random;
    const uint32_t rows = check_between(random, 0, 5);
    const uint32_t cols = draw_cols(random);
    const size_t count = (size_t)rows * cols;
    const size_t room = (size_t)(rows + ROWS_SPARE) * cols;
    const size_t bytes = room * kern_dtype_bytes(check->dtype);
    const bool with_add = check_between(random, 0, 1);
    const enum check_fill fill = check_between(random, 0, CHECK_FILLS - 1);
    float *x = check_floats(random, fill, room);
    float *add = check_floats(random, fill, room);
    float *sum = check_alloc(room * sizeof *sum);
    float *w = check_floats(random, CHECK_FILL_UNIT, cols);
    void *want = check_alloc(bytes);
    void *got = check_alloc(bytes);
    for (size_t i = 0; i < room; i++) {
        sum[i] = with_add && i < count ? x[i] + add[i] : x[i];
    }
    const struct kern_rmsnorm_args spec = {sum, w, want, cols, 1e-5f, check->dtype};
    const struct cuda_norm_args args = {.x = x,
                                        .add = with_add ? add : NULL,
                                        .w = w,
                                        .y = got,
                                        .rows = &rows,
                                        .rows_max = rows + ROWS_SPARE,
                                        .cols = cols,
                                        .eps = 1e-5f,
                                        .ctas = check->ctas,
                                        .dtype = check->dtype};
    ref_rmsnorm(&spec, 0, rows);
    assert_int_equal(cuda_norm(&args, check->stream), 0);
    check_cuda_result(check, got, bytes);
    check_close(got, want, room, check->dtype, 1e-5f, 1e-6f);
    assert_memory_equal(x, sum, room * sizeof *x);
    free(x);
    free(add);
    free(sum);
    free(w);
    free(want);
    free(got);
}

void check_cuda_norm(void **state)
{
    (void)state;
    check_cuda_schedules(norm_round, ROUNDS);
}

static void silu_round(struct check_cuda *check)
{
    struct check_random *random = &check->random;
    const uint32_t rows = check_between(random, 0, 5);
    const uint32_t cols = draw_cols(random);
    const size_t count = (size_t)rows * cols;
    const size_t room = (size_t)(rows + ROWS_SPARE) * cols;
    const size_t bytes = room * kern_dtype_bytes(check->dtype);
    void *gate_up =
        check_acts(random, check_between(random, 0, CHECK_FILLS - 1), 2 * room, check->dtype);
    float *floats = check_alloc(2 * count * sizeof *floats);
    void *want = check_alloc(bytes);
    void *got = check_alloc(bytes);
    for (size_t i = 0; i < 2 * count; i++) {
        floats[i] = act_load(gate_up, i, check->dtype);
    }
    const struct kern_silu_mul_args spec = {floats, want, cols, check->dtype};
    const struct cuda_silu_args args = {.gate_up = gate_up,
                                        .y = got,
                                        .rows = &rows,
                                        .rows_max = rows + ROWS_SPARE,
                                        .cols = cols,
                                        .ctas = check->ctas,
                                        .dtype = check->dtype};
    ref_silu_mul(&spec, 0, rows);
    assert_int_equal(cuda_silu(&args, check->stream), 0);
    check_cuda_result(check, got, bytes);
    check_close(got, want, room, check->dtype, 1e-6f, 1e-30f);
    free(gate_up);
    free(floats);
    free(want);
    free(got);
}

void check_cuda_silu(void **state)
{
    (void)state;
    check_cuda_schedules(silu_round, ROUNDS);
}

/* Parts as ranks give them: each has room for the largest. */
static void weave_round(struct check_cuda *check)
{
    struct check_random *random = &check->random;
    const uint32_t rows = check_between(random, 0, 5);
    const uint32_t ranks = check_between(random, 1, 5);
    const uint32_t even = 4 * ranks * check_between(random, 1, 400 / ranks);
    const uint32_t cols = check_between(random, 0, 1) ? even : even - check_between(random, 0, 3);
    const bool adds = check->dtype == KERN_F32 && check_between(random, 0, 1);
    const size_t room = (size_t)(rows + ROWS_SPARE) * cols;
    const size_t part = (size_t)(rows + ROWS_SPARE) * ((cols - 1) / ranks + 1);
    const size_t item = kern_dtype_bytes(check->dtype);
    uint8_t *parts = check_acts(random, CHECK_FILL_UNIT, ranks * part, check->dtype);
    uint8_t *want = check_acts(random, CHECK_FILL_UNIT, room, check->dtype);
    uint8_t *got = check_alloc(room * item);
    memcpy(got, want, room * item);
    for (size_t i = 0; i < (size_t)rows * cols; i++) {
        size_t rank = 0;
        while ((rank + 1) * cols / ranks <= i % cols) {
            rank++;
        }
        const size_t first = rank * cols / ranks;
        const size_t own = (rank + 1) * cols / ranks - first;
        const uint8_t *from = parts + (rank * part + i / cols * own + i % cols - first) * item;
        if (adds) {
            ((float *)want)[i] += *(const float *)from;
        } else {
            memcpy(want + i * item, from, item);
        }
    }
    const struct cuda_weave_args args = {.parts = parts,
                                         .y = got,
                                         .rows = &rows,
                                         .part_items = part,
                                         .rows_max = rows + ROWS_SPARE,
                                         .cols = cols,
                                         .ranks = ranks,
                                         .ctas = check->ctas,
                                         .dtype = check->dtype,
                                         .adds = adds};
    assert_int_equal(cuda_weave(&args, check->stream), 0);
    check_cuda_result(check, got, room * item);
    assert_memory_equal(got, want, room * item);
    free(parts);
    free(want);
    free(got);
}

void check_cuda_weave(void **state)
{
    (void)state;
    check_cuda_schedules(weave_round, 2 * ROUNDS);
}
