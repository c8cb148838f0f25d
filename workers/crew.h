/*
 * crew.h - the threads of a worker: one loop over units at a time, cut into chunks that the threads
 * claim as they come. The caller works too, so a job ends even when no other thread gets a core.
 *
 * What a unit computes must not depend on which thread runs it or on its neighbours in a chunk;
 * then the cut never changes a bit of the result.
 */
#ifndef WORKERS_CREW_H
#define WORKERS_CREW_H

#include <stdint.h>

#include "base/must.h"

struct crew;

struct crew_job {
    /* Works on units [first, first + count) as thread `thread` (below crew_threads()). */
    void (*run)(void *context, uint32_t first, uint32_t count, uint32_t thread);
    void *context;
    uint32_t units;
    uint32_t grain; /* Units of one claim, at least 1. Claims go from the first unit up. */
};

/*
 * Starts threads - 1 threads; the caller is thread 0 of every job from now on. When the caller's
 * affinity mask has at least `threads` cores, each thread is pinned to its own, the caller too
 * (until crew_close). 0, -EINVAL (0 or more than LIMIT_WORKER_THREADS_MAX), -ENOMEM, -EAGAIN.
 */
int crew_open(struct crew **out, uint32_t threads) MUST_CHECK;
void crew_close(struct crew *crew); /* NULL is allowed. */

uint32_t crew_threads(const struct crew *crew);

/* Runs the job to its end. Only the thread that opened the crew calls this. A job of one chunk runs
 * here without waking anyone. */
void crew_run(struct crew *crew, const struct crew_job *job);

#endif /* WORKERS_CREW_H */
