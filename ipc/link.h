/*
 * link.h - the shared memory that joins the core and one worker for one epoch.
 *
 * Two memfd segments, one written by each side. The writer creates, maps, seals (size and future
 * writes) and sends its own over the link's socket; the other side checks seals, size and build id
 * and maps it read-only. A new worker start, or a new core, means a new link with a new epoch;
 * segments are never used again.
 *
 *   core's segment    [header][step tail][result head][fence word][step cells][board]
 *   worker's segment  [header][result tail][step head][life word][result cells][board]
 *
 * The result doorbell is an eventfd made by the core, so that its poll loop sees results; the step
 * doorbell is the futex in the ring.
 */
#ifndef IPC_LINK_H
#define IPC_LINK_H

#include <stdint.h>

#include "base/must.h"
#include "ipc/ring.h"

enum { LINK_BOARD_BYTES = 128 << 10 };

struct link {
    int socket; /* Owned. */
    int bell;   /* eventfd, owned; written by the worker, read by the core. */
    uint32_t epoch;
    uint16_t group;
    uint16_t rank;
    void *own;        /* Mapped read-write. */
    const void *peer; /* Mapped read-only; NULL until the handshake is done. */
    struct ring_writer out;
    struct ring_reader in;
    const _Atomic uint32_t *life;  /* Core side: the worker's robust futex word (death.h). */
    const _Atomic uint32_t *fence; /* Worker side: 1 when the core has ended the epoch. */
};

/* Core: creates its segment and sends it. socket is taken over, also on failure, which leaves a
 * closed link. 0; -EPIPE: the worker is gone already and its next start brings a new link; or
 * another -errno. */
int link_core_begin(struct link *link, int socket, uint32_t epoch, uint16_t group,
                    uint16_t rank) MUST_CHECK;

/* The boards: what one side writes on its own, the other can read once it has taken a record
 * published later, and must distrust like a record. Zero at first. */
void *link_own_board(struct link *link);
const void *link_peer_board(const struct link *link);

/* Worker: a word that it moves while a step gets on, however long the step is. Core: the word of a
 * link that is finished, of which only a change means something. */
_Atomic uint32_t *link_own_progress(struct link *link);
uint32_t link_peer_progress(const struct link *link);

/* Core: takes the worker's segment when it has come. 0, -EAGAIN, or -errno: end the link. */
int link_core_finish(struct link *link) MUST_CHECK;

/* Core: tells a worker that waits for its siblings that the epoch is over. */
void link_core_fence(struct link *link);

/* Worker: both halves, within timeout_ms, and takes hold of its life word on this thread. socket is
 * taken over. A failure, -ECONNRESET and -EPIPE when the core is gone, leaves a closed link. */
int link_worker_connect(struct link *link, int socket, uint32_t timeout_ms) MUST_CHECK;

/* Worker: publishes results and rings the core's bell. */
void link_worker_publish(struct link *link);

/* Unmaps and closes. The link may be all zero with socket = bell = -1. */
void link_close(struct link *link);

#endif /* IPC_LINK_H */
