/* control_test.c - messages with and without a descriptor, faulty ones, and the sealed config. */
#include "ipc/control.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "ipc/packet.h"

struct pair {
    int ends[2];
    int fds_before;
};

/* The lowest free descriptor: it stays where it was when nothing leaks. */
static int lowest_free(void)
{
    const int fd = dup(STDERR_FILENO);
    assert_true(fd >= 0);
    assert_int_equal(close(fd), 0);
    return fd;
}

static struct pair pair_open(void)
{
    struct pair pair;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.ends), 0);
    pair.fds_before = lowest_free();
    return pair;
}

static void pair_close(const struct pair *pair)
{
    assert_int_equal(lowest_free(), pair->fds_before);
    assert_int_equal(close(pair->ends[0]), 0);
    assert_int_equal(close(pair->ends[1]), 0);
}

static void carries_a_message_and_a_descriptor(void **state)
{
    (void)state;
    const struct pair pair = pair_open();
    struct control_message out = {.kind = CONTROL_LINK, .index = 3, .epoch = 9, .rank = 2};
    (void)snprintf(out.text, sizeof out.text, "hello");
    struct control_message in;
    int fd = 0;
    assert_int_equal(control_recv(pair.ends[1], &in, &fd), -EAGAIN);
    assert_int_equal(fd, -1);

    int pipe_ends[2];
    assert_int_equal(pipe(pipe_ends), 0);
    assert_int_equal(control_send(pair.ends[0], &out, pipe_ends[1]), 0);
    assert_int_equal(control_send(pair.ends[0], &out, -1), 0);
    assert_int_equal(control_recv(pair.ends[1], &in, &fd), 0);
    assert_memory_equal(&in, &out, sizeof in);
    assert_true(fd >= 0);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(write(fd, "x", 1), 1);
    char byte = 0;
    assert_int_equal(read(pipe_ends[0], &byte, 1), 1);
    assert_int_equal(byte, 'x');
    assert_int_equal(close(fd), 0);
    assert_int_equal(control_recv(pair.ends[1], &in, &fd), 0);
    assert_int_equal(fd, -1);
    assert_int_equal(close(pipe_ends[0]), 0);
    assert_int_equal(close(pipe_ends[1]), 0);
    pair_close(&pair);
}

static void faulty_messages_leave_nothing(void **state)
{
    (void)state;
    const struct pair pair = pair_open();
    struct control_message in;
    int fd = 0;
    const int two[] = {STDERR_FILENO, STDERR_FILENO};
    char bytes[sizeof in + 1];
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(packet_send(pair.ends[0], bytes, sizeof in - 1, two, 2), 0);
    assert_int_equal(packet_send(pair.ends[0], bytes, sizeof in + 1, two, 2), 0);
    assert_int_equal(packet_send(pair.ends[0], bytes, sizeof in, two, 2), 0);
    memset(bytes, 'x', sizeof bytes); /* No NUL in the text. */
    assert_int_equal(packet_send(pair.ends[0], bytes, sizeof in, two, 1), 0);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(control_recv(pair.ends[1], &in, &fd), -EBADMSG);
        assert_int_equal(fd, -1);
    }
    pair_close(&pair);
}

/* packet_send() bounds its own side, so a third descriptor needs a message made by hand. */
static void a_third_descriptor_is_refused(void **state)
{
    (void)state;
    const struct pair pair = pair_open();
    struct control_message body = {.kind = CONTROL_STOP};
    union {
        struct cmsghdr head;
        unsigned char bytes[CMSG_SPACE(3 * sizeof(int))];
    } rights = {.bytes = {0}};
    struct iovec part = {.iov_base = &body, .iov_len = sizeof body};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = rights.bytes,
                             .msg_controllen = sizeof rights.bytes};
    const int fds[] = {STDERR_FILENO, STDERR_FILENO, STDERR_FILENO};
    rights.head.cmsg_level = SOL_SOCKET;
    rights.head.cmsg_type = SCM_RIGHTS;
    rights.head.cmsg_len = CMSG_LEN(sizeof fds);
    memcpy(CMSG_DATA(&rights.head), fds, sizeof fds);
    assert_int_equal(sendmsg(pair.ends[0], &message, 0), (ssize_t)sizeof body);
    int fd = 0;
    assert_int_equal(control_recv(pair.ends[1], &body, &fd), -EBADMSG);
    pair_close(&pair);
}

static void a_gone_peer_is_an_error(void **state)
{
    (void)state;
    const struct pair pair = pair_open();
    struct control_message message = {.kind = CONTROL_STOP};
    int fd = 0;
    assert_int_equal(shutdown(pair.ends[0], SHUT_RDWR), 0);
    assert_int_equal(control_recv(pair.ends[1], &message, &fd), -ECONNRESET);
    assert_int_equal(control_send(pair.ends[1], &message, -1), -EPIPE); /* And no SIGPIPE. */
    pair_close(&pair);
}

/* As a child does that fails while a link for it is on its way. */
static void last_words_arrive_though_nobody_listened(void **state)
{
    (void)state;
    const struct pair pair = pair_open();
    struct control_message message = {.kind = CONTROL_LINK};
    int fd = 0;
    assert_int_equal(control_send(pair.ends[0], &message, STDERR_FILENO), 0);
    message.kind = CONTROL_FAILED;
    assert_int_equal(control_send(pair.ends[1], &message, -1), 0);
    assert_int_equal(close(pair.ends[1]), 0);
    assert_int_equal(control_recv(pair.ends[0], &message, &fd), 0);
    assert_int_equal(message.kind, CONTROL_FAILED);
    assert_int_equal(control_recv(pair.ends[0], &message, &fd), -ECONNRESET);
    assert_int_equal(control_send(pair.ends[0], &message, -1), -EPIPE);
    assert_int_equal(close(pair.ends[0]), 0);
}

static void a_full_socket_says_again(void **state)
{
    (void)state;
    const struct pair pair = pair_open();
    const struct control_message message = {.kind = CONTROL_PROGRESS};
    int error = 0;
    for (int i = 0; i < 100000 && !error; i++) {
        error = control_send(pair.ends[0], &message, -1);
    }
    assert_int_equal(error, -EAGAIN);
    pair_close(&pair);
}

static void config_arrives_sealed(void **state)
{
    (void)state;
    const struct config out = {.workers = {.count = 4}, .model = {.path = "/models/x"}};
    struct config in;
    const int fd = control_config_store(&out);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "x", 1, 64), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(ftruncate(fd, 0), -1);
    assert_int_equal(control_config_fetch(fd, &in), 0);
    assert_memory_equal(&in, &out, sizeof in);
    assert_int_equal(control_config_fetch(fd, &in), 0); /* No shared offset moves. */
    assert_int_equal(close(fd), 0);
}

static void unsealed_config_is_refused(void **state)
{
    (void)state;
    struct config config;
    const int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)(sizeof config + 8)), 0);
    assert_int_equal(control_config_fetch(fd, &config), -EBADMSG);
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;
    assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
    assert_int_equal(control_config_fetch(fd, &config), -EBADMSG); /* Another build id. */
    assert_int_equal(close(fd), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(carries_a_message_and_a_descriptor),
        cmocka_unit_test(faulty_messages_leave_nothing),
        cmocka_unit_test(a_third_descriptor_is_refused),
        cmocka_unit_test(a_gone_peer_is_an_error),
        cmocka_unit_test(last_words_arrive_though_nobody_listened),
        cmocka_unit_test(a_full_socket_says_again),
        cmocka_unit_test(config_arrives_sealed),
        cmocka_unit_test(unsealed_config_is_refused),
    };
    return cmocka_run_group_tests_name("control", tests, NULL, NULL);
}
