/*
 * split.c - see split.h. Called where plans are made; owns nothing. Invariant: an edge stands for a
 * conflict of rows, and none follows from the others.
 */
#include "plan/split.h"

#include <errno.h>

#include "plan/reach.h"

void split_even(struct split_cuts *cuts, const struct graph *graph, uint32_t pieces)
{
    must(pieces >= 1 && pieces <= SPLIT_PIECES_MAX);
    *cuts = (struct split_cuts){0};
    for (uint32_t i = 0; i < graph->count; i++) {
        if (graph->operation[i].tokens == GRAPH_O_REDUCED) {
            continue;
        }
        const uint32_t operation = graph->operation[i].operation;
        cuts->operation[operation].count = pieces;
        for (uint32_t p = 0; p <= pieces; p++) {
            cuts->operation[operation].bound[p] = PLAN_WHOLE / pieces * p;
        }
        cuts->operation[operation].bound[pieces] = PLAN_WHOLE;
    }
}

static int add_edges(struct plan *plan, uint32_t before, uint64_t waiting, uint16_t offset)
{
    for (uint32_t after = 0; after < plan->nano_count; after++) {
        if (!(waiting & reach_bit(after))) {
            continue;
        }
        if (plan->edge_count == PLAN_EDGE_MAX) {
            return -E2BIG;
        }
        plan->edge[plan->edge_count++] = (struct plan_edge){.after = (uint16_t)after,
                                                            .before = (uint16_t)before,
                                                            .offset = offset,
                                                            .kind = PLAN_AFTER_END};
    }
    return 0;
}

/* Everything that must wait for one of them. */
static void find_dependencies(struct reach *direct, const struct plan *plan,
                              const struct graph_operation *const *of, uint32_t before)
{
    const struct plan_nano *rows = &plan->nano[before];
    for (uint32_t after = 0; after < plan->nano_count; after++) {
        const struct plan_nano *after_rows = &plan->nano[after];
        if (of[after] > of[before] &&
            graph_conflict(of[after], of[before], 0, after_rows, rows) != GRAPH_BUFFERS) {
            direct->same[before] |= reach_bit(after);
        }
        if (graph_conflict(of[after], of[before], 1, after_rows, rows) != GRAPH_BUFFERS) {
            direct->next[before] |= reach_bit(after);
        }
    }
}

int split_edges(struct plan *plan, const struct graph *graph)
{
    const struct graph_operation *of[PLAN_NANO_MAX];
    struct reach direct = {{0}, {0}};
    struct reach closed, reduced;
    if (plan->nano_count > PLAN_NANO_MAX) {
        return -E2BIG;
    }
    for (uint32_t i = 0; i < plan->nano_count; i++) {
        of[i] = graph_find(graph, plan->nano[i].operation);
        if (!of[i]) {
            return -EINVAL;
        }
    }
    for (uint32_t i = 0; i < plan->nano_count; i++) {
        find_dependencies(&direct, plan, of, i);
    }
    reach_close(&closed, &direct, plan->nano_count);
    reach_reduce(&reduced, &direct, &closed, plan->nano_count);
    int code = 0;
    plan->edge_count = 0;
    for (uint32_t i = 0; i < plan->nano_count && !code; i++) {
        code = add_edges(plan, i, reduced.same[i], 0);
        code = code ? code : add_edges(plan, i, reduced.next[i], 1);
    }
    plan->hash = plan_hash(plan);
    return code;
}

int split_plan(struct plan *plan, const struct graph *graph, const struct split_cuts *cuts)
{
    *plan = (struct plan){0};
    for (uint32_t i = 0; i < graph->count; i++) {
        const uint16_t operation = graph->operation[i].operation;
        const uint32_t *bound = cuts->operation[operation].bound;
        for (uint32_t p = 0; p < cuts->operation[operation].count; p++) {
            if (plan->nano_count == PLAN_NANO_MAX) {
                return -E2BIG;
            }
            plan->nano[plan->nano_count++] =
                (struct plan_nano){.operation = operation, .first = bound[p], .end = bound[p + 1]};
        }
    }
    return split_edges(plan, graph);
}
