/*
 * link_test.c - the handshake between two processes, records both ways, and peers that offer a
 * segment they should not.
 */
#include "ipc/link.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "ipc/death.h"
#include "ipc/packet.h"

enum { WAIT_MS_MAX = 30000, HELLO_BYTES = 32, EPOCH_OFFSET = 24 };

static void sockets_open(int sockets[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets), 0);
}

static void finish_within_deadline(struct link *link)
{
    struct pollfd wait = {.fd = link->socket, .events = POLLIN};
    assert_int_equal(poll(&wait, 1, WAIT_MS_MAX), 1);
    assert_int_equal(link_core_finish(link), 0);
}

/* A worker that answers every record with its step number plus one, and the core's board with its
 * own, until it is killed. */
static _Noreturn void echo_worker(int socket)
{
    struct link link;
    if (link_worker_connect(&link, socket, WAIT_MS_MAX) != 0 || link.epoch != 5 ||
        link.group != 1 || link.rank != 2) {
        _exit(1);
    }
    for (;;) {
        union record record;
        if (ring_wait(&link.in, 10, WAIT_MS_MAX * 1000u) != 0 ||
            ring_take(&link.in, &record) != 0) {
            _exit(1);
        }
        ring_release(&link.in);
        record.step.step++;
        memcpy(link_own_board(&link), link_peer_board(&link), LINK_BOARD_BYTES);
        if (ring_push(&link.out, &record) != 0) {
            _exit(1);
        }
        link_worker_publish(&link);
    }
}

static void records_pass_both_ways_until_death(void **state)
{
    (void)state;
    int sockets[2];
    sockets_open(sockets);
    const pid_t worker = fork();
    assert_true(worker >= 0);
    if (worker == 0) {
        echo_worker(sockets[1]);
    }
    assert_int_equal(close(sockets[1]), 0);
    struct link link;
    assert_int_equal(link_core_begin(&link, sockets[0], 5, 1, 2), 0);
    finish_within_deadline(&link);
    struct death_watch *watch = NULL;
    assert_int_equal(death_watch_open(&watch), 0);
    death_watch_set(watch, 0, link.life);
    for (uint64_t i = 0; i < 300; i++) {
        union record record = {.step = {.step = i}};
        memset(link_own_board(&link), (int)(i % 200), LINK_BOARD_BYTES);
        assert_int_equal(ring_push(&link.out, &record), 0);
        ring_publish(&link.out);
        struct pollfd wait = {.fd = link.bell, .events = POLLIN};
        assert_int_equal(poll(&wait, 1, WAIT_MS_MAX), 1);
        uint64_t rings;
        assert_int_equal(read(link.bell, &rings, sizeof rings), (ssize_t)sizeof rings);
        assert_int_equal(ring_take(&link.in, &record), 0);
        assert_int_equal(record.step.step, i + 1);
        assert_memory_equal(link_peer_board(&link), link_own_board(&link), LINK_BOARD_BYTES);
        ring_release(&link.in);
    }
    assert_false(death_seen(link.life));
    assert_int_equal(kill(worker, SIGKILL), 0);
    struct pollfd wait = {.fd = death_watch_fd(watch), .events = POLLIN};
    assert_int_equal(poll(&wait, 1, WAIT_MS_MAX), 1);
    assert_true(death_seen(link.life));
    int status = 0;
    assert_int_equal(waitpid(worker, &status, 0), worker);
    assert_true(WIFSIGNALED(status)); /* Not an exit of its own. */
    death_watch_close(watch);
    link_close(&link);
}

static void segments_cannot_be_changed(void **state)
{
    (void)state;
    int sockets[2];
    sockets_open(sockets);
    struct link link;
    assert_int_equal(link_core_begin(&link, sockets[0], 1, 0, 0), 0);
    assert_int_equal(link_core_finish(&link), -EAGAIN);
    char hello[HELLO_BYTES];
    int fds[PACKET_FDS_MAX];
    assert_int_equal(packet_recv(sockets[1], hello, sizeof hello, fds), 0);
    assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0), MAP_FAILED);
    assert_int_equal(ftruncate(fds[0], 0), -1);
    void *view = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fds[0], 0);
    assert_ptr_not_equal(view, MAP_FAILED);
    assert_int_equal(mprotect(view, 4096, PROT_READ | PROT_WRITE), -1);
    assert_int_equal(munmap(view, 4096), 0);
    assert_int_equal(close(fds[0]), 0);
    assert_int_equal(close(fds[1]), 0);
    assert_int_equal(close(sockets[1]), 0);
    assert_int_equal(link_core_finish(&link), -ECONNRESET);
    link_close(&link);
}

/* A worker's answer made by hand: the core's own hello sent back, with a segment of our choice. */
static int finish_with(off_t bytes, int seals, bool other_epoch)
{
    int sockets[2];
    sockets_open(sockets);
    struct link link;
    assert_int_equal(link_core_begin(&link, sockets[0], 1, 0, 0), 0);
    char hello[HELLO_BYTES];
    int fds[PACKET_FDS_MAX];
    assert_int_equal(packet_recv(sockets[1], hello, sizeof hello, fds), 0);
    const int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    const off_t full = lseek(fds[0], 0, SEEK_END);
    hello[EPOCH_OFFSET] = other_epoch ? 2 : 1;
    assert_int_equal(ftruncate(fd, full + bytes), 0);
    assert_int_equal(pwrite(fd, hello, sizeof hello, 0), (ssize_t)sizeof hello);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
    assert_int_equal(packet_send(sockets[1], hello, sizeof hello, &fd, 1), 0);
    const int error = link_core_finish(&link);
    assert_true(error == 0 || link.peer == NULL);
    assert_int_equal(close(fd), 0);
    assert_int_equal(close(fds[0]), 0);
    assert_int_equal(close(fds[1]), 0);
    assert_int_equal(close(sockets[1]), 0);
    link_close(&link);
    return error;
}

static void faulty_segments_are_refused(void **state)
{
    (void)state;
    const int all = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;
    assert_int_equal(finish_with(0, all, false), 0);
    assert_int_equal(finish_with(0, all & ~F_SEAL_SHRINK, false), -EBADMSG);
    assert_int_equal(finish_with(0, all & ~F_SEAL_FUTURE_WRITE, false), -EBADMSG);
    assert_int_equal(finish_with(0, all & ~F_SEAL_SEAL, false), -EBADMSG);
    assert_int_equal(finish_with(-4096, all, false), -EBADMSG);
    assert_int_equal(finish_with(4096, all, false), -EBADMSG);
    assert_int_equal(finish_with(0, all, true), -EBADMSG);
}

static void connect_ends_at_its_deadline(void **state)
{
    (void)state;
    int sockets[2];
    sockets_open(sockets);
    struct link link;
    assert_int_equal(link_worker_connect(&link, sockets[1], 20), -ETIMEDOUT);
    assert_int_equal(link.socket, -1);
    struct pollfd gone = {.fd = sockets[0], .events = POLLIN};
    assert_int_equal(poll(&gone, 1, 0), 1); /* It was closed. */
    assert_int_equal(close(sockets[0]), 0);
}

static void connect_refuses_another_build(void **state)
{
    (void)state;
    int sockets[2];
    sockets_open(sockets);
    char hello[HELLO_BYTES];
    memset(hello, 0, sizeof hello);
    struct link link;
    assert_int_equal(packet_send(sockets[0], hello, sizeof hello, NULL, 0), 0);
    assert_int_equal(link_worker_connect(&link, sockets[1], WAIT_MS_MAX), -EBADMSG);
    assert_int_equal(close(sockets[0]), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_pass_both_ways_until_death),
        cmocka_unit_test(segments_cannot_be_changed),
        cmocka_unit_test(faulty_segments_are_refused),
        cmocka_unit_test(connect_ends_at_its_deadline),
        cmocka_unit_test(connect_refuses_another_build),
    };
    return cmocka_run_group_tests_name("link", tests, NULL, NULL);
}
