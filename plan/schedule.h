/*
 * schedule.h - a steady-state pipeline of nano-operations: in what order each stream runs them,
 * over and over, once for each layer.
 *
 * A stream repeats its order in rounds. In round r it runs of each nano-operation the instance of
 * layer r - lag, so that a layer's tail may run beside the next layer's head. Lags and orders give
 * the interval between layers: the largest ratio of work to rounds over the cycles of what must
 * wait for what (the maximum cycle ratio of a periodic event graph; Dasdan and Gupta 1998).
 */
#ifndef PLAN_SCHEDULE_H
#define PLAN_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/must.h"
#include "plan/problem.h"

enum {
    SCHEDULE_NANO_MAX = PROBLEM_OPERATIONS * PROBLEM_PIECES_MAX, /* Both forms of O, in passing. */
    SCHEDULE_LAG_MAX = 3,
};

struct schedule_nano {
    enum problem_operation operation;
    uint32_t first; /* Units: [first, end). */
    uint32_t end;
    uint32_t lag;
};

struct schedule {
    struct schedule_nano nano[SCHEDULE_NANO_MAX];
    uint32_t count;
    uint32_t order[PROBLEM_STREAMS]
                  [SCHEDULE_NANO_MAX]; /* Indices of nano, as the stream runs them. */
    uint32_t order_count[PROBLEM_STREAMS];
};

struct schedule_edge { /* start[to] >= start[from] + weight - rounds * interval, in round time. */
    uint8_t from;
    uint8_t to;
    int8_t rounds;
    double weight_us;
};

enum { /* Every piece may need every piece; a stream has an edge a nano-operation. */
       SCHEDULE_EDGES_MAX =
           PROBLEM_DEPS_MAX * PROBLEM_PIECES_MAX * PROBLEM_PIECES_MAX + SCHEDULE_NANO_MAX,
};

struct schedule_graph { /* Work space, and the times of the answer. */
    struct schedule_edge edge[SCHEDULE_EDGES_MAX];
    uint32_t edges;
    uint16_t by[SCHEDULE_NANO_MAX];     /* Edge that moved a start last. */
    double start_us[SCHEDULE_NANO_MAX]; /* Of layer 0. */
};

/*
 * The least interval between layers in microseconds, with graph->start_us [count]. INFINITY when
 * orders and lags contradict the dependencies. Above limit_us it stops with some value above it.
 */
double schedule_interval(const struct schedule *schedule, const struct problem *problem,
                         struct schedule_graph *graph, double limit_us);

/* One after the other, each operation whole: the sum of the durations, as a baseline. 0 when a
 * whole operation has no duration. The O form is the faster one; by_row: O2. */
double schedule_sequential(const struct problem *problem, bool *by_row);

enum { SCHEDULE_ERROR_BYTES_MAX = 160 };

/* Checks a solution from its times alone, by the rules of the problem and with 0.5 us of tolerance;
 * start_us [count]. 0, or -EINVAL with what is broken in error. */
int schedule_check(const struct schedule *schedule, const struct problem *problem,
                   double interval_us, const double *start_us,
                   char error[SCHEDULE_ERROR_BYTES_MAX]) MUST_CHECK;

#endif /* PLAN_SCHEDULE_H */
