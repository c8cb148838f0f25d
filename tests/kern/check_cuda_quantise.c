/*
 * check_cuda_quantise.c - checks of the kernel that makes rows of e4m3: drawn rows, and with them
 * rows of zeros, rows too small for a scale, infinity and NaN. Runs in the process of check_cuda.c.
 * Invariant: what is expected comes from kernels/e4m3.h, which has a test of its own.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/bf16.h"
#include "kernels/cuda/quantise_cuda.h"
#include "kernels/e4m3.h"
#include "tests/kern/check_cuda.h"

enum { ROUNDS = 12, ROWS_SPARE = 3 };

/* Fewer than the threads of a block, or more. */
static uint32_t draw_cols(struct check_random *random)
{
    const uint32_t cols = check_between(random, 1, check_between(random, 0, 1) ? 200 : 2500);
    return check_between(random, 0, 1) ? cols : (cols + 3) / 4 * 4;
}

/* A row by its definition; what is no number stays none. */
static void expect_row(const float *x, const uint8_t *q, float scale, uint32_t cols)
{
    float largest = 0;
    for (uint32_t c = 0; c < cols; c++) {
        largest = fmaxf(largest, fabsf(x[c]));
    }
    assert_true(scale == e4m3_scale(largest));
    for (uint32_t c = 0; c < cols; c++) {
        const float value = e4m3_to_float(q[c]);
        if (isnan(x[c]) || isinf(x[c])) {
            assert_true(isnan(value));
        } else if (!isinf(largest)) {
            assert_int_equal(q[c], e4m3_from_float(x[c] * e4m3_inverse(largest)));
            assert_true(fabsf(value * scale - x[c]) <= fabsf(x[c]) / 15 + scale / 512 + 1e-30f);
        }
    }
}

static void quantise_round(struct check_cuda *check)
{
    struct check_random *random = &check->random;
    const uint32_t rows = check_between(random, 0, 5);
    const uint32_t cols = draw_cols(random);
    const size_t room = (size_t)(rows + ROWS_SPARE) * cols;
    void *x = check_acts(random, check_between(random, 0, CHECK_FILLS - 1), room, check->dtype);
    float *floats = check_alloc(room * sizeof *floats);
    uint8_t *got = check_alloc(room);
    uint8_t *untouched = check_alloc(room);
    float scale[8] = {-1, -1, -1, -1, -1, -1, -1, -1};
    const struct cuda_quantise_args args = {.x = x,
                                            .q = got,
                                            .scale = scale,
                                            .rows = &rows,
                                            .rows_max = rows + ROWS_SPARE,
                                            .cols = cols,
                                            .ctas = check->ctas,
                                            .dtype = check->dtype};
    for (uint32_t r = 0; r < rows; r++) { /* A row of zeros, one that is tiny, one with a NaN. */
        const size_t last = (size_t)(r + 1) * cols - 1;
        const uint32_t kind = check_between(random, 0, 5);
        for (size_t i = (size_t)r * cols; i <= last && kind < 2; i++) {
            act_store(x, i, kind > 0 ? 1e-31f : 0, check->dtype);
        }
        if (kind == 2 || kind == 3) {
            act_store(x, last - check_between(random, 0, cols - 1), kind > 2 ? NAN : INFINITY,
                      check->dtype);
        }
    }
    for (size_t i = 0; i < room; i++) {
        floats[i] = act_load(x, i, check->dtype);
    }
    assert_int_equal(cuda_quantise(&args, check->stream), 0);
    check_cuda_result(check, got, room);
    check_cuda_result(check, scale, rows * sizeof *scale);
    for (uint32_t r = 0; r < rows; r++) {
        expect_row(floats + (size_t)r * cols, got + (size_t)r * cols, scale[r], cols);
    }
    assert_memory_equal(got + (size_t)rows * cols, untouched + (size_t)rows * cols,
                        (size_t)ROWS_SPARE * cols);
    assert_true(scale[rows] == -1);
    free(x);
    free(floats);
    free(got);
    free(untouched);
}

void check_cuda_quantise(void **state)
{
    (void)state;
    check_cuda_schedules(quantise_round, 3 * ROUNDS);
}
