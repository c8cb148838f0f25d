/*
 * lanes_cuda.h - puts the layers of a step on the lanes of an accelerator as a plan says: lane by
 * lane in rounds, as workers/pipe.h runs them on the CPU, with events where an edge goes from one
 * lane to another. The same calls run the step at once or are captured into a graph.
 */
#ifndef WORKERS_LANES_CUDA_H
#define WORKERS_LANES_CUDA_H

#include <stdbool.h>
#include <stdint.h>

#include "base/must.h"
#include "workers/model_cuda.h"

struct lanes_cuda {
    struct accel *accel;
    uint32_t layers;
    uint32_t units;       /* Of the device. */
    uint32_t event_first; /* Of its own. */
    bool timed;           /* The time of each instance is taken: not for graphs. */
    struct accel_share shares[ACCEL_LANES_MAX];
    uint32_t share_count;
    struct plan_edge edges[PLAN_EDGE_MAX]; /* Of the plan, by the waiting nano-operation. */
    uint32_t edge_first[PLAN_NANO_MAX + 1];
    bool end_awaited[PLAN_NANO_MAX]; /* By another lane. */
    bool start_awaited[PLAN_NANO_MAX];
    uint32_t put[PLAN_NANO_MAX]; /* Layers. */
    bool begun[ACCEL_LANES_MAX]; /* The lane has work of this step. */
};

/* Lane 0 is the head's: before and after the layers, and plans of one lane. */
enum { LANES_CUDA_HEAD = 0 };

/* Makes the accelerator's lanes: some with all of it, and pairs that part it. Its events are
 * event_first and lanes_cuda_events() more. */
int lanes_cuda_open(struct lanes_cuda *lanes, struct accel *accel, uint32_t layers,
                    uint32_t event_first) MUST_CHECK;
uint32_t lanes_cuda_events(uint32_t layers);

/* Which lane of the device each nano-operation of a plan goes to. */
void lanes_cuda_assign(const struct lanes_cuda *lanes, const struct plan *plan,
                       uint32_t lane[PLAN_NANO_MAX]);

/* Adds the time that the instances of the plan took when they were put last and timed, which has
 * ended. 0 or -errno. */
int lanes_cuda_spent(const struct lanes_cuda *lanes, const struct plan *plan,
                     uint64_t spent_ns[PLAN_OPERATION_COUNT]) MUST_CHECK;

/* Everything between the embedding and the head, both on the head's lane. 0 or -errno. */
int lanes_cuda_put(struct lanes_cuda *lanes, const struct cuda_model *model,
                   const struct cuda_batch *batch) MUST_CHECK;

#endif /* WORKERS_LANES_CUDA_H */
