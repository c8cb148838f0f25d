/* check_rows.c - checks of the operations that work row by row: embed, norm, silu, route, logits,
 * odds. Each round draws a shape and a fill; a second call on single rows must give the same bits
 * as one call on all. Runs in the process of check.c. Invariant: no input here leaves the range of
 * float.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/choice.h"
#include "kernels/ref/ref.h"
#include "tests/kern/check.h"

enum { CHECK_ROUNDS = 60 };

static void norm_round(const struct kern_ops *ops, struct check_random *random,
                       enum kern_dtype dtype)
{
    const uint32_t rows = check_between(random, 1, 5);
    const uint32_t cols = check_between(random, 1, 200);
    const size_t count = (size_t)rows * cols;
    const enum check_fill fill = check_between(random, 0, CHECK_FILLS - 1);
    float *x = check_floats(random, fill, count);
    float *w = check_floats(random, CHECK_FILL_UNIT, cols);
    void *want = check_alloc(count * kern_dtype_bytes(dtype));
    void *got = check_alloc(count * kern_dtype_bytes(dtype));
    void *alone = check_alloc(count * kern_dtype_bytes(dtype));
    struct kern_rmsnorm_args args = {x, w, want, cols, 1e-5f, dtype};
    ref_rmsnorm(&args, 0, rows);
    args.y = got;
    ops->rmsnorm(&args, 0, rows);
    check_close(got, want, count, dtype, 1e-5f, 1e-6f);
    args.y = alone;
    for (uint32_t r = 0; r < rows; r++) {
        ops->rmsnorm(&args, r, 1);
    }
    assert_memory_equal(alone, got, count * kern_dtype_bytes(dtype));
    free(x);
    free(w);
    free(want);
    free(got);
    free(alone);
}

void check_norm(void **state)
{
    (void)state;
    check_spellings(norm_round, CHECK_ROUNDS);
}

static void silu_round(const struct kern_ops *ops, struct check_random *random,
                       enum kern_dtype dtype)
{
    const uint32_t rows = check_between(random, 1, 5);
    const uint32_t cols = check_between(random, 1, 200);
    const size_t count = (size_t)rows * cols;
    float *gate_up = check_floats(random, check_between(random, 0, CHECK_FILLS - 1), 2 * count);
    void *want = check_alloc(count * kern_dtype_bytes(dtype));
    void *got = check_alloc(count * kern_dtype_bytes(dtype));
    struct kern_silu_mul_args args = {gate_up, want, cols, dtype};
    ref_silu_mul(&args, 0, rows);
    args.y = got;
    for (uint32_t r = 0; r < rows; r++) {
        ops->silu_mul(&args, r, 1);
    }
    check_close(got, want, count, dtype, 1e-6f, 1e-30f);
    free(gate_up);
    free(want);
    free(got);
}

void check_silu(void **state)
{
    (void)state;
    check_spellings(silu_round, CHECK_ROUNDS);
}

/* No expert that was left out beats one that was taken, equals go by id, and the weights are the
 * softmax of the whole row, here in double. */
static void assert_routed(const struct kern_route_args *args, uint32_t row)
{
    const float *logits = args->logits + (size_t)row * args->experts;
    const uint32_t *expert = args->expert + (size_t)row * args->used;
    double all = 0;
    double taken = 0;
    for (uint32_t e = 0; e < args->experts; e++) {
        uint32_t better = 0; /* Experts that go before e. */
        for (uint32_t other = 0; other < args->experts; other++) {
            better += logits[other] > logits[e] || (logits[other] == logits[e] && other < e);
        }
        if (better < args->used) {
            assert_int_equal(expert[better], e);
            taken += exp((double)logits[e]);
        }
        all += exp((double)logits[e]);
    }
    for (uint32_t i = 0; i < args->used; i++) {
        const double want = exp((double)logits[expert[i]]) / (args->normed ? taken : all);
        assert_true(fabs((double)args->weight[(size_t)row * args->used + i] - want) <= 1e-5);
    }
}

static void route_round(const struct kern_ops *ops, struct check_random *random,
                        enum kern_dtype dtype)
{
    const uint32_t rows = check_between(random, 1, 5);
    const uint32_t experts = check_between(random, 1, 40);
    const uint32_t used = check_between(random, 1, experts < 32 ? experts : 32);
    const enum check_fill fill = check_between(random, 0, CHECK_FILLS - 1);
    const size_t choices = (size_t)rows * used;
    float *logits = check_floats(random, fill, (size_t)rows * experts);
    uint32_t *expert = check_alloc(choices * sizeof *expert);
    float *weight = check_alloc(choices * sizeof *weight);
    const struct kern_route_args args = {logits, expert, weight, experts, used, dtype == KERN_BF16};
    for (uint32_t r = 0; r < rows; r++) { /* Equal logits somewhere. */
        logits[(size_t)r * experts + check_between(random, 0, experts - 1)] = logits[r * experts];
    }
    ops->route(&args, rows / 2, rows - rows / 2);
    ops->route(&args, 0, rows / 2);
    for (uint32_t r = 0; r < rows; r++) {
        assert_routed(&args, r);
    }
    /* What is no number still gives experts that exist, each once. */
    for (uint32_t e = 0; e < experts; e++) {
        logits[e] = check_between(random, 0, 1) ? NAN : logits[e];
    }
    ops->route(&args, 0, 1);
    for (uint32_t i = 0; i < used; i++) {
        assert_true(expert[i] < experts);
        for (uint32_t j = 0; j < i; j++) {
            assert_int_not_equal(expert[i], expert[j]);
        }
    }
    free(logits);
    free(expert);
    free(weight);
}

void check_route(void **state)
{
    (void)state;
    check_spellings(route_round, CHECK_ROUNDS);
}

static void combine_round(const struct kern_ops *ops, struct check_random *random,
                          enum kern_dtype dtype)
{
    const uint32_t rows = check_between(random, 1, 5);
    const uint32_t cols = check_between(random, 1, 100);
    const uint32_t used = check_between(random, 1, 9);
    const uint32_t slots = check_between(random, 1, 60);
    const size_t count = (size_t)rows * cols;
    float *y = check_floats(random, CHECK_FILL_UNIT, (size_t)slots * cols);
    float *weight = check_floats(random, CHECK_FILL_UNIT, (size_t)rows * used);
    float *want = check_floats(random, CHECK_FILL_UNIT, count);
    float *got = check_alloc(count * sizeof *got);
    uint32_t slot[5 * 9];
    (void)dtype; /* All of it is float. */
    memcpy(got, want, count * sizeof *got);
    for (uint32_t i = 0; i < rows * used; i++) {
        slot[i] = check_between(random, 0, slots - 1);
    }
    struct kern_combine_args args = {y, slot, weight, want, cols, used};
    ref_combine(&args, 0, rows);
    args.x = got;
    for (uint32_t r = 0; r < rows; r++) {
        ops->combine(&args, r, 1);
    }
    check_close(got, want, count, KERN_F32, 1e-6f, 4);
    free(y);
    free(weight);
    free(want);
    free(got);
}

void check_combine(void **state)
{
    (void)state;
    check_spellings(combine_round, CHECK_ROUNDS);
}

static void logits_round(const struct kern_ops *ops, struct check_random *random,
                         enum kern_dtype dtype)
{
    const uint32_t vocab = check_between(random, 1, 700);
    float *logits = check_floats(random, check_between(random, 0, CHECK_FILLS - 1), vocab);
    struct kern_softmax_stats want;
    struct kern_softmax_stats got;
    struct kern_logits_args args = {logits, vocab, &want};
    (void)dtype; /* Logits are float whatever the model is. */
    /* Two equal largest values: the smaller id wins, wherever the two stand. */
    logits[check_between(random, 0, vocab - 1)] = 95;
    logits[check_between(random, 0, vocab - 1)] = 95;
    ref_logits(&args);
    args.stats = &got;
    ops->logits(&args);
    assert_true(got.finite && want.finite);
    assert_int_equal(got.argmax, want.argmax);
    check_close(&got.max, &want.max, 1, KERN_F32, 0, 0);
    check_close(&got.sum, &want.sum, 1, KERN_F32, 1e-5f, 1);
    static const uint32_t odd[] = {0x7fc00000, 0x7f800001, 0x7f800000, 0xff800000, 0xffc00000};
    memcpy(&logits[check_between(random, 0, vocab - 1)], &odd[check_between(random, 0, 4)], 4);
    ops->logits(&args);
    assert_false(got.finite);
    args.stats = &want;
    ref_logits(&args);
    assert_false(want.finite);
    free(logits);
}

void check_logits(void **state)
{
    (void)state;
    check_spellings(logits_round, CHECK_ROUNDS);
}

/* Equal to the last bit: odds are integers. */
static void odds_round(const struct kern_ops *ops, struct check_random *random,
                       enum kern_dtype dtype)
{
    static const float temperatures[] = {1e-6f, 0.3f, 0.7f, 1.0f, 3.0f};
    const uint32_t count = check_between(random, 1, 700);
    float *values = check_floats(random, check_between(random, 0, CHECK_FILLS - 1), count);
    uint64_t *want = check_alloc(count * sizeof *want);
    uint64_t *got = check_alloc(count * sizeof *got);
    float max = values[0];
    (void)dtype; /* Logits are float whatever the model is. */
    for (uint32_t i = 1; i < count; i++) {
        max = fmaxf(max, values[i]);
    }
    values[check_between(random, 0, count - 1)] = max;
    values[check_between(random, 0, count - 1)] = -INFINITY; /* Taken out by its request. */
    struct kern_odds_args args = {
        .values = values,
        .odds = want,
        .max = max,
        .coldness = choice_coldness(temperatures[check_between(random, 0, 4)]),
        .count = count,
    };
    ref_odds(&args);
    args.odds = got;
    ops->odds(&args);
    assert_memory_equal(got, want, count * sizeof *got);
    free(values);
    free(want);
    free(got);
}

void check_odds(void **state)
{
    (void)state;
    check_spellings(odds_round, CHECK_ROUNDS);
}

static void embed_round(const struct kern_ops *ops, struct check_random *random,
                        enum kern_dtype dtype)
{
    const uint32_t rows = check_between(random, 1, 9);
    const uint32_t cols = check_between(random, 1, 100);
    const uint32_t vocab = check_between(random, 1, 30);
    void *table = check_acts(random, CHECK_FILL_WIDE, (size_t)vocab * cols, dtype);
    float *want = check_alloc((size_t)rows * cols * sizeof *want);
    float *got = check_alloc((size_t)rows * cols * sizeof *got);
    uint32_t ids[9];
    for (uint32_t r = 0; r < rows; r++) {
        ids[r] = check_between(random, 0, vocab - 1);
    }
    struct kern_embed_args args = {table, ids, want, cols, dtype};
    ref_embed(&args, 0, rows);
    args.x = got;
    ops->embed(&args, 0, rows);
    assert_memory_equal(got, want, (size_t)rows * cols * sizeof *got);
    free(table);
    free(want);
    free(got);
}

void check_embed(void **state)
{
    (void)state;
    check_spellings(embed_round, CHECK_ROUNDS);
}
