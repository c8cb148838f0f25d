/*
 * timeline.c - bins the events of a run as they come. Called by load.c on its one thread; owns the
 * bins, 24 bytes for each 100 ms. The invariant: live_us of all bins together is the time that all
 * requests were under way until seen_us.
 */
#include "tools/timeline.h"

#include <stdlib.h>

#include "base/must.h"

enum { BINS_OF_SECOND = 1000 * 1000 / TIMELINE_BIN_US };

/* The bin of a moment, made with all before it. */
static struct timeline_bin *find_bin(struct timeline *timeline, uint64_t at_us)
{
    const size_t index = (size_t)((at_us - timeline->start_us) / TIMELINE_BIN_US);

    if (index >= timeline->bin_room) {
        timeline->bin_room = index < 512 ? 1024 : 2 * index;
        timeline->bins = realloc(timeline->bins, timeline->bin_room * sizeof *timeline->bins);
        must(timeline->bins);
    }
    while (timeline->bin_count <= index) {
        timeline->bins[timeline->bin_count++] = (struct timeline_bin){0};
    }
    return &timeline->bins[index];
}

void timeline_start(struct timeline *timeline, uint64_t now_us)
{
    *timeline = (struct timeline){.start_us = now_us, .seen_us = now_us};
}

void timeline_add(struct timeline *timeline, uint64_t now_us, uint32_t in_tokens,
                  uint32_t out_tokens)
{
    struct timeline_bin *bin = find_bin(timeline, now_us);

    bin->in_tokens += in_tokens;
    bin->out_tokens += out_tokens;
}

void timeline_live(struct timeline *timeline, uint64_t now_us, uint32_t live)
{
    while (timeline->seen_us < now_us) {
        const uint64_t passed_us = timeline->seen_us - timeline->start_us;
        const uint64_t bin_end_us =
            timeline->seen_us + TIMELINE_BIN_US - passed_us % TIMELINE_BIN_US;
        const uint64_t end_us = bin_end_us < now_us ? bin_end_us : now_us;
        find_bin(timeline, timeline->seen_us)->live_us +=
            (double)(end_us - timeline->seen_us) * timeline->live;
        timeline->seen_us = end_us;
    }
    timeline->live = live;
    timeline->live_max = live > timeline->live_max ? live : timeline->live_max;
}

struct timeline_bin timeline_sum(const struct timeline *timeline, size_t first, size_t count)
{
    struct timeline_bin sum = {0};

    for (size_t i = first; i < first + count && i < timeline->bin_count; i++) {
        sum.in_tokens += timeline->bins[i].in_tokens;
        sum.out_tokens += timeline->bins[i].out_tokens;
        sum.live_us += timeline->bins[i].live_us;
    }
    return sum;
}

double timeline_peak_out(const struct timeline *timeline)
{
    double peak = 0;

    for (size_t i = 0; i < timeline->bin_count; i += BINS_OF_SECOND) {
        const double out_tokens = timeline_sum(timeline, i, BINS_OF_SECOND).out_tokens;
        peak = out_tokens > peak ? out_tokens : peak;
    }
    return peak;
}

void timeline_free(struct timeline *timeline)
{
    free(timeline->bins);
    *timeline = (struct timeline){0};
}
