/*
 * subprocess.c - see subprocess.h. Called by sluice-tune on its only thread; owns the child, its
 * pipe and the bytes read. Invariant: after subprocess_stop() there is no such process.
 */
#include "tools/subprocess.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

enum { READ_BYTES = 1 << 16, LOOK_US = 10000 };

extern char **environ;

int subprocess_start(struct subprocess *subprocess, const char *path, const char *const argv[])
{
    posix_spawn_file_actions_t actions;
    int ends[2];
    *subprocess = (struct subprocess){.pid = -1, .fd = -1};
    if (pipe2(ends, O_CLOEXEC)) {
        return -errno;
    }
    int code = posix_spawn_file_actions_init(&actions);
    if (!code) {
        code = posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
        code = code ? code
                    : posix_spawn(&subprocess->pid, path, &actions, NULL,
                                  (char *const *)(uintptr_t)argv, environ);
        (void)posix_spawn_file_actions_destroy(&actions);
    }
    (void)close(ends[1]);
    if (code) {
        (void)close(ends[0]);
        subprocess->pid = -1;
        return -code;
    }
    subprocess->fd = ends[0];
    return 0;
}

/* More bytes behind what is there. False: no more come. */
static bool read_more(struct subprocess *subprocess, uint64_t deadline_us)
{
    const uint64_t now_us = clock_now_us();
    struct pollfd wait = {.fd = subprocess->fd, .events = POLLIN};
    if (now_us >= deadline_us || subprocess->count >= SUBPROCESS_LINE_BYTES_MAX) {
        return false;
    }
    const uint64_t left_ms = (deadline_us - now_us) / 1000 + 1;
    if (poll(&wait, 1, left_ms < INT32_MAX ? (int)left_ms : INT32_MAX) <= 0) {
        return errno == EINTR;
    }
    char *bytes = realloc(subprocess->bytes, subprocess->count + READ_BYTES + 1);
    must(bytes);
    subprocess->bytes = bytes;
    const ssize_t got = read(subprocess->fd, bytes + subprocess->count, READ_BYTES);
    subprocess->count += got > 0 ? (size_t)got : 0;
    return got > 0;
}

const char *subprocess_line(struct subprocess *subprocess, uint64_t deadline_us)
{
    if (subprocess->given > 0) {
        subprocess->count -= subprocess->given;
        memmove(subprocess->bytes, subprocess->bytes + subprocess->given, subprocess->count);
        subprocess->given = 0;
    }
    for (;;) {
        char *end =
            subprocess->count > 0 ? memchr(subprocess->bytes, '\n', subprocess->count) : NULL;
        if (end) {
            *end = '\0';
            subprocess->given = (size_t)(end - subprocess->bytes) + 1;
            return subprocess->bytes;
        }
        if (!read_more(subprocess, deadline_us)) {
            return NULL;
        }
    }
}

bool subprocess_stop(struct subprocess *subprocess, uint64_t deadline_us)
{
    int status = 0;
    pid_t ended = 0;
    if (subprocess->fd >= 0) {
        (void)close(subprocess->fd);
    }
    while (subprocess->pid > 0 && ended == 0 && clock_now_us() < deadline_us) {
        ended = waitpid(subprocess->pid, &status, WNOHANG);
        if (ended == 0) {
            (void)usleep(LOOK_US);
        }
    }
    if (subprocess->pid > 0 && ended == 0) {
        (void)kill(subprocess->pid, SIGKILL);
        (void)waitpid(subprocess->pid, NULL, 0);
    }
    free(subprocess->bytes);
    const bool good = subprocess->pid > 0 && ended == subprocess->pid && WIFEXITED(status) &&
                      WEXITSTATUS(status) == 0;
    *subprocess = (struct subprocess){.pid = -1, .fd = -1};
    return good;
}
