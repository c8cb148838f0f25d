/*
 * check_cuda_logits.c - checks of the CUDA kernels that choose: the stats of logits, with equals
 * and with what is no number, and the route of tokens to experts. Runs in the process of
 * check_cuda.c. Invariant: a choice is the same as ref's, not nearly so.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/bf16.h"
#include "kernels/cuda/logits_cuda.h"
#include "kernels/cuda/route_cuda.h"
#include "kernels/ref/ref.h"
#include "tests/kern/check_cuda.h"

enum { ROUNDS = 8, ROWS_SPARE = 2 };

/* Two equal values, in one part of the row or in two, that may be the largest; sometimes one that
 * is no number. */
static void spoil(struct check_random *random, float *logits, uint32_t vocab)
{
    static const float tops[] = {95, 0.5f, -0.25f};
    const float top = tops[check_between(random, 0, 2)];
    static const uint32_t odd[] = {0x7fc00000, 0x7f800001, 0x7f800000, 0xff800000, 0xffc00000};
    logits[check_between(random, 0, vocab - 1)] = top;
    logits[check_between(random, 0, vocab - 1)] = top;
    if (check_between(random, 0, 2) == 0) {
        memcpy(&logits[check_between(random, 0, vocab - 1)], &odd[check_between(random, 0, 4)], 4);
    }
}

static void assert_stats(const float *logits, uint32_t vocab, const struct cuda_logits_stats *got)
{
    struct kern_softmax_stats want;
    const struct kern_logits_args spec = {logits, vocab, &want};
    double sum = 0; /* ref adds 20,000 floats one after the other, and is the coarser of the two. */
    ref_logits(&spec);
    assert_int_equal(got->finite, want.finite);
    for (uint32_t i = 0; i < vocab; i++) {
        sum += exp((double)logits[i] - (double)want.max);
    }
    if (want.finite) {
        const float exact = (float)sum;
        assert_int_equal(got->argmax, want.argmax);
        check_close(&got->max, &want.max, 1, KERN_F32, 0, 0);
        check_close(&got->sum, &exact, 1, KERN_F32, 2e-6f, 1);
    }
}

static void logits_round(struct check_cuda *check)
{
    struct check_random *random = &check->random;
    const uint32_t rows = check_between(random, 0, 3);
    const uint32_t any = check_between(random, 1, 20000);
    const uint32_t vocab = check_between(random, 0, 1) ? any : (any + 3) / 4 * 4;
    const uint32_t parts = cuda_logits_parts(vocab);
    const size_t room = rows + ROWS_SPARE;
    float *logits = check_floats(random, check_between(random, 0, CHECK_FILLS - 1), room * vocab);
    struct cuda_logits_stats *stats = check_alloc(room * sizeof *stats);
    struct cuda_logits_stats *scratch = check_alloc(room * parts * sizeof *scratch);
    const struct cuda_logits_args args = {.logits = logits,
                                          .stats = stats,
                                          .scratch = scratch,
                                          .rows = &rows,
                                          .rows_max = rows + ROWS_SPARE,
                                          .vocab = vocab,
                                          .ctas = check->ctas};
    for (uint32_t r = 0; r < rows; r++) {
        spoil(random, logits + (size_t)r * vocab, vocab);
    }
    assert_int_equal(cuda_logits(&args, check->stream), 0);
    for (uint32_t r = 0; r < rows; r++) {
        assert_stats(logits + (size_t)r * vocab, vocab, &stats[r]);
    }
    check_cuda_result(check, stats, room * sizeof *stats);
    free(logits);
    free(stats);
    free(scratch);
}

void check_cuda_logits(void **state)
{
    (void)state;
    check_cuda_schedules(logits_round, ROUNDS);
}

struct route {
    uint32_t *expert;
    float *weight;
};

static struct route route_alloc(size_t choices)
{
    return (struct route){check_alloc(choices * sizeof(uint32_t)),
                          check_alloc(choices * sizeof(float))};
}

static void route_free(struct route *route)
{
    free(route->expert);
    free(route->weight);
}

static void assert_ids(const uint32_t *expert, uint32_t used, uint32_t experts)
{
    for (uint32_t i = 0; i < used; i++) {
        assert_true(expert[i] < experts);
        for (uint32_t j = 0; j < i; j++) {
            assert_int_not_equal(expert[i], expert[j]);
        }
    }
}

static void route_round(struct check_cuda *check)
{
    static const float odd[] = {NAN, INFINITY, -INFINITY};
    struct check_random *random = &check->random;
    const uint32_t rows = check_between(random, 1, 20);
    const uint32_t experts = check_between(random, 1, 140);
    const uint32_t used = check_between(random, 1, experts < 32 ? experts : 32);
    const size_t choices = (size_t)rows * used;
    const enum check_fill fill = check_between(random, 0, CHECK_FILLS - 1);
    float *logits = check_floats(random, fill, (size_t)rows * experts);
    struct route want = route_alloc(choices);
    struct route got = route_alloc(choices);
    for (uint32_t r = 0; r < rows; r++) { /* Equal logits somewhere. */
        logits[(size_t)r * experts + check_between(random, 0, experts - 1)] = logits[r * experts];
    }
    const struct kern_route_args spec = {.logits = logits,
                                         .expert = want.expert,
                                         .weight = want.weight,
                                         .experts = experts,
                                         .used = used,
                                         .normed = check->dtype};
    const struct cuda_route_args args = {.logits = logits,
                                         .expert = got.expert,
                                         .weight = got.weight,
                                         .rows = &rows,
                                         .rows_max = rows,
                                         .experts = experts,
                                         .used = used,
                                         .normed = check->dtype,
                                         .ctas = check->ctas};
    ref_route(&spec, 0, rows);
    assert_int_equal(cuda_route(&args, check->stream), 0);
    assert_memory_equal(got.expert, want.expert, choices * sizeof *got.expert);
    check_close(got.weight, want.weight, choices, KERN_F32, 1e-5f, 1e-3f);
    check_cuda_result(check, got.weight, choices * sizeof *got.weight);
    for (uint32_t e = 0; e < experts; e++) { /* Experts that exist, each once, whatever comes. */
        logits[e] = check_between(random, 0, 1) ? odd[check_between(random, 0, 2)] : logits[e];
    }
    assert_int_equal(cuda_route(&args, check->stream), 0);
    assert_ids(got.expert, used, experts);
    free(logits);
    route_free(&want);
    route_free(&got);
}

void check_cuda_route(void **state)
{
    (void)state;
    check_cuda_schedules(route_round, ROUNDS);
}

static void combine_round(struct check_cuda *check)
{
    struct check_random *random = &check->random;
    const uint32_t rows = check_between(random, 0, 5);
    const uint32_t cols = check_between(random, 1, 1500) * (check_between(random, 0, 1) ? 4 : 1);
    const uint32_t used = check_between(random, 1, 9);
    const uint32_t slots = check_between(random, 1, 60);
    const size_t room = (size_t)(rows + ROWS_SPARE) * cols;
    const size_t choices = (size_t)(rows + ROWS_SPARE) * used;
    void *acts = check_acts(random, CHECK_FILL_UNIT, (size_t)slots * cols, check->dtype);
    float *y = check_alloc((size_t)slots * cols * sizeof *y);
    float *weight = check_floats(random, CHECK_FILL_UNIT, choices);
    float *want = check_floats(random, CHECK_FILL_UNIT, room);
    float *got = check_alloc(room * sizeof *got);
    uint32_t *slot = check_alloc(choices * sizeof *slot);
    memcpy(got, want, room * sizeof *got);
    for (size_t i = 0; i < (size_t)slots * cols; i++) {
        y[i] = act_load(acts, i, check->dtype);
    }
    for (size_t i = 0; i < (size_t)rows * used; i++) {
        slot[i] = check_between(random, 0, slots - 1);
    }
    const struct kern_combine_args spec = {y, slot, weight, want, cols, used};
    const struct cuda_combine_args args = {.y = acts,
                                           .slot = slot,
                                           .weight = weight,
                                           .x = got,
                                           .rows = &rows,
                                           .rows_max = rows + ROWS_SPARE,
                                           .cols = cols,
                                           .used = used,
                                           .ctas = check->ctas,
                                           .dtype = check->dtype};
    ref_combine(&spec, 0, rows);
    assert_int_equal(cuda_combine(&args, check->stream), 0);
    check_cuda_result(check, got, room * sizeof *got);
    check_close(got, want, room, KERN_F32, 1e-6f, 4);
    free(acts);
    free(y);
    free(weight);
    free(want);
    free(got);
    free(slot);
}

void check_cuda_combine(void **state)
{
    (void)state;
    check_cuda_schedules(combine_round, ROUNDS);
}
