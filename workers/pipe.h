/*
 * pipe.h - runs the layers of a model as a plan says: lanes side by side, each with its
 * nano-operations in rounds, and an instance (a nano-operation of a layer) only when what its edges
 * name has ended or started.
 *
 * An operation is a row of stages. A stage is one job of the crew over the rows of its task; the
 * next begins when it has ended. What it writes belongs to those rows, so that instances over
 * different rows can run at one time.
 */
#ifndef WORKERS_PIPE_H
#define WORKERS_PIPE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "kernels/kern.h"
#include "kernels/matmul.h"
#include "plan/plan.h"
#include "workers/comm.h"
#include "workers/crew.h"
#include "workers/cuts.h"

enum { PIPE_STAGES_MAX = 4 };

/* A stage on its way through the crew: the job's context. */
struct pipe_task {
    void *model;
    uint32_t layer;
    uint32_t first; /* Rows of the dense batch, [first, end). */
    uint32_t end;
    struct crew_job job; /* Of this stage. No units: it has nothing to do. */
    union {              /* The job's arguments, for its kernel. */
        struct kern_embed_args embed;
        struct kern_rmsnorm_args rmsnorm;
        struct kern_rope_append_args rope_append;
        struct kern_attend_args attend;
        struct kern_silu_mul_args silu_mul;
        struct kern_route_args route;
        struct kern_combine_args combine;
        struct matmul_args matmul;
        struct comm_gather_args gather;
    } args;
};

struct pipe_operation {
    /* Fills args and job, whose context is the task. In order up to the first NULL. */
    void (*stage[PIPE_STAGES_MAX])(struct pipe_task *task);
};

struct pipe_lane {
    uint16_t nano[PLAN_NANO_MAX]; /* Its nano-operations, by index in the plan. */
    uint32_t nano_count;
    uint32_t at; /* In nano: the running one, or the next. */
    uint32_t round;
    uint32_t stage; /* That comes next, of the running one. */
    bool running;
    bool waited;
    uint64_t start_ns;
    uint64_t spent_ns[PLAN_OPERATION_COUNT];
    struct pipe_task task;
};

struct pipe {
    const struct pipe_operation *operation[PLAN_OPERATION_COUNT];
    void *model;
    struct crew *crew;
    uint32_t layers;
    void (*poison_all)(void *model); /* Before chaos: what operations hand to each other, and */
    void (*poison)(const struct pipe_task *task, uint32_t operation); /* what this one used up. */
    _Atomic uint32_t *progress; /* Moves with each operation that ends; NULL: nobody looks. */

    /* Of the run. */
    const struct plan *plan;
    uint32_t rounds;
    uint32_t row_first[PLAN_NANO_MAX];
    uint32_t row_end[PLAN_NANO_MAX];
    uint32_t edge_first[PLAN_NANO_MAX + 1]; /* In edge: those that a nano-operation waits for. */
    struct plan_edge edge[PLAN_EDGE_MAX];
    bool awaited[PLAN_NANO_MAX]; /* By another lane. */
    struct pipe_lane lane[PLAN_LANE_MAX];
    uint32_t lane_count;
    _Atomic uint32_t started[PLAN_NANO_MAX]; /* Layers. */
    _Atomic uint32_t ended[PLAN_NANO_MAX];
};

/* Every layer, every nano-operation. The plan passes workers/trial.h; cuts are those of the plan.
 */
void pipe_run(struct pipe *pipe, const struct plan *plan, const struct cuts *cuts);

/* The same in a random one of the orders that the edges allow, one instance at a time, whatever the
 * lanes. What an instance leaves behind for nobody is poisoned, so that a plan without one of the
 * edges it needs gives wrong numbers in some orders. For tests. */
void pipe_run_chaos(struct pipe *pipe, const struct plan *plan, const struct cuts *cuts,
                    uint64_t seed);

/* One stage outside any plan, over rows [first, end). */
void pipe_run_stage(struct pipe *pipe, void (*stage)(struct pipe_task *task), uint32_t first,
                    uint32_t end);

/* Adds the time that the runs since the last call spent in each operation, from start to end. */
void pipe_take_spent(struct pipe *pipe, uint64_t spent_ns[PLAN_OPERATION_COUNT]);

#endif /* WORKERS_PIPE_H */
