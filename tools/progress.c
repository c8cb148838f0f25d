/*
 * progress.c - draws the progress of a benchmark. Called by load.c between two messages, on its one
 * thread; owns nothing but the time of its last line.
 */
#include "tools/progress.h"

#include <stdio.h>
#include <unistd.h>

enum {
    TERMINAL_US = 200 * 1000,
    LOG_US = 5 * 1000 * 1000,
    CELLS = 30,
};

void progress_start(struct progress *progress, const char *command, const char *what,
                    uint64_t now_us)
{
    *progress = (struct progress){command, what, now_us, now_us, isatty(STDERR_FILENO) == 1};
}

static void draw_bar(const struct progress *progress, const struct progress_state *state,
                     double seconds, double rate, bool last)
{
    static const char full[] = "##############################";
    const int cells = (int)((uint64_t)CELLS * state->done / state->total);

    /* The escape clears what a longer line left behind. */
    (void)fprintf(stderr, "\r%s[%-*.*s] %u/%u  %u live  %.0f s  %.0f tokens/s out\x1b[K%s",
                  progress->what, CELLS, cells, full, state->done, state->total, state->live,
                  seconds, rate, last ? "\n" : "");
}

void progress_show(struct progress *progress, const struct progress_state *state, uint64_t now_us,
                   bool last)
{
    const double seconds = (double)(now_us - progress->start_us) / 1e6;
    const double rate = seconds > 0 ? (double)state->output_tokens / seconds : 0;

    if (!last && now_us - progress->shown_us < (progress->terminal ? TERMINAL_US : LOG_US)) {
        return;
    }
    progress->shown_us = now_us;
    if (progress->terminal) {
        draw_bar(progress, state, seconds, rate, last);
    } else if (!last) {
        (void)fprintf(stderr, "%s: %s%u of %u done, %u live, %.0f s, %.0f tokens/s out\n",
                      progress->command, progress->what, state->done, state->total, state->live,
                      seconds, rate);
    }
}
