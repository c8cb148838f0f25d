/*
 * flight.c - see flight.h. Called by the scheduler on the core's loop thread and by tests; the ring
 * comes from the caller's arena. Invariant: a page is in the ring once at most, pinned, and nothing
 * is in the ring when nothing is in flight.
 */
#include "agent/flight.h"

#include <errno.h>

int flight_open(struct flight *flight, struct arena *arena, uint32_t page_count)
{
    *flight = (struct flight){
        .retired = arena_alloc(arena, page_count, sizeof(uint32_t)),
        .page_count = page_count,
    };
    return flight->retired ? 0 : -ENOMEM;
}

uint32_t flight_steps(const struct flight *flight)
{
    return (uint32_t)(flight->formed - flight->ended);
}

uint64_t flight_begin(struct flight *flight)
{
    must(flight_steps(flight) < FLIGHT_STEPS_MAX);
    flight->mark[flight->formed % FLIGHT_STEPS_MAX] = flight->retired_count;
    return ++flight->formed;
}

static void free_until(struct flight *flight, struct pages *pages, uint64_t count)
{
    while (flight->freed_count < count) {
        pages_unpin(pages, flight->retired[flight->freed_count++ % flight->page_count]);
    }
}

void flight_end(struct flight *flight, struct pages *pages)
{
    must(flight_steps(flight) > 0);
    const uint64_t number = ++flight->ended;
    free_until(flight, pages,
               number == flight->formed ? flight->retired_count
                                        : flight->mark[number % FLIGHT_STEPS_MAX]);
}

void flight_lose(struct flight *flight, struct pages *pages)
{
    flight->ended = flight->formed;
    free_until(flight, pages, flight->retired_count);
}

void flight_retire(struct flight *flight, struct pages *pages, uint32_t page)
{
    if (flight_steps(flight) == 0) {
        return;
    }
    must(flight->retired_count - flight->freed_count < flight->page_count);
    pages_pin(pages, page);
    flight->retired[flight->retired_count++ % flight->page_count] = page;
}

bool flight_claim(struct flight *flight)
{
    const bool left = flight->retired_count - flight->freed_count > flight->claims;
    flight->claims += left;
    return left;
}
