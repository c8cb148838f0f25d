/*
 * sibling.c - see sibling.h. Called by a worker's main thread and the core's loop; owns nothing.
 * Invariant: an offer comes with exactly one descriptor, or it is none.
 */
#include "ipc/sibling.h"

#include <assert.h>
#include <errno.h>
#include <unistd.h>

#include "ipc/packet.h"

static_assert(sizeof(struct sibling_offer) == 24, "no padding");

int sibling_send(int socket, const struct sibling_offer *offer, int fd)
{
    struct sibling_offer sent = *offer;
    sent.build_id = IPC_BUILD_ID;
    return packet_send(socket, &sent, sizeof sent, &fd, 1);
}

int sibling_recv(int socket, struct sibling_offer *offer, int *fd)
{
    int fds[PACKET_FDS_MAX];
    const int error = packet_recv(socket, offer, sizeof *offer, fds);
    if (error) {
        return error;
    }
    if (offer->build_id == IPC_BUILD_ID && fds[0] >= 0 && fds[1] < 0) {
        *fd = fds[0];
        return 0;
    }
    for (uint32_t i = 0; i < PACKET_FDS_MAX; i++) {
        if (fds[i] >= 0) {
            (void)close(fds[i]);
        }
    }
    return -EBADMSG;
}
