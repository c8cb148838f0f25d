/*
 * crew.c - see crew.h. Opened and driven by a worker's main thread; owns the other threads.
 *
 * A job is published by storing its chunk count into `left`. A claim is a decrement of `left` that
 * succeeds only above zero, so a thread that slept through ten jobs still claims correctly: what it
 * gets is a chunk of the job that is current then. The job's fields are written only while `left`
 * is zero and all claimed chunks are done, and read only by holders of a claim: that is the one
 * invariant.
 *
 * Waits spin for CREW_SPIN_NS, which covers the gap between two operations of a step, then sleep on
 * a futex: a core that has other work to do is given away.
 */
#include "workers/crew.h"

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

struct crew {
    struct crew_job job;
    uint32_t chunks;
    uint32_t thread_count;
    cpu_set_t caller_mask;              /* Put back at close. */
    _Alignas(64) _Atomic uint32_t left; /* Chunks nobody has claimed. */
    _Alignas(64) _Atomic uint32_t done; /* Chunks finished. The caller may sleep on it. */
    _Atomic bool caller_sleeps;
    _Alignas(64) _Atomic uint32_t bell; /* Bumped with each job; the others sleep on it. */
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

static bool claim(struct crew *crew, uint32_t *left)
{
    uint32_t seen = atomic_load_explicit(&crew->left, memory_order_relaxed);
    while (seen > 0) {
        /* Acquire pairs with the release of `left` in crew_run(): the job's fields are there. */
        if (atomic_compare_exchange_weak_explicit(&crew->left, &seen, seen - 1,
                                                  memory_order_acquire, memory_order_relaxed)) {
            *left = seen;
            return true;
        }
    }
    return false;
}

static void work(struct crew *crew, uint32_t thread)
{
    uint32_t left;
    while (claim(crew, &left)) {
        const struct crew_job *job = &crew->job;
        const uint32_t chunks = crew->chunks;
        const uint32_t first = (chunks - left) * job->grain;
        const uint32_t rest = job->units - first;
        job->run(job->context, first, rest < job->grain ? rest : job->grain, thread);
        /* Sequential order with caller_sleeps: either the caller sees the last count before it
         * sleeps, or this thread sees that it sleeps. The caller's acquire of `done` pairs with it,
         * so it sees what the unit wrote. */
        const uint32_t done = atomic_fetch_add(&crew->done, 1) + 1;
        if (done == chunks && thread != 0 && atomic_load(&crew->caller_sleeps)) {
            futex_wake(&crew->done);
        }
    }
}

static void *thread_main(void *argument)
{
    const struct crew_thread *self = argument;
    struct crew *crew = self->crew;
    uint32_t seen = 0;
    /* Acquire pairs with the release in crew_close(). */
    while (!atomic_load_explicit(&crew->stop, memory_order_acquire)) {
        work(crew, self->index);
        if (!changes_soon(&crew->bell, seen)) {
            /* Sequential order with the bell in ring_bell(): either that side counts this sleeper
             * or the kernel sees the new bell and does not let it sleep. */
            (void)atomic_fetch_add(&crew->sleepers, 1);
            futex_sleep(&crew->bell, seen);
            (void)atomic_fetch_sub(&crew->sleepers, 1);
        }
        seen = atomic_load(&crew->bell);
    }
    return NULL;
}

static void ring_bell(struct crew *crew)
{
    (void)atomic_fetch_add(&crew->bell, 1);
    if (atomic_load(&crew->sleepers) > 0) {
        futex_wake(&crew->bell);
    }
}

static void wait_for_all(struct crew *crew)
{
    for (;;) {
        /* Acquire pairs with the increments in work(). */
        const uint32_t done = atomic_load_explicit(&crew->done, memory_order_acquire);
        if (done == crew->chunks) {
            return;
        }
        if (!changes_soon(&crew->done, done)) {
            atomic_store(&crew->caller_sleeps, true);
            futex_sleep(&crew->done, done);
            atomic_store(&crew->caller_sleeps, false);
        }
    }
}

void crew_run(struct crew *crew, const struct crew_job *job)
{
    must(job->grain >= 1);
    if (job->units <= job->grain || crew->thread_count == 1) {
        if (job->units > 0) {
            job->run(job->context, 0, job->units, 0);
        }
        return;
    }
    crew->job = *job;
    crew->chunks = (job->units - 1) / job->grain + 1;
    atomic_store_explicit(&crew->done, 0, memory_order_relaxed);
    /* Release pairs with the acquire in claim(). */
    atomic_store_explicit(&crew->left, crew->chunks, memory_order_release);
    ring_bell(crew);
    work(crew, 0);
    wait_for_all(crew);
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
    if ((uint32_t)CPU_COUNT(&crew->caller_mask) >= threads) {
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
