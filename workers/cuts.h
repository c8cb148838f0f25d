/*
 * cuts.h - where a plan's token ranges begin and end in the rows of one dense batch.
 */
#ifndef WORKERS_CUTS_H
#define WORKERS_CUTS_H

#include <stdint.h>

#include "plan/plan.h"

enum { CUTS_MAX = 2 * PLAN_NANO_MAX }; /* Each range has two; most are shared. */

struct cuts { /* Ascending, from 0 to all rows; some may be the same row. */
    uint32_t count;
    uint32_t fraction[CUTS_MAX]; /* As the plan has it. */
    uint32_t row[CUTS_MAX];
};

/* Rounds to the nearest multiple of `tile` rows, the efficient step of products; the ends stay. */
void cuts_make(struct cuts *cuts, const struct plan *plan, uint32_t rows, uint32_t tile);

/* Index of a cut by its fraction, which the plan has. */
uint32_t cuts_of(const struct cuts *cuts, uint32_t fraction);

/* Index of a cut at that row: of the first, where there are several. */
uint32_t cuts_at(const struct cuts *cuts, uint32_t row);

#endif /* WORKERS_CUTS_H */
