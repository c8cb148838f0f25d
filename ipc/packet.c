/*
 * packet.c - sendmsg and recvmsg with SCM_RIGHTS. Called by control.c and link.c in every process,
 * on its main thread; owns nothing. Invariant: a failed receive leaves no descriptor behind, so
 * that a faulty peer cannot fill the table of this process.
 */
#include "ipc/packet.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union packet_rights {
    struct cmsghdr head; /* For its alignment. */
    unsigned char bytes[CMSG_SPACE(PACKET_FDS_MAX * sizeof(int))];
};

int packet_send(int socket, const void *bytes, size_t count, const int *fds, uint32_t fd_count)
{
    must(fd_count <= PACKET_FDS_MAX);
    union packet_rights rights = {0};
    struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = count};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd_count > 0) {
        message.msg_control = rights.bytes;
        message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
        memcpy(CMSG_DATA(head), fds, fd_count * sizeof(int));
    }
    ssize_t sent;
    do {
        sent = sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent >= 0) {
        return 0; /* A datagram goes whole or not at all. */
    }
    return errno == ECONNRESET ? -EPIPE : -errno;
}

/* Collects the descriptors of a message. There is room for PACKET_FDS_MAX; beyond it the kernel
 * drops them and sets MSG_CTRUNC. */
static void packet_collect(struct msghdr *message, int fds[PACKET_FDS_MAX])
{
    uint32_t taken = 0;
    for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head; head = CMSG_NXTHDR(message, head)) {
        if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        const size_t found = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < found && taken < PACKET_FDS_MAX; i++) {
            memcpy(&fds[taken++], CMSG_DATA(head) + i * sizeof(int), sizeof(int));
        }
    }
}

int packet_recv(int socket, void *bytes, size_t count, int fds[PACKET_FDS_MAX])
{
    union packet_rights rights = {0};
    struct iovec part = {.iov_base = bytes, .iov_len = count};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = rights.bytes,
                             .msg_controllen = sizeof rights.bytes};
    for (uint32_t i = 0; i < PACKET_FDS_MAX; i++) {
        fds[i] = -1;
    }
    /* A peer that closed with unread messages of ours leaves one ECONNRESET, which the kernel
     * reports ahead of what the peer had sent, and reporting clears it. Its last words come next.
     */
    ssize_t got;
    do {
        got = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (got < 0 && (errno == EINTR || errno == ECONNRESET));
    if (got < 0) {
        return -errno;
    }
    packet_collect(&message, fds);
    if ((size_t)got == count && !(message.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
        return 0;
    }
    for (uint32_t i = 0; i < PACKET_FDS_MAX; i++) {
        if (fds[i] >= 0) {
            (void)close(fds[i]);
            fds[i] = -1;
        }
    }
    return got == 0 ? -ECONNRESET : -EBADMSG;
}
