/*
 * schedule.c - see schedule.h. Called by the search, millions of times, and by the check; owns
 * nothing. Invariant: schedule_check() shares no rule with schedule_interval(): it looks at times,
 * not at orders and lags.
 */
#include "plan/schedule.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const double tolerance_us = 0.5;
static const double epsilon_us = 1e-7;

enum { BY_NONE = UINT16_MAX };

static double duration_us(const struct problem *problem, const struct schedule_nano *nano)
{
    return problem->operation[nano->operation].duration_us[nano->end - nano->first];
}

/* Whether a piece of `before` gives what a piece of `after` needs. */
static bool needs(const struct problem_dep *dep, const struct schedule_nano *before,
                  const struct schedule_nano *after)
{
    return before->first < after->end && (dep->prefix || after->first < before->end);
}

static void add_edge(struct schedule_graph *graph, uint32_t from, uint32_t to, int32_t rounds,
                     double weight_us)
{
    graph->edge[graph->edges++] = (struct schedule_edge){
        .from = (uint8_t)from, .to = (uint8_t)to, .rounds = (int8_t)rounds, .weight_us = weight_us};
}

/* Nanos of each operation: they stand together. */
struct spans {
    uint32_t first[PROBLEM_OPERATIONS];
    uint32_t end[PROBLEM_OPERATIONS];
};

static struct spans spans_of(const struct schedule *schedule)
{
    struct spans spans = {0};
    for (uint32_t i = 0; i < schedule->count; i++) {
        const enum problem_operation operation = schedule->nano[i].operation;
        spans.first[operation] = spans.end[operation] == 0 ? i : spans.first[operation];
        spans.end[operation] = i + 1;
    }
    return spans;
}

/* Edges to the nanos of `after` that need this one. False: one would wait for a later round. */
static bool add_needs(struct schedule_graph *graph, const struct schedule *schedule,
                      const struct problem *problem, const struct spans *spans,
                      const struct problem_dep *dep, uint32_t before)
{
    const double weight_us = duration_us(problem, &schedule->nano[before]);
    const struct schedule_nano *from = &schedule->nano[before];
    for (uint32_t i = spans->first[dep->after]; i < spans->end[dep->after]; i++) {
        const struct schedule_nano *to = &schedule->nano[i];
        const int32_t rounds = (int32_t)(to->lag + dep->offset) - (int32_t)from->lag;
        if (!needs(dep, from, to)) {
            continue;
        }
        if (rounds < 0) {
            return false;
        }
        add_edge(graph, before, i, rounds, weight_us);
    }
    return true;
}

static bool add_dependencies(struct schedule_graph *graph, const struct schedule *schedule,
                             const struct problem *problem)
{
    const struct spans spans = spans_of(schedule);
    for (uint32_t d = 0; d < problem->dep_count; d++) {
        const struct problem_dep *dep = &problem->dep[d];
        for (uint32_t i = spans.first[dep->before]; i < spans.end[dep->before]; i++) {
            if (!add_needs(graph, schedule, problem, &spans, dep, i)) {
                return false;
            }
        }
    }
    return true;
}

/* Each stream's order, and the next round behind its end. Returns the busiest stream's work. */
static double add_streams(struct schedule_graph *graph, const struct schedule *schedule,
                          const struct problem *problem)
{
    double busiest_us = 0;
    for (uint32_t s = 0; s < PROBLEM_STREAMS; s++) {
        const uint32_t *order = schedule->order[s];
        const uint32_t count = schedule->order_count[s];
        double work_us = 0;
        for (uint32_t i = 0; i < count; i++) {
            const double weight_us = duration_us(problem, &schedule->nano[order[i]]);
            work_us += weight_us;
            if (count > 1) {
                add_edge(graph, order[i], order[(i + 1) % count], i + 1 == count, weight_us);
            }
        }
        busiest_us = work_us > busiest_us ? work_us : busiest_us;
    }
    return busiest_us;
}

/* The ratio of a cycle among the edges that moved starts last; 0: there is none. */
static double cycle_ratio(const struct schedule_graph *graph, uint32_t count)
{
    uint8_t seen[SCHEDULE_NANO_MAX] = {0};
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = i;
        while (!seen[at] && graph->by[at] != BY_NONE) {
            seen[at] = (uint8_t)(i + 1);
            at = graph->edge[graph->by[at]].from;
        }
        if (graph->by[at] == BY_NONE || seen[at] != i + 1) {
            seen[at] = seen[at] ? seen[at] : (uint8_t)(i + 1);
            continue;
        }
        double weight_us = 0;
        int32_t rounds = 0;
        const uint32_t stop = at;
        do {
            const struct schedule_edge *edge = &graph->edge[graph->by[at]];
            weight_us += edge->weight_us;
            rounds += edge->rounds;
            at = edge->from;
        } while (at != stop);
        return rounds > 0 ? weight_us / rounds : (double)INFINITY;
    }
    return 0;
}

/* Raises starts until all edges hold: true. False: a cycle asks for a longer interval, in *ratio.
 */
static bool relax(struct schedule_graph *graph, uint32_t count, double interval_us, double *ratio)
{
    memset(graph->by, 0xff, sizeof graph->by);
    for (uint32_t pass = 0;; pass++) {
        bool moved = false;
        for (uint32_t e = 0; e < graph->edges; e++) {
            const struct schedule_edge *edge = &graph->edge[e];
            const double start_us =
                graph->start_us[edge->from] + edge->weight_us - edge->rounds * interval_us;
            if (start_us > graph->start_us[edge->to] + epsilon_us) {
                graph->start_us[edge->to] = start_us;
                graph->by[edge->to] = (uint16_t)e;
                moved = true;
            }
        }
        if (!moved) {
            return true;
        }
        if (pass >= 2) {
            *ratio = cycle_ratio(graph, count);
            if (*ratio > 0) {
                return false;
            }
        }
        must(pass < 4 * SCHEDULE_NANO_MAX);
    }
}

double schedule_interval(const struct schedule *schedule, const struct problem *problem,
                         struct schedule_graph *graph, double limit_us)
{
    graph->edges = 0;
    if (!add_dependencies(graph, schedule, problem)) {
        return (double)INFINITY;
    }
    double interval_us = add_streams(graph, schedule, problem);
    memset(graph->start_us, 0, sizeof graph->start_us);
    double ratio;
    while (interval_us <= limit_us && !relax(graph, schedule->count, interval_us, &ratio)) {
        interval_us = ratio > interval_us ? ratio : interval_us + epsilon_us;
    }
    for (uint32_t i = 0; i < schedule->count; i++) { /* From round 0 to layer 0. */
        graph->start_us[i] += schedule->nano[i].lag * interval_us;
    }
    return interval_us;
}

/* The sum of whole operations, those of one form of O. 0: one has no duration. */
static double sum_whole(const struct problem *problem, bool by_row)
{
    double sum_us = 0;
    for (uint32_t i = 0; i < PROBLEM_OPERATIONS; i++) {
        const uint32_t units = problem->operation[i].end - problem->operation[i].first;
        const double us = problem->operation[i].duration_us[units];
        const bool other_form = by_row ? i == PROBLEM_AG_ATT || i == PROBLEM_O || i == PROBLEM_AG_O
                                       : i == PROBLEM_O2 || i == PROBLEM_AR_O;
        if (units == 0 || other_form) {
            continue;
        }
        if (us <= 0) {
            return 0;
        }
        sum_us += us;
    }
    return sum_us;
}

double schedule_sequential(const struct problem *problem, bool *by_row)
{
    const double by_column_us = sum_whole(problem, false);
    const double by_row_us = sum_whole(problem, true);
    *by_row = by_row_us > 0 && (by_column_us <= 0 || by_row_us < by_column_us);
    return *by_row ? by_row_us : by_column_us;
}

static int broken(char *error, const char *rule, enum problem_operation operation)
{
    (void)snprintf(error, SCHEDULE_ERROR_BYTES_MAX, "%s: %s", problem_name(operation), rule);
    return -EINVAL;
}

/* Units of an operation that its nano-operations cover; false when two overlap. */
static bool cover(const struct schedule *schedule, enum problem_operation operation,
                  uint64_t *units, uint32_t *pieces)
{
    for (uint32_t i = 0; i < schedule->count; i++) {
        const struct schedule_nano *nano = &schedule->nano[i];
        if (nano->operation != operation) {
            continue;
        }
        const uint64_t all = nano->end == 64 ? UINT64_MAX : (1ull << nano->end) - 1;
        const uint64_t mine = all & ~((1ull << nano->first) - 1);
        if (*units & mine) {
            return false;
        }
        *units |= mine;
        (*pieces)++;
    }
    return true;
}

static int check_cover(const struct schedule *schedule, const struct problem *problem, char *error)
{
    uint64_t units[PROBLEM_OPERATIONS] = {0};
    uint32_t pieces[PROBLEM_OPERATIONS] = {0};
    for (uint32_t i = 0; i < PROBLEM_OPERATIONS; i++) {
        uint64_t wanted = 0;
        for (uint32_t u = problem->operation[i].first; u < problem->operation[i].end; u++) {
            wanted |= 1ull << u;
        }
        const bool form = i == PROBLEM_AG_ATT || i == PROBLEM_O || i == PROBLEM_AG_O ||
                          i == PROBLEM_O2 || i == PROBLEM_AR_O;
        if (!cover(schedule, i, &units[i], &pieces[i]) || (!form && units[i] != wanted)) {
            return broken(error, "its pieces do not tile its tokens", i);
        }
        if (pieces[i] > problem->operation[i].pieces_max) {
            return broken(error, "has too many pieces", i);
        }
    }
    const uint64_t both = units[PROBLEM_O] | units[PROBLEM_O2];
    if ((units[PROBLEM_O] & units[PROBLEM_O2]) || both != units[PROBLEM_UG] ||
        pieces[PROBLEM_O] + pieces[PROBLEM_O2] > problem->operation[PROBLEM_O].pieces_max ||
        units[PROBLEM_AG_ATT] != units[PROBLEM_O]) {
        return broken(error, "the two forms do not tile the tokens", PROBLEM_O);
    }
    return 0;
}

/* Each piece of one is a piece of the other. */
static bool same_pieces(const struct schedule *schedule, enum problem_operation left,
                        enum problem_operation right)
{
    int32_t balance = 0;
    for (uint32_t i = 0; i < schedule->count; i++) {
        const struct schedule_nano *nano = &schedule->nano[i];
        balance += (nano->operation == left) - (nano->operation == right);
        bool found = nano->operation != left;
        for (uint32_t j = 0; j < schedule->count && !found; j++) {
            const struct schedule_nano *other = &schedule->nano[j];
            found =
                other->operation == right && other->first == nano->first && other->end == nano->end;
        }
        if (!found) {
            return false;
        }
    }
    return balance == 0;
}

struct times {
    double interval_us;
    const double *start_us; /* [count] */
};

/* On one stream, no two may run at one time in any layers: starts modulo the interval. */
static bool collide(double left_us, double left_length_us, double right_us, double right_length_us,
                    double interval_us)
{
    const double gap_us = fmod(fmod(right_us - left_us, interval_us) + interval_us, interval_us);
    return gap_us < left_length_us - tolerance_us ||
           gap_us + right_length_us > interval_us + tolerance_us;
}

/* The pair (left, right): what right needs of left, and that their stream runs one at a time. */
static int check_pair(const struct schedule *schedule, const struct problem *problem,
                      const struct times *times, uint32_t left, uint32_t right, char *error)
{
    const struct schedule_nano *before = &schedule->nano[left];
    const struct schedule_nano *after = &schedule->nano[right];
    const double left_us = duration_us(problem, before);
    const double end_us = times->start_us[left] + left_us;
    for (uint32_t d = 0; d < problem->dep_count; d++) {
        const struct problem_dep *dep = &problem->dep[d];
        const double start_us = times->start_us[right] + dep->offset * times->interval_us;
        if (dep->before == before->operation && dep->after == after->operation &&
            needs(dep, before, after) && start_us < end_us - tolerance_us) {
            return broken(error, "starts before what it needs has ended", after->operation);
        }
    }
    if (left < right &&
        problem->operation[before->operation].stream ==
            problem->operation[after->operation].stream &&
        collide(times->start_us[left], left_us, times->start_us[right], duration_us(problem, after),
                times->interval_us)) {
        return broken(error, "runs while its stream is busy", after->operation);
    }
    return 0;
}

static int check_times(const struct schedule *schedule, const struct problem *problem,
                       const struct times *times, char *error)
{
    int code = 0;
    for (uint32_t i = 0; i < schedule->count && !code; i++) {
        const double us = duration_us(problem, &schedule->nano[i]);
        if (!(us > 0) || us > times->interval_us + tolerance_us) {
            return broken(error, "a piece has no duration, or one above the interval",
                          schedule->nano[i].operation);
        }
        for (uint32_t j = 0; j < schedule->count && !code; j++) {
            code = check_pair(schedule, problem, times, i, j, error);
        }
    }
    return code;
}

int schedule_check(const struct schedule *schedule, const struct problem *problem,
                   double interval_us, const double *start_us, char error[SCHEDULE_ERROR_BYTES_MAX])
{
    const int code = check_cover(schedule, problem, error);
    if (code) {
        return code;
    }
    if (!same_pieces(schedule, PROBLEM_O, PROBLEM_AG_O)) {
        return broken(error, "must have the pieces of O", PROBLEM_AG_O);
    }
    if (problem->operation[PROBLEM_AR_O].end > 0 &&
        !same_pieces(schedule, PROBLEM_O2, PROBLEM_AR_O)) {
        return broken(error, "must have the pieces of O2", PROBLEM_AR_O);
    }
    const struct times times = {interval_us, start_us};
    return check_times(schedule, problem, &times, error);
}
