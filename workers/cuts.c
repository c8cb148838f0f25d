/*
 * cuts.c - see cuts.h. Called by the batch and the pipe on a worker's main thread, once a step;
 * pure. Invariant: every range of the plan has both its ends in the list, so ranges that tile the
 * batch in fractions tile it in rows.
 */
#include "workers/cuts.h"

#include <string.h>

#include "base/must.h"

static void add(struct cuts *cuts, uint32_t fraction)
{
    uint32_t at = 0;
    while (at < cuts->count && cuts->fraction[at] < fraction) {
        at++;
    }
    if (at < cuts->count && cuts->fraction[at] == fraction) {
        return;
    }
    memmove(cuts->fraction + at + 1, cuts->fraction + at, (cuts->count - at) * sizeof fraction);
    cuts->fraction[at] = fraction;
    cuts->count++;
}

static uint32_t row_of(uint32_t fraction, uint32_t rows, uint32_t tile)
{
    const uint64_t exact = (uint64_t)fraction * rows;
    const uint64_t step = (uint64_t)tile * PLAN_WHOLE;
    const uint64_t rounded = (exact + step / 2) / step * tile;
    return fraction == PLAN_WHOLE || rounded > rows ? rows : (uint32_t)rounded;
}

void cuts_make(struct cuts *cuts, const struct plan *plan, uint32_t rows, uint32_t tile)
{
    cuts->count = 0;
    for (uint32_t i = 0; i < plan->nano_count; i++) {
        add(cuts, plan->nano[i].first);
        add(cuts, plan->nano[i].end);
    }
    for (uint32_t i = 0; i < cuts->count; i++) {
        cuts->row[i] = row_of(cuts->fraction[i], rows, tile);
    }
}

uint32_t cuts_of(const struct cuts *cuts, uint32_t fraction)
{
    uint32_t at = 0;
    while (cuts->fraction[at] != fraction) {
        at++;
        must(at < cuts->count);
    }
    return at;
}

uint32_t cuts_at(const struct cuts *cuts, uint32_t row)
{
    uint32_t at = 0;
    while (cuts->row[at] != row) {
        at++;
        must(at < cuts->count);
    }
    return at;
}
