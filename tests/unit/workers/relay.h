/*
 * relay.h - the ranks of a group inside one test process: their comms, joined by the part of the
 * core that hands offers on.
 */
#ifndef TESTS_UNIT_WORKERS_RELAY_H
#define TESTS_UNIT_WORKERS_RELAY_H

#include <stdint.h>

#include "base/limits.h"
#include "workers/comm_shm.h"

struct relay {
    uint32_t ranks;
    struct comm *comm[LIMIT_WORKERS_MAX];
    _Atomic uint32_t fence; /* The core's word. */
};

/* Opens and joins the comms of all ranks. Failure is must(). */
void relay_open(struct relay *relay, uint32_t ranks, uint64_t timeout_us);
void relay_close(struct relay *relay); /* Of those that are not NULL. */

/* Runs work(context, rank) on a thread for each rank, to the end of all. */
void relay_run(uint32_t ranks, void (*work)(void *context, uint32_t rank), void *context);

#endif /* TESTS_UNIT_WORKERS_RELAY_H */
