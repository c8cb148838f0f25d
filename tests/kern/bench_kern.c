/*
 * bench_kern.c - rates of products and attention on the shapes of SmolLM2-135M, one thread. Called
 * by `kern_check bench`; asserts nothing, prints one line a case: best of some rounds. Two copies
 * of the program at a time show what two cores share. Owns its buffers. Invariant: weights are
 * walked over enough copies that they come from memory, as in a real step.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "kernels/matmul.h"
#include "tests/kern/check.h"

enum { BENCH_ROUNDS = 5, BENCH_COPIES_MAX = 400, BENCH_BYTES = 192 << 20 };

enum product { PRODUCT_F32, PRODUCT_BF16, PRODUCT_INT8 }; /* Eight bits: with x in bf16. */

static void bench_product(uint32_t n, uint32_t k, uint32_t m, enum product product)
{
    static const char *const names[] = {"f32 ", "bf16", "int8"};
    const enum kern_dtype dtype = product == PRODUCT_F32 ? KERN_F32 : KERN_BF16;
    const size_t copies = BENCH_BYTES / ((size_t)n * k * kern_dtype_bytes(dtype)) + 1;
    const struct matmul_options options = {
        n, k, 1, m, dtype, product == PRODUCT_INT8 ? MATMUL_WEIGHTS_INT8 : MATMUL_WEIGHTS_DTYPE};
    struct check_random random = {.seed = 1};
    struct matmul_weight *weights[BENCH_COPIES_MAX];
    struct matmul_shape *shape;
    if (matmul_shape_open(&shape, &options)) {
        (void)printf("product n %u k %u: this CPU has none\n", n, k);
        return;
    }
    assert_true(copies <= BENCH_COPIES_MAX);
    float *w = check_floats(&random, CHECK_FILL_UNIT, (size_t)n * k);
    for (size_t i = 0; i < copies; i++) {
        assert_int_equal(matmul_weight_open(&weights[i], shape), 0);
        assert_int_equal(matmul_weight_pack(weights[i], 0, w), 0);
    }
    const uint32_t rows = matmul_rows_padded(shape, m);
    void *x = check_acts(&random, CHECK_FILL_UNIT, (size_t)rows * k, dtype);
    float *y = check_alloc((size_t)rows * n * sizeof *y);
    void *scratch = aligned_alloc(64, matmul_scratch_bytes(shape));
    uint64_t best_ns = UINT64_MAX;
    for (int round = 0; round < BENCH_ROUNDS; round++) {
        const uint64_t start_ns = clock_now_ns();
        for (size_t i = 0; i < copies; i++) {
            const struct matmul_args args = {weights[i], x, y, m, false, scratch};
            matmul_run(&args, 0);
        }
        const uint64_t ns = (clock_now_ns() - start_ns) / copies;
        best_ns = ns < best_ns ? ns : best_ns;
    }
    (void)printf("product %s m %4u n %5u k %4u: %9.1f us %7.1f GFLOP/s %6.1f GB/s of weights\n",
                 names[product], m, n, k, (double)best_ns / 1e3, 2.0 * m * n * k / (double)best_ns,
                 (double)matmul_weight_bytes(weights[0]) / (double)best_ns);
    for (size_t i = 0; i < copies; i++) {
        matmul_weight_close(weights[i]);
    }
    matmul_shape_close(shape);
    free(w);
    free(x);
    free(y);
    free(scratch);
}

/* `rows` last rows of each of `sequences` sequences with `tokens` tokens, 9 heads on 3 of 64. */
static void bench_attend(uint32_t sequences, uint32_t tokens, uint32_t rows, enum kern_dtype dtype)
{
    enum { HEADS = 9, KV_HEADS = 3, DIM = 64, PAGE_TOKENS = 16 };
    struct check_random random = {.seed = 1};
    const uint32_t pages = (tokens + PAGE_TOKENS - 1) / PAGE_TOKENS;
    const size_t page_bytes = kern_kv_page_bytes(dtype, PAGE_TOKENS, KV_HEADS, DIM);
    const size_t items_count = (size_t)sequences * KV_HEADS * ((rows + 31) / 32);
    const size_t outputs = (size_t)sequences * rows * HEADS * DIM;
    uint32_t *table = check_alloc((size_t)sequences * pages * sizeof *table);
    struct kern_sequence *sequence = check_alloc(sequences * sizeof *sequence);
    struct kern_attend_item *items = check_alloc(items_count * sizeof *items);
    struct kern_ops ops;
    size_t count = 0;
    for (uint32_t s = 0; s < sequences; s++) {
        sequence[s] =
            (struct kern_sequence){table + (size_t)s * pages, s * rows, rows, tokens - rows, 0};
        for (uint32_t p = 0; p < pages; p++) {
            table[(size_t)s * pages + p] = s * pages + p;
        }
        for (uint32_t i = 0; i < rows * KV_HEADS; i += 32 < rows ? 32 : rows) {
            const uint32_t first = i % rows;
            const uint32_t left = rows - first;
            items[count++] = (struct kern_attend_item){s, first, left < 32 ? left : 32, i / rows};
        }
    }
    struct kern_attend_args args = {
        .q = check_acts(&random, CHECK_FILL_UNIT, outputs, dtype),
        .pool = check_acts(&random, CHECK_FILL_UNIT,
                           (size_t)sequences * pages * page_bytes / kern_dtype_bytes(dtype), dtype),
        .out = check_alloc(outputs * kern_dtype_bytes(dtype)),
        .sequences = sequence,
        .items = items,
        .heads = HEADS,
        .kv_heads = KV_HEADS,
        .head_dim = DIM,
        .page_tokens = PAGE_TOKENS,
        .scale = 0.125f,
        .dtype = dtype,
        .scratch = check_alloc(sizeof(float) * kern_attend_scratch_floats(HEADS, KV_HEADS, DIM)),
    };
    kern_ops_init(&ops, kern_isa_detect());
    uint64_t best_ns = UINT64_MAX;
    for (int round = 0; round < BENCH_ROUNDS; round++) {
        const uint64_t start_ns = clock_now_ns();
        ops.attend(&args, 0, (uint32_t)count);
        const uint64_t ns = clock_now_ns() - start_ns;
        best_ns = ns < best_ns ? ns : best_ns;
    }
    (void)printf("attend  %s sequences %2u tokens %4u rows %3u: %9.1f us %6.1f GB/s of KV\n",
                 dtype == KERN_F32 ? "f32 " : "bf16", sequences, tokens, rows,
                 (double)best_ns / 1e3,
                 (double)sequences * pages * (double)page_bytes / (double)best_ns);
    free((void *)(uintptr_t)args.q);
    free((void *)(uintptr_t)args.pool);
    free(args.out);
    free(args.scratch);
    free(table);
    free(sequence);
    free(items);
}

void bench_all(void)
{
    static const uint32_t shapes[][2] = {
        {960, 576}, {576, 576}, {3072, 576}, {576, 1536}, {49152, 576}};
    static const uint32_t rows[] = {1, 8, 63, 64, 512};
    for (size_t s = 0; s < 5; s++) {
        for (size_t r = 0; r < 5; r++) {
            bench_product(shapes[s][0], shapes[s][1], rows[r], PRODUCT_BF16);
            bench_product(shapes[s][0], shapes[s][1], rows[r], PRODUCT_INT8);
        }
        bench_product(shapes[s][0], shapes[s][1], 1, PRODUCT_F32);
        bench_product(shapes[s][0], shapes[s][1], 64, PRODUCT_F32);
    }
    for (int dtype = KERN_F32; dtype <= KERN_BF16; dtype++) {
        bench_attend(64, 190, 1, (enum kern_dtype)dtype);
        bench_attend(64, 600, 1, (enum kern_dtype)dtype);
        bench_attend(1, 512, 512, (enum kern_dtype)dtype);
    }
}
