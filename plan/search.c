/*
 * search.c - see search.h. Called by sluice-tune and tests on one thread; owns the lists of cuts.
 * Invariant: `now` and `best` tile every operation with allowed sizes, and AG_O and AR_O follow the
 * cuts of O and O2.
 */
#include "plan/search.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/prng.h"

/* In the order of the layer: nanos of one operation stand together in this order. */
static const enum problem_operation layer[PROBLEM_OPERATIONS] = {
    PROBLEM_KQV, PROBLEM_GEMV, PROBLEM_PF, PROBLEM_AG_ATT, PROBLEM_O,    PROBLEM_AG_O,
    PROBLEM_O2,  PROBLEM_AR_O, PROBLEM_UG, PROBLEM_D,      PROBLEM_AR_D,
};

/* Ranges of one operation in a schedule. */
struct ranges {
    uint32_t count;
    uint32_t first[PROBLEM_PIECES_MAX];
    uint32_t end[PROBLEM_PIECES_MAX];
};

static uint32_t draw(struct search *search, uint32_t bound)
{
    return (uint32_t)((prng_bits(search->seed, search->draws++, 0) >> 32) * bound >> 32);
}

static bool sized(const struct problem *problem, enum problem_operation operation, uint32_t units)
{
    return problem->operation[operation].duration_us[units] > 0;
}

static bool absent(const struct problem *problem, enum problem_operation operation)
{
    return problem->operation[operation].first == problem->operation[operation].end;
}

/* Whether a piece of the output projection may have this form. */
static bool form_fits(const struct problem *problem, bool by_row, uint32_t units)
{
    const enum problem_operation after = by_row ? PROBLEM_AR_O : PROBLEM_AG_O;
    return sized(problem, by_row ? PROBLEM_O2 : PROBLEM_O, units) &&
           (absent(problem, after) || sized(problem, after, units));
}

/* A piece of O may be of either form. */
static bool piece_fits(const struct problem *problem, enum problem_operation operation,
                       uint32_t units)
{
    if (operation == PROBLEM_O) {
        return form_fits(problem, false, units) || form_fits(problem, true, units);
    }
    return sized(problem, operation, units);
}

/* All cuts of [first, end) into at most pieces_max pieces of allowed sizes. Returns their number.
 */
static uint32_t list_cuts(const struct problem *problem, enum problem_operation operation,
                          uint32_t first, uint32_t end, struct search_cut *out)
{
    const uint32_t pieces_max = problem->operation[operation].pieces_max;
    struct search_cut cut = {.count = 1, .end = {(uint8_t)first}};
    uint32_t count = 0;
    while (cut.count > 0 && count < SEARCH_CUTS_MAX) { /* An odometer of ends. */
        const uint32_t at = cut.count - 1u;
        const uint32_t from = at > 0 ? cut.end[at - 1] : first;
        cut.end[at]++;
        if (cut.end[at] > end) {
            cut.count--;
            continue;
        }
        if (!piece_fits(problem, operation, cut.end[at] - from)) {
            continue;
        }
        if (cut.end[at] == end) {
            out[count++] = cut;
        } else if (cut.count < pieces_max) {
            cut.end[cut.count] = cut.end[at];
            cut.count++;
        }
    }
    return count;
}

static struct ranges ranges_of_cut(const struct search_cut *cut, uint32_t first)
{
    struct ranges ranges = {.count = cut->count};
    for (uint32_t i = 0; i < cut->count; i++) {
        ranges.first[i] = i > 0 ? cut->end[i - 1] : first;
        ranges.end[i] = cut->end[i];
    }
    return ranges;
}

static struct ranges ranges_in(const struct schedule *schedule, enum problem_operation operation)
{
    struct ranges ranges = {0};
    for (uint32_t i = 0; i < schedule->count; i++) {
        if (schedule->nano[i].operation == operation) {
            ranges.first[ranges.count] = schedule->nano[i].first;
            ranges.end[ranges.count++] = schedule->nano[i].end;
        }
    }
    return ranges;
}

/* Takes a nano out, and its place in the order of its stream. */
static void take_out(struct schedule *schedule, const struct problem *problem, uint32_t index)
{
    const enum problem_stream own = problem->operation[schedule->nano[index].operation].stream;
    uint32_t *order = schedule->order[own];
    uint32_t at = 0;
    while (order[at] != index) {
        at++;
    }
    memmove(&order[at], &order[at + 1], (--schedule->order_count[own] - at) * sizeof order[0]);
    memmove(&schedule->nano[index], &schedule->nano[index + 1],
            (--schedule->count - index) * sizeof schedule->nano[0]);
    for (uint32_t s = 0; s < PROBLEM_STREAMS; s++) {
        for (uint32_t i = 0; i < schedule->order_count[s]; i++) {
            schedule->order[s][i] -= schedule->order[s][i] > index;
        }
    }
}

/* Puts a nano in at index, and into the order of its stream at place. */
static void put_in(struct schedule *schedule, const struct problem *problem, uint32_t index,
                   const struct schedule_nano *nano, uint32_t place)
{
    must(schedule->count < SCHEDULE_NANO_MAX);
    for (uint32_t s = 0; s < PROBLEM_STREAMS; s++) {
        for (uint32_t i = 0; i < schedule->order_count[s]; i++) {
            schedule->order[s][i] += schedule->order[s][i] >= index;
        }
    }
    memmove(&schedule->nano[index + 1], &schedule->nano[index],
            (schedule->count++ - index) * sizeof schedule->nano[0]);
    schedule->nano[index] = *nano;
    const enum problem_stream own = problem->operation[nano->operation].stream;
    uint32_t *order = schedule->order[own];
    place = place < schedule->order_count[own] ? place : schedule->order_count[own];
    memmove(&order[place + 1], &order[place],
            (schedule->order_count[own]++ - place) * sizeof order[0]);
    order[place] = index;
}

static uint32_t place_of(const struct schedule *schedule, const struct problem *problem,
                         uint32_t index)
{
    const enum problem_stream s = problem->operation[schedule->nano[index].operation].stream;
    uint32_t at = 0;
    while (schedule->order[s][at] != index) {
        at++;
    }
    return at;
}

/* Where nanos of an operation begin: behind those of the operations before it in the layer. */
static uint32_t index_of(const struct schedule *schedule, enum problem_operation operation)
{
    uint32_t index = 0;
    for (uint32_t i = 0; layer[i] != operation; i++) {
        while (index < schedule->count && schedule->nano[index].operation == layer[i]) {
            index++;
        }
    }
    return index;
}

/* Gives an operation these ranges: nanos keep places and lags as far as there are as many. */
static void recut(struct search *search, enum problem_operation operation,
                  const struct ranges *ranges)
{
    struct schedule *schedule = &search->now;
    const struct problem *problem = search->problem;
    const uint32_t index = index_of(schedule, operation);
    uint32_t have = 0;
    while (index + have < schedule->count && schedule->nano[index + have].operation == operation) {
        have++;
    }
    while (have > ranges->count) {
        take_out(schedule, problem, index + draw(search, have--));
    }
    while (have < ranges->count) {
        const enum problem_stream s = problem->operation[operation].stream;
        struct schedule_nano nano = {.operation = operation};
        uint32_t place = draw(search, schedule->order_count[s] + 1);
        if (have > 0) { /* Beside a sister. */
            const uint32_t sister = index + draw(search, have);
            nano.lag = schedule->nano[sister].lag;
            place = place_of(schedule, problem, sister) + draw(search, 2);
        }
        put_in(schedule, problem, index + have++, &nano, place);
    }
    for (uint32_t i = 0; i < have; i++) {
        schedule->nano[index + i].first = ranges->first[i];
        schedule->nano[index + i].end = ranges->end[i];
    }
}

/* AG_ATT over the tokens of O: they are contiguous, for there are at most two pieces. */
static bool recut_gather(struct search *search, const struct ranges *o)
{
    struct search_cut cut[PROBLEM_UNITS_MAX + 1];
    struct ranges none = {0};
    if (o->count == 0) {
        recut(search, PROBLEM_AG_ATT, &none);
        return true;
    }
    const uint32_t first = o->first[0];
    const uint32_t end = o->end[o->count - 1];
    uint32_t count = 0;
    for (uint32_t middle = first + 1; middle <= end; middle++) {
        const bool whole = middle == end;
        if (sized(search->problem, PROBLEM_AG_ATT, middle - first) &&
            (whole || (search->problem->operation[PROBLEM_AG_ATT].pieces_max > 1 &&
                       sized(search->problem, PROBLEM_AG_ATT, end - middle)))) {
            cut[count++] = (struct search_cut){whole ? 1 : 2, {(uint8_t)middle, (uint8_t)end}};
        }
    }
    if (count == 0) {
        return false;
    }
    const struct ranges ranges = ranges_of_cut(&cut[draw(search, count)], first);
    recut(search, PROBLEM_AG_ATT, &ranges);
    return true;
}

/* A cut of the output projection, each piece in one of its two forms. False: sizes do not allow. */
static bool recut_output(struct search *search)
{
    const struct problem *problem = search->problem;
    const struct search_cut *cut =
        &search->cut[PROBLEM_O][draw(search, search->cut_count[PROBLEM_O])];
    const struct ranges all = ranges_of_cut(cut, problem->operation[PROBLEM_O].first);
    struct ranges form[2] = {{0}};
    for (uint32_t i = 0; i < all.count; i++) {
        const uint32_t units = all.end[i] - all.first[i];
        const uint32_t by_row = draw(search, 2);
        if (!form_fits(problem, by_row, units)) {
            return false;
        }
        form[by_row].first[form[by_row].count] = all.first[i];
        form[by_row].end[form[by_row].count++] = all.end[i];
    }
    if (!recut_gather(search, &form[0])) {
        return false;
    }
    recut(search, PROBLEM_O, &form[0]);
    recut(search, PROBLEM_AG_O, &form[0]);
    recut(search, PROBLEM_O2, &form[1]);
    if (!absent(problem, PROBLEM_AR_O)) {
        recut(search, PROBLEM_AR_O, &form[1]);
    }
    return true;
}

static bool recut_any(struct search *search)
{
    const enum problem_operation operation = layer[draw(search, PROBLEM_OPERATIONS)];
    switch (operation) {
    case PROBLEM_AG_ATT: {
        const struct ranges o = ranges_in(&search->now, PROBLEM_O);
        return recut_gather(search, &o);
    }
    case PROBLEM_O:
    case PROBLEM_AG_O:
    case PROBLEM_O2:
    case PROBLEM_AR_O:
        return recut_output(search);
    default:
        if (search->cut_count[operation] == 0) {
            return false; /* It handles no tokens. */
        }
        const struct search_cut *cut =
            &search->cut[operation][draw(search, search->cut_count[operation])];
        const struct ranges ranges =
            ranges_of_cut(cut, search->problem->operation[operation].first);
        recut(search, operation, &ranges);
        return true;
    }
}

/* Moves the border between two pieces, and that of the next operations alike half of the time. */
static bool move_border(struct search *search)
{
    const enum problem_operation operation = layer[draw(search, PROBLEM_OPERATIONS)];
    const bool form = operation == PROBLEM_O || operation == PROBLEM_AG_O ||
                      operation == PROBLEM_O2 || operation == PROBLEM_AR_O;
    struct ranges ranges = ranges_in(&search->now, operation);
    if (form || ranges.count < 2) {
        return false;
    }
    const uint32_t i = draw(search, ranges.count - 1);
    const uint32_t step = 1 + draw(search, 2);
    ranges.end[i] = draw(search, 2) ? ranges.end[i] + step : ranges.end[i] - step;
    ranges.first[i + 1] = ranges.end[i];
    if (ranges.end[i] <= ranges.first[i] || ranges.end[i] >= ranges.end[i + 1] ||
        !sized(search->problem, operation, ranges.end[i] - ranges.first[i]) ||
        !sized(search->problem, operation, ranges.end[i + 1] - ranges.first[i + 1])) {
        return false;
    }
    recut(search, operation, &ranges);
    return true;
}

static bool reorder(struct search *search)
{
    struct schedule *schedule = &search->now;
    const uint32_t s = draw(search, PROBLEM_STREAMS);
    const uint32_t count = schedule->order_count[s];
    uint32_t *order = schedule->order[s];
    if (count < 2) {
        return false;
    }
    const uint32_t from = draw(search, count);
    const uint32_t to = draw(search, count);
    const uint32_t index = order[from];
    memmove(&order[from], &order[from + 1], (count - from - 1) * sizeof order[0]);
    memmove(&order[to + 1], &order[to], (count - to - 1) * sizeof order[0]);
    order[to] = index;
    if (draw(search, 3) == 0) {
        schedule->nano[index].lag = draw(search, SCHEDULE_LAG_MAX + 1);
    }
    return from != to;
}

static bool relag(struct search *search)
{
    struct schedule_nano *nano = &search->now.nano[draw(search, search->now.count)];
    const bool up = draw(search, 2);
    if (up ? nano->lag == SCHEDULE_LAG_MAX : nano->lag == 0) {
        return false;
    }
    nano->lag = up ? nano->lag + 1 : nano->lag - 1;
    return true;
}

static bool change(struct search *search)
{
    const uint32_t kind = draw(search, 16);
    if (kind < 9) {
        return reorder(search);
    }
    if (kind < 13) {
        return relag(search);
    }
    return kind < 15 ? move_border(search) : recut_any(search);
}

int search_open(struct search *search, const struct problem *problem, uint64_t seed)
{
    *search = (struct search){.problem = problem, .seed = seed};
    for (uint32_t i = 0; i < PROBLEM_OPERATIONS; i++) {
        const uint32_t first = problem->operation[i].first;
        const uint32_t end = problem->operation[i].end;
        const bool form =
            i == PROBLEM_AG_ATT || i == PROBLEM_AG_O || i == PROBLEM_O2 || i == PROBLEM_AR_O;
        if (form || absent(problem, i)) {
            continue;
        }
        search->cut[i] = calloc(SEARCH_CUTS_MAX, sizeof search->cut[i][0]);
        if (!search->cut[i]) {
            return -ENOMEM;
        }
        search->cut_count[i] = list_cuts(problem, i, first, end, search->cut[i]);
        if (search->cut_count[i] == 0) {
            return -EINVAL;
        }
        if (i != PROBLEM_O) {
            const struct ranges ranges = ranges_of_cut(&search->cut[i][0], first);
            recut(search, i, &ranges);
        }
    }
    uint32_t left = SEARCH_CUTS_MAX * 4;
    while (!recut_output(search)) {
        if (left-- == 0) {
            return -EINVAL;
        }
    }
    for (uint32_t s = 0; s < PROBLEM_STREAMS; s++) { /* In the layer's order, which is legal. */
        uint32_t count = 0;
        for (uint32_t i = 0; i < search->now.count; i++) {
            if (problem->operation[search->now.nano[i].operation].stream == s) {
                search->now.order[s][count++] = i;
            }
        }
    }
    search->now_us = schedule_interval(&search->now, problem, &search->graph, (double)INFINITY);
    search->best = search->now;
    search->best_us = search->now_us;
    return isfinite(search->now_us) ? 0 : -EINVAL;
}

void search_close(struct search *search)
{
    for (uint32_t i = 0; i < PROBLEM_OPERATIONS; i++) {
        free(search->cut[i]);
    }
}

void search_restart(struct search *search)
{
    search->now = search->best;
    search->now_us = search->best_us;
}

double search_heat(const struct search *search, double part)
{
    const double hot = 0.03; /* Parts of an interval: at the first nearly everything is taken. */
    const double cold = 0.00025;
    const double at = part * SEARCH_COOLINGS;
    return search->best_us * hot * pow(cold / hot, at - floor(at));
}

void search_run(struct search *search, double heat_us, uint32_t tries)
{
    for (uint32_t i = 0; i < tries; i++) {
        const struct schedule before = search->now;
        const double chance = (double)prng_uniform(search->seed, search->draws++, 1);
        const double limit_us = search->now_us - heat_us * log(chance > 0 ? chance : 1e-9);
        search->tries++;
        bool changed = change(search);
        if (changed && draw(search, 4) == 0) { /* Some things only pay together. */
            (void)change(search);
        }
        const double us =
            changed ? schedule_interval(&search->now, search->problem, &search->graph, limit_us)
                    : (double)INFINITY;
        if (!(us <= limit_us)) {
            search->now = before;
            continue;
        }
        search->now_us = us;
        if (us < search->best_us) {
            search->best = search->now;
            search->best_us = us;
        }
    }
}
