/*
 * sibling.h - how the ranks of a group get to see each other's memory: each offers a segment of its
 * own over its link's socket, and the core, which maps none of them, hands every offer on to the
 * other ranks of that epoch.
 */
#ifndef IPC_SIBLING_H
#define IPC_SIBLING_H

#include <stdint.h>

#include "base/must.h"

struct sibling_offer {
    uint64_t build_id; /* Filled in and checked here. */
    uint64_t segment_bytes;
    uint32_t epoch;
    uint16_t group;
    uint16_t rank;
};

/* Sends without waiting; fd stays the caller's. 0; -EPIPE: the peer is gone; or another -errno. */
int sibling_send(int socket, const struct sibling_offer *offer, int fd) MUST_CHECK;

/* Receives without waiting; *fd is then the caller's. 0; -EAGAIN: none yet; -ECONNRESET: the peer
 * is gone; -EBADMSG: no offer, or one of another build. */
int sibling_recv(int socket, struct sibling_offer *offer, int *fd) MUST_CHECK;

#endif /* IPC_SIBLING_H */
