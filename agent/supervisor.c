/*
 * supervisor.c - the loop of the parent process, its only thread. Owns the children, the signal
 * descriptor and the memfd of the config. Each turn reads what children say, reaps who has ended,
 * does what is due, and sleeps until the next event or due time.
 *
 * Invariant: whenever the workers of a group and the core all run, they hold the ends of links of
 * one epoch, the group's newest, or one of them is about to be killed.
 */
#include "agent/supervisor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/child.h"
#include "agent/notify.h"
#include "base/binary.h"
#include "base/clock.h"
#include "base/log.h"
#include "ipc/control.h"

enum {
    SUPERVISOR_CHILDREN_MAX = 1 + LIMIT_WORKERS_MAX,
    SUPERVISOR_MESSAGES_MAX = 512,     /* Of one child in one turn: more than a socket holds. */
    SUPERVISOR_SLEEP_US_MAX = 1000000, /* A lost wake-up costs no more. */
    SUPERVISOR_STOP_US = 4500000,      /* Of the 5 s that a stop may take. */
    SUPERVISOR_EXIT_MS = 1000,         /* For a child that said it failed, or hung up, to end. */
};

enum supervisor_phase {
    SUPERVISOR_STARTING,
    SUPERVISOR_SERVING,  /* Everybody was ready once. */
    SUPERVISOR_STOPPING, /* Row after row of the table. */
};

struct supervisor {
    const struct config *config;
    enum supervisor_phase phase;
    uint32_t stopping;   /* Row that is told to stop; the rows before it are gone. */
    uint64_t stop_by_us; /* Whoever is left then, SIGKILL did not end. */
    int exit_status;
    int signals;   /* signalfd */
    int config_fd; /* Sealed memfd. */
    uint32_t epoch;
    char paths[CHILD_KINDS][LIMIT_PATH_BYTES_MAX];
    struct child children[SUPERVISOR_CHILDREN_MAX]; /* The core first. */
    uint32_t child_count;
};

static bool is_ignored(int number)
{
    struct sigaction now;
    must(sigaction(number, NULL, &now) == 0);
    return now.sa_handler == SIG_IGN;
}

static sigset_t supervisor_signals(void)
{
    sigset_t set;
    must(sigemptyset(&set) == 0);
    must(sigaddset(&set, SIGTERM) == 0);
    must(sigaddset(&set, SIGINT) == 0);
    if (!is_ignored(SIGHUP)) { /* The terminal is gone. Blocked, it would come under nohup too. */
        must(sigaddset(&set, SIGHUP) == 0);
    }
    must(sigaddset(&set, SIGCHLD) == 0);
    return set;
}

void supervisor_block_signals(void)
{
    sigset_t set = supervisor_signals();
    const struct sigaction standard = {.sa_handler = SIG_DFL};
    must(sigaddset(&set, SIGPIPE) == 0); /* Nobody reads our stdout: no reason to end. */
    must(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    must(sigaction(SIGCHLD, &standard, NULL) == 0); /* Ignored, it would reap behind our back. */
}

static void supervisor_stop_row(struct supervisor *supervisor, uint64_t now_us)
{
    for (uint32_t i = 0; i < supervisor->child_count; i++) {
        if (supervisor->children[i].kind == supervisor->stopping) {
            child_stop(&supervisor->children[i], now_us);
        }
    }
}

/* Begins the orderly end. Called again while it runs, it does nothing: the first cause counts. */
static void supervisor_stop(struct supervisor *supervisor, int exit_status, uint64_t now_us)
{
    if (supervisor->phase == SUPERVISOR_STOPPING) {
        return;
    }
    supervisor->phase = SUPERVISOR_STOPPING;
    supervisor->stopping = 0;
    supervisor->stop_by_us = now_us + SUPERVISOR_STOP_US;
    supervisor->exit_status = exit_status;
    notify_stopping();
    supervisor_stop_row(supervisor, now_us);
}

static void supervisor_kill_all(struct supervisor *supervisor, uint64_t now_us)
{
    for (uint32_t i = 0; i < supervisor->child_count; i++) {
        child_end(&supervisor->children[i], 0, now_us);
    }
}

/* Joins a worker and the core by a socket pair. */
static void supervisor_link(struct supervisor *supervisor, struct child *worker, uint64_t now_us)
{
    struct child *core = &supervisor->children[0];
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
        log_warning("worker %u: no link: %s", worker->index, strerror(errno));
        child_end(worker, 0, now_us);
        return;
    }
    const uint32_t tp = supervisor->config->workers.tp;
    worker->epoch = supervisor->epoch;
    const struct control_message message = {.kind = CONTROL_LINK,
                                            .index = worker->index,
                                            .epoch = worker->epoch,
                                            .group = (uint16_t)(worker->index / tp),
                                            .rank = (uint16_t)(worker->index % tp)};
    if (control_send(core->control, &message, ends[0]) != 0) {
        child_end(core, SUPERVISOR_EXIT_MS, now_us); /* It does not read, or is on its way out. */
    }
    if (control_send(worker->control, &message, ends[1]) != 0) {
        child_end(worker, SUPERVISOR_EXIT_MS, now_us);
    }
    (void)close(ends[0]);
    (void)close(ends[1]);
}

/* Joins the workers of a group and the core, if all of them run, in an epoch of their own: a rank
 * that starts anew means new links for its siblings too. Where one is missing, its start does it.
 */
static void supervisor_link_group(struct supervisor *supervisor, uint32_t group, uint64_t now_us)
{
    const uint32_t tp = supervisor->config->workers.tp;
    struct child *ranks = &supervisor->children[1 + (size_t)group * tp];
    bool whole = supervisor->children[0].control >= 0;
    for (uint32_t i = 0; i < tp; i++) {
        whole = whole && ranks[i].control >= 0;
    }
    supervisor->epoch += whole;
    for (uint32_t i = 0; i < tp && whole; i++) {
        supervisor_link(supervisor, &ranks[i], now_us);
    }
}

static void supervisor_start(struct supervisor *supervisor, struct child *child, uint64_t now_us)
{
    char label[CHILD_LABEL_BYTES_MAX];
    const int error = child_start(child, supervisor->paths[child->kind], supervisor->config_fd,
                                  supervisor->config->workers.start_timeout_ms, now_us);
    if (error) {
        child_label(child, label);
        log_error("%s: cannot start: %s", label, strerror(-error));
        child->due_us = now_us + SUPERVISOR_SLEEP_US_MAX;
        if (!child->served) {
            supervisor_stop(supervisor, 1, now_us);
        }
        return;
    }
    if (child->kind == CHILD_WORKER) {
        supervisor_link_group(supervisor, child->index / supervisor->config->workers.tp, now_us);
        return;
    }
    for (uint32_t i = 0; i < (supervisor->child_count - 1) / supervisor->config->workers.tp; i++) {
        supervisor_link_group(supervisor, i, now_us);
    }
}

/* The core names a worker that died or hangs. A worker of a newer epoch is another one. */
static void supervisor_suspect(struct supervisor *supervisor, const struct control_message *message,
                               uint64_t now_us)
{
    if (message->index >= supervisor->config->workers.count) {
        log_warning("core: suspects worker %u, which does not exist", message->index);
        return;
    }
    struct child *worker = &supervisor->children[1 + message->index];
    if (worker->pid != 0 && worker->epoch == message->epoch) {
        child_end(worker, 0, now_us);
    }
}

static void supervisor_hear(struct supervisor *supervisor, struct child *child,
                            const struct control_message *message, uint64_t now_us)
{
    const bool core = child->kind == CHILD_CORE;
    if (message->kind == CONTROL_READY) {
        child_set_ready(child, now_us);
    } else if (message->kind == CONTROL_FAILED) {
        memcpy(child->failed, message->text, sizeof child->failed);
        if (child->state != CHILD_ENDING) {
            child_end(child, SUPERVISOR_EXIT_MS, now_us);
        }
    } else if (message->kind == CONTROL_SUSPECT && core) {
        supervisor_suspect(supervisor, message, now_us);
    } else if (message->kind == CONTROL_STATUS && core) {
        if (supervisor->phase == SUPERVISOR_SERVING) {
            notify_status(message->text);
        }
    } else if (message->kind == CONTROL_PROGRESS && core) {
        notify_progress();
    } else {
        log_warning("%s: a message of unknown kind %u", child_kinds[child->kind].name,
                    message->kind);
    }
}

/* Reads what a child has said. Who hangs up or says what cannot be is given time to end. */
static void supervisor_read(struct supervisor *supervisor, struct child *child, uint64_t now_us)
{
    for (int i = 0; i < SUPERVISOR_MESSAGES_MAX && child->control >= 0; i++) {
        struct control_message message;
        int fd = -1;
        const int error = control_recv(child->control, &message, &fd);
        if (error == -EAGAIN) {
            return;
        }
        if (fd >= 0) { /* No child has one to give. */
            (void)close(fd);
        }
        if (!error) {
            supervisor_hear(supervisor, child, &message, now_us);
            continue;
        }
        (void)close(child->control);
        child->control = -1;
        if (child->state != CHILD_ENDING) {
            child_end(child, SUPERVISOR_EXIT_MS, now_us);
        }
    }
}

/* Reads, then reaps. The order of the first two lines matters: what a child said before it ended is
 * all there when it is seen to have ended. */
static void supervisor_visit(struct supervisor *supervisor, struct child *child, uint64_t now_us)
{
    const bool ended = child_ended(child);
    supervisor_read(supervisor, child, now_us);
    if (!ended) {
        return;
    }
    char label[CHILD_LABEL_BYTES_MAX];
    char cause[CHILD_CAUSE_BYTES_MAX];
    child_label(child, label);
    child_reap(child, now_us, cause);
    if (supervisor->phase == SUPERVISOR_STOPPING) {
        return;
    }
    if (child->served) {
        log_warning("%s: %s; starting it again", label, cause);
        return;
    }
    log_error("%s: %s", label, cause);
    supervisor_stop(supervisor, 1, now_us);
}

/* What the state of a child asks for at this time. */
static void supervisor_act(struct supervisor *supervisor, struct child *child, uint64_t now_us)
{
    if (now_us < child->due_us) {
        return;
    }
    switch (child->state) {
    case CHILD_DOWN:
        if (supervisor->phase != SUPERVISOR_STOPPING) {
            supervisor_start(supervisor, child, now_us);
        }
        return;
    case CHILD_STARTING:
        (void)snprintf(child->failed, sizeof child->failed,
                       "not ready in time: see workers.start_timeout_ms");
        child_end(child, 0, now_us);
        return;
    case CHILD_ENDING:
        child_end(child, 0, now_us);
        return;
    case CHILD_READY:
        return;
    }
}

/* Prints ready once, when every child has been. */
static void supervisor_announce(struct supervisor *supervisor)
{
    for (uint32_t i = 0; i < supervisor->child_count; i++) {
        if (!supervisor->children[i].served) {
            return;
        }
    }
    supervisor->phase = SUPERVISOR_SERVING;
    (void)puts("ready");
    (void)fflush(stdout);
    notify_ready();
}

/* Tells the next rows to stop once a row is gone. True when no child is left, or nothing can be
 * done about those that are: the kernel is busy with them, and init reaps them. */
static bool supervisor_gone(struct supervisor *supervisor, uint64_t now_us)
{
    if (now_us >= supervisor->stop_by_us) {
        log_error("a child outlives its SIGKILL; leaving it to the kernel");
        supervisor_kill_all(supervisor, now_us);
        return true;
    }
    while (supervisor->stopping < CHILD_KINDS) {
        for (uint32_t i = 0; i < supervisor->child_count; i++) {
            const struct child *child = &supervisor->children[i];
            if (child->kind == supervisor->stopping && child->state != CHILD_DOWN) {
                return false;
            }
        }
        supervisor->stopping++;
        supervisor_stop_row(supervisor, now_us);
    }
    return true;
}

static void supervisor_take_signals(struct supervisor *supervisor, uint64_t now_us)
{
    struct signalfd_siginfo info;
    while (read(supervisor->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGCHLD) {
            continue; /* Every turn looks at every child. */
        }
        if (supervisor->phase != SUPERVISOR_STOPPING) {
            supervisor_stop(supervisor, 0, now_us);
        } else {
            supervisor_kill_all(supervisor, now_us);
        }
    }
}

/* Sleeps until a child speaks, a signal comes or something is due. */
static void supervisor_sleep(const struct supervisor *supervisor)
{
    struct pollfd events[1 + SUPERVISOR_CHILDREN_MAX];
    const bool stopping = supervisor->phase == SUPERVISOR_STOPPING;
    uint64_t due_us = clock_now_us() + SUPERVISOR_SLEEP_US_MAX;
    due_us = stopping && supervisor->stop_by_us < due_us ? supervisor->stop_by_us : due_us;
    events[0] = (struct pollfd){.fd = supervisor->signals, .events = POLLIN};
    for (uint32_t i = 0; i < supervisor->child_count; i++) {
        const struct child *child = &supervisor->children[i];
        const bool idle = child->state == CHILD_DOWN && stopping;
        events[1 + i] = (struct pollfd){.fd = child->control, .events = POLLIN};
        due_us = child->due_us < due_us && !idle ? child->due_us : due_us;
    }
    const uint64_t now_us = clock_now_us();
    const int timeout_ms = due_us <= now_us ? 0 : (int)((due_us - now_us + 999) / 1000u);
    (void)poll(events, 1 + supervisor->child_count, timeout_ms);
}

static int supervisor_loop(struct supervisor *supervisor)
{
    for (;;) {
        const uint64_t now_us = clock_now_us();
        supervisor_take_signals(supervisor, now_us);
        for (uint32_t i = 0; i < supervisor->child_count; i++) {
            supervisor_visit(supervisor, &supervisor->children[i], now_us);
            supervisor_act(supervisor, &supervisor->children[i], now_us);
        }
        if (supervisor->phase == SUPERVISOR_STARTING) {
            supervisor_announce(supervisor);
        }
        if (supervisor->phase == SUPERVISOR_STOPPING && supervisor_gone(supervisor, now_us)) {
            return supervisor->exit_status;
        }
        supervisor_sleep(supervisor);
    }
}

/* Finds the binaries and fills in the children, all DOWN and due. 0 or -errno, already logged. */
static int supervisor_prepare(struct supervisor *supervisor)
{
    char own[LIMIT_PATH_BYTES_MAX];
    int error = binary_own(own);
    if (error) {
        log_error("cannot find this program's own file: %s", strerror(-error));
        return error;
    }
    for (uint32_t kind = 0; kind < CHILD_KINDS; kind++) {
        const struct child_kind *row = &child_kinds[kind];
        error = row->find(supervisor->config, own, supervisor->paths[kind]);
        if (error) {
            log_error(
                "sluice-%s-%s is neither beside %s nor in ../libexec/sluice: install it", row->name,
                supervisor->config->workers.device == CONFIG_DEVICE_CUDA ? "cuda" : "cpu", own);
            return error;
        }
        const uint32_t count = row->count(supervisor->config);
        for (uint32_t i = 0; i < count; i++) {
            must(supervisor->child_count < SUPERVISOR_CHILDREN_MAX);
            supervisor->children[supervisor->child_count++] =
                (struct child){.kind = kind, .index = i, .control = -1};
        }
    }
    return 0;
}

int supervisor_run(const struct config *config)
{
    const sigset_t set = supervisor_signals();
    struct supervisor *supervisor = calloc(1, sizeof *supervisor);
    must(supervisor);
    supervisor->config = config;
    supervisor->config_fd = control_config_store(config);
    supervisor->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    int status = 1;
    if (supervisor->config_fd < 0 || supervisor->signals < 0) {
        log_error("cannot start: out of file descriptors or memory");
    } else if (supervisor_prepare(supervisor) == 0) {
        status = supervisor_loop(supervisor);
    }
    (void)close(supervisor->config_fd);
    (void)close(supervisor->signals);
    free(supervisor);
    return status;
}
