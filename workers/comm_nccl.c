/*
 * comm_nccl.c - see comm_nccl.h. Called on the worker's main thread; owns the communicators. They
 * do not block the host: each call that NCCL answers with "in progress" is asked about until it is
 * done or its time is up, so that a sibling that never comes cannot hold this rank. Invariant:
 * after the first failure every call fails.
 */
#include "workers/comm_nccl.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include <nccl.h>

#include "base/clock.h"
#include "base/log.h"
#include "workers/comm.h"
#include "workers/comm_nccl_library.h"

enum { PUT_TIMEOUT_US = 1000000 }; /* For NCCL to put a collective on a stream. */

struct comm_nccl {
    struct comm_nccl_library nccl;
    ncclComm_t lane[COMM_NCCL_LANES_MAX];
    uint32_t lanes;
    bool failed;
};

/* Until NCCL has done what it was asked, the time is up or, with siblings, the epoch over. */
static ncclResult_t settle(const struct comm_nccl_library *nccl, ncclComm_t lane,
                           ncclResult_t result, uint64_t timeout_us, struct comm *meet)
{
    const uint64_t end_us = clock_now_us() + timeout_us;
    while (result == ncclInProgress && clock_now_us() < end_us && !(meet && comm_poll(meet))) {
        const ncclResult_t asked = nccl->state(lane, &result);
        result = asked ? asked : result;
    }
    return result;
}

/* A communicator for a lane; the ranks come here in the same order of lanes. */
static int join(struct comm_nccl *comm, const struct comm_nccl_options *options, uint32_t lane,
                struct model_error *error)
{
    const struct comm_nccl_library *nccl = &comm->nccl;
    ncclUniqueId id = {{0}};
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    config.CTAPolicy = NCCL_CTA_POLICY_EFFICIENCY;
    if (options->ctas > 0) {
        config.minCTAs = (int)options->ctas;
        config.maxCTAs = (int)options->ctas;
    }
    ncclResult_t result = options->rank == 0 ? nccl->unique_id(&id) : ncclSuccess;
    if (!result && options->meet) {
        const int met = comm_broadcast(options->meet, &id, sizeof id);
        if (met) {
            return model_error_set(error, met, "a sibling GPU worker did not come");
        }
    }
    if (!result) {
        result =
            nccl->init(&comm->lane[lane], (int)options->ranks, id, (int)options->rank, &config);
        comm->lanes = lane + 1;
        result = settle(nccl, comm->lane[lane], result, options->timeout_us, options->meet);
    }
    if (result == ncclInProgress) {
        return model_error_set(error, -ETIMEDOUT, "NCCL did not join %u ranks in time",
                               options->ranks);
    }
    return result ? model_error_set(error, -EIO, "NCCL cannot join %u ranks: %s", options->ranks,
                                    nccl->error_string(result))
                  : 0;
}

int comm_nccl_open(struct comm_nccl **out, const struct comm_nccl_options *options,
                   struct model_error *error)
{
    must(options->lanes <= COMM_NCCL_LANES_MAX && options->rank < options->ranks);
    struct comm_nccl *comm = calloc(1, sizeof *comm);
    if (!comm) {
        return model_error_set(error, -ENOMEM, "no host memory for NCCL's communicators");
    }
    int status = comm_nccl_library_open(&comm->nccl, error);
    for (uint32_t i = 0; i < options->lanes && !status; i++) {
        status = join(comm, options, i, error);
    }
    if (status) {
        comm_nccl_abort(comm);
        comm_nccl_close(comm);
        return status;
    }
    *out = comm;
    return 0;
}

void comm_nccl_abort(struct comm_nccl *comm)
{
    comm->failed = true;
    for (uint32_t i = 0; i < comm->lanes; i++) {
        if (comm->lane[i]) {
            (void)comm->nccl.abort(comm->lane[i]); /* Frees it, too. */
            comm->lane[i] = NULL;
        }
    }
    comm->lanes = 0;
}

void comm_nccl_close(struct comm_nccl *comm)
{
    if (!comm) {
        return;
    }
    for (uint32_t i = 0; i < comm->lanes; i++) {
        const ncclResult_t result = comm->nccl.finalize(comm->lane[i]);
        if (settle(&comm->nccl, comm->lane[i], result, PUT_TIMEOUT_US, NULL)) {
            (void)comm->nccl.abort(comm->lane[i]);
        } else {
            (void)comm->nccl.destroy(comm->lane[i]);
        }
    }
    free(comm);
}

static int fail(struct comm_nccl *comm, ncclResult_t result)
{
    if (!comm->failed) {
        log_error("a collective between GPUs: %s", comm->nccl.error_string(result));
    }
    comm->failed = true;
    return -EIO;
}

int comm_nccl_check(struct comm_nccl *comm)
{
    ncclResult_t state = ncclSuccess;
    for (uint32_t i = 0; i < comm->lanes && !comm->failed; i++) {
        const ncclResult_t asked = comm->nccl.state(comm->lane[i], &state);
        state = asked ? asked : state;
        if (state && state != ncclInProgress) {
            return fail(comm, state);
        }
    }
    return comm->failed ? -EIO : 0;
}

static ncclDataType_t type_of(const struct comm_nccl_args *args)
{
    return args->dtype == KERN_BF16 ? ncclBfloat16 : ncclFloat32;
}

/* NULL when nothing can be put on it any more. */
static ncclComm_t lane_of(const struct comm_nccl_args *args)
{
    return args->comm->failed || args->lane >= args->comm->lanes ? NULL
                                                                 : args->comm->lane[args->lane];
}

static int put(const struct comm_nccl_args *args, ncclResult_t result)
{
    result = settle(&args->comm->nccl, args->comm->lane[args->lane], result, PUT_TIMEOUT_US, NULL);
    return result ? fail(args->comm, result) : 0;
}

int comm_nccl_gather(const void *args, struct CUstream_st *stream)
{
    const struct comm_nccl_args *call = args;
    ncclComm_t lane = lane_of(call);
    return lane ? put(call, call->comm->nccl.gather(call->own, call->all, call->count,
                                                    type_of(call), lane, stream))
                : -EIO;
}

int comm_nccl_reduce(const void *args, struct CUstream_st *stream)
{
    const struct comm_nccl_args *call = args;
    ncclComm_t lane = lane_of(call);
    return lane ? put(call, call->comm->nccl.reduce(call->own, call->all, call->count,
                                                    type_of(call), ncclSum, lane, stream))
                : -EIO;
}

int comm_nccl_scatter(const void *args, struct CUstream_st *stream)
{
    const struct comm_nccl_args *call = args;
    ncclComm_t lane = lane_of(call);
    return lane ? put(call, call->comm->nccl.scatter(call->own, call->all, call->count,
                                                     type_of(call), ncclSum, lane, stream))
                : -EIO;
}
