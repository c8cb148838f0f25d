/*
 * split.h - from cuts of a layer's operations to nano-operations with edges. Whoever makes a plan
 * calls this: sluice-tune for a pipeline it found, tests for any. Pure.
 *
 * The edges are the transitive reduction of all dependencies that plan/graph.h names, over the
 * layers too: each is needed, and together they order every two nano-operations that conflict,
 * whatever the lanes.
 */
#ifndef PLAN_SPLIT_H
#define PLAN_SPLIT_H

#include <stdint.h>

#include "base/must.h"
#include "plan/graph.h"
#include "plan/plan.h"

enum { SPLIT_PIECES_MAX = 8 }; /* Of one operation. */

struct split_cuts {
    struct {
        uint32_t count;                       /* 0: a form of O that no token takes. */
        uint32_t bound[SPLIT_PIECES_MAX + 1]; /* Piece i: [bound[i], bound[i + 1]), in 1/65536. */
    } operation[PLAN_OPERATION_COUNT];
};

/* Every operation in so many pieces of about one size. O gathers, where ranks make it choose. */
void split_even(struct split_cuts *cuts, const struct graph *graph, uint32_t pieces);

/* Nano-operations in the model's order, all on lane 0 with all units, and their edges. -E2BIG: too
 * many for a plan. */
int split_plan(struct plan *plan, const struct graph *graph,
               const struct split_cuts *cuts) MUST_CHECK;

/* Edges and hash of a plan whose nano-operations are there, in any order, on any lanes. -EINVAL:
 * one of them is not the layer's; -E2BIG: too many edges. */
int split_edges(struct plan *plan, const struct graph *graph) MUST_CHECK;

#endif /* PLAN_SPLIT_H */
