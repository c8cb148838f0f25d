/*
 * flight.h - the steps that were formed and have not ended, at most FLIGHT_STEPS_MAX. A worker runs
 * them in order, so whoever forms the next one builds on all of them. Pure, part of the scheduler
 * and called by it alone.
 *
 * A page that loses its last owner while steps are in flight may be read or written by any of them:
 * it is pinned until the newest of these has ended.
 *
 *   ... ended | in flight: [ended + 1] .. [formed] | the next one
 */
#ifndef AGENT_FLIGHT_H
#define AGENT_FLIGHT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/limits.h"
#include "base/must.h"
#include "kv/pages.h"

enum { FLIGHT_STEPS_MAX = LIMIT_STEPS_IN_FLIGHT_MAX };

struct flight {
    uint64_t formed;   /* Steps so far, and the number of the newest: they count from 1. */
    uint64_t ended;    /* Of them. */
    uint32_t *retired; /* [page_count] ring: pages without an owner, in the order of their drop */
    uint32_t page_count;
    uint64_t retired_count;          /* So far. */
    uint64_t freed_count;            /* Of them. */
    uint64_t mark[FLIGHT_STEPS_MAX]; /* By number: retired_count when the next one was formed. */
    uint32_t claims;                 /* Of retired pages, in the step being formed. */
};

int flight_open(struct flight *flight, struct arena *arena, uint32_t page_count) MUST_CHECK;

/* How many are in flight. */
uint32_t flight_steps(const struct flight *flight);

/* The step being formed is in flight from now on; its number. */
uint64_t flight_begin(struct flight *flight);

/* The oldest step has ended. */
void flight_end(struct flight *flight, struct pages *pages);

/* None of them happens: the worker is gone. */
void flight_lose(struct flight *flight, struct pages *pages);

/* The page, which has one owner, is about to lose it. */
void flight_retire(struct flight *flight, struct pages *pages, uint32_t page);

/* One of the pages that come back when steps end is spoken for; false: there is none left. */
bool flight_claim(struct flight *flight);

#endif /* AGENT_FLIGHT_H */
