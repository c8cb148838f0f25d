/*
 * comm_shm.c - see comm_shm.h. Runs on a worker's main thread and, within a step, on whichever of
 * the crew's has the lane that meets the other ranks: one at a time. Owns its segment and its views
 * of the siblings'.
 *
 *   segment   [head: who][round][left] ... [half 0: 2 MiB][half 1: 2 MiB]
 *
 * A collective is one round or more. In round n a rank writes its part to half n % 2, publishes n,
 * waits until every sibling has published n, and copies their parts out. Who publishes n + 1 has
 * copied round n out, so who has seen n + 1 of all may write over half n % 2: that is the
 * invariant, and why two halves suffice without an acknowledgement.
 *
 * A wait spins for COMM_SPIN_NS, which covers siblings with cores of their own, then sleeps on
 * three words at once: the sibling's round, its leaving, and the core's fence. So a death ends it
 * at once by way of the core, and a sibling that only hangs by the deadline.
 */
#include "workers/comm_shm.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "ipc/segment.h"
#include "ipc/sibling.h"
#include "workers/shard.h"

enum {
    COMM_HALF_BYTES = 2 << 20,
    COMM_SPIN_NS = 50000,
    COMM_SPIN_CHECKS = 32, /* Looks at the word between two looks at the clock. */
};

static_assert(LIMIT_VOCAB_MAX / 2 * sizeof(float) <= COMM_HALF_BYTES, "a row of logits fits");

struct comm_head { /* Who wrote this: checked against the offer. */
    uint32_t epoch;
    uint16_t group;
    uint16_t rank;
};

struct comm_segment {
    _Alignas(64) struct comm_head head;
    _Alignas(64) _Atomic uint32_t round; /* The last one published; wraps. A futex word. */
    _Alignas(64) _Atomic uint32_t left;  /* 1: this rank is gone from the epoch. Likewise. */
    _Alignas(SEGMENT_PAGE_BYTES) uint8_t half[2][COMM_HALF_BYTES];
};

struct comm {
    struct comm_shm_options options;
    struct comm_segment *own;
    const struct comm_segment *peer[LIMIT_WORKERS_MAX]; /* [ranks]; own rank: the own segment */
    uint32_t round;
    int error;
    uint32_t late;
};

int comm_shm_open(struct comm **out, const struct comm_shm_options *options, int socket)
{
    must(options->ranks <= LIMIT_WORKERS_MAX && options->rank < options->ranks && options->fence);
    struct comm *comm = calloc(1, sizeof *comm);
    if (!comm) {
        return -ENOMEM;
    }
    comm->options = *options;
    void *own = NULL;
    const int fd = segment_create("sluice-comm", sizeof *comm->own, &own);
    int error = fd < 0 ? fd : 0;
    if (!error) {
        comm->own = own;
        comm->own->head = (struct comm_head){options->epoch, options->group, options->rank};
        comm->peer[options->rank] = own;
        const struct sibling_offer offer = {.segment_bytes = sizeof *comm->own,
                                            .epoch = options->epoch,
                                            .group = options->group,
                                            .rank = options->rank};
        error = sibling_send(socket, &offer, fd);
        (void)close(fd); /* The mapping keeps the memory. */
    }
    if (error) {
        comm_shm_close(comm);
        return error;
    }
    *out = comm;
    return 0;
}

static int take_offer(struct comm *comm, const struct sibling_offer *offer, int fd)
{
    const struct comm_shm_options *options = &comm->options;
    if (offer->epoch != options->epoch || offer->group != options->group ||
        offer->rank >= options->ranks || comm->peer[offer->rank] ||
        offer->segment_bytes != sizeof *comm->own) {
        return -EBADMSG;
    }
    const void *segment = NULL;
    const int error = segment_map(fd, sizeof *comm->own, &segment);
    if (error) {
        return error;
    }
    const struct comm_head head = ((const struct comm_segment *)segment)->head;
    if (head.epoch != offer->epoch || head.group != offer->group || head.rank != offer->rank) {
        segment_unmap(segment, sizeof *comm->own);
        return -EBADMSG;
    }
    comm->peer[offer->rank] = segment;
    return 0;
}

int comm_shm_join(struct comm *comm, int socket)
{
    uint32_t missing = 0;
    for (uint32_t i = 0; i < comm->options.ranks; i++) {
        missing += comm->peer[i] == NULL;
    }
    for (; missing > 0; missing--) {
        struct sibling_offer offer;
        int fd = -1;
        int error = sibling_recv(socket, &offer, &fd);
        if (error) {
            return error;
        }
        error = take_offer(comm, &offer, fd);
        (void)close(fd);
        if (error) {
            return error;
        }
    }
    return 0;
}

static void wake(_Atomic uint32_t *word)
{
    /* Not private: the sleepers are other processes. */
    (void)syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void comm_shm_close(struct comm *comm)
{
    if (!comm) {
        return;
    }
    if (comm->own) {
        /* Release pairs with the acquire in over(). */
        atomic_store_explicit(&comm->own->left, 1, memory_order_release);
        wake(&comm->own->left);
    }
    for (uint32_t i = 0; i < comm->options.ranks; i++) {
        segment_unmap(comm->peer[i], sizeof *comm->own);
    }
    free(comm);
}

int comm_error(const struct comm *comm)
{
    return comm->error;
}

uint32_t comm_late(const struct comm *comm)
{
    return comm->late;
}

/* The half that belongs to the round about to be published. */
static uint8_t *next_half(struct comm *comm)
{
    return comm->own->half[(comm->round + 1) % 2];
}

static void publish(struct comm *comm)
{
    comm->round++;
    /* Release pairs with the acquire in arrived(): who sees the round sees the half, and that this
     * rank has read all of the round before. */
    atomic_store_explicit(&comm->own->round, comm->round, memory_order_release);
    wake(&comm->own->round);
}

static bool arrived(const struct comm *comm, const struct comm_segment *peer, uint32_t *seen)
{
    /* Acquire pairs with the release in publish(). */
    *seen = atomic_load_explicit(&peer->round, memory_order_acquire);
    return (int32_t)(*seen - comm->round) >= 0;
}

static bool over(const struct comm *comm, const struct comm_segment *peer)
{
    /* Acquire pairs with the releases in comm_shm_close() and link_core_fence(). */
    return atomic_load_explicit(&peer->left, memory_order_acquire) != 0 ||
           atomic_load_explicit(comm->options.fence, memory_order_acquire) != 0;
}

int comm_poll(struct comm *comm)
{
    for (uint32_t rank = 0; rank < comm->options.ranks && !comm->error; rank++) {
        comm->error = over(comm, comm->peer[rank]) ? -ECANCELED : 0;
    }
    return comm->error;
}

void comm_end(struct comm *comm)
{
    comm->error = comm->error ? comm->error : -ECANCELED;
}

static bool arrives_soon(const struct comm *comm, const struct comm_segment *peer)
{
    const uint64_t deadline_ns = clock_now_ns() + COMM_SPIN_NS;
    uint32_t seen;
    do {
        for (int i = 0; i < COMM_SPIN_CHECKS; i++) {
            if (arrived(comm, peer, &seen)) {
                return true;
            }
            __builtin_ia32_pause();
        }
    } while (clock_now_ns() < deadline_ns);
    return false;
}

static void sleep_on(const struct comm *comm, const struct comm_segment *peer, uint32_t seen,
                     uint64_t deadline_us)
{
    struct futex_waitv waits[] = {
        {.val = seen, .uaddr = (uintptr_t)&peer->round, .flags = FUTEX_32},
        {.val = 0, .uaddr = (uintptr_t)&peer->left, .flags = FUTEX_32},
        {.val = 0, .uaddr = (uintptr_t)comm->options.fence, .flags = FUTEX_32},
    };
    const struct timespec until = {.tv_sec = (time_t)(deadline_us / 1000000u),
                                   .tv_nsec = (long)(deadline_us % 1000000u * 1000u)};
    (void)syscall(SYS_futex_waitv, waits, 3, 0, &until, CLOCK_MONOTONIC);
}

/* Until the sibling has published the present round. */
static void await(struct comm *comm, uint32_t rank)
{
    const struct comm_segment *peer = comm->peer[rank];
    if (comm->error || arrives_soon(comm, peer)) {
        return;
    }
    const uint64_t deadline_us = clock_now_us() + comm->options.timeout_us;
    uint32_t seen;
    while (!arrived(comm, peer, &seen)) {
        if (over(comm, peer)) {
            comm->error = -ECANCELED;
            return;
        }
        if (clock_now_us() >= deadline_us) {
            comm->error = -ETIMEDOUT;
            comm->late = rank;
            return;
        }
        sleep_on(comm, peer, seen, deadline_us);
    }
}

static void await_all(struct comm *comm)
{
    for (uint32_t rank = 0; rank < comm->options.ranks; rank++) {
        await(comm, rank); /* The own round is there. */
    }
}

/* Puts a rank's columns of the present round where they belong. */
static void copy_part(const struct comm *comm, const struct comm_gather_args *args, uint32_t rank,
                      uint32_t row_first, uint32_t rows)
{
    const struct span part = span_part(args->columns, rank, comm->options.ranks);
    const size_t part_bytes = (size_t)part.count * args->item_bytes;
    const size_t row_bytes = (size_t)args->columns * args->item_bytes;
    const uint8_t *from = comm->peer[rank]->half[comm->round % 2];
    uint8_t *to =
        (uint8_t *)args->full + row_first * row_bytes + (size_t)part.first * args->item_bytes;
    for (uint32_t i = 0; i < rows; i++) {
        memcpy(to + i * row_bytes, from + i * part_bytes, part_bytes);
    }
}

int comm_gather(struct comm *comm, const struct comm_gather_args *args)
{
    const uint32_t ranks = comm->options.ranks;
    const size_t most_bytes = (size_t)((args->columns - 1) / ranks + 1) * args->item_bytes;
    const size_t own_bytes =
        (size_t)span_part(args->columns, comm->options.rank, ranks).count * args->item_bytes;
    must(most_bytes <= COMM_HALF_BYTES);
    const uint32_t rows_max = (uint32_t)(COMM_HALF_BYTES / most_bytes);
    for (uint32_t row = 0; row < args->rows && !comm->error; row += rows_max) {
        const uint32_t left = args->rows - row;
        const uint32_t rows = left < rows_max ? left : rows_max;
        memcpy(next_half(comm), (const uint8_t *)args->own + row * own_bytes, rows * own_bytes);
        publish(comm);
        await_all(comm);
        for (uint32_t rank = 0; rank < ranks && args->full && !comm->error; rank++) {
            copy_part(comm, args, rank, row, rows);
        }
    }
    return comm->error;
}

int comm_broadcast(struct comm *comm, void *bytes, size_t count)
{
    must(count <= COMM_HALF_BYTES);
    if (comm->error) {
        return comm->error;
    }
    if (comm->options.rank == 0 && count > 0) {
        memcpy(next_half(comm), bytes, count);
    }
    publish(comm);
    await_all(comm);
    if (comm->options.rank != 0 && count > 0 && !comm->error) {
        memcpy(bytes, comm->peer[0]->half[comm->round % 2], count);
    }
    return comm->error;
}
