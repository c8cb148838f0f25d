/*
 * algorithms_test.c - the table of cuBLASLt's algorithms and its file, and that the library can be
 * loaded: what of the CUDA device can be tried without one. Run by ctest of the cuda preset.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "workers/accel_cuda_algorithms.h"
#include "workers/accel_cuda_blas.h"

struct scene {
    struct accel_cuda_algorithms written;
    struct accel_cuda_algorithms read;
    char folder[64];
};

static int make_scene(void **state)
{
    struct scene *scene = calloc(1, sizeof *scene);
    assert_non_null(scene);
    (void)snprintf(scene->folder, sizeof scene->folder, "/tmp/sluice-algorithms-XXXXXX");
    assert_non_null(mkdtemp(scene->folder));
    assert_int_equal(setenv("CACHE_DIRECTORY", scene->folder, 1), 0);
    accel_cuda_algorithms_open(&scene->written, "GPU;1");
    assert_int_equal(scene->written.count, 0);
    *state = scene;
    return 0;
}

static int end_scene(void **state)
{
    struct scene *scene = *state;
    (void)unlink(scene->written.path);
    assert_int_equal(rmdir(scene->folder), 0); /* Nothing but the file was left there. */
    assert_int_equal(unsetenv("CACHE_DIRECTORY"), 0);
    free(scene);
    return 0;
}

static struct algorithm numbered(uint32_t number, float us)
{
    struct algorithm algorithm = {.key = {.rows = 1 + number, .n = 7, .k = 9}, .us = us};
    algorithm.algo.data[3] = number;
    return algorithm;
}

static void test_file_keeps_what_was_measured(void **state)
{
    struct scene *scene = *state;
    for (uint32_t i = 0; i < 100; i++) {
        const struct algorithm algorithm = numbered(i, i % 2 ? 1.5f : 0);
        assert_int_equal(accel_cuda_algorithms_put(&scene->written, &algorithm), 0);
    }
    assert_int_equal(accel_cuda_algorithms_save(&scene->written), 0);
    accel_cuda_algorithms_open(&scene->read, "GPU;1");
    assert_int_equal(scene->read.count, 50);
    for (uint32_t i = 0; i < 100; i++) {
        const struct algorithm wanted = numbered(i, 1.5f);
        const struct algorithm *found = accel_cuda_algorithms_find(&scene->read, &wanted.key);
        assert_int_equal(found != NULL, i % 2);
        assert_true(!found || memcmp(found, &wanted, sizeof wanted) == 0);
    }
}

static void test_another_library_reads_nothing(void **state)
{
    struct scene *scene = *state;
    const struct algorithm algorithm = numbered(1, 1);
    assert_int_equal(accel_cuda_algorithms_put(&scene->written, &algorithm), 0);
    assert_int_equal(accel_cuda_algorithms_save(&scene->written), 0);
    accel_cuda_algorithms_open(&scene->read, "GPU;2");
    assert_int_equal(scene->read.count, 0);
    assert_string_not_equal(scene->read.path, scene->written.path);
}

/* Every byte of the file in turn, and every length short of the whole. */
static void test_damage_counts_as_nothing(void **state)
{
    struct scene *scene = *state;
    char bytes[1024];
    for (uint32_t i = 0; i < 3; i++) {
        const struct algorithm algorithm = numbered(i, 1);
        assert_int_equal(accel_cuda_algorithms_put(&scene->written, &algorithm), 0);
    }
    assert_int_equal(accel_cuda_algorithms_save(&scene->written), 0);
    FILE *file = fopen(scene->written.path, "rb");
    assert_non_null(file);
    const size_t count = fread(bytes, 1, sizeof bytes, file);
    assert_int_equal(fclose(file), 0);
    assert_in_range(count, 3 * sizeof(struct algorithm), sizeof bytes - 1);
    for (size_t i = 0; i < 2 * count; i++) {
        bytes[i % count] ^= (char)(i < count);
        file = fopen(scene->written.path, "wb");
        assert_non_null(file);
        const size_t left = i < count ? count : i - count;
        assert_int_equal(fwrite(bytes, 1, left, file), left);
        assert_int_equal(fclose(file), 0);
        accel_cuda_algorithms_open(&scene->read, "GPU;1");
        assert_int_equal(scene->read.count, 0);
        bytes[i % count] ^= (char)(i < count);
    }
}

static void test_full_table_takes_no_more(void **state)
{
    struct scene *scene = *state;
    struct algorithm algorithm = numbered(0, 1);
    for (uint32_t i = 0; i < ALGORITHM_SLOTS / 2; i++) {
        algorithm = numbered(i, 1);
        assert_int_equal(accel_cuda_algorithms_put(&scene->written, &algorithm), 0);
    }
    assert_int_equal(accel_cuda_algorithms_put(&scene->written, &algorithm), 0); /* Replaces. */
    algorithm = numbered(ALGORITHM_SLOTS, 1);
    assert_int_equal(accel_cuda_algorithms_put(&scene->written, &algorithm), -ENOSPC);
}

static void test_nowhere_to_keep_them(void **state)
{
    (void)state;
    struct accel_cuda_algorithms *none = calloc(1, sizeof *none);
    assert_non_null(none);
    assert_int_equal(setenv("CACHE_DIRECTORY", "/proc/none", 1), 0);
    accel_cuda_algorithms_open(none, "GPU;1");
    assert_string_equal(none->path, "");
    assert_int_equal(accel_cuda_algorithms_save(none), 0);
    free(none);
}

static void test_library_loads(void **state)
{
    (void)state;
    struct accel_cuda_blas blas = {NULL};
    struct model_error error = {""};
    const int status = accel_cuda_blas_open(&blas, &error);
    assert_string_equal(error.text, "");
    assert_int_equal(status, 0);
    assert_int_equal(blas.version() / 10000, CUBLAS_VER_MAJOR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_file_keeps_what_was_measured, make_scene, end_scene),
        cmocka_unit_test_setup_teardown(test_another_library_reads_nothing, make_scene, end_scene),
        cmocka_unit_test_setup_teardown(test_damage_counts_as_nothing, make_scene, end_scene),
        cmocka_unit_test_setup_teardown(test_full_table_takes_no_more, make_scene, end_scene),
        cmocka_unit_test(test_nowhere_to_keep_them),
        cmocka_unit_test(test_library_loads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
