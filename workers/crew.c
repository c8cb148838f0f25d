/*
 * crew.c - see crew.h. Opened and driven by a worker's main thread; owns the other threads.
 *
 * A lane is held by one thread, or has a job, or waits. Its holder asks next() what to do and
 * publishes a job by one store: the chunks nobody has claimed, those claimed and not done, and the
 * most that may be so at once are fields of one word. Who ends the last chunk holds the lane again,
 * so nobody waits for a thread that only hands out work. The job's fields are written only by the
 * holder and read only by holders of a claim: that is the one invariant. A thread that slept
 * through ten jobs still claims correctly: what it gets is a chunk of the job that is current then.
 *
 * Whatever may give another thread work rings the bell. A thread reads the bell, then looks for
 * work, then waits for the bell to change, so none is missed. Waits spin for CREW_SPIN_NS, which
 * covers the gap between two jobs of a step, then sleep on a futex: a core that has other work to
 * do is given away.
 */
#include "workers/crew.h"

#include <assert.h>
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"

/* A lane's word, from the lowest bits up: chunks left, chunks in flight, the most of those. */
enum { LANE_FLIGHT_SHIFT = 32, LANE_MOST_SHIFT = 48, LANE_MOST_ALL = 0xffff };
static_assert((int)LIMIT_WORKER_THREADS_MAX < (int)LANE_MOST_ALL,
              "a chunk in flight for each thread");

enum {
    CREW_SPIN_NS = 50000,
    CREW_SPIN_CHECKS = 32,       /* Looks at the word between two looks at the clock. */
    CREW_WAIT_NS = 100 * 1000000 /* Longest sleep; a lost wake costs this, not a hang. */
};

struct crew_thread {
    struct crew *crew;
    pthread_t handle;
    uint32_t index;
};

struct crew_lane {
    _Alignas(64) _Atomic uint64_t word;
    _Atomic bool waits; /* Whoever makes it false holds the lane. */
    uint32_t chunks;
    struct crew_job job;
};

struct crew {
    struct crew_lane lane[CREW_LANES_MAX];
    struct crew_lanes lanes; /* Of the run; read by holders of a lane. */
    uint32_t thread_count;
    cpu_set_t caller_mask; /* Put back at close. */
    _Alignas(64) _Atomic uint32_t lane_count;
    _Atomic uint32_t lanes_left;        /* That have not ended. */
    _Alignas(64) _Atomic uint32_t bell; /* All sleep on it. */
    _Atomic uint32_t sleepers;
    _Atomic bool stop;
    struct crew_thread threads[]; /* [thread_count]; entry 0 is the caller's and has no handle. */
};

static void futex_sleep(_Atomic uint32_t *word, uint32_t seen)
{
    const struct timespec longest = {.tv_nsec = CREW_WAIT_NS};
    (void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, &longest, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word)
{
    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, LIMIT_WORKER_THREADS_MAX, NULL, NULL, 0);
}

/* Spins while *word is `seen`. False when the time is over. */
static bool changes_soon(const _Atomic uint32_t *word, uint32_t seen)
{
    const uint64_t deadline_ns = clock_now_ns() + CREW_SPIN_NS;
    do {
        for (int i = 0; i < CREW_SPIN_CHECKS; i++) {
            /* Relaxed: whoever acts on the change reads again with acquire. */
            if (atomic_load_explicit(word, memory_order_relaxed) != seen) {
                return true;
            }
            __builtin_ia32_pause();
        }
    } while (clock_now_ns() < deadline_ns);
    return false;
}

static void ring_bell(struct crew *crew)
{
    /* Sequential order with the sleepers in rest(): either this side counts a sleeper or the kernel
     * sees the new bell and does not let it sleep. */
    (void)atomic_fetch_add(&crew->bell, 1);
    if (atomic_load(&crew->sleepers) > 0) {
        futex_wake(&crew->bell);
    }
}

void crew_notice(struct crew *crew)
{
    ring_bell(crew);
}

/* Until the bell is no longer `seen`, or for a while. */
static void rest(struct crew *crew, uint32_t seen)
{
    if (!changes_soon(&crew->bell, seen)) {
        (void)atomic_fetch_add(&crew->sleepers, 1);
        futex_sleep(&crew->bell, seen);
        (void)atomic_fetch_sub(&crew->sleepers, 1);
    }
}

static void publish(struct crew *crew, struct crew_lane *lane)
{
    const uint32_t threads = lane->job.threads;
    const uint64_t most = threads > 0 && threads < LANE_MOST_ALL ? threads : LANE_MOST_ALL;
    /* Release pairs with the acquire in claim(): the job's fields are there. */
    atomic_store_explicit(&lane->word, most << LANE_MOST_SHIFT | lane->chunks,
                          memory_order_release);
    ring_bell(crew);
}

static void end_lane(struct crew *crew, uint32_t thread)
{
    /* Release pairs with the caller's acquire, which sees what all lanes wrote. After the last one
     * the run's context may be gone. The caller is thread 0 and looks by itself. */
    if (atomic_fetch_sub_explicit(&crew->lanes_left, 1, memory_order_acq_rel) == 1 && thread != 0) {
        ring_bell(crew);
    }
}

/* The holder of a lane takes it on to a job for all, its end, or the next wait. False: it waits. */
static bool advance(struct crew *crew, uint32_t index, uint32_t thread)
{
    struct crew_lane *lane = &crew->lane[index];
    for (;;) {
        switch (crew->lanes.next(crew->lanes.context, index, &lane->job)) {
        case CREW_WAIT:
            /* Release: the next holder sees what this one did. */
            atomic_store_explicit(&lane->waits, true, memory_order_release);
            return false;
        case CREW_END:
            end_lane(crew, thread);
            return true;
        case CREW_JOB:
        default:
            break;
        }
        const struct crew_job *job = &lane->job;
        must(job->grain >= 1);
        if (job->units > job->grain && job->threads != 1 && crew->thread_count > 1) {
            lane->chunks = (job->units - 1) / job->grain + 1;
            publish(crew, lane);
            return true;
        }
        if (job->units > 0) {
            job->run(job->context, 0, job->units, thread);
        }
    }
}

/* Chunks left before the claim, 0 where there is none or as many threads as may be. */
static uint32_t claim(struct crew_lane *lane)
{
    uint64_t seen = atomic_load_explicit(&lane->word, memory_order_relaxed);
    for (;;) {
        const uint32_t left = (uint32_t)seen;
        const uint64_t flight = seen >> LANE_FLIGHT_SHIFT & LANE_MOST_ALL;
        if (left == 0 || flight >= seen >> LANE_MOST_SHIFT) {
            return 0;
        }
        const uint64_t claimed = seen - 1 + (1ull << LANE_FLIGHT_SHIFT);
        /* Acquire pairs with the release in publish(). */
        if (atomic_compare_exchange_weak_explicit(&lane->word, &seen, claimed, memory_order_acquire,
                                                  memory_order_relaxed)) {
            return left;
        }
    }
}

/* One chunk of the lane, and what follows when it was the last; or the next thing of a lane that
 * waited. False: there was nothing to do. */
static bool work_on(struct crew *crew, uint32_t index, uint32_t thread)
{
    struct crew_lane *lane = &crew->lane[index];
    const uint32_t left = claim(lane);
    if (left > 0) {
        const struct crew_job *job = &lane->job;
        const uint32_t first = (lane->chunks - left) * job->grain;
        const uint32_t behind = job->units - first;
        job->run(job->context, first, behind < job->grain ? behind : job->grain, thread);
        /* Acquire and release: the last one sees what all chunks wrote. */
        const uint64_t before =
            atomic_fetch_sub_explicit(&lane->word, 1ull << LANE_FLIGHT_SHIFT, memory_order_acq_rel);
        const bool last =
            (uint32_t)before == 0 && (before >> LANE_FLIGHT_SHIFT & LANE_MOST_ALL) == 1;
        if (last) {
            (void)advance(crew, index, thread);
        }
        return true;
    }
    /* Acquire pairs with the releases of `waits`. */
    return atomic_load_explicit(&lane->waits, memory_order_relaxed) &&
           atomic_exchange_explicit(&lane->waits, false, memory_order_acquire) &&
           advance(crew, index, thread);
}

/* All there is to do now. Each thread has a lane of its own that it looks at first. */
static void work(struct crew *crew, uint32_t thread)
{
    const uint32_t lanes = atomic_load_explicit(&crew->lane_count, memory_order_relaxed);
    uint32_t idle = 0;
    while (idle < lanes) {
        idle = work_on(crew, (thread + idle) % lanes, thread) ? 0 : idle + 1;
    }
}

static void *thread_main(void *argument)
{
    const struct crew_thread *self = argument;
    struct crew *crew = self->crew;
    /* Acquire pairs with the release in crew_close(). */
    while (!atomic_load_explicit(&crew->stop, memory_order_acquire)) {
        const uint32_t seen = atomic_load(&crew->bell);
        work(crew, self->index);
        rest(crew, seen);
    }
    return NULL;
}

void crew_run_lanes(struct crew *crew, const struct crew_lanes *lanes)
{
    must(lanes->count >= 1 && lanes->count <= CREW_LANES_MAX);
    crew->lanes = *lanes;
    atomic_store_explicit(&crew->lanes_left, lanes->count, memory_order_relaxed);
    atomic_store_explicit(&crew->lane_count, lanes->count, memory_order_relaxed);
    for (uint32_t i = 1; i < lanes->count; i++) {
        /* Release pairs with the acquire in work_on(). */
        atomic_store_explicit(&crew->lane[i].waits, true, memory_order_release);
    }
    if (lanes->count > 1) {
        ring_bell(crew);
    }
    (void)advance(crew, 0, 0);
    for (;;) {
        const uint32_t seen = atomic_load(&crew->bell);
        work(crew, 0);
        /* Acquire pairs with the release in end_lane(). */
        if (atomic_load_explicit(&crew->lanes_left, memory_order_acquire) == 0) {
            return;
        }
        rest(crew, seen);
    }
}

struct single {
    struct crew_job job;
    bool given;
};

static enum crew_next next_of_single(void *context, uint32_t lane, struct crew_job *job)
{
    (void)lane;
    struct single *single = context;
    if (single->given) {
        return CREW_END;
    }
    single->given = true;
    *job = single->job;
    return CREW_JOB;
}

void crew_run(struct crew *crew, const struct crew_job *job)
{
    struct single single = {.job = *job};
    crew_run_lanes(crew, &(struct crew_lanes){next_of_single, &single, 1});
}

/* Pins thread index to the index-th core of the caller's mask. Refusal by the kernel only costs
 * speed. */
static void pin(pthread_t handle, const cpu_set_t *mask, uint32_t index)
{
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, mask) && index-- == 0) {
            cpu_set_t one;
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            (void)pthread_setaffinity_np(handle, sizeof one, &one);
            return;
        }
    }
}

static int start_threads(struct crew *crew, uint32_t threads)
{
    for (uint32_t i = 1; i < threads; i++) {
        crew->threads[i] = (struct crew_thread){.crew = crew, .index = i};
        const int error =
            pthread_create(&crew->threads[i].handle, NULL, thread_main, &crew->threads[i]);
        if (error) {
            return -error;
        }
        crew->thread_count++;
    }
    return 0;
}

int crew_open(struct crew **out, uint32_t threads)
{
    if (threads == 0 || threads > LIMIT_WORKER_THREADS_MAX) {
        return -EINVAL;
    }
    struct crew *crew = NULL;
    const size_t bytes = sizeof *crew + threads * sizeof crew->threads[0];
    crew = aligned_alloc(_Alignof(struct crew), (bytes + 63) / 64 * 64);
    if (!crew) {
        return -ENOMEM;
    }
    *crew = (struct crew){.thread_count = 1};
    CPU_ZERO(&crew->caller_mask);
    (void)pthread_getaffinity_np(pthread_self(), sizeof crew->caller_mask, &crew->caller_mask);
    const int error = start_threads(crew, threads);
    if (error) {
        crew_close(crew);
        return error;
    }
    if ((uint32_t)CPU_COUNT(&crew->caller_mask) == threads) {
        pin(pthread_self(), &crew->caller_mask, 0);
        for (uint32_t i = 1; i < threads; i++) {
            pin(crew->threads[i].handle, &crew->caller_mask, i);
        }
    }
    *out = crew;
    return 0;
}

void crew_close(struct crew *crew)
{
    if (!crew) {
        return;
    }
    /* Release pairs with the acquire in thread_main(). */
    atomic_store_explicit(&crew->stop, true, memory_order_release);
    ring_bell(crew);
    for (uint32_t i = 1; i < crew->thread_count; i++) {
        must(pthread_join(crew->threads[i].handle, NULL) == 0);
    }
    (void)pthread_setaffinity_np(pthread_self(), sizeof crew->caller_mask, &crew->caller_mask);
    free(crew);
}

uint32_t crew_threads(const struct crew *crew)
{
    return crew->thread_count;
}
