/*
 * peak.c - see peak.h. Called by sluice-tune; starts threads and joins them. Invariant: threads
 * share nothing while they are timed, so that none waits for another.
 *
 * The product is a large one with all its operands in a cache; each thread computes it again and
 * again on its own. Memory is read once through far more than a cache holds.
 */
#include "tools/peak.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "kernels/matmul.h"

enum {
    SIDE = 1024, /* Of the weight; a thread's operands are some MB. */
    ROWS = 256,
    THREADS_MAX = 256,
    RUN_US = 700000,
};

static const size_t read_bytes = (size_t)192 << 20; /* A thread's. */

struct runner {
    pthread_t thread;
    const struct matmul_shape *shape; /* NULL: read memory. */
    const struct matmul_weight *weight;
    void *x;
    float *y;
    void *scratch;
    uint8_t *memory;
    double per_s; /* FLOPs or bytes. */
    int code;
};

static void run_products(struct runner *runner)
{
    const struct matmul_args args = {.weight = runner->weight,
                                     .x = runner->x,
                                     .y = runner->y,
                                     .m = ROWS,
                                     .scratch = runner->scratch};
    const uint32_t slices = matmul_shape_slices(runner->shape);
    uint64_t rounds = 0, start_us = 0, now_us = 0;
    do { /* The first round warms up. */
        for (uint32_t i = 0; i < slices; i++) {
            matmul_run(&args, i);
        }
        now_us = clock_now_us();
        start_us = rounds == 0 ? now_us : start_us;
        rounds++;
    } while (now_us - start_us < RUN_US);
    const double flops = 2.0 * ROWS * SIDE * SIDE;
    runner->per_s = (double)(rounds - 1) * flops / ((double)(now_us - start_us) / 1e6);
}

/* The byte that it looks for is not there. */
static void run_reading(struct runner *runner)
{
    uint64_t rounds = 0;
    const uint64_t start_us = clock_now_us();
    uint64_t now_us = start_us;
    while (now_us - start_us < RUN_US) {
        must(!memchr(runner->memory, 1, read_bytes));
        now_us = clock_now_us();
        rounds++;
    }
    runner->per_s = (double)rounds * (double)read_bytes / ((double)(now_us - start_us) / 1e6);
}

static void *runner_main(void *context)
{
    struct runner *runner = context;
    if (runner->shape) {
        run_products(runner);
    } else {
        run_reading(runner);
    }
    return NULL;
}

/* Runs all at once; the sum of what they reached. */
static int run_all(struct runner *runner, uint32_t threads, double *per_s)
{
    uint32_t started = 0;
    int code = 0;
    while (started < threads && !code) {
        code = -pthread_create(&runner[started].thread, NULL, runner_main, &runner[started]);
        started += !code;
    }
    *per_s = 0;
    for (uint32_t i = 0; i < started; i++) {
        must(pthread_join(runner[i].thread, NULL) == 0);
        *per_s += runner[i].per_s;
    }
    return code;
}

static int pack(struct matmul_weight *weight, const struct matmul_shape *shape)
{
    float *rows = calloc((size_t)SIDE * SIDE, sizeof *rows);
    int code = rows ? 0 : -ENOMEM;
    for (size_t i = 0; rows && i < (size_t)SIDE * SIDE; i++) {
        rows[i] = (float)(i % 7) - 3;
    }
    for (uint32_t i = 0; i < matmul_shape_slices(shape) && !code; i++) {
        code = matmul_weight_pack(weight, i, rows + (size_t)matmul_slice_first(shape, i) * SIDE);
    }
    free(rows);
    return code;
}

static size_t lines(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

/* Zeros are numbers of every type, and as fast as others. */
static int give_operands(struct runner *runner, const struct matmul_shape *shape,
                         const struct matmul_weight *weight)
{
    const size_t numbers = (size_t)matmul_rows_padded(shape, ROWS) * SIDE;
    runner->shape = shape;
    runner->weight = weight;
    runner->x = aligned_alloc(64, lines(numbers * sizeof(float)));
    runner->y = aligned_alloc(64, lines(numbers * sizeof(float)));
    runner->scratch = aligned_alloc(64, lines(matmul_scratch_bytes(shape) + 1));
    if (!runner->x || !runner->y || !runner->scratch) {
        return -ENOMEM;
    }
    memset(runner->x, 0, numbers * sizeof(float));
    return 0;
}

static int measure_products(struct runner *runner, enum kern_dtype dtype, uint32_t threads,
                            double *flops)
{
    const struct matmul_options options = {
        .n = SIDE, .k = SIDE, .slices = 4, .rows_max = ROWS, .dtype = dtype};
    struct matmul_shape *shape = NULL;
    struct matmul_weight *weight = NULL;
    int code = matmul_shape_open(&shape, &options);
    code = code ? code : matmul_weight_open(&weight, shape);
    code = code ? code : pack(weight, shape);
    for (uint32_t i = 0; i < threads && !code; i++) {
        code = give_operands(&runner[i], shape, weight);
    }
    code = code ? code : run_all(runner, threads, flops);
    for (uint32_t i = 0; i < threads; i++) {
        free(runner[i].x);
        free(runner[i].y);
        free(runner[i].scratch);
        runner[i] = (struct runner){0};
    }
    matmul_weight_close(weight);
    matmul_shape_close(shape);
    return code;
}

static int measure_reading(struct runner *runner, uint32_t threads, double *bytes_s)
{
    int code = 0;
    for (uint32_t i = 0; i < threads && !code; i++) {
        runner[i].memory = malloc(read_bytes);
        code = runner[i].memory ? 0 : -ENOMEM;
        if (!code) {
            memset(runner[i].memory, 2, read_bytes);
        }
    }
    code = code ? code : run_all(runner, threads, bytes_s);
    for (uint32_t i = 0; i < threads; i++) {
        free(runner[i].memory);
    }
    return code;
}

/* "Intel(R) Xeon(R) ..., 2 threads" */
static void find_name(char *name, uint32_t threads)
{
    char cpu[CPU_NAME_BYTES_MAX];
    cpu_name(cpu);
    (void)snprintf(name, COST_NAME_BYTES_MAX, "%s, %u thread%s", cpu, threads,
                   threads == 1 ? "" : "s");
}

int peak_measure(struct cost_device *device, enum kern_dtype dtype, uint32_t threads)
{
    const long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    must(threads > 0 && threads <= THREADS_MAX && pages > 0 && page_bytes > 0);
    struct runner *runner = calloc(threads, sizeof *runner);
    if (!runner) {
        return -ENOMEM;
    }
    *device = (struct cost_device){.memory_bytes = (double)pages * (double)page_bytes};
    find_name(device->name, threads);
    int code = measure_products(runner, dtype, threads, &device->flops);
    code = code ? code : measure_reading(runner, threads, &device->memory_bytes_s);
    free(runner);
    return code;
}
