/*
 * accel.h - the accelerator of a worker: its memory, lanes, events, copies, graphs and matrix
 * products. The engine of such a device (engine_cuda.c and its parts) calls it, on the worker's
 * main thread alone. Linked, not dispatched: a program holds exactly one device, accel_cuda.c or,
 * in tests, the slow one that runs kernels under the emulator (tests/kern/emu/accel_emu.c).
 *
 * Work put on a lane runs in the order in which it was put; lanes run side by side, and only events
 * order them. What puts work returns at once. Memory, lanes and events are made at start; then
 * nothing is allocated, graphs excepted, and everything lasts until accel_close().
 *
 * Errors are 0 or -errno. -EIO is the device's own: it may show in a later call than the one that
 * caused it and stays for ever, so the process ends and its supervisor starts another.
 */
#ifndef WORKERS_ACCEL_H
#define WORKERS_ACCEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/must.h"
#include "kernels/dtype.h"
#include "model/model_error.h"

struct accel;
struct accel_graph;
struct comm;
struct CUstream_st; /* Of the CUDA runtime; C callers need no header of it. */

enum {
    ACCEL_LANES_MAX = 16,
    ACCEL_COPIES_MAX = 64,      /* Of one call. */
    ACCEL_ARGS_BYTES_MAX = 512, /* A kernel's arguments. */
    ACCEL_FAILURE_BYTES_MAX = 200,
};

/* How lanes get their shares, best first. */
enum accel_sharing {
    ACCEL_SHARING_CUT,   /* Units of their own. */
    ACCEL_SHARING_HINTS, /* Launches limit themselves; what is asked for first starts first. */
    ACCEL_SHARING_ONE,   /* All lanes are one: nothing overlaps. */
};

struct accel_info {
    char name[64];         /* "NVIDIA H200" */
    char libraries[64];    /* Versions of what computes: part of the key of plans and tunings. */
    uint64_t memory_bytes; /* All of the device's, */
    uint64_t memory_free_bytes; /* and what is left now for arenas. */
    uint32_t units;             /* Streaming multiprocessors. */
    uint32_t unit_step;         /* Shares of them are multiples of this. */
    uint32_t rows_step;         /* Rows of x that products like best: where plans cut a batch. */
    bool bytes;                 /* Has products of e4m3, see struct accel_product. */
    enum accel_sharing sharing; /* Final once there are lanes. */
};

/* Device `index` of this machine. -ENODEV: there is none; -EIO; *error in one line. */
int accel_open(struct accel **out, uint32_t index, struct model_error *error) MUST_CHECK;
void accel_close(struct accel *accel); /* NULL is allowed. What runs is waited for, not for ever. */
void accel_info(struct accel *accel, struct accel_info *out);

/* The device's first failure in one line, for the supervisor; empty while there is none. */
const char *accel_failure(const struct accel *accel);

enum accel_memory {
    ACCEL_DEVICE,
    ACCEL_HOST, /* Pinned: host memory that copies read or write while the host goes on. */
};

/* Memory with garbage in it, aligned to 256. 0 or -ENOMEM. Addresses in device memory are for
 * kernels, copies and products; the host does not follow them. */
int accel_arena(struct accel *accel, enum accel_memory kind, size_t bytes, void **out) MUST_CHECK;

/* Pins memory that somebody else made, such as a shared segment: as ACCEL_HOST from now on, until
 * the accelerator is closed; the memory stays mapped as long. */
int accel_pin(struct accel *accel, void *bytes, size_t count, bool writable) MUST_CHECK;

/*
 * Lanes 0 .. count - 1, once. A share of 0 units is all of the device. Lanes with the same group,
 * not 0, are parts of one cut: no unit is in two of them. Where the device cannot be cut, lanes are
 * limited by the launches' own budgets instead (accel_lane_units()).
 */
struct accel_share {
    uint32_t group;
    uint32_t units;
};
int accel_lanes(struct accel *accel, const struct accel_share *shares, uint32_t count) MUST_CHECK;

/* Units that the lane has; kernels on it take no more CTAs than fill them. */
uint32_t accel_lane_units(const struct accel *accel, uint32_t lane);

/* Events 0 .. count - 1, once. An event stands for all that was on the lane when it was recorded
 * last: recorded behind an operation it is that operation's end, before one its start. */
int accel_events(struct accel *accel, uint32_t count) MUST_CHECK;
int accel_record(struct accel *accel, uint32_t event, uint32_t lane) MUST_CHECK;

/* What is put on the lane from now on waits for the event. */
int accel_wait(struct accel *accel, uint32_t event, uint32_t lane) MUST_CHECK;

/* The host waits. 0, -ETIMEDOUT, -EIO. */
int accel_fence(struct accel *accel, uint32_t event, uint64_t timeout_us) MUST_CHECK;

/* Device time between two events that have passed and were not captured. */
int accel_elapsed_us(struct accel *accel, uint32_t from, uint32_t to, float *us) MUST_CHECK;

/* Within the device, or between it and ACCEL_HOST memory. In any order, at most ACCEL_COPIES_MAX:
 * none reads what another writes. */
struct accel_copy {
    void *to;
    const void *from;
    size_t bytes;
};
int accel_copy(struct accel *accel, uint32_t lane, const struct accel_copy *copies,
               uint32_t count) MUST_CHECK;

/* Sets device memory to zero. */
int accel_clear(struct accel *accel, uint32_t lane, void *bytes, size_t count) MUST_CHECK;

/* Calls launch(args, the lane's stream), now or, from a copy of args, when the lane gets there.
 * launch: a kernel family's C entry (kernels/cuda). */
int accel_launch(struct accel *accel, uint32_t lane,
                 int (*launch)(const void *args, struct CUstream_st *stream), const void *args,
                 size_t bytes) MUST_CHECK;

/* y (+)= x W^T: y[r][c] = sum over i of x[r][i] * w[c][i]. Sums are float. On one lane products
 * follow each other, so a lane's workspace is never used twice at a time.
 *
 * With scales x and w are e4m3, the sum counts x_scale[r] * w_scale[c] times, and n and k are
 * multiples of ACCEL_BYTES_STEP. */
enum { ACCEL_BYTES_STEP = 16 };
struct accel_product {
    const void *x;        /* act [rows][k] */
    const void *w;        /* act [n][k] */
    void *y;              /* [rows][n], float or act */
    const float *x_scale; /* [rows] and */
    const float *w_scale; /* [n], or both NULL */
    uint32_t rows;
    uint32_t n;
    uint32_t k;
    enum kern_dtype dtype; /* Of act. */
    bool float_y;          /* y is float whatever act is. */
    bool accumulate;       /* Wants float_y. */
};
int accel_multiply(struct accel *accel, uint32_t lane,
                   const struct accel_product *product) MUST_CHECK;

/* From accel_tune() to accel_tuned() a product of a shape that is new to its lane is timed in every
 * way that the library proposes, and the fastest is kept, for later starts too; y is then garbage
 * where it accumulates. It is not for captures. Nothing is begun after a second, so that a step
 * stays within its deadline: accel_tuned() tells whether all were timed. Products that were not are
 * right, of a speed that nobody measured. In float nothing is timed: one way is fixed for all rows
 * of a shape, so that they have the same bits. */
void accel_tune(struct accel *accel);
bool accel_tuned(struct accel *accel);

/*
 * The devices of a group's ranks meet. All ranks join at a time, before the first gather and again
 * with each epoch; graphs from before are gone then. What fails between ranks is no failure of the
 * device: the call that meets it, a fence or a replay too, gives -ECANCELED, comm_error() of the
 * group is not 0, and nothing computed counts until the next accel_join(). 0, -ECANCELED, -EIO.
 */
struct accel_group {
    struct comm *comm; /* Between the hosts; borrowed until the next one. */
    uint32_t rank;
    uint32_t ranks;
    uint64_t timeout_us; /* For the siblings to come. */
};
int accel_join(struct accel *accel, const struct accel_group *group) MUST_CHECK;

/* all[r] = rank r's own: [ranks][count]. own may be the rank's place in it. Every rank puts the
 * same gathers; events or a lane order them, the same way on all ranks, so that no two meet. */
struct accel_gather {
    const void *own;
    void *all;
    size_t count;
    enum kern_dtype dtype;
};
int accel_gather(struct accel *accel, uint32_t lane, const struct accel_gather *gather) MUST_CHECK;

/*
 * From capture to captured, what is put on `lane`, and on lanes that wait for an event recorded in
 * between, does not run but becomes a graph; before the end `lane` waits for all the others. A
 * graph runs as one piece of work of the lane it is launched on. Addresses and counts are those of
 * the capture: what changes lies in device memory.
 */
int accel_capture(struct accel *accel, uint32_t lane) MUST_CHECK;
int accel_captured(struct accel *accel, uint32_t lane, struct accel_graph **out) MUST_CHECK;
int accel_replay(struct accel *accel, struct accel_graph *graph, uint32_t lane) MUST_CHECK;

#endif /* WORKERS_ACCEL_H */
