/*
 * timeline.h - what happened when in a benchmark run: tokens in and out, and requests under way,
 * in bins of equal width.
 */
#ifndef TOOLS_TIMELINE_H
#define TOOLS_TIMELINE_H

#include <stddef.h>
#include <stdint.h>

enum { TIMELINE_BIN_US = 100 * 1000 };

struct timeline_bin {
    double in_tokens;  /* Of prompts whose first token came. */
    double out_tokens; /* Received. */
    double live_us;    /* Sum over requests of the time under way. */
};

struct timeline {
    uint64_t start_us;
    uint64_t seen_us; /* Up to here live requests are counted. */
    uint32_t live;
    uint32_t live_max;
    struct timeline_bin *bins;
    size_t bin_count;
    size_t bin_room;
};

void timeline_start(struct timeline *timeline, uint64_t now_us);

/* now_us never goes back. live is how many requests are under way from now on. */
void timeline_add(struct timeline *timeline, uint64_t now_us, uint32_t in_tokens,
                  uint32_t out_tokens);
void timeline_live(struct timeline *timeline, uint64_t now_us, uint32_t live);

/* The largest number of output tokens in one second, from whole seconds after the start. */
double timeline_peak_out(const struct timeline *timeline);

/* Sums of bins [first, first + count), those that exist. */
struct timeline_bin timeline_sum(const struct timeline *timeline, size_t first, size_t count);

void timeline_free(struct timeline *timeline);

#endif /* TOOLS_TIMELINE_H */
