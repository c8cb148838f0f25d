/*
 * forecast.h - how many pages the running requests will hold at most, when each goes on for as long
 * as it is predicted to. Pure, part of the scheduler.
 *
 * Every request takes a token a step until its predicted end and gives all its pages back then. So
 * the use of pages rises between ends and falls at them, and its peak is at one of the ends (as in
 * "Past-Future Scheduler for LLM Serving", Gong et al., ASPLOS 2025, which sorts by them). Here the
 * ends fall into the buckets of lengths.h, rounded up by at most a sixteenth: a request is added in
 * O(1), a peak costs a walk over LENGTHS_BUCKETS, whatever the number of requests.
 *
 *   pages |        /|  /|
 *         |      /  |/  |___/|        peak: the highest of the right ends
 *         |____/_____________|____ steps
 *
 * The last page of a request is taken to be half full on average.
 */
#ifndef AGENT_FORECAST_H
#define AGENT_FORECAST_H

#include <stdint.h>

#include "agent/lengths.h"

struct forecast {
    uint32_t page_tokens;
    uint64_t held_pages;              /* By nobody's prediction: they stay. */
    uint64_t tokens[LENGTHS_BUCKETS]; /* Of the requests whose end is in the bucket, now; */
    uint32_t count[LENGTHS_BUCKETS];  /* their number. */
};

void forecast_begin(struct forecast *forecast, uint32_t page_tokens, uint64_t held_pages);

/* A request that holds so many tokens and goes on for so many steps. */
void forecast_add(struct forecast *forecast, uint64_t tokens, uint32_t steps);
void forecast_drop(struct forecast *forecast, uint64_t tokens, uint32_t steps);

/* Pages at the peak. */
uint64_t forecast_peak(const struct forecast *forecast);

#endif /* AGENT_FORECAST_H */
