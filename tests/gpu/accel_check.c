/*
 * accel_check.c - the CUDA device behind accel.h, on a GPU: memory, order, deadlines, shares,
 * graphs, products. Run by ctest of the cuda preset and by tests/gpu/check.sh. Exit status 3: no
 * GPU. The last test breaks the device's context on purpose.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>
#include <cuda_runtime_api.h>

#include "base/prng.h"
#include "kernels/bf16.h"
#include "kernels/e4m3.h"
#include "tests/gpu/occupy_cuda.h"
#include "workers/accel.h"

enum {
    SMALL_UNITS = 32, /* Of lane 1; lane 2 has the others; lane 0 all. */
    LANES = 3,
    EVENTS = 4,
    SCALE_BYTES = 4096, /* Room for those of rows. */
    DEADLINE_US = 10000000,
    ITEMS = 1 << 20,
    EXIT_NO_GPU = 3,
};

struct scene {
    struct accel *accel;
    struct accel_info info;
    uint32_t *host; /* [ITEMS], pinned */
    uint32_t *from; /* [ITEMS], on the device */
    uint32_t *to;
};

static int make_scene(void **state)
{
    struct scene *scene = calloc(1, sizeof *scene);
    struct model_error error = {""};
    const size_t bytes = ITEMS * sizeof(uint32_t);
    assert_non_null(scene);
    *state = scene;
    assert_int_equal(accel_open(&scene->accel, 0, &error), 0);
    struct accel *accel = scene->accel;
    accel_info(accel, &scene->info);
    const struct accel_share shares[LANES] = {
        {0, 0}, {1, SMALL_UNITS}, {1, scene->info.units - SMALL_UNITS}};
    assert_int_equal(accel_lanes(accel, shares, LANES), 0);
    assert_int_equal(accel_events(accel, EVENTS), 0);
    assert_int_equal(accel_arena(accel, ACCEL_HOST, bytes, (void **)&scene->host), 0);
    assert_int_equal(accel_arena(accel, ACCEL_DEVICE, bytes, (void **)&scene->from), 0);
    assert_int_equal(accel_arena(accel, ACCEL_DEVICE, bytes, (void **)&scene->to), 0);
    accel_info(accel, &scene->info);
    return 0;
}

static int end_scene(void **state)
{
    struct scene *scene = *state;
    accel_close(scene->accel);
    free(scene);
    return 0;
}

static void finish(struct scene *scene, uint32_t lane)
{
    assert_int_equal(accel_record(scene->accel, 0, lane), 0);
    assert_int_equal(accel_fence(scene->accel, 0, DEADLINE_US), 0);
}

static void put_copy(struct scene *scene, uint32_t lane, void *to, const void *from, size_t count)
{
    const struct accel_copy copy = {to, from, count * sizeof(uint32_t)};
    assert_int_equal(accel_copy(scene->accel, lane, &copy, 1), 0);
}

static void occupy(struct scene *scene, uint32_t lane, uint64_t ns, uint32_t *seen)
{
    const struct cuda_occupy_args args = {
        .seen = seen, .ns = ns, .ctas = seen ? 4 * scene->info.units : 1};
    assert_int_equal(accel_launch(scene->accel, lane, cuda_occupy, &args, sizeof args), 0);
}

static void test_copies_in_one_call(void **state)
{
    struct scene *scene = *state;
    struct accel_copy copies[ACCEL_COPIES_MAX];
    const size_t part = ITEMS / ACCEL_COPIES_MAX;
    for (uint32_t i = 0; i < ITEMS; i++) {
        scene->host[i] = i * 2654435761u;
    }
    put_copy(scene, 0, scene->from, scene->host, ITEMS);
    for (uint32_t i = 0; i < ACCEL_COPIES_MAX; i++) { /* Reversed, part by part. */
        copies[i] = (struct accel_copy){scene->to + (ACCEL_COPIES_MAX - 1 - i) * part,
                                        scene->from + i * part, part * sizeof(uint32_t)};
    }
    assert_int_equal(accel_copy(scene->accel, 0, copies, ACCEL_COPIES_MAX), 0);
    put_copy(scene, 0, scene->host, scene->to, ITEMS);
    finish(scene, 0);
    for (uint32_t i = 0; i < ITEMS; i++) {
        const size_t source = (ACCEL_COPIES_MAX - 1 - i / part) * part + i % part;
        assert_int_equal(scene->host[i], (uint32_t)source * 2654435761u);
    }
}

static void test_lanes_wait_for_events(void **state)
{
    struct scene *scene = *state;
    memset(scene->host, 0x11, ITEMS * sizeof(uint32_t));
    put_copy(scene, 0, scene->from, scene->host, ITEMS);
    finish(scene, 0);
    memset(scene->host, 0x22, ITEMS * sizeof(uint32_t));
    occupy(scene, 1, 20000000, NULL); /* The copy behind it is late. */
    put_copy(scene, 1, scene->from, scene->host, ITEMS);
    assert_int_equal(accel_record(scene->accel, 1, 1), 0);
    assert_int_equal(accel_wait(scene->accel, 1, 2), 0);
    put_copy(scene, 2, scene->to, scene->from, ITEMS);
    assert_int_equal(accel_record(scene->accel, 2, 2), 0);
    assert_int_equal(accel_wait(scene->accel, 2, 0), 0);
    put_copy(scene, 0, scene->host, scene->to, ITEMS);
    finish(scene, 0);
    assert_int_equal(scene->host[0], 0x22222222);
    assert_int_equal(scene->host[ITEMS - 1], 0x22222222);
}

static void test_fence_has_a_deadline(void **state)
{
    struct scene *scene = *state;
    float us = 0;
    assert_int_equal(accel_record(scene->accel, 1, 0), 0);
    occupy(scene, 0, 200000000, NULL);
    assert_int_equal(accel_record(scene->accel, 2, 0), 0);
    assert_int_equal(accel_fence(scene->accel, 2, 2000), -ETIMEDOUT);
    assert_int_equal(accel_fence(scene->accel, 2, DEADLINE_US), 0);
    assert_int_equal(accel_elapsed_us(scene->accel, 1, 2, &us), 0);
    assert_true(us >= 199000);
}

static void test_shared_segment_is_pinned(void **state)
{
    struct scene *scene = *state;
    const size_t bytes = 1 << 20;
    const int fd = memfd_create("sluice-pool", MFD_CLOEXEC);
    assert_true(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
    uint32_t *pool = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(pool != MAP_FAILED);
    assert_int_equal(accel_pin(scene->accel, pool, bytes, true), 0);
    pool[7] = 77;
    put_copy(scene, 0, scene->from, pool, bytes / sizeof *pool);
    put_copy(scene, 0, scene->host, scene->from, bytes / sizeof *pool);
    finish(scene, 0);
    assert_int_equal(scene->host[7], 77);
    assert_int_equal(close(fd), 0); /* Mapped until the process ends, as the seam asks. */
}

/* The SMs that a lane's work ran on, as a count of each. */
static uint32_t look(struct scene *scene, uint32_t lane, bool by_graph,
                     uint32_t seen[OCCUPY_UNITS_MAX])
{
    struct accel_graph *graph = NULL;
    uint32_t used = 0;
    memset(scene->host, 0, OCCUPY_UNITS_MAX * sizeof(uint32_t));
    put_copy(scene, lane, scene->from, scene->host, OCCUPY_UNITS_MAX);
    finish(scene, lane);
    if (by_graph) {
        assert_int_equal(accel_capture(scene->accel, lane), 0);
    }
    occupy(scene, lane, 100000, scene->from);
    if (by_graph) {
        assert_int_equal(accel_captured(scene->accel, lane, &graph), 0);
        assert_int_equal(accel_replay(scene->accel, graph, lane), 0);
    }
    put_copy(scene, lane, scene->host, scene->from, OCCUPY_UNITS_MAX);
    finish(scene, lane);
    memcpy(seen, scene->host, OCCUPY_UNITS_MAX * sizeof(uint32_t));
    for (uint32_t i = 0; i < OCCUPY_UNITS_MAX; i++) {
        used += seen[i] > 0;
    }
    return used;
}

static void test_parts_of_a_cut_share_no_unit(void **state)
{
    struct scene *scene = *state;
    uint32_t small[OCCUPY_UNITS_MAX];
    uint32_t large[OCCUPY_UNITS_MAX];
    static const char *const names[] = {"cut", "hints", "one"};
    print_message("%s: sharing by %s, steps of %u units\n", scene->info.name,
                  names[scene->info.sharing], scene->info.unit_step);
    if (scene->info.sharing != ACCEL_SHARING_CUT) {
        skip();
    }
    for (int by_graph = 0; by_graph < 2; by_graph++) {
        assert_int_equal(look(scene, 1, by_graph, small), accel_lane_units(scene->accel, 1));
        assert_int_equal(look(scene, 2, by_graph, large), accel_lane_units(scene->accel, 2));
        for (uint32_t i = 0; i < OCCUPY_UNITS_MAX; i++) {
            assert_true(small[i] == 0 || large[i] == 0);
        }
    }
    assert_int_equal(accel_lane_units(scene->accel, 1), SMALL_UNITS);
    assert_int_equal(accel_lane_units(scene->accel, 2), scene->info.units - SMALL_UNITS);
}

/* A graph over three lanes that adds up if and only if its order held, three times. */
static void test_graph_keeps_the_order_of_lanes(void **state)
{
    struct scene *scene = *state;
    struct accel_graph *graph = NULL;
    memset(scene->host, 0x33, ITEMS * sizeof(uint32_t));
    assert_int_equal(accel_capture(scene->accel, 0), 0);
    put_copy(scene, 0, scene->from, scene->host, ITEMS / 2);
    assert_int_equal(accel_record(scene->accel, 1, 0), 0);
    assert_int_equal(accel_wait(scene->accel, 1, 1), 0);
    occupy(scene, 1, 5000000, NULL);
    put_copy(scene, 1, scene->to, scene->from, ITEMS / 2);
    assert_int_equal(accel_record(scene->accel, 2, 1), 0);
    assert_int_equal(accel_wait(scene->accel, 2, 2), 0);
    put_copy(scene, 2, scene->to + ITEMS / 2, scene->to, ITEMS / 2);
    assert_int_equal(accel_record(scene->accel, 3, 2), 0);
    assert_int_equal(accel_wait(scene->accel, 3, 0), 0);
    put_copy(scene, 0, scene->host + ITEMS / 2, scene->to + ITEMS / 2, ITEMS / 2);
    assert_int_equal(accel_captured(scene->accel, 0, &graph), 0);
    for (uint32_t i = 1; i <= 3; i++) {
        memset(scene->host, (int)i, ITEMS / 2 * sizeof(uint32_t));
        assert_int_equal(accel_replay(scene->accel, graph, 0), 0);
        finish(scene, 0);
        assert_int_equal(scene->host[ITEMS / 2], i * 0x01010101u);
        assert_int_equal(scene->host[ITEMS - 1], i * 0x01010101u);
    }
}

struct matrices {
    float *x; /* [rows][k], as the act type has them */
    float *w; /* [n][k] */
    float *y; /* [rows][n], what the device made of them */
};

/* Of x and w: acts, or bytes of e4m3. */
enum cell { CELL_F32, CELL_BF16, CELL_E4M3 };

static const size_t cell_bytes[] = {[CELL_F32] = 4, [CELL_BF16] = 2, [CELL_E4M3] = 1};

static float rounded(float value, enum cell cell)
{
    return cell == CELL_BF16   ? bf16_to_float(bf16_from_float(value))
           : cell == CELL_E4M3 ? e4m3_to_float(e4m3_from_float(value))
                               : value;
}

static void send(struct scene *scene, void *to, const float *values, size_t count, enum cell cell)
{
    for (size_t i = 0; i < count; i++) {
        if (cell == CELL_BF16) {
            ((uint16_t *)scene->host)[i] = bf16_from_float(values[i]);
        } else if (cell == CELL_E4M3) {
            ((uint8_t *)scene->host)[i] = e4m3_from_float(values[i]);
        } else {
            ((float *)scene->host)[i] = values[i];
        }
    }
    put_copy(scene, 0, to, scene->host, (count * cell_bytes[cell] + 3) / 4);
    finish(scene, 0);
}

static float *draw(uint64_t seed, size_t count, enum cell cell)
{
    float *values = malloc(count * sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < count; i++) {
        values[i] = rounded(prng_uniform(seed, i, 0) - 0.5f, cell);
    }
    return values;
}

/* Runs a product of random operands on a lane and holds it against sums in double. */
static void check_product(struct scene *scene, uint32_t lane, struct accel_product product,
                          bool tuned, bool bytes)
{
    const size_t outs = (size_t)product.rows * product.n;
    const enum kern_dtype dtype = product.dtype;
    const enum cell cell = bytes ? CELL_E4M3 : dtype == KERN_BF16 ? CELL_BF16 : CELL_F32;
    float *x = draw(product.rows, (size_t)product.rows * product.k, cell);
    float *w = draw(product.n, (size_t)product.n * product.k, cell);
    float *scale = draw(7, product.rows + product.n, CELL_F32);
    uint8_t *const device = (uint8_t *)scene->to;
    product.x = scene->from;
    product.w = device;
    product.y = device + (2 << 20);
    send(scene, scene->from, x, (size_t)product.rows * product.k, cell);
    send(scene, device, w, (size_t)product.n * product.k, cell);
    if (bytes) {
        product.x_scale = (float *)(device + (1 << 20));
        product.w_scale = (float *)(device + (1 << 20) + SCALE_BYTES);
        send(scene, device + (1 << 20), scale, product.rows, CELL_F32);
        send(scene, device + (1 << 20) + SCALE_BYTES, scale + product.rows, product.n, CELL_F32);
    }
    if (tuned) {
        accel_tune(scene->accel);
        assert_int_equal(accel_multiply(scene->accel, lane, &product), 0);
        assert_true(accel_tuned(scene->accel));
    }
    memset(scene->host, 0, outs * sizeof(float));
    put_copy(scene, lane, device + (2 << 20), scene->host, outs);
    const int times = product.accumulate ? 2 : 1;
    for (int i = 0; i < times; i++) {
        assert_int_equal(accel_multiply(scene->accel, lane, &product), 0);
    }
    put_copy(scene, lane, scene->host, device + (2 << 20), outs);
    finish(scene, lane);
    for (size_t i = 0; i < outs; i++) {
        double sum = 0;
        for (uint32_t j = 0; j < product.k; j++) {
            sum += (double)x[i / product.n * product.k + j] * w[i % product.n * product.k + j];
        }
        sum *= bytes ? (double)scale[i / product.n] * scale[product.rows + i % product.n] : 1;
        const bool wide = product.float_y || dtype == KERN_F32;
        const float got =
            wide ? ((float *)scene->host)[i] : bf16_to_float(((uint16_t *)scene->host)[i]);
        const double allowed = wide ? 1e-4 : 1e-2;
        const double error = got - times * sum;
        if (error > allowed * (1 + product.k / 64.0) || -error > allowed * (1 + product.k / 64.0)) {
            fail_msg("%u x %u x %u: y[%zu] is %g, not %g", product.rows, product.n, product.k, i,
                     (double)got, times * sum);
        }
    }
    free(x);
    free(w);
    free(scale);
}

/* Rows, n and k, in every kind of product and on every lane. */
static void check_shape(struct scene *scene, const uint32_t shape[3], bool bytes)
{
    for (uint32_t kind = 0; kind < 4; kind++) {
        const struct accel_product product = {
            .rows = shape[0],
            .n = shape[1],
            .k = shape[2],
            .dtype = kind == 0 ? KERN_F32 : KERN_BF16,
            .float_y = kind != 1,
            .accumulate = kind == 3,
        };
        for (uint32_t lane = 0; lane < LANES; lane++) {
            check_product(scene, lane, product, kind >= 2, bytes);
        }
    }
}

static void test_products(void **state)
{
    struct scene *scene = *state;
    static const uint32_t shapes[][3] = {{1, 64, 64},    {3, 576, 576},   {17, 192, 320},
                                         {64, 512, 256}, {128, 768, 576}, {5, 100, 72}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        check_shape(scene, shapes[i], false);
    }
}

/* Of bytes, with scales of rows. */
static void test_products_of_bytes(void **state)
{
    struct scene *scene = *state;
    static const uint32_t shapes[][3] = {
        {1, 64, 64}, {3, 576, 576}, {64, 512, 256}, {17, 192, 320}};
    struct accel_info info;
    accel_info(scene->accel, &info);
    if (!info.bytes) {
        print_message("skipped: %s has none\n", info.name);
        skip();
    }
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        check_shape(scene, shapes[i], true);
    }
}

/* In float a row's bits are its own, whatever the number of rows. */
static void test_float_rows_do_not_depend_on_each_other(void **state)
{
    struct scene *scene = *state;
    enum { N = 576, K = 576, ROWS = 96 };
    float *x = draw(5, (size_t)ROWS * K, CELL_F32);
    float *w = draw(6, (size_t)N * K, CELL_F32);
    float *all = malloc((size_t)ROWS * N * sizeof *all);
    assert_non_null(all);
    uint8_t *const device = (uint8_t *)scene->to;
    struct accel_product product = {.x = scene->from,
                                    .w = device,
                                    .y = device + (2 << 20),
                                    .rows = ROWS,
                                    .n = N,
                                    .k = K,
                                    .dtype = KERN_F32,
                                    .float_y = true};
    send(scene, scene->from, x, (size_t)ROWS * K, CELL_F32);
    send(scene, device, w, (size_t)N * K, CELL_F32);
    static const uint32_t counts[] = {ROWS, 1, 2, 7, 33, 64};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        const size_t outs = (size_t)counts[i] * N;
        product.rows = counts[i];
        assert_int_equal(accel_multiply(scene->accel, 0, &product), 0);
        put_copy(scene, 0, scene->host, product.y, outs);
        finish(scene, 0);
        if (i == 0) {
            memcpy(all, scene->host, outs * sizeof *all);
        }
        assert_memory_equal(all, scene->host, outs * sizeof *all);
    }
    free(x);
    free(w);
    free(all);
}

static void test_first_failure_sticks(void **state)
{
    struct scene *scene = *state;
    assert_string_equal(accel_failure(scene->accel), "");
    occupy(scene, 0, 0, (uint32_t *)(uintptr_t)64); /* No such address. */
    assert_int_equal(accel_record(scene->accel, 0, 0), 0);
    assert_int_equal(accel_fence(scene->accel, 0, DEADLINE_US), -EIO);
    assert_non_null(strstr(accel_failure(scene->accel), "cudaErrorIllegalAddress"));
    assert_int_equal(accel_record(scene->accel, 1, 0), -EIO);
    assert_int_equal(accel_fence(scene->accel, 1, DEADLINE_US), -EIO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copies_in_one_call),
        cmocka_unit_test(test_lanes_wait_for_events),
        cmocka_unit_test(test_fence_has_a_deadline),
        cmocka_unit_test(test_shared_segment_is_pinned),
        cmocka_unit_test(test_parts_of_a_cut_share_no_unit),
        cmocka_unit_test(test_graph_keeps_the_order_of_lanes),
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_products_of_bytes),
        cmocka_unit_test(test_float_rows_do_not_depend_on_each_other),
        cmocka_unit_test(test_first_failure_sticks),
    };
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error || count == 0) {
        (void)fprintf(stderr, "no CUDA device: %s\n", cudaGetErrorString(error));
        return EXIT_NO_GPU;
    }
    return cmocka_run_group_tests(tests, make_scene, end_scene);
}
