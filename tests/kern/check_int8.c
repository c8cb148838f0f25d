/*
 * check_int8.c - checks of eight-bit products: rows to eight bits by their definition and in every
 * spelling, sums back to float, and whole products against integer sums of our own. Runs in the
 * process of check.c. Invariant: everything here is equal to the last bit, in any batch.
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
#include "kernels/ref/ref.h"
#include "tests/kern/check.h"

enum { CHECK_ROUNDS = 40, CHECK_ROWS_MAX = 150 };

/* Of a finite row: the largest is +-127, each value is at most half a scale away. */
static void expect_definition(const struct kern_quantise_args *args, size_t row)
{
    float most = 0;
    int largest = 0;
    for (size_t c = 0; c < args->cols; c++) {
        const float x = act_load(args->x, row * args->cols + c, args->dtype);
        const int q = args->q[row * args->cols + c];
        most = fmaxf(most, fabsf(x));
        largest = abs(q) > largest ? abs(q) : largest;
        assert_true(fabsf((float)q * args->scale[row] - x) <= 0.5001f * args->scale[row] + 1e-35f);
    }
    assert_int_equal(largest, most < KERN_QUANTISE_MIN ? 0 : 127);
}

static void quantise_round(const struct kern_ops *ops, struct check_random *random,
                           enum kern_dtype dtype)
{
    const uint32_t rows = check_between(random, 1, 5);
    const uint32_t cols = check_between(random, 1, 200);
    const size_t count = (size_t)rows * cols;
    void *x = check_acts(random, check_between(random, 0, CHECK_FILLS - 1), count, dtype);
    int8_t *want = check_alloc(count);
    int8_t *got = check_alloc(count);
    float want_scale[5];
    float got_scale[5];
    struct kern_quantise_args args = {x, want, want_scale, cols, dtype};
    ref_quantise(&args, 0, rows);
    for (size_t r = 0; r < rows; r++) {
        expect_definition(&args, r);
    }
    static const float odd[] = {INFINITY, -INFINITY, NAN, -NAN, 1};
    act_store(x, check_between(random, 0, cols - 1), odd[check_between(random, 0, 4)], dtype);
    ref_quantise(&args, 0, rows);
    args.q = got;
    args.scale = got_scale;
    for (uint32_t r = rows; r-- > 0;) {
        ops->quantise(&args, r, 1);
    }
    assert_memory_equal(got, want, count);
    for (size_t r = 0; r < rows; r++) {
        assert_true(got_scale[r] == want_scale[r] || (isnan(got_scale[r]) && isnan(want_scale[r])));
    }
    free(x);
    free(want);
    free(got);
}

void check_quantise(void **state)
{
    (void)state;
    check_spellings(quantise_round, CHECK_ROUNDS);
    /* A row with one value that is no number is zero, and says so. */
    const float x[3] = {1, NAN, 2};
    int8_t q[3] = {1, 1, 1};
    float scale = 0;
    const struct kern_quantise_args args = {x, q, &scale, 3, KERN_F32};
    ref_quantise(&args, 0, 1);
    assert_true(q[0] == 0 && q[1] == 0 && q[2] == 0 && isnan(scale));
}

static void rescale_round(const struct kern_ops *ops, struct check_random *random,
                          enum kern_dtype dtype)
{
    const uint32_t rows = check_between(random, 1, 5);
    const uint32_t cols = check_between(random, 1, 100);
    const size_t stride = cols + check_between(random, 0, 9);
    int32_t *sum = check_alloc(rows * (size_t)cols * sizeof *sum);
    for (size_t i = 0; i < (size_t)rows * cols; i++) {
        sum[i] = (int32_t)check_between(random, 0, UINT32_MAX - 1);
    }
    float *row_scale = check_floats(random, CHECK_FILL_UNIT, rows);
    float *column_scale = check_floats(random, CHECK_FILL_UNIT, cols);
    float *want = check_floats(random, CHECK_FILL_WIDE, rows * stride);
    float *got = check_alloc(rows * stride * sizeof *got);
    memcpy(got, want, rows * stride * sizeof *got);
    const bool accumulate = dtype == KERN_F32; /* Of no use here but for a coin. */
    struct kern_rescale_args args = {sum, row_scale, column_scale, want, stride, cols, accumulate};
    ref_rescale(&args, 0, rows);
    args.y = got;
    ops->rescale(&args, 0, rows);
    assert_memory_equal(got, want, rows * stride * sizeof *got);
    free(sum);
    free(row_scale);
    free(column_scale);
    free(want);
    free(got);
}

void check_rescale(void **state)
{
    (void)state;
    check_spellings(rescale_round, CHECK_ROUNDS);
}

struct int8_case {
    struct matmul_options options;
    struct matmul_shape *shape;
    struct matmul_weight *weight;
    int8_t *w; /* [n][k] */
    float *w_scale;
    void *scratch;
};

/* False where this CPU has no such product. */
static bool case_open(struct int8_case *test, struct check_random *random, enum kern_dtype dtype)
{
    test->options = (struct matmul_options){
        .n = check_between(random, 1, 210),
        .k = check_between(random, 1, 700),
        .slices = check_between(random, 1, 4),
        .rows_max = CHECK_ROWS_MAX,
        .dtype = dtype,
        .weights = MATMUL_WEIGHTS_INT8,
    };
    const int code = matmul_shape_open(&test->shape, &test->options);
    if (code) {
        assert_int_equal(code, -ENOTSUP);
        assert_false(kern_isa_detect() & KERN_ISA_AVX512_VNNI);
        return false;
    }
    const size_t k = test->options.k;
    const size_t n = test->options.n;
    float *w = check_floats(random, CHECK_FILL_UNIT, n * k);
    test->w = check_alloc(n * k);
    test->w_scale = check_alloc(n * sizeof *test->w_scale);
    const struct kern_quantise_args args = {w, test->w, test->w_scale, test->options.k, KERN_F32};
    ref_quantise(&args, 0, test->options.n);
    assert_int_equal(matmul_weight_open(&test->weight, test->shape), 0);
    for (uint32_t s = 0; s < matmul_shape_slices(test->shape); s++) {
        const float *rows = w + matmul_slice_first(test->shape, s) * k;
        assert_int_equal(matmul_weight_pack(test->weight, s, rows), 0);
    }
    test->scratch = aligned_alloc(64, (matmul_scratch_bytes(test->shape) + 63) & ~(size_t)63);
    assert_non_null(test->scratch);
    free(w);
    return true;
}

static void case_close(struct int8_case *test)
{
    matmul_weight_close(test->weight);
    matmul_shape_close(test->shape);
    free(test->w);
    free(test->w_scale);
    free(test->scratch);
}

/* By the row alone: what other rows the call had cannot matter. */
static void expect_row(const struct int8_case *test, const void *x, const float *y, float before)
{
    const uint32_t k = test->options.k;
    int8_t *q = check_alloc(k);
    float scale;
    const struct kern_quantise_args quantise = {x, q, &scale, k, test->options.dtype};
    ref_quantise(&quantise, 0, 1);
    for (size_t c = 0; c < test->options.n; c++) {
        int32_t sum = 0;
        for (size_t i = 0; i < k; i++) {
            sum += q[i] * test->w[c * k + i];
        }
        float want = before;
        const struct kern_rescale_args rescale = {&sum, &scale, &test->w_scale[c], &want,
                                                  1,    1,      before != 0};
        ref_rescale(&rescale, 0, 1);
        if (memcmp(&want, &y[c], sizeof want) != 0) {
            fail_msg("n %u k %u, column %zu: got %.9g, want %.9g", test->options.n, k, c,
                     (double)y[c], (double)want);
        }
    }
    free(q);
}

static void product_round(uint64_t seed, enum kern_dtype dtype)
{
    struct check_random random = {.seed = seed};
    struct int8_case test = {0};
    if (!case_open(&test, &random, dtype)) {
        return;
    }
    const uint32_t m = check_between(&random, 1, CHECK_ROWS_MAX);
    const size_t n = test.options.n;
    const size_t row_bytes = test.options.k * kern_dtype_bytes(dtype);
    /* Exactly m rows: a product of eight bits reads no further. */
    uint8_t *x = check_acts(&random, check_between(&random, 0, CHECK_FILLS - 1),
                            (size_t)m * test.options.k, dtype);
    float *y = check_alloc(m * n * sizeof *y);
    for (float before = 0; before <= 3; before += 3) {
        const struct matmul_args args = {test.weight, x, y, m, before != 0, test.scratch};
        for (size_t i = 0; i < m * n; i++) {
            y[i] = before;
        }
        for (uint32_t s = matmul_shape_slices(test.shape); s-- > 0;) {
            matmul_run(&args, s);
        }
        for (size_t r = 0; r < m; r++) {
            expect_row(&test, x + r * row_bytes, y + r * n, before);
        }
    }
    free(x);
    free(y);
    case_close(&test);
}

void check_matmul_int8(void **state)
{
    (void)state;
    if (!(kern_isa_detect() & KERN_ISA_AVX512_VNNI)) {
        print_message("eight-bit products: this CPU has none, only the refusal is checked\n");
    }
    for (uint64_t seed = 0; seed < CHECK_ROUNDS; seed++) {
        product_round(seed, seed % 2 ? KERN_BF16 : KERN_F32);
    }
    const struct matmul_options wide = {.n = 1,
                                        .k = MATMUL_INT8_K_MAX + 1,
                                        .slices = 1,
                                        .rows_max = 1,
                                        .weights = MATMUL_WEIGHTS_INT8};
    struct matmul_shape *shape = NULL;
    assert_int_equal(matmul_shape_open(&shape, &wide), -ENOTSUP);
}
