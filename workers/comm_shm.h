/*
 * comm_shm.h - collectives through shared memory: one segment a rank, which it writes and its
 * siblings read. The segments change hands through the core (ipc/sibling.h).
 */
#ifndef WORKERS_COMM_SHM_H
#define WORKERS_COMM_SHM_H

#include <stdint.h>

#include "base/must.h"
#include "workers/comm.h"

struct comm_shm_options {
    uint32_t epoch;
    uint16_t group;
    uint16_t rank;
    uint32_t ranks;
    uint64_t timeout_us;           /* Of one wait for a sibling. */
    const _Atomic uint32_t *fence; /* Borrowed: not 0 when the core has ended the epoch. */
};

/* Creates this rank's segment and offers it over socket. 0 or -errno. */
int comm_shm_open(struct comm **out, const struct comm_shm_options *options, int socket) MUST_CHECK;

/* Takes the siblings' segments that have come. 0: all are there; -EAGAIN: not yet; or another
 * -errno: this epoch comes to nothing. Does not wait. */
int comm_shm_join(struct comm *comm, int socket) MUST_CHECK;

/* Leaves: siblings that still wait for this rank do so no longer. NULL is allowed. */
void comm_shm_close(struct comm *comm);

#endif /* WORKERS_COMM_SHM_H */
