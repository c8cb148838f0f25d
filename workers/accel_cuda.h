/*
 * accel_cuda.h - what the files of the CUDA device share: accel_cuda.c (memory, events, copies,
 * graphs), accel_cuda_lanes.c, accel_cuda_group.c, accel_cuda_product.c, accel_cuda_algorithms.c
 * and accel_cuda_blas.c. Nobody else includes it; the seam is accel.h.
 */
#ifndef WORKERS_ACCEL_CUDA_H
#define WORKERS_ACCEL_CUDA_H

#include <stdbool.h>
#include <stdint.h>

#include <cuda.h>
#include <cuda_runtime_api.h>

#include "workers/accel.h"

enum {
    ACCEL_ARENAS_MAX = 256,           /* A start makes some dozens. */
    ACCEL_WORKSPACE_BYTES = 32 << 20, /* Of a lane's products: what NVIDIA names for Hopper. */
};

struct accel_products;
struct comm_nccl;

struct accel_lane {
    struct CUstream_st *stream;
    CUgreenCtx cut; /* NULL: the stream is one of the whole device. */
    uint32_t units;
    void *workspace;
};

struct accel_arena_block {
    void *bytes;
    enum accel_memory kind;
};

struct accel_graph {
    cudaGraphExec_t exec;
    struct accel_graph *next;
};

struct accel {
    int device;
    struct accel_info info;
    char failure[ACCEL_FAILURE_BYTES_MAX]; /* Empty while all is well. */
    bool capturing;
    uint32_t capture_lane; /* Then. */
    bool batches;          /* The driver takes several copies in one call. */
    struct accel_lane lane[ACCEL_LANES_MAX];
    uint32_t lane_count;
    cudaEvent_t *event; /* [event_count] */
    uint32_t event_count;
    struct accel_arena_block arena[ACCEL_ARENAS_MAX];
    uint32_t arena_count;
    struct accel_graph *graphs;
    struct accel_products *products;
    struct accel_group group;
    struct comm_nccl *nccl; /* NULL: not joined. */
};

/* 0, or -EIO after keeping and logging the first thing that went wrong, with `what` was called. */
int accel_cuda_check(struct accel *accel, cudaError_t error, const char *what) MUST_CHECK;

/* The same for what did not come from the runtime. -EIO. */
int accel_cuda_fail(struct accel *accel, const char *what, const char *why) MUST_CHECK;

/* Waits a bounded time for all lanes; true when nothing runs any more. */
bool accel_cuda_idle(const struct accel *accel, uint64_t timeout_us);

void accel_cuda_graphs_close(struct accel *accel);

/* 0; -ECANCELED after leaving a group whose epoch is over; -EIO: what it ran does not end. */
int accel_cuda_group_check(struct accel *accel) MUST_CHECK;

/* Leaves the group at once; gathers that run end. */
void accel_cuda_group_close(struct accel *accel);

/* What shares may be and how they can be had: info.unit_step, info.sharing. */
void accel_cuda_lanes_describe(struct accel *accel);
void accel_cuda_lanes_close(struct accel *accel);

/* Loads cuBLASLt, which is large, and fills in info.libraries. */
int accel_cuda_products_open(struct accel *accel, struct model_error *error) MUST_CHECK;
void accel_cuda_products_close(struct accel_products *products);

#endif /* WORKERS_ACCEL_CUDA_H */
