/*
 * packet.h - one datagram with file descriptors beside it, on a SOCK_SEQPACKET pair.
 *
 * The floor under control.c and link.c: sizes are exact, descriptors arrive close-on-exec, and
 * whatever does not fit is refused with every received descriptor closed again.
 */
#ifndef IPC_PACKET_H
#define IPC_PACKET_H

#include <stddef.h>
#include <stdint.h>

#include "base/must.h"

enum { PACKET_FDS_MAX = 2 }; /* A segment and a bell. */

/* Sends without waiting. The caller keeps its descriptors. 0; -EAGAIN; -EPIPE when the
 * peer is gone; or another -errno. */
int packet_send(int socket, const void *bytes, size_t count, const int *fds,
                uint32_t fd_count) MUST_CHECK;

/*
 * Receives exactly count bytes without waiting, and up to PACKET_FDS_MAX descriptors, which the
 * caller owns from then on; unused entries are -1. 0; -EAGAIN: none yet; -ECONNRESET: the peer is
 * gone; -EBADMSG: another size or too many descriptors; or another -errno. Descriptors come only
 * with 0.
 */
int packet_recv(int socket, void *bytes, size_t count, int fds[PACKET_FDS_MAX]) MUST_CHECK;

#endif /* IPC_PACKET_H */
