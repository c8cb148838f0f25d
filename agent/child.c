/*
 * child.c - see child.h. Called by the supervisor's main thread, which owns the children.
 * Invariant: pid, control and a state other than DOWN come and go together, except that a child may
 * close its control socket early; and a pid is never signalled after it was reaped.
 */
#include "agent/child.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/program.h"
#include "agent/spawn.h"

enum {
    CHILD_BACKOFF_MS_MIN = 50, /* After the first restart, which is at once. */
    CHILD_BACKOFF_MS_MAX = 1000,
    CHILD_STEADY_US = 5 * 1000000, /* Ready for so long: the next restart is at once again. */
};

static int child_find_core(const struct config *config, const char *own,
                           char path[LIMIT_PATH_BYTES_MAX])
{
    (void)config;
    must(strlen(own) < LIMIT_PATH_BYTES_MAX);
    memcpy(path, own, strlen(own) + 1);
    return 0;
}

static uint32_t child_count_core(const struct config *config)
{
    (void)config;
    return 1;
}

static uint32_t child_count_workers(const struct config *config)
{
    return config->workers.count;
}

/* The core is ready only when the workers are, hence its grace. Stopping takes at most the sum of
 * the last column, which leaves a second of the five that a stop may take. */
const struct child_kind child_kinds[CHILD_KINDS] = {
    [CHILD_CORE] = {"core", "--core", child_find_core, child_count_core, 30000, 2500},
    [CHILD_WORKER] = {"worker", NULL, program_worker, child_count_workers, 0, 1000},
};

void child_label(const struct child *child, char label[CHILD_LABEL_BYTES_MAX])
{
    const char *name = child_kinds[child->kind].name;
    if (child->kind == CHILD_CORE) {
        (void)snprintf(label, CHILD_LABEL_BYTES_MAX, "%s", name);
    } else {
        (void)snprintf(label, CHILD_LABEL_BYTES_MAX, "%s %u", name, child->index);
    }
}

int child_start(struct child *child, const char *path, int config_fd, uint32_t timeout_ms,
                uint64_t now_us)
{
    must(child->state == CHILD_DOWN && child->pid == 0 && child->control < 0);
    const struct child_kind *kind = &child_kinds[child->kind];
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
        return -errno;
    }
    const struct spawn spawn = {
        .path = path, .argument = kind->argument, .control = ends[1], .config = config_fd};
    const pid_t pid = spawn_program(&spawn);
    (void)close(ends[1]);
    if (pid < 0) {
        (void)close(ends[0]);
        return (int)pid;
    }
    child->pid = pid;
    child->control = ends[0];
    child->state = CHILD_STARTING;
    child->failed[0] = '\0';
    child->due_us = now_us + ((uint64_t)timeout_ms + kind->start_grace_ms) * 1000u;
    return 0;
}

void child_set_ready(struct child *child, uint64_t now_us)
{
    if (child->state != CHILD_STARTING) {
        return; /* It may say so again after a new link. */
    }
    child->state = CHILD_READY;
    child->served = true;
    child->ready_us = now_us;
    child->due_us = CHILD_NEVER;
}

void child_end(struct child *child, uint32_t grace_ms, uint64_t now_us)
{
    if (child->pid == 0) {
        return;
    }
    const uint64_t due_us = grace_ms == 0 ? CHILD_NEVER : now_us + (uint64_t)grace_ms * 1000u;
    if (grace_ms == 0) {
        (void)kill(child->pid, SIGKILL);
    }
    child->state = CHILD_ENDING;
    child->due_us = due_us;
}

void child_stop(struct child *child, uint64_t now_us)
{
    if (child->pid == 0) {
        return;
    }
    const struct control_message stop = {.kind = CONTROL_STOP, .index = child->index};
    const int error = child->control < 0 ? -EPIPE : control_send(child->control, &stop, -1);
    /* Who cannot be told has ended or hangs. */
    child_end(child, error == 0 ? child_kinds[child->kind].stop_ms : 0, now_us);
}

static void child_describe_end(const struct child *child, int status,
                               char cause[CHILD_CAUSE_BYTES_MAX])
{
    const char *when = child->served ? "" : " before it was ready";
    if (child->failed[0]) {
        (void)snprintf(cause, CHILD_CAUSE_BYTES_MAX, "%s", child->failed);
    } else if (WIFSIGNALED(status)) {
        const char *name = sigabbrev_np(WTERMSIG(status));
        (void)snprintf(cause, CHILD_CAUSE_BYTES_MAX, "ended by SIG%s%s", name ? name : "?", when);
    } else {
        (void)snprintf(cause, CHILD_CAUSE_BYTES_MAX, "ended with status %d%s", WEXITSTATUS(status),
                       when);
    }
}

bool child_ended(const struct child *child)
{
    siginfo_t info = {.si_pid = 0};
    if (child->pid == 0) {
        return false;
    }
    /* Fails for a child that somebody else reaped: nobody does. */
    must(waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0);
    return info.si_pid == child->pid;
}

void child_reap(struct child *child, uint64_t now_us, char cause[CHILD_CAUSE_BYTES_MAX])
{
    int status = 0;
    must(waitpid(child->pid, &status, WNOHANG) == child->pid);
    child_describe_end(child, status, cause);
    if (child->ready_us > 0 && now_us - child->ready_us >= CHILD_STEADY_US) {
        child->backoff_ms = 0;
    }
    child->due_us = now_us + (uint64_t)child->backoff_ms * 1000u;
    child->backoff_ms = child->backoff_ms == 0 ? CHILD_BACKOFF_MS_MIN : child->backoff_ms * 2;
    if (child->backoff_ms > CHILD_BACKOFF_MS_MAX) {
        child->backoff_ms = CHILD_BACKOFF_MS_MAX;
    }
    if (child->control >= 0) {
        (void)close(child->control);
    }
    child->control = -1;
    child->pid = 0;
    child->ready_us = 0;
    child->state = CHILD_DOWN;
}
