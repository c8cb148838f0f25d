/*
 * forecast.c - see forecast.h. Called by the scheduler on the core's loop thread and by tests; owns
 * nothing. Invariant: what was added is in exactly one bucket.
 */
#include "agent/forecast.h"

#include <string.h>

void forecast_begin(struct forecast *forecast, uint32_t page_tokens, uint64_t held_pages)
{
    memset(forecast, 0, sizeof *forecast);
    forecast->page_tokens = page_tokens;
    forecast->held_pages = held_pages;
}

void forecast_add(struct forecast *forecast, uint64_t tokens, uint32_t steps)
{
    const uint32_t bucket = lengths_bucket(steps);
    forecast->tokens[bucket] += tokens;
    forecast->count[bucket]++;
}

void forecast_drop(struct forecast *forecast, uint64_t tokens, uint32_t steps)
{
    const uint32_t bucket = lengths_bucket(steps);
    forecast->tokens[bucket] -= tokens;
    forecast->count[bucket]--;
}

uint64_t forecast_peak(const struct forecast *forecast)
{
    uint64_t tokens = 0; /* Of those that have not ended, now; */
    uint64_t count = 0;  /* their number. */
    uint64_t peak = 0;   /* In half tokens: the last pages are half full. */
    for (uint32_t i = LENGTHS_BUCKETS; i-- > 0;) {
        tokens += forecast->tokens[i];
        count += forecast->count[i];
        const uint64_t then =
            2 * (tokens + count * lengths_bucket_end(i)) + count * (forecast->page_tokens - 1);
        peak = then > peak && forecast->count[i] > 0 ? then : peak;
    }
    const uint64_t page = 2 * (uint64_t)forecast->page_tokens;
    return forecast->held_pages + (peak + page - 1) / page;
}
