/*
 * reach.h - which nano-operations come after which, over the layers: sets as one word of bits. Used
 * by plan/split.c and plan/verify.c alone.
 */
#ifndef PLAN_REACH_H
#define PLAN_REACH_H

#include <assert.h>
#include <stdint.h>

#include "plan/plan.h"

struct reach {                    /* Bit b of word a: nano-operation b waits for a. */
    uint64_t same[PLAN_NANO_MAX]; /* Of the same layer. */
    uint64_t next[PLAN_NANO_MAX]; /* b of the next one. */
};

static_assert(PLAN_NANO_MAX == 64, "a set of nano-operations is one word");

/* With all that follows by going on from one to the next; next: exactly one layer on. */
void reach_close(struct reach *closed, const struct reach *direct, uint32_t count);

/* The fewest pairs of direct with the same closure. direct->same holds no circle. */
void reach_reduce(struct reach *reduced, const struct reach *direct, const struct reach *closed,
                  uint32_t count);

static inline uint64_t reach_bit(uint32_t nano)
{
    return UINT64_C(1) << nano;
}

#endif /* PLAN_REACH_H */
