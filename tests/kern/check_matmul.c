/*
 * check_matmul.c - checks of products against a sum in double, with shapes that are multiples of
 * nothing, NaN in the rows that a call may read past m, and every slice. Runs in the process of
 * check.c. Invariant: in float a row has the same bits alone and in any place of any batch.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/bf16.h"
#include "kernels/matmul.h"
#include "tests/kern/check.h"

enum { CHECK_ROUNDS = 24, CHECK_ROWS_MAX = 150 };

struct product_case {
    struct matmul_options options;
    struct matmul_shape *shape;
    struct matmul_weight *weight;
    float *w;
    void *scratch;
};

/* False where this CPU has no such product. */
static bool case_open(struct product_case *test, struct check_random *random, enum kern_dtype dtype)
{
    test->options = (struct matmul_options){
        .n = check_between(random, 1, 210),
        .k = check_between(random, 1, 210),
        .slices = check_between(random, 1, 4),
        .rows_max = CHECK_ROWS_MAX,
        .dtype = dtype,
    };
    const int code = matmul_shape_open(&test->shape, &test->options);
    if (code) {
        assert_int_equal(code, -ENOTSUP);
        assert_int_equal(dtype, KERN_BF16);
        return false;
    }
    const size_t k = test->options.k;
    test->w = check_floats(random, CHECK_FILL_UNIT, test->options.n * k);
    for (size_t i = 0; dtype == KERN_BF16 && i < test->options.n * k; i++) {
        test->w[i] = bf16_to_float(bf16_from_float(test->w[i]));
    }
    assert_int_equal(matmul_weight_open(&test->weight, test->shape), 0);
    for (uint32_t s = 0; s < matmul_shape_slices(test->shape); s++) {
        const float *rows = test->w + matmul_slice_first(test->shape, s) * k;
        assert_int_equal(matmul_weight_pack(test->weight, s, rows), 0);
    }
    const size_t bytes = (matmul_scratch_bytes(test->shape) + 63) & ~(size_t)63;
    test->scratch = aligned_alloc(64, bytes);
    assert_non_null(test->scratch);
    return true;
}

static void case_close(struct product_case *test)
{
    matmul_weight_close(test->weight);
    matmul_shape_close(test->shape);
    free(test->w);
    free(test->scratch);
}

/* m rows of values, then NaN as far as a call may read. */
static void *padded_rows(const struct product_case *test, const void *values, uint32_t m)
{
    const size_t row_bytes = test->options.k * kern_dtype_bytes(test->options.dtype);
    void *x = check_alloc(matmul_rows_padded(test->shape, m) * row_bytes);
    memcpy(x, values, m * row_bytes);
    return x;
}

static void case_run(const struct product_case *test, const void *x, float *y, uint32_t m,
                     bool accumulate)
{
    const struct matmul_args args = {test->weight, x, y, m, accumulate, test->scratch};
    for (uint32_t s = matmul_shape_slices(test->shape); s-- > 0;) {
        matmul_run(&args, s);
    }
}

static void expect_product(const struct product_case *test, const void *x, const float *y,
                           uint32_t m, float before)
{
    for (size_t r = 0; r < m; r++) {
        for (size_t c = 0; c < test->options.n; c++) {
            double sum = (double)before;
            double size = 1;
            for (size_t i = 0; i < test->options.k; i++) {
                const double a = (double)act_load(x, r * test->options.k + i, test->options.dtype);
                const double b = (double)test->w[c * test->options.k + i];
                sum += a * b;
                size += fabs(a * b);
            }
            const double got = (double)y[r * test->options.n + c];
            if (!(fabs(got - sum) <= 2e-6 * size)) {
                fail_msg("m %u n %u k %u, row %zu column %zu: got %.9g, want %.9g", m,
                         test->options.n, test->options.k, r, c, got, sum);
            }
        }
    }
}

static void product_round(uint64_t seed, enum kern_dtype dtype)
{
    struct check_random random = {.seed = seed};
    struct product_case test = {0};
    if (!case_open(&test, &random, dtype)) {
        return;
    }
    const uint32_t m = check_between(&random, 1, CHECK_ROWS_MAX);
    const size_t n = test.options.n;
    void *values = check_acts(&random, CHECK_FILL_UNIT, (size_t)m * test.options.k, dtype);
    void *x = padded_rows(&test, values, m);
    float *y = check_alloc(m * n * sizeof *y);
    case_run(&test, x, y, m, false);
    expect_product(&test, x, y, m, 0);
    for (size_t i = 0; i < m * n; i++) {
        y[i] = 3;
    }
    case_run(&test, x, y, m, true);
    expect_product(&test, x, y, m, 3);
    free(values);
    free(x);
    free(y);
    case_close(&test);
}

void check_matmul(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < CHECK_ROUNDS; seed++) {
        product_round(seed, KERN_F32);
        product_round(seed, KERN_BF16);
    }
}

void check_matmul_alone(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < CHECK_ROUNDS; seed++) {
        struct check_random random = {.seed = seed};
        struct product_case test = {0};
        assert_true(case_open(&test, &random, KERN_F32));
        const uint32_t m = check_between(&random, 2, CHECK_ROWS_MAX);
        const size_t n = test.options.n;
        const size_t k = test.options.k;
        float *values = check_floats(&random, CHECK_FILL_WIDE, m * k);
        void *x = padded_rows(&test, values, m);
        float *y = check_alloc(m * n * sizeof *y);
        float *alone = check_alloc(n * sizeof *alone);
        case_run(&test, x, y, m, false);
        for (uint32_t r = 0; r < m; r++) {
            void *row = padded_rows(&test, values + r * k, 1);
            case_run(&test, row, alone, 1, false);
            assert_memory_equal(alone, y + r * n, n * sizeof *alone);
            free(row);
        }
        free(values);
        free(x);
        free(y);
        free(alone);
        case_close(&test);
    }
}
