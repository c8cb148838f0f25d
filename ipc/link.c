/*
 * link.c - see link.h. Called by the core's loop thread and a worker's main thread. Owns the two
 * mappings, the socket and the bell of a link. Invariant: what the peer's segment says is used only
 * after its seals, its size and the hello were checked, so that no access can fault and no one else
 * can ever write to it.
 *
 *   core                                   worker
 *   hello + segment + bell  ------------>  checks, maps, creates its own, holds its life word
 *   checks, maps            <------------  hello + segment
 */
#include "ipc/link.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "ipc/death.h"
#include "ipc/packet.h"
#include "ipc/segment.h"

static const uint64_t LINK_MAGIC = 0x314b4e494c434c53u; /* "SLCLINK1" */

struct link_hello { /* On the socket and at the start of each segment. */
    uint64_t magic;
    uint64_t build_id;
    uint64_t segment_bytes;
    uint32_t epoch;
    uint16_t group;
    uint16_t rank;
};
static_assert(sizeof(struct link_hello) == 32, "no padding: hellos are compared as bytes");

struct link_core_segment {
    _Alignas(64) struct link_hello hello;
    struct ring_words step_tail;
    struct ring_words result_head;
    _Alignas(64) _Atomic uint32_t fence; /* 1: the epoch is over. Also a futex word. */
    _Alignas(SEGMENT_PAGE_BYTES) union record steps[RING_CELLS];
    _Alignas(SEGMENT_PAGE_BYTES) uint8_t board[LINK_BOARD_BYTES];
};

struct link_worker_segment {
    _Alignas(64) struct link_hello hello;
    struct ring_words result_tail;
    struct ring_words step_head;
    struct death_life life;
    _Alignas(64) _Atomic uint32_t progress; /* Moves while a step gets on. */
    _Alignas(SEGMENT_PAGE_BYTES) union record results[RING_CELLS];
    _Alignas(SEGMENT_PAGE_BYTES) uint8_t board[LINK_BOARD_BYTES];
};

enum { LINK_SEGMENT_BYTES = sizeof(struct link_core_segment) };
static_assert(sizeof(struct link_worker_segment) == LINK_SEGMENT_BYTES, "both sides alike");
static_assert(LINK_SEGMENT_BYTES % SEGMENT_PAGE_BYTES == 0, "whole pages");

enum { LINK_BOARD_OFFSET = offsetof(struct link_core_segment, board) };
static_assert(offsetof(struct link_worker_segment, board) == LINK_BOARD_OFFSET, "both sides alike");

static struct link_hello link_hello_of(const struct link *link)
{
    return (struct link_hello){.magic = LINK_MAGIC,
                               .build_id = IPC_BUILD_ID,
                               .segment_bytes = LINK_SEGMENT_BYTES,
                               .epoch = link->epoch,
                               .group = link->group,
                               .rank = link->rank};
}

static bool link_hello_equal(const struct link_hello *a, const struct link_hello *b)
{
    return a->magic == b->magic && a->build_id == b->build_id &&
           a->segment_bytes == b->segment_bytes && a->epoch == b->epoch && a->group == b->group &&
           a->rank == b->rank;
}

static void link_close_fd(int fd)
{
    if (fd >= 0) {
        (void)close(fd);
    }
}

/* Creates a sealed segment that begins with the hello, as both kinds do. A descriptor or -errno. */
static int link_create_segment(const struct link_hello *hello, void **out)
{
    const int fd = segment_create("sluice-link", LINK_SEGMENT_BYTES, out);
    if (fd >= 0) {
        *(struct link_hello *)*out = *hello;
    }
    return fd;
}

/* Maps the peer's segment read-only if it is what the hello says. 0 or -errno. */
static int link_map_peer(int fd, const struct link_hello *expected, const void **out)
{
    const void *segment = NULL;
    const int error = segment_map(fd, LINK_SEGMENT_BYTES, &segment);
    if (error) {
        return error;
    }
    const struct link_hello inside = *(const struct link_hello *)segment;
    if (!link_hello_equal(&inside, expected)) {
        segment_unmap(segment, LINK_SEGMENT_BYTES);
        return -EBADMSG;
    }
    *out = segment;
    return 0;
}

int link_core_begin(struct link *link, int socket, uint32_t epoch, uint16_t group, uint16_t rank)
{
    *link =
        (struct link){.socket = socket, .bell = -1, .epoch = epoch, .group = group, .rank = rank};
    link->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int error = link->bell < 0 ? -errno : 0;
    if (!error) {
        const struct link_hello hello = link_hello_of(link);
        const int fd = link_create_segment(&hello, &link->own);
        const int fds[PACKET_FDS_MAX] = {fd, link->bell};
        error = fd < 0 ? fd : packet_send(socket, &hello, sizeof hello, fds, PACKET_FDS_MAX);
        link_close_fd(fd); /* The mapping keeps the memory. */
    }
    if (error) {
        link_close(link);
    }
    return error;
}

void *link_own_board(struct link *link)
{
    return (uint8_t *)link->own + LINK_BOARD_OFFSET;
}

const void *link_peer_board(const struct link *link)
{
    return (const uint8_t *)link->peer + LINK_BOARD_OFFSET;
}

_Atomic uint32_t *link_own_progress(struct link *link)
{
    return &((struct link_worker_segment *)link->own)->progress;
}

uint32_t link_peer_progress(const struct link *link)
{
    const struct link_worker_segment *peer = link->peer;
    /* Relaxed: nothing is read by it. */
    return atomic_load_explicit(&peer->progress, memory_order_relaxed);
}

int link_core_finish(struct link *link)
{
    const struct link_hello expected = link_hello_of(link);
    struct link_hello hello;
    int fds[PACKET_FDS_MAX];
    int error = packet_recv(link->socket, &hello, sizeof hello, fds);
    if (error) {
        return error;
    }
    error = -EBADMSG;
    if (link_hello_equal(&hello, &expected) && fds[0] >= 0 && fds[1] < 0) {
        error = link_map_peer(fds[0], &expected, &link->peer);
    }
    link_close_fd(fds[0]);
    link_close_fd(fds[1]);
    if (error) {
        return error;
    }
    struct link_core_segment *own = link->own;
    const struct link_worker_segment *peer = link->peer;
    link->out = (struct ring_writer){
        .cells = own->steps, .tail = &own->step_tail, .head = &peer->step_head};
    link->in = (struct ring_reader){
        .cells = peer->results, .tail = &peer->result_tail, .head = &own->result_head};
    link->life = &peer->life.word;
    return 0;
}

void link_core_fence(struct link *link)
{
    struct link_core_segment *own = link->own;
    if (own) {
        /* Release, though nothing travels with it: it pairs with the acquire of those who wait. */
        atomic_store_explicit(&own->fence, 1, memory_order_release);
        (void)syscall(SYS_futex, &own->fence, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    }
}

/* Waits for the core's hello and takes over what came with it. */
static int link_worker_accept(struct link *link, uint32_t timeout_ms)
{
    const uint64_t deadline_us = clock_now_us() + (uint64_t)timeout_ms * 1000u;
    struct link_hello hello;
    int fds[PACKET_FDS_MAX];
    int error = packet_recv(link->socket, &hello, sizeof hello, fds);
    while (error == -EAGAIN) {
        const uint64_t now_us = clock_now_us();
        if (now_us >= deadline_us) {
            return -ETIMEDOUT;
        }
        struct pollfd wait = {.fd = link->socket, .events = POLLIN};
        (void)poll(&wait, 1, (int)((deadline_us - now_us) / 1000u) + 1);
        error = packet_recv(link->socket, &hello, sizeof hello, fds);
    }
    if (error) {
        return error;
    }
    link->epoch = hello.epoch;
    link->group = hello.group;
    link->rank = hello.rank;
    const struct link_hello expected = link_hello_of(link);
    error = -EBADMSG;
    if (link_hello_equal(&hello, &expected) && fds[0] >= 0 && fds[1] >= 0) {
        error = link_map_peer(fds[0], &expected, &link->peer);
    }
    link_close_fd(fds[0]);
    link->bell = fds[1];
    return error;
}

static int link_worker_answer(struct link *link)
{
    const struct link_hello hello = link_hello_of(link);
    const int fd = link_create_segment(&hello, &link->own);
    if (fd < 0) {
        return fd;
    }
    struct link_worker_segment *own = link->own;
    const struct link_core_segment *peer = link->peer;
    link->out = (struct ring_writer){
        .cells = own->results, .tail = &own->result_tail, .head = &peer->result_head};
    link->in = (struct ring_reader){
        .cells = peer->steps, .tail = &peer->step_tail, .head = &own->step_head};
    link->fence = &peer->fence;
    death_hold(&own->life); /* Before the core can see it: a zero word would never die. */
    const int error = packet_send(link->socket, &hello, sizeof hello, &fd, 1);
    link_close_fd(fd);
    return error;
}

int link_worker_connect(struct link *link, int socket, uint32_t timeout_ms)
{
    *link = (struct link){.socket = socket, .bell = -1};
    int error = link_worker_accept(link, timeout_ms);
    if (!error) {
        error = link_worker_answer(link);
    }
    if (error) {
        link_close(link);
    }
    return error;
}

void link_worker_publish(struct link *link)
{
    static const uint64_t one = 1;
    ring_publish(&link->out);
    /* EAGAIN: the counter is full, so the core has not read it and will. */
    must(write(link->bell, &one, sizeof one) == (ssize_t)sizeof one || errno == EAGAIN);
}

void link_close(struct link *link)
{
    segment_unmap(link->own, LINK_SEGMENT_BYTES);
    segment_unmap(link->peer, LINK_SEGMENT_BYTES);
    link_close_fd(link->socket);
    link_close_fd(link->bell);
    *link = (struct link){.socket = -1, .bell = -1};
}
