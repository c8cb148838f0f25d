/*
 * search.h - finds a pipeline with a short interval between layers: simulated annealing over the
 * order of each stream, the lag of each nano-operation, the cuts, and the form of O
 * (Kirkpatrick et al. 1983). One seed gives one answer for one number of tries.
 */
#ifndef PLAN_SEARCH_H
#define PLAN_SEARCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/must.h"
#include "plan/schedule.h"

enum { SEARCH_CUTS_MAX = 1024 }; /* Ways to cut one operation: 697 for 16 units in 4 pieces. */

struct search_cut { /* Pieces of one operation, by their ends in units; the first begins it. */
    uint8_t count;
    uint8_t end[PROBLEM_PIECES_MAX];
};

struct search {
    const struct problem *problem;
    uint64_t seed;
    uint64_t draws;
    uint64_t tries;
    /* Cuts of each operation whose pieces all have a duration. O's hold both forms of O. */
    struct search_cut *cut[PROBLEM_OPERATIONS];
    uint32_t cut_count[PROBLEM_OPERATIONS];
    struct schedule_graph graph;
    struct schedule now;
    double now_us;
    struct schedule best;
    double best_us;
};

/* A first schedule: whole operations, or as few pieces as the allowed sizes need, in order. -EINVAL
 * where the sizes tile no operation, -ENOMEM. */
int search_open(struct search *search, const struct problem *problem, uint64_t seed) MUST_CHECK;
void search_close(struct search *search);

/* Tries some more at this heat. */
void search_run(struct search *search, double heat_us, uint32_t tries);

enum { SEARCH_COOLINGS = 10 }; /* Of one search, each from the best so far. */

/* The heat after this part [0, 1) of a search. */
double search_heat(const struct search *search, double part);

/* Goes on from the best. */
void search_restart(struct search *search);

#endif /* PLAN_SEARCH_H */
