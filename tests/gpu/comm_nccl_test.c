/*
 * comm_nccl_test.c - collectives over NCCL with one rank, which is as many as one GPU takes, by
 * themselves and as the device puts them on its lanes. Where there is no GPU the device and NCCL
 * must refuse in words. Run by ctest of the cuda preset and by tests/gpu/check.sh.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "workers/accel.h"
#include "workers/comm_nccl.h"
#include "workers/comm_shm.h"

enum { LANES = 2, ITEMS = 4096, DEADLINE_US = 20000000 };

static const struct comm_nccl_options alone = {
    .rank = 0, .ranks = 1, .lanes = LANES, .ctas = 8, .timeout_us = DEADLINE_US};

struct scene {
    struct accel *accel; /* NULL: there is no GPU. */
    struct comm_nccl *comm;
    float *host;
    float *own;
    float *all;
};

static int make_scene(void **state)
{
    struct scene *scene = calloc(1, sizeof *scene);
    struct model_error error = {""};
    const struct accel_share whole[LANES] = {{0}};
    assert_non_null(scene);
    *state = scene;
    if (accel_open(&scene->accel, 0, &error)) {
        assert_non_null(strstr(error.text, "no CUDA device"));
        return 0;
    }
    assert_int_equal(accel_lanes(scene->accel, whole, LANES), 0);
    assert_int_equal(accel_events(scene->accel, 1), 0);
    const size_t bytes = ITEMS * sizeof(float);
    assert_int_equal(accel_arena(scene->accel, ACCEL_HOST, bytes, (void **)&scene->host), 0);
    assert_int_equal(accel_arena(scene->accel, ACCEL_DEVICE, bytes, (void **)&scene->own), 0);
    assert_int_equal(accel_arena(scene->accel, ACCEL_DEVICE, bytes, (void **)&scene->all), 0);
    assert_int_equal(comm_nccl_open(&scene->comm, &alone, &error), 0);
    return 0;
}

static int end_scene(void **state)
{
    struct scene *scene = *state;
    comm_nccl_close(scene->comm);
    accel_close(scene->accel);
    free(scene);
    return 0;
}

static void test_refused_without_a_gpu(void **state)
{
    const struct scene *scene = *state;
    struct comm_nccl *comm = NULL;
    struct model_error error = {""};
    if (scene->accel) {
        skip();
    }
    assert_int_equal(comm_nccl_open(&comm, &alone, &error), -EIO);
    assert_non_null(strstr(error.text, "NCCL cannot join 1 ranks"));
    assert_null(comm);
}

/* Sends numbers through a collective of one rank on a lane; they come back as they were. */
static void round_trip(struct scene *scene,
                       int (*collective)(const void *args, struct CUstream_st *stream),
                       uint32_t lane)
{
    const struct comm_nccl_args args = {.comm = scene->comm,
                                        .lane = lane,
                                        .own = scene->own,
                                        .all = scene->all,
                                        .count = ITEMS,
                                        .dtype = KERN_F32};
    const struct accel_copy in = {scene->own, scene->host, ITEMS * sizeof(float)};
    const struct accel_copy out = {scene->host, scene->all, ITEMS * sizeof(float)};
    struct accel_graph *graph = NULL;
    for (uint32_t i = 0; i < ITEMS; i++) {
        scene->host[i] = (float)(i * 7 % 1000);
    }
    assert_int_equal(accel_capture(scene->accel, lane), 0);
    assert_int_equal(accel_copy(scene->accel, lane, &in, 1), 0);
    assert_int_equal(accel_launch(scene->accel, lane, collective, &args, sizeof args), 0);
    assert_int_equal(accel_copy(scene->accel, lane, &out, 1), 0);
    assert_int_equal(accel_captured(scene->accel, lane, &graph), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(accel_replay(scene->accel, graph, lane), 0);
    }
    assert_int_equal(accel_record(scene->accel, 0, lane), 0);
    assert_int_equal(accel_fence(scene->accel, 0, DEADLINE_US), 0);
    assert_int_equal(comm_nccl_check(scene->comm), 0);
    for (uint32_t i = 0; i < ITEMS; i++) {
        assert_true(scene->host[i] == (float)(i * 7 % 1000));
    }
}

static void test_one_rank_gets_its_own(void **state)
{
    struct scene *scene = *state;
    if (!scene->accel) {
        skip();
    }
    for (uint32_t lane = 0; lane < LANES; lane++) {
        round_trip(scene, comm_nccl_gather, lane);
        round_trip(scene, comm_nccl_reduce, lane);
        round_trip(scene, comm_nccl_scatter, lane);
    }
}

/* The device in a group of its own, with a graph that gathers, in one epoch and in the next. */
static void test_a_device_joins_again(void **state)
{
    struct scene *scene = *state;
    struct accel_graph *graph = NULL;
    _Atomic uint32_t fence = 0;
    int sockets[2];
    const struct comm_shm_options options = {
        .ranks = 1, .timeout_us = DEADLINE_US, .fence = &fence};
    struct accel_group group = {.ranks = 1, .timeout_us = DEADLINE_US};
    const struct accel_gather gather = {
        .own = scene->own, .all = scene->all, .count = ITEMS, .dtype = KERN_F32};
    const struct accel_copy in = {scene->own, scene->host, ITEMS * sizeof(float)};
    const struct accel_copy out = {scene->host, scene->all, ITEMS * sizeof(float)};
    if (!scene->accel) {
        skip();
    }
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets), 0);
    for (uint32_t epoch = 0; epoch < 2; epoch++) {
        assert_int_equal(comm_shm_open(&group.comm, &options, sockets[0]), 0);
        assert_int_equal(accel_join(scene->accel, &group), 0);
        for (uint32_t i = 0; i < ITEMS; i++) {
            scene->host[i] = (float)(epoch + i * 7 % 1000);
        }
        assert_int_equal(accel_copy(scene->accel, 0, &in, 1), 0);
        assert_int_equal(accel_capture(scene->accel, 0), 0);
        assert_int_equal(accel_gather(scene->accel, 0, &gather), 0);
        assert_int_equal(accel_captured(scene->accel, 0, &graph), 0);
        assert_int_equal(accel_replay(scene->accel, graph, 0), 0);
        assert_int_equal(accel_copy(scene->accel, 0, &out, 1), 0);
        assert_int_equal(accel_record(scene->accel, 0, 0), 0);
        assert_int_equal(accel_fence(scene->accel, 0, DEADLINE_US), 0);
        for (uint32_t i = 0; i < ITEMS; i++) {
            assert_true(scene->host[i] == (float)(epoch + i * 7 % 1000));
        }
        comm_shm_close(group.comm);
    }
    (void)close(sockets[0]);
    (void)close(sockets[1]);
}

static void test_aborted_does_nothing_more(void **state)
{
    struct scene *scene = *state;
    const struct comm_nccl_args args = {.comm = scene->comm, .dtype = KERN_F32};
    if (!scene->accel) {
        skip();
    }
    comm_nccl_abort(scene->comm);
    assert_int_equal(comm_nccl_check(scene->comm), -EIO);
    assert_int_equal(accel_launch(scene->accel, 0, comm_nccl_gather, &args, sizeof args), -EIO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_without_a_gpu),
        cmocka_unit_test(test_one_rank_gets_its_own),
        cmocka_unit_test(test_a_device_joins_again),
        cmocka_unit_test(test_aborted_does_nothing_more),
    };
    return cmocka_run_group_tests(tests, make_scene, end_scene);
}
