/*
 * comm_nccl.h - collectives between the GPUs of a tensor-parallel group, put on lanes like kernels:
 * comm_nccl_gather() and its siblings are what accel_launch() takes. One communicator a lane, so
 * that lanes do not wait for each other; the ranks put the same collectives on a lane in the same
 * order. Called on the worker's main thread.
 *
 * A rank that dies leaves the others' collectives spinning on their devices: whoever notices (a
 * fence past its deadline, the end of the epoch) calls comm_nccl_abort(), which ends them; what
 * they should have filled is garbage.
 */
#ifndef WORKERS_COMM_NCCL_H
#define WORKERS_COMM_NCCL_H

#include <stddef.h>
#include <stdint.h>

#include "base/must.h"
#include "kernels/dtype.h"
#include "model/model_error.h"

enum { COMM_NCCL_LANES_MAX = 16 };

struct comm;
struct comm_nccl;
struct CUstream_st;

struct comm_nccl_options {
    uint32_t rank;
    uint32_t ranks;
    uint32_t lanes;
    uint32_t ctas;       /* That a collective takes of the device; 0: as many as NCCL likes. */
    uint64_t timeout_us; /* For the siblings to come. */
    struct comm *meet;   /* Where rank 0 tells the others how to meet; NULL when alone. */
};

/* Loads NCCL and joins the siblings on the current device. 0, -ENOENT, -ETIMEDOUT, -EIO, or what
 * `meet` says; with one line in *error. */
int comm_nccl_open(struct comm_nccl **out, const struct comm_nccl_options *options,
                   struct model_error *error) MUST_CHECK;
void comm_nccl_close(struct comm_nccl *comm); /* NULL is allowed. */
void comm_nccl_abort(struct comm_nccl *comm);

/* 0, or -EIO once a communicator has failed: the step must not be answered. */
int comm_nccl_check(struct comm_nccl *comm) MUST_CHECK;

struct comm_nccl_args {
    struct comm_nccl *comm;
    uint32_t lane; /* Whose stream the call is put on. */
    const void *own;
    void *all;    /* May be where own is, at the rank's part. */
    size_t count; /* Items of one rank's part. */
    enum kern_dtype dtype;
};

/* all[rank r's part] = rank r's own: [ranks][count]. args: struct comm_nccl_args. 0 or -EIO. */
int comm_nccl_gather(const void *args, struct CUstream_st *stream) MUST_CHECK;

/* all[i] = sum over ranks of own[i], count items. The order of the sum is NCCL's. */
int comm_nccl_reduce(const void *args, struct CUstream_st *stream) MUST_CHECK;

/* all[i] = sum over ranks of own[rank's part][i]: own is [ranks][count], all [count]. */
int comm_nccl_scatter(const void *args, struct CUstream_st *stream) MUST_CHECK;

#endif /* WORKERS_COMM_NCCL_H */
