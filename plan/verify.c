/*
 * verify.c - see verify.h. Called by the core at start, by sluice-tune and by tests; owns nothing.
 * Invariant: nothing of a plan is used as an index before it is known to be in bounds.
 */
#include "plan/verify.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "plan/reach.h"

enum { NAME_BYTES_MAX = 64, OFFSET_MAX = PLAN_LAG_MAX };

struct verifier {
    const struct plan *plan;
    const struct graph *graph;
    char *error;
    const struct graph_operation *of[PLAN_NANO_MAX];
};

static int __attribute__((format(printf, 2, 3)))
refuse(const struct verifier *verifier, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(verifier->error, VERIFY_ERROR_BYTES_MAX, format, args);
    va_end(args);
    return -EINVAL;
}

/* "kqv of [0, 32768)": out [NAME_BYTES_MAX], returned. */
static const char *name_of(const struct verifier *verifier, uint32_t nano, char *out)
{
    const struct plan_nano *at = &verifier->plan->nano[nano];
    (void)snprintf(out, NAME_BYTES_MAX, "%s of [%u, %u)", plan_operation_name(at->operation),
                   at->first, at->end);
    return out;
}

static int check_nano(struct verifier *verifier, uint32_t nano, uint32_t units)
{
    const struct plan_nano *at = &verifier->plan->nano[nano];
    verifier->of[nano] = graph_find(verifier->graph, at->operation);
    if (!verifier->of[nano]) {
        return refuse(verifier, "nano-operation %u: the layer has no operation %s", nano,
                      plan_operation_name(at->operation));
    }
    if (at->first >= at->end || at->end > PLAN_WHOLE) {
        return refuse(verifier, "nano-operation %u: [%u, %u) is no range of tokens", nano,
                      at->first, at->end);
    }
    if (at->lane >= PLAN_LANE_MAX || at->lag > PLAN_LAG_MAX || at->units > units) {
        return refuse(verifier,
                      "nano-operation %u: lane %u, lag %u or %u units are too many: below %u, at "
                      "most %u and %u",
                      nano, at->lane, at->lag, at->units, PLAN_LANE_MAX, PLAN_LAG_MAX, units);
    }
    return 0;
}

static int check_bounds(struct verifier *verifier, uint32_t units)
{
    const struct plan *plan = verifier->plan;
    if (plan->nano_count == 0 || plan->nano_count > PLAN_NANO_MAX ||
        plan->edge_count > PLAN_EDGE_MAX) {
        return refuse(verifier, "%u nano-operations and %u edges: 1 to %u and at most %u fit",
                      plan->nano_count, plan->edge_count, PLAN_NANO_MAX, PLAN_EDGE_MAX);
    }
    for (uint32_t i = 0; i < plan->nano_count; i++) {
        if (check_nano(verifier, i, units)) {
            return -EINVAL;
        }
    }
    for (uint32_t i = 0; i < plan->edge_count; i++) {
        const struct plan_edge *edge = &plan->edge[i];
        if (edge->after >= plan->nano_count || edge->before >= plan->nano_count ||
            edge->offset > OFFSET_MAX || edge->kind > PLAN_AFTER_START) {
            return refuse(verifier, "edge %u names what is not there", i);
        }
    }
    return 0;
}

static int compare_bounds(const void *left, const void *right)
{
    const uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

/* How many nano-operations of an operation hold a token. */
static uint32_t count_over(const struct verifier *verifier, const struct graph_operation *operation,
                           uint32_t token)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < verifier->plan->nano_count; i++) {
        const struct plan_nano *nano = &verifier->plan->nano[i];
        count += verifier->of[i] == operation && nano->first <= token && token < nano->end;
    }
    return count;
}

/* The form of O that the token takes is what the plan has it take: by the gathered O alone. */
static int check_token(const struct verifier *verifier, uint32_t token)
{
    const struct graph_operation *output = graph_find(verifier->graph, PLAN_OUTPUT);
    const bool gathered = count_over(verifier, output, token) > 0;
    for (uint32_t i = 0; i < verifier->graph->count; i++) {
        const struct graph_operation *operation = &verifier->graph->operation[i];
        const bool wanted =
            operation->tokens == GRAPH_ALL || (operation->tokens == GRAPH_O_GATHERED) == gathered;
        const uint32_t count = count_over(verifier, operation, token);
        if (count != wanted) {
            return refuse(verifier, "%s has the tokens from %u of 65536 on %u times, not %u",
                          plan_operation_name(operation->operation), token, count, wanted);
        }
    }
    return 0;
}

static int check_tiling(const struct verifier *verifier)
{
    const struct plan *plan = verifier->plan;
    uint32_t bound[PLAN_NANO_MAX + 1] = {0}; /* What begins where something else ends, or at 0. */
    for (uint32_t i = 0; i < plan->nano_count; i++) {
        bound[i + 1] = plan->nano[i].end;
    }
    qsort(bound, plan->nano_count + 1, sizeof bound[0], compare_bounds);
    for (uint32_t i = 0; i <= plan->nano_count && bound[i] < PLAN_WHOLE; i++) {
        if ((i == 0 || bound[i] != bound[i - 1]) && check_token(verifier, bound[i])) {
            return -EINVAL;
        }
    }
    for (uint32_t i = 0; i < plan->nano_count; i++) { /* No range begins between two bounds. */
        if (!bsearch(&plan->nano[i].first, bound, plan->nano_count + 1, sizeof bound[0],
                     compare_bounds)) {
            char name[NAME_BYTES_MAX];
            return refuse(verifier, "%s begins where nothing ends", name_of(verifier, i, name));
        }
    }
    return 0;
}

static int check_alike(const struct verifier *verifier)
{
    const struct plan *plan = verifier->plan;
    for (uint32_t i = 0; i < plan->nano_count; i++) {
        must(verifier->of[i]);
        bool found = !verifier->of[i]->alike;
        for (uint32_t r = 0; r < plan->nano_count && !found; r++) {
            found = plan->nano[r].operation == PLAN_ROUTE &&
                    plan->nano[r].first == plan->nano[i].first &&
                    plan->nano[r].end == plan->nano[i].end;
        }
        if (!found) {
            char name[NAME_BYTES_MAX];
            return refuse(verifier, "%s is not cut as route is", name_of(verifier, i, name));
        }
    }
    return 0;
}

static int check_pair(const struct verifier *verifier, const struct reach *closed, uint32_t before,
                      uint32_t after)
{
    const struct plan_nano *nano = verifier->plan->nano;
    for (uint32_t offset = 0; offset <= 1; offset++) {
        const uint64_t waiting = offset ? closed->next[before] : closed->same[before];
        if ((offset == 0 && verifier->of[after] <= verifier->of[before]) ||
            (waiting & reach_bit(after))) {
            continue;
        }
        const enum graph_buffer buffer = graph_conflict(verifier->of[after], verifier->of[before],
                                                        offset, &nano[after], &nano[before]);
        if (buffer != GRAPH_BUFFERS) {
            char one[NAME_BYTES_MAX], other[NAME_BYTES_MAX];
            return refuse(verifier, "%s does not wait for %s%s, and both touch %s",
                          name_of(verifier, after, one), name_of(verifier, before, other),
                          offset ? " of the layer before" : "", graph_buffer_name(buffer));
        }
    }
    return 0;
}

static int check_order(const struct verifier *verifier)
{
    const struct plan *plan = verifier->plan;
    struct reach direct = {{0}, {0}};
    struct reach closed;
    for (uint32_t i = 0; i < plan->edge_count; i++) {
        const struct plan_edge *edge = &plan->edge[i];
        if (edge->kind == PLAN_AFTER_END && edge->offset <= 1) {
            uint64_t *set = edge->offset ? direct.next : direct.same;
            set[edge->before] |= reach_bit(edge->after);
        }
    }
    reach_close(&closed, &direct, plan->nano_count);
    for (uint32_t before = 0; before < plan->nano_count; before++) {
        for (uint32_t after = 0; after < plan->nano_count; after++) {
            if (check_pair(verifier, &closed, before, after)) {
                return -EINVAL;
            }
        }
    }
    return 0;
}

struct wait { /* `after` in round r waits for `before` in round r - rounds. */
    uint8_t after;
    uint8_t before;
    int8_t rounds;
};

/* The edges, then each lane: one after the other, and the first after the last, a round on. */
static uint32_t list_waits(const struct plan *plan, struct wait *wait)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < plan->edge_count; i++) {
        const struct plan_edge *edge = &plan->edge[i];
        const int32_t lags = plan->nano[edge->after].lag - plan->nano[edge->before].lag;
        wait[count++] = (struct wait){(uint8_t)edge->after, (uint8_t)edge->before,
                                      (int8_t)(edge->offset + lags)};
    }
    for (uint32_t i = 0; i < plan->nano_count; i++) {
        uint32_t next = i;
        do {
            next = (next + 1) % plan->nano_count;
        } while (plan->nano[next].lane != plan->nano[i].lane);
        wait[count++] = (struct wait){(uint8_t)next, (uint8_t)i, next <= i};
    }
    return count;
}

/*
 * A circle of waits that goes on by no round, or back, never ends. With rounds * (n + 1) - 1 as the
 * length of a wait, these are the circles of negative length, for no circle has more than n waits;
 * Bellman (1958) finds one where distances still shrink after n passes.
 */
static int check_circles(const struct verifier *verifier)
{
    const struct plan *plan = verifier->plan;
    struct wait wait[PLAN_EDGE_MAX + PLAN_NANO_MAX];
    int32_t distance[PLAN_NANO_MAX] = {0};
    const uint32_t count = list_waits(plan, wait);
    const int32_t round = (int32_t)plan->nano_count + 1;
    for (uint32_t pass = 0; pass <= plan->nano_count; pass++) {
        bool changed = false;
        for (uint32_t i = 0; i < count; i++) {
            const int32_t reached = distance[wait[i].before] + wait[i].rounds * round - 1;
            if (reached >= distance[wait[i].after]) {
                continue;
            }
            distance[wait[i].after] = reached;
            changed = true;
            if (pass == plan->nano_count) {
                char name[NAME_BYTES_MAX];
                return refuse(verifier, "%s waits for itself, by edges, lanes' orders and lags",
                              name_of(verifier, wait[i].after, name));
            }
        }
        if (!changed) {
            break;
        }
    }
    return 0;
}

static int check_ranks(const struct verifier *verifier)
{
    const struct plan *plan = verifier->plan;
    uint32_t first = PLAN_NANO_MAX;
    for (uint32_t i = 0; i < plan->nano_count; i++) {
        must(verifier->of[i]);
        if (!verifier->of[i]->meets_ranks || verifier->graph->ranks == 1) {
            continue;
        }
        first = first == PLAN_NANO_MAX ? i : first;
        if (plan->nano[i].lane != plan->nano[first].lane) {
            char one[NAME_BYTES_MAX], other[NAME_BYTES_MAX];
            return refuse(verifier, "%s and %s meet the other ranks on two lanes",
                          name_of(verifier, first, one), name_of(verifier, i, other));
        }
    }
    return 0;
}

int verify_plan(const struct plan *plan, const struct graph *graph, uint32_t units,
                char error[VERIFY_ERROR_BYTES_MAX])
{
    struct verifier verifier = {.plan = plan, .graph = graph, .error = error};
    int code = check_bounds(&verifier, units);
    code = code ? code : check_tiling(&verifier);
    code = code ? code : check_alike(&verifier);
    code = code ? code : check_order(&verifier);
    code = code ? code : check_circles(&verifier);
    return code ? code : check_ranks(&verifier);
}
