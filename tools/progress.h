/*
 * progress.h - what a person sees while a benchmark runs: a bar that moves on a terminal, else a
 * line now and then. On stderr.
 */
#ifndef TOOLS_PROGRESS_H
#define TOOLS_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *command;
    const char *what; /* "warm-up" or "" */
    uint64_t start_us;
    uint64_t shown_us;
    bool terminal;
};

/* How far a run has come. */
struct progress_state {
    uint32_t done;
    uint32_t total;
    uint32_t live;
    uint64_t output_tokens;
};

void progress_start(struct progress *progress, const char *command, const char *what,
                    uint64_t now_us);

/* Cheap when nothing is due. last: the run is over. */
void progress_show(struct progress *progress, const struct progress_state *state, uint64_t now_us,
                   bool last);

#endif /* TOOLS_PROGRESS_H */
