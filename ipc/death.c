/*
 * death.c - see death.h. death_hold() runs on a worker's main thread; the watch belongs to the
 * core, whose loop thread calls death_watch_*() while one waiter thread sleeps in futex_waitv.
 * Owns the thread and the eventfd; the words are the links'. Invariant: the waiter looks only at
 * words that are in the table, and says in `seen` which state of the table it works with.
 */
#include "ipc/death.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

enum {
    DEATH_ROUND_MS = 1000,              /* The waiter looks again at least this often. */
    DEATH_ANSWER_US_MAX = 60 * 1000000, /* A waiter that takes no note for so long is a bug. */
};

struct death_watch {
    pthread_t thread;
    int fd;
    _Atomic uint32_t changed; /* State of the table; the waiter's private futex word. */
    _Atomic uint32_t seen;    /* The last state that the waiter has taken over. */
    pthread_mutex_t mutex;    /* Guards what follows. */
    const _Atomic uint32_t *words[LIMIT_WORKERS_MAX];
    bool closing;
};

/*
 * The list has one entry; the kernel adds futex_offset to its address to find the word. It replaces
 * the list that the C library registered for this thread, which serves robust pthread mutexes only:
 * nobody here has one. Once the segment is unmapped the kernel finds no list and does nothing.
 */
void death_hold(struct death_life *life)
{
    life->list = (struct robust_list_head){
        .list = {.next = &life->entry},
        .futex_offset =
            (long)offsetof(struct death_life, word) - (long)offsetof(struct death_life, entry),
    };
    life->entry.next = &life->list.list;
    /* Release pairs with the acquire in death_seen(). */
    atomic_store_explicit(&life->word, (uint32_t)gettid() | FUTEX_WAITERS, memory_order_release);
    must(syscall(SYS_set_robust_list, &life->list, sizeof life->list) == 0);
}

bool death_seen(const _Atomic uint32_t *word)
{
    /* Acquire pairs with the kernel's exchange of the word when the holder ends. */
    return (atomic_load_explicit(word, memory_order_acquire) & FUTEX_OWNER_DIED) != 0;
}

/* Copies the live words into waits, takes the dead out of the table and rings for them. Returns the
 * number of waits. */
static uint32_t death_gather(struct death_watch *watch, struct futex_waitv *waits)
{
    uint32_t count = 0;
    uint64_t dead = 0;
    for (uint32_t i = 0; i < LIMIT_WORKERS_MAX; i++) {
        const _Atomic uint32_t *word = watch->words[i];
        if (!word) {
            continue;
        }
        /* Acquire: as in death_seen(). The kernel compares this value again before it sleeps. */
        const uint32_t value = atomic_load_explicit(word, memory_order_acquire);
        if (value & FUTEX_OWNER_DIED) {
            watch->words[i] = NULL;
            dead++;
            continue;
        }
        waits[count++] = (struct futex_waitv){
            .val = value, .uaddr = (uintptr_t)word, .flags = FUTEX_32}; /* Shared, not private. */
    }
    if (dead) {
        must(write(watch->fd, &dead, sizeof dead) == (ssize_t)sizeof dead);
    }
    return count;
}

static void *death_wait(void *argument)
{
    struct death_watch *watch = argument;
    struct futex_waitv waits[LIMIT_WORKERS_MAX + 1];
    for (;;) {
        must(pthread_mutex_lock(&watch->mutex) == 0);
        /* Relaxed: written under the mutex. */
        const uint32_t state = atomic_load_explicit(&watch->changed, memory_order_relaxed);
        const bool closing = watch->closing;
        const uint32_t count = death_gather(watch, waits);
        must(pthread_mutex_unlock(&watch->mutex) == 0);
        /* Release pairs with the acquire in death_change(): older words are not looked at again. */
        atomic_store_explicit(&watch->seen, state, memory_order_release);
        (void)syscall(SYS_futex, &watch->seen, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
        if (closing) {
            return NULL;
        }
        waits[count] = (struct futex_waitv){.val = state,
                                            .uaddr = (uintptr_t)&watch->changed,
                                            .flags = FUTEX_32 | FUTEX_PRIVATE_FLAG};
        const uint64_t until_ms = clock_now_us() / 1000u + DEATH_ROUND_MS;
        const struct timespec until = {.tv_sec = (time_t)(until_ms / 1000u),
                                       .tv_nsec = (long)(until_ms % 1000u * 1000000u)};
        const long woken = syscall(SYS_futex_waitv, waits, count + 1, 0, &until, CLOCK_MONOTONIC);
        must(woken >= 0 || errno == EAGAIN || errno == ETIMEDOUT || errno == EINTR);
    }
}

/* Wakes the waiter and returns when it has taken over the table of this call. Called unlocked. */
static void death_change(struct death_watch *watch)
{
    /* Relaxed: the table itself travels under the mutex. */
    const uint32_t state = atomic_fetch_add_explicit(&watch->changed, 1, memory_order_relaxed) + 1;
    (void)syscall(SYS_futex, &watch->changed, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    const uint64_t deadline_us = clock_now_us() + DEATH_ANSWER_US_MAX;
    for (;;) {
        /* Acquire pairs with the release of seen in death_wait(). */
        const uint32_t seen = atomic_load_explicit(&watch->seen, memory_order_acquire);
        if (seen == state) {
            return;
        }
        must(clock_now_us() < deadline_us);
        const struct timespec round = {.tv_sec = DEATH_ROUND_MS / 1000};
        (void)syscall(SYS_futex, &watch->seen, FUTEX_WAIT_PRIVATE, seen, &round, NULL, 0);
    }
}

/* Signals are for the loop thread: the waiter starts with all of them blocked. */
static int death_start(struct death_watch *watch)
{
    sigset_t all;
    sigset_t before;
    must(sigfillset(&all) == 0);
    must(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
    const int error = pthread_create(&watch->thread, NULL, death_wait, watch);
    must(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    return -error;
}

int death_watch_open(struct death_watch **out)
{
    /* No words to wait for: -EINVAL from a kernel that knows the call. */
    if (syscall(SYS_futex_waitv, NULL, 0, 0, NULL, CLOCK_MONOTONIC) < 0 && errno != EINVAL) {
        return -errno;
    }
    struct death_watch *watch = calloc(1, sizeof *watch);
    if (!watch) {
        return -ENOMEM;
    }
    watch->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (watch->fd < 0) {
        const int error = -errno;
        free(watch);
        return error;
    }
    must(pthread_mutex_init(&watch->mutex, NULL) == 0);
    const int error = death_start(watch);
    if (error) {
        (void)close(watch->fd);
        must(pthread_mutex_destroy(&watch->mutex) == 0);
        free(watch);
        return error;
    }
    *out = watch;
    return 0;
}

int death_watch_fd(const struct death_watch *watch)
{
    return watch->fd;
}

void death_watch_set(struct death_watch *watch, uint32_t index, const _Atomic uint32_t *word)
{
    must(index < LIMIT_WORKERS_MAX);
    must(pthread_mutex_lock(&watch->mutex) == 0);
    watch->words[index] = word;
    must(pthread_mutex_unlock(&watch->mutex) == 0);
    death_change(watch);
}

void death_watch_close(struct death_watch *watch)
{
    must(pthread_mutex_lock(&watch->mutex) == 0);
    watch->closing = true;
    must(pthread_mutex_unlock(&watch->mutex) == 0);
    death_change(watch);
    must(pthread_join(watch->thread, NULL) == 0);
    (void)close(watch->fd);
    must(pthread_mutex_destroy(&watch->mutex) == 0);
    free(watch);
}
