/*
 * death_test.c - children that hold a word and die in several ways; the notice must come each time.
 * How long it took is printed and never asserted. Children start before the watch: TSan wants no
 * fork in a process of several threads.
 */
#include "ipc/death.h"

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"

enum { NOTICE_MS_MAX = 30000, BALLAST_BYTES = 256 << 20, SIBLINGS = 64 };

struct shared { /* One file, mapped writable by the children and read-only by the watcher. */
    struct death_life *writable;
    const struct death_life *lives;
};

static int shared_open(void **state)
{
    struct shared *shared = calloc(1, sizeof *shared);
    const int fd = memfd_create("test", MFD_CLOEXEC);
    assert_non_null(shared);
    assert_int_equal(ftruncate(fd, 4096), 0);
    shared->writable = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    void *lives = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(shared->writable, MAP_FAILED);
    assert_ptr_not_equal(lives, MAP_FAILED);
    shared->lives = lives;
    assert_int_equal(close(fd), 0);
    *state = shared;
    return 0;
}

static int shared_close(void **state)
{
    struct shared *shared = *state;
    assert_int_equal(munmap(shared->writable, 4096), 0);
    assert_int_equal(munmap((void *)(uintptr_t)shared->lives, 4096), 0);
    free(shared);
    return 0;
}

static void *sleep_thread(void *argument)
{
    (void)argument;
    (void)poll(NULL, 0, NOTICE_MS_MAX);
    return NULL;
}

struct child {
    pid_t pid;
    int ready; /* Readable when it holds the word. */
};

/* A child that holds life, then runs body and sleeps. */
static struct child child_start(struct death_life *life, void (*body)(void))
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    struct child child = {.pid = fork(), .ready = ends[0]};
    assert_true(child.pid >= 0);
    if (child.pid == 0) {
        death_hold(life);
        if (body) {
            body();
        }
        if (write(ends[1], "r", 1) != 1) {
            _exit(1);
        }
        (void)poll(NULL, 0, NOTICE_MS_MAX);
        _exit(0);
    }
    assert_int_equal(close(ends[1]), 0);
    char byte;
    assert_int_equal(read(child.ready, &byte, 1), 1);
    assert_int_equal(close(child.ready), 0);
    return child;
}

static void child_reap(const struct child *child)
{
    assert_int_equal(waitpid(child->pid, NULL, 0), child->pid);
}

static bool rings_within(const struct death_watch *watch, int timeout_ms)
{
    struct pollfd wait = {.fd = death_watch_fd(watch), .events = POLLIN};
    if (poll(&wait, 1, timeout_ms) != 1) {
        return false;
    }
    uint64_t deaths = 0;
    assert_int_equal(read(wait.fd, &deaths, sizeof deaths), (ssize_t)sizeof deaths);
    return deaths > 0;
}

/* Kills one child and prints the time to notice and the time to reap. */
static void kill_and_notice(struct shared *shared, const char *what, void (*body)(void))
{
    const struct child child = child_start(&shared->writable[0], body);
    struct death_watch *watch = NULL;
    assert_int_equal(death_watch_open(&watch), 0);
    death_watch_set(watch, 3, &shared->lives[0].word);
    assert_false(rings_within(watch, 20));
    assert_false(death_seen(&shared->lives[0].word));
    const uint64_t start_us = clock_now_us();
    assert_int_equal(kill(child.pid, SIGKILL), 0);
    assert_true(rings_within(watch, NOTICE_MS_MAX));
    const uint64_t notice_us = clock_now_us() - start_us;
    assert_true(death_seen(&shared->lives[0].word));
    child_reap(&child);
    print_message("%s: notice after %llu us, reaped after %llu us\n", what,
                  (unsigned long long)notice_us, (unsigned long long)(clock_now_us() - start_us));
    assert_false(rings_within(watch, 20)); /* Once a death. */
    death_watch_close(watch);
}

static void notices_a_kill(void **state)
{
    kill_and_notice(*state, "small child", NULL);
}

static void touch_ballast(void)
{
    char *ballast =
        mmap(NULL, BALLAST_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (ballast == MAP_FAILED) {
        _exit(1);
    }
    memset(ballast, 1, BALLAST_BYTES);
}

static void start_siblings(void)
{
    touch_ballast();
    for (int i = 0; i < SIBLINGS; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, sleep_thread, NULL) != 0) {
            _exit(1);
        }
    }
}

static void notices_before_memory_is_freed(void **state)
{
    kill_and_notice(*state, "256 MiB", touch_ballast);
}

static void notices_a_process_of_many_threads(void **state)
{
    kill_and_notice(*state, "256 MiB and 64 threads", start_siblings);
}

static void notices_a_death_before_the_watch(void **state)
{
    struct shared *shared = *state;
    const struct child child = child_start(&shared->writable[0], NULL);
    assert_int_equal(kill(child.pid, SIGKILL), 0);
    child_reap(&child);
    struct death_watch *watch = NULL;
    assert_int_equal(death_watch_open(&watch), 0);
    death_watch_set(watch, 0, &shared->lives[0].word);
    assert_true(rings_within(watch, NOTICE_MS_MAX));
    death_watch_close(watch);
}

static void holds_one_word_at_a_time(void **state)
{
    struct shared *shared = *state;
    int status = -1;
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        death_hold(&shared->writable[0]);
        death_hold(&shared->writable[1]);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_false(death_seen(&shared->lives[0].word)); /* The hold moved on. */
    assert_true(death_seen(&shared->lives[1].word));  /* A clean end is a death too. */
}

static void forgets_what_it_is_told_to_forget(void **state)
{
    struct shared *shared = *state;
    const struct child first = child_start(&shared->writable[0], NULL);
    const struct child second = child_start(&shared->writable[1], NULL);
    struct death_watch *watch = NULL;
    assert_int_equal(death_watch_open(&watch), 0);
    death_watch_set(watch, 0, &shared->lives[0].word);
    death_watch_set(watch, 1, &shared->lives[1].word);
    death_watch_set(watch, 0, NULL);
    assert_int_equal(kill(first.pid, SIGKILL), 0);
    child_reap(&first);
    assert_false(rings_within(watch, 100));
    assert_int_equal(kill(second.pid, SIGKILL), 0);
    assert_true(rings_within(watch, NOTICE_MS_MAX));
    child_reap(&second);
    death_watch_close(watch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(notices_a_kill, shared_open, shared_close),
        cmocka_unit_test_setup_teardown(notices_before_memory_is_freed, shared_open, shared_close),
        cmocka_unit_test_setup_teardown(notices_a_process_of_many_threads, shared_open,
                                        shared_close),
        cmocka_unit_test_setup_teardown(notices_a_death_before_the_watch, shared_open,
                                        shared_close),
        cmocka_unit_test_setup_teardown(holds_one_word_at_a_time, shared_open, shared_close),
        cmocka_unit_test_setup_teardown(forgets_what_it_is_told_to_forget, shared_open,
                                        shared_close),
    };
    return cmocka_run_group_tests_name("death", tests, NULL, NULL);
}
