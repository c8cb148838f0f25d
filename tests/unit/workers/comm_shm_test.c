/*
 * comm_shm_test.c - collectives between two to four ranks: uneven parts, matrices of more than one
 * round, many rounds in a row, a sibling that does not come, one that leaves, the core's fence, and
 * offers that are not what they should be.
 */
#include "workers/comm_shm.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/prng.h"
#include "ipc/segment.h"
#include "ipc/sibling.h"
#include "tests/unit/workers/relay.h"
#include "workers/shard.h"

enum { LONG_US = 60 * 1000000, SHORT_US = 100000, RANKS_MAX = 4, ROUNDS = 300 };

struct shape {
    uint32_t rows;
    uint32_t columns;
};

struct job {
    struct relay relay;
    struct shape shape;
    uint32_t wrong[RANKS_MAX];
    int error[RANKS_MAX];
    uint64_t took_us[RANKS_MAX];
    uint32_t waits_us; /* Before the last rank comes. */
};

static uint32_t item(uint32_t round, uint32_t row, uint32_t column)
{
    return (uint32_t)prng_bits(round, row, column);
}

static void gather_once(struct job *job, uint32_t rank, uint32_t round, bool wants)
{
    const struct shape *shape = &job->shape;
    const struct span part = span_part(shape->columns, rank, job->relay.ranks);
    uint32_t *own = calloc((size_t)shape->rows * part.count + 1, sizeof *own);
    uint32_t *full = calloc((size_t)shape->rows * shape->columns, sizeof *full);
    must(own && full);
    for (uint32_t row = 0; row < shape->rows; row++) {
        for (uint32_t i = 0; i < part.count; i++) {
            own[(size_t)row * part.count + i] = item(round, row, part.first + i);
        }
    }
    const struct comm_gather_args args = {.own = own,
                                          .full = wants ? full : NULL,
                                          .rows = shape->rows,
                                          .columns = shape->columns,
                                          .item_bytes = sizeof *own};
    job->error[rank] = comm_gather(job->relay.comm[rank], &args);
    for (uint32_t row = 0; row < shape->rows && wants; row++) {
        for (uint32_t column = 0; column < shape->columns; column++) {
            job->wrong[rank] +=
                full[(size_t)row * shape->columns + column] != item(round, row, column);
        }
    }
    free(own);
    free(full);
}

static void gather_everywhere(void *context, uint32_t rank)
{
    gather_once(context, rank, 1, true);
}

static void all_columns_arrive(void **state)
{
    (void)state;
    /* Uneven parts, an empty one, several rounds (each rank's part of a row is about 1 MiB). */
    const struct shape shapes[] = {{1, 4}, {3, 7}, {5, 3}, {64, 49}, {7, 900001}};
    for (uint32_t ranks = 2; ranks <= RANKS_MAX; ranks++) {
        for (uint32_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
            struct job job = {.shape = shapes[i]};
            relay_open(&job.relay, ranks, LONG_US);
            relay_run(ranks, gather_everywhere, &job);
            for (uint32_t rank = 0; rank < ranks; rank++) {
                assert_int_equal(job.error[rank], 0);
                assert_int_equal(job.wrong[rank], 0);
            }
            relay_close(&job.relay);
        }
    }
}

/* Gathers to all and to rank 0 alone, and broadcasts, in turn and without a rest. */
static void mix(void *context, uint32_t rank)
{
    struct job *job = context;
    for (uint32_t round = 0; round < ROUNDS && !job->error[rank]; round++) {
        uint32_t word = rank == 0 ? item(round, 1, 1) : 0;
        gather_once(job, rank, round, round % 3 != 1 || rank == 0);
        job->error[rank] = comm_broadcast(job->relay.comm[rank], &word, sizeof word);
        job->wrong[rank] += word != item(round, 1, 1);
    }
}

static void rounds_do_not_run_into_each_other(void **state)
{
    (void)state;
    for (uint32_t ranks = 2; ranks <= RANKS_MAX; ranks++) {
        struct job job = {.shape = {3, 33}};
        relay_open(&job.relay, ranks, LONG_US);
        relay_run(ranks, mix, &job);
        for (uint32_t rank = 0; rank < ranks; rank++) {
            assert_int_equal(job.error[rank], 0);
            assert_int_equal(job.wrong[rank], 0);
        }
        relay_close(&job.relay);
    }
}

static void nap_us(uint64_t us)
{
    const struct timespec time = {.tv_nsec = (long)us * 1000};
    (void)nanosleep(&time, NULL);
}

/* Rank 1 comes late, or not at all; the others measure their wait. */
static void wait_for_rank_1(struct job *job, uint32_t rank)
{
    const uint64_t start_us = clock_now_us();
    uint32_t word = 0;
    job->error[rank] = comm_broadcast(job->relay.comm[rank], &word, sizeof word);
    job->took_us[rank] = clock_now_us() - start_us;
}

static void never_come(void *context, uint32_t rank)
{
    if (rank != 1) {
        wait_for_rank_1(context, rank);
    }
}

static void a_sibling_that_does_not_come_is_named(void **state)
{
    (void)state;
    struct job job = {0};
    relay_open(&job.relay, 3, SHORT_US);
    relay_run(3, never_come, &job);
    for (uint32_t rank = 0; rank < 3; rank += 2) {
        uint32_t word = 0;
        assert_int_equal(job.error[rank], -ETIMEDOUT);
        assert_int_equal(comm_late(job.relay.comm[rank]), 1);
        assert_true(job.took_us[rank] >= SHORT_US);
        assert_int_equal(comm_broadcast(job.relay.comm[rank], &word, sizeof word), -ETIMEDOUT);
        assert_int_equal(comm_error(job.relay.comm[rank]), -ETIMEDOUT);
    }
    relay_close(&job.relay);
}

static void come_late(void *context, uint32_t rank)
{
    struct job *job = context;
    if (rank == 1) {
        nap_us(job->waits_us);
    }
    wait_for_rank_1(job, rank);
}

static void a_late_sibling_is_waited_for(void **state)
{
    (void)state;
    struct job job = {.waits_us = 30000};
    relay_open(&job.relay, 3, LONG_US);
    relay_run(3, come_late, &job);
    for (uint32_t rank = 0; rank < 3; rank++) {
        assert_int_equal(job.error[rank], 0);
    }
    relay_close(&job.relay);
}

static void fence_instead(void *context, uint32_t rank)
{
    struct job *job = context;
    if (rank != 1) {
        wait_for_rank_1(job, rank);
        return;
    }
    nap_us(job->waits_us);
    atomic_store_explicit(&job->relay.fence, 1, memory_order_release); /* Pairs with over(). */
    (void)syscall(SYS_futex, &job->relay.fence, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void the_fence_ends_a_wait_at_once(void **state)
{
    (void)state;
    struct job job = {.waits_us = 30000};
    relay_open(&job.relay, 3, LONG_US);
    relay_run(3, fence_instead, &job);
    for (uint32_t rank = 0; rank < 3; rank += 2) {
        assert_int_equal(job.error[rank], -ECANCELED);
        assert_true(job.took_us[rank] < LONG_US / 2);
    }
    relay_close(&job.relay);
}

static void leave_instead(void *context, uint32_t rank)
{
    struct job *job = context;
    if (rank != 1) {
        wait_for_rank_1(job, rank);
        return;
    }
    nap_us(job->waits_us);
    comm_shm_close(job->relay.comm[1]);
    job->relay.comm[1] = NULL;
}

static void a_sibling_that_leaves_ends_a_wait_at_once(void **state)
{
    (void)state;
    struct job job = {.waits_us = 30000};
    relay_open(&job.relay, 2, LONG_US);
    relay_run(2, leave_instead, &job);
    assert_int_equal(job.error[0], -ECANCELED);
    assert_true(job.took_us[0] < LONG_US / 2);
    relay_close(&job.relay);
}

/* What rank 0 of two says to an offer by hand. */
static int join_with(const struct sibling_offer *offer, size_t bytes)
{
    static const _Atomic uint32_t fence = 0;
    const struct comm_shm_options options = {
        .epoch = 3, .ranks = 2, .timeout_us = SHORT_US, .fence = &fence};
    struct comm *comm = NULL;
    struct sibling_offer own;
    void *segment = NULL;
    int sockets[2];
    int fd = -1;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets), 0);
    assert_int_equal(comm_shm_open(&comm, &options, sockets[1]), 0);
    assert_int_equal(comm_shm_join(comm, sockets[1]), -EAGAIN);
    assert_int_equal(sibling_recv(sockets[0], &own, &fd), 0);
    assert_int_equal(close(fd), 0);
    struct sibling_offer sent = *offer;
    sent.segment_bytes += own.segment_bytes;
    fd = segment_create("test", own.segment_bytes + bytes, &segment);
    assert_true(fd >= 0);
    assert_int_equal(sibling_send(sockets[0], &sent, fd), 0);
    const int error = comm_shm_join(comm, sockets[1]);
    segment_unmap(segment, own.segment_bytes + bytes);
    assert_int_equal(close(fd), 0);
    assert_int_equal(close(sockets[0]), 0);
    assert_int_equal(close(sockets[1]), 0);
    comm_shm_close(comm);
    return error;
}

/* For those who wait for something else. */
static void a_look_tells_the_end(void **state)
{
    (void)state;
    struct relay relay;
    uint32_t word = 0;
    relay_open(&relay, 2, LONG_US);
    assert_int_equal(comm_poll(relay.comm[0]), 0);
    comm_shm_close(relay.comm[1]);
    relay.comm[1] = NULL;
    assert_int_equal(comm_poll(relay.comm[0]), -ECANCELED);
    relay_close(&relay);
    relay_open(&relay, 2, LONG_US);
    atomic_store_explicit(&relay.fence, 1, memory_order_release); /* Pairs with over(). */
    assert_int_equal(comm_poll(relay.comm[1]), -ECANCELED);
    relay_close(&relay);
    relay_open(&relay, 2, LONG_US);
    comm_end(relay.comm[0]);
    assert_int_equal(comm_error(relay.comm[0]), -ECANCELED);
    assert_int_equal(comm_broadcast(relay.comm[0], &word, sizeof word), -ECANCELED);
    assert_int_equal(comm_poll(relay.comm[1]), 0);
    relay_close(&relay);
}

static void wrong_offers_are_refused(void **state)
{
    (void)state;
    const struct sibling_offer wrong[] = {
        {.epoch = 2, .rank = 1},                                      /* Another epoch. */
        {.epoch = 3, .rank = 1, .group = 1},                          /* Another group. */
        {.epoch = 3, .rank = 2},                                      /* Not a rank. */
        {.epoch = 3, .rank = 0},                                      /* One that is there. */
        {.epoch = 3, .rank = 1, .segment_bytes = SEGMENT_PAGE_BYTES}, /* Too large. */
        {.epoch = 3, .rank = 1}, /* Right, but the segment itself says rank 0 of epoch 0. */
    };
    for (uint32_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(join_with(&wrong[i], (size_t)wrong[i].segment_bytes), -EBADMSG);
    }
    assert_int_equal(join_with(&wrong[5], SEGMENT_PAGE_BYTES), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_columns_arrive),
        cmocka_unit_test(rounds_do_not_run_into_each_other),
        cmocka_unit_test(a_sibling_that_does_not_come_is_named),
        cmocka_unit_test(a_late_sibling_is_waited_for),
        cmocka_unit_test(the_fence_ends_a_wait_at_once),
        cmocka_unit_test(a_sibling_that_leaves_ends_a_wait_at_once),
        cmocka_unit_test(a_look_tells_the_end),
        cmocka_unit_test(wrong_offers_are_refused),
    };
    return cmocka_run_group_tests_name("comm_shm", tests, NULL, NULL);
}
