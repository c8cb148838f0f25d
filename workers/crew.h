/*
 * crew.h - the threads of a worker. They run jobs, loops over units cut into chunks that the
 * threads claim as they come, on lanes: each lane has one job after the other, lanes go side by
 * side. The caller works too, so a run ends even when no other thread gets a core.
 *
 * What a unit computes must not depend on which thread runs it or on its neighbours in a chunk;
 * then neither cuts nor lanes change a bit of the result.
 */
#ifndef WORKERS_CREW_H
#define WORKERS_CREW_H

#include <stdint.h>

#include "base/must.h"

struct crew;

enum { CREW_LANES_MAX = 4 };

struct crew_job {
    /* Works on units [first, first + count) as thread `thread` (below crew_threads()). */
    void (*run)(void *context, uint32_t first, uint32_t count, uint32_t thread);
    void *context;
    uint32_t units;
    uint32_t grain;   /* Units of one claim, at least 1. Claims go from the first unit up. */
    uint32_t threads; /* At once, at most; 0: all. */
};

enum crew_next {
    CREW_JOB,  /* Here is one. */
    CREW_WAIT, /* Not before something happens on another lane: crew_notice() says that it did. */
    CREW_END,  /* No more. */
};

struct crew_lanes {
    /* What comes after the lane's last job, which has ended. Called on any thread: for one lane one
     * call at a time, each after the one before, and after the end of the job before. */
    enum crew_next (*next)(void *context, uint32_t lane, struct crew_job *job);
    void *context;
    uint32_t count; /* 1 .. CREW_LANES_MAX */
};

/*
 * Starts threads - 1 threads; the caller is thread 0 of every job from now on. When there are as
 * many as the caller's affinity mask has cores, each is pinned to its own, the caller too (until
 * crew_close). Fewer are left to the kernel: other processes would choose the same first cores.
 * 0, -EINVAL (0 or more than LIMIT_WORKER_THREADS_MAX), -ENOMEM, -EAGAIN.
 */
int crew_open(struct crew **out, uint32_t threads) MUST_CHECK;
void crew_close(struct crew *crew); /* NULL is allowed. */

uint32_t crew_threads(const struct crew *crew);

/* Runs the lanes to their ends. Only the thread that opened the crew calls this and crew_run(). */
void crew_run_lanes(struct crew *crew, const struct crew_lanes *lanes);

/* From next(): lanes that wait are asked again. */
void crew_notice(struct crew *crew);

/* Runs one job to its end. A job of one chunk runs here without waking anyone. */
void crew_run(struct crew *crew, const struct crew_job *job);

#endif /* WORKERS_CREW_H */
