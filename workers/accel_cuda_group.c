/*
 * accel_cuda_group.c - how a GPU meets those of its siblings (accel.h): gathers over NCCL. Called
 * by accel_cuda.c and by the engine on the main thread of sluice-worker-cuda; owns the
 * communicator. One serves all lanes, since the gathers of a step follow each other whatever lanes
 * they are on (workers/trial.h): several would want an order among them, and their buffers.
 *
 * A rank that dies leaves the others' gathers spinning. Their hosts learn it from the core, which
 * ends the epoch: every fence looks, and then leaves the group. NCCL waits for the graphs that hold
 * its work, so these go first. Invariant: no communicator outlives its epoch's end by more than one
 * call of accel_join().
 */
#include <errno.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "workers/accel_cuda.h"
#include "workers/comm.h"
#include "workers/comm_nccl.h"

enum {
    GROUP_CTAS = 8,               /* Of the device, for a gather: not measured. */
    LEAVE_TIMEOUT_US = 5000000,   /* For what runs to end once the gathers have been aborted. */
    VERDICT_TIMEOUT_US = 1000000, /* For the core to tell of a sibling's end. */
    VERDICT_PAUSE_NS = 1000000,
};

/* Gives up what is being captured. */
static void drop_capture(struct accel *accel)
{
    cudaGraph_t recorded = NULL;
    if (accel->capturing) {
        (void)cudaStreamEndCapture(accel->lane[accel->capture_lane].stream, &recorded);
        (void)cudaGetLastError(); /* That it was not whole. */
        accel->capturing = false;
    }
    if (recorded) {
        (void)cudaGraphDestroy(recorded);
    }
}

void accel_cuda_group_close(struct accel *accel)
{
    if (accel->nccl) {
        drop_capture(accel);
        accel_cuda_graphs_close(accel);
        comm_nccl_abort(accel->nccl);
        comm_nccl_close(accel->nccl);
        accel->nccl = NULL;
    }
}

/* Whether the epoch is over, as the core may be about to tell. */
static bool ends_soon(struct comm *comm)
{
    const uint64_t end_us = clock_now_us() + VERDICT_TIMEOUT_US;
    const struct timespec pause = {.tv_nsec = VERDICT_PAUSE_NS};
    while (!comm_poll(comm) && clock_now_us() < end_us) {
        (void)nanosleep(&pause, NULL);
    }
    return comm_error(comm) != 0;
}

/* After a gather failed or the epoch ended. -ECANCELED; -EIO: NCCL failed by itself, or what runs
 * does not end. */
static int leave(struct accel *accel)
{
    const bool over = ends_soon(accel->group.comm);
    comm_end(accel->group.comm);
    accel_cuda_group_close(accel);
    if (!accel_cuda_idle(accel, LEAVE_TIMEOUT_US)) {
        return accel_cuda_fail(accel, "a gather", "does not end");
    }
    return over ? -ECANCELED : accel_cuda_fail(accel, "a gather", "NCCL has failed");
}

int accel_cuda_group_check(struct accel *accel)
{
    if (!accel->nccl || (!comm_poll(accel->group.comm) && !comm_nccl_check(accel->nccl))) {
        return 0;
    }
    return leave(accel);
}

int accel_join(struct accel *accel, const struct accel_group *group)
{
    struct model_error error = {""};
    const struct comm_nccl_options options = {.rank = group->rank,
                                              .ranks = group->ranks,
                                              .lanes = 1,
                                              .ctas = GROUP_CTAS,
                                              .timeout_us = group->timeout_us,
                                              .meet = group->comm};
    accel_cuda_group_close(accel);
    accel_cuda_graphs_close(accel);
    accel->group = *group;
    if (!accel_cuda_idle(accel, LEAVE_TIMEOUT_US)) {
        return accel_cuda_fail(accel, "a step of the last epoch", "does not end");
    }
    if (comm_nccl_open(&accel->nccl, &options, &error) == 0) {
        return 0;
    }
    if (ends_soon(group->comm)) {
        log_warning("%s: %s", accel->info.name, error.text);
        return -ECANCELED;
    }
    return accel_cuda_fail(accel, "joining its siblings", error.text);
}

int accel_gather(struct accel *accel, uint32_t lane, const struct accel_gather *gather)
{
    const struct comm_nccl_args args = {.comm = accel->nccl,
                                        .own = gather->own,
                                        .all = gather->all,
                                        .count = gather->count,
                                        .dtype = gather->dtype};
    must(lane < accel->lane_count);
    if (!accel->nccl) { /* It was left. */
        return accel->failure[0] ? -EIO : -ECANCELED;
    }
    return comm_nccl_gather(&args, accel->lane[lane].stream) ? leave(accel) : 0;
}
