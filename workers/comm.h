/*
 * comm.h - collectives between the ranks of a tensor-parallel group. Every rank calls the same
 * ones in the same order with the same shapes. comm_shm.c is the spelling for CPU workers.
 *
 * A failure sticks: it and all later calls return at once, what they should have filled is garbage,
 * and the step must not be answered. The only way on is a new epoch with a new comm.
 */
#ifndef WORKERS_COMM_H
#define WORKERS_COMM_H

#include <stddef.h>
#include <stdint.h>

#include "base/must.h"

struct comm;

/* Each rank has the columns span_part(columns, rank, ranks) of some rows; all get all columns. */
struct comm_gather_args {
    const void *own; /* [rows][own columns] */
    void *full;      /* [rows][columns]; NULL: this rank only gives. */
    uint32_t rows;
    uint32_t columns;
    uint32_t item_bytes;
};

/* 0; -ECANCELED: the epoch is over; -ETIMEDOUT: a sibling did not come, see comm_late(). */
int comm_gather(struct comm *comm, const struct comm_gather_args *args);

/* bytes of rank 0 become those of all. As above. */
int comm_broadcast(struct comm *comm, void *bytes, size_t count);

/* The error that sticks, or 0. */
int comm_error(const struct comm *comm);

/* Looks, without waiting, whether the epoch is over, and then fails. 0, or the error that sticks.
 */
int comm_poll(struct comm *comm);

/* Fails: what this rank does with its siblings by other means has. */
void comm_end(struct comm *comm);

/* The rank that did not come, after -ETIMEDOUT. */
uint32_t comm_late(const struct comm *comm);

#endif /* WORKERS_COMM_H */
