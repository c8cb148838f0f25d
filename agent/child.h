/*
 * child.h - the table of child kinds, and the life of one child process.
 *
 *   DOWN --start--> STARTING --READY--> READY
 *     ^                |                  |      ENDING: told to stop, failed, or killed;
 *     |                +----> ENDING <----+      its due time is its SIGKILL
 *     +--reaped--------+---------+--------+
 *
 * A child that is reaped is DOWN with the time of its next start in due_us, or CHILD_NEVER.
 */
#ifndef AGENT_CHILD_H
#define AGENT_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/config.h"
#include "base/must.h"
#include "ipc/control.h"

enum { CHILD_CORE, CHILD_WORKER, CHILD_KINDS };
enum { CHILD_LABEL_BYTES_MAX = 32, CHILD_CAUSE_BYTES_MAX = 320 };

static const uint64_t CHILD_NEVER = UINT64_MAX;

struct child_kind {
    const char *name;
    const char *argument; /* Of its command line, or NULL. */
    int (*find)(const struct config *config, const char *own, char path[LIMIT_PATH_BYTES_MAX]);
    uint32_t (*count)(const struct config *config);
    uint32_t start_grace_ms; /* On top of workers.start_timeout_ms. */
    uint32_t stop_ms;        /* From CONTROL_STOP to SIGKILL. */
};

/* Rows in the order in which they are stopped. */
extern const struct child_kind child_kinds[CHILD_KINDS];

enum child_state { CHILD_DOWN, CHILD_STARTING, CHILD_READY, CHILD_ENDING };

struct child {
    uint32_t kind;  /* Row of the table. */
    uint32_t index; /* Among its kind. */
    enum child_state state;
    pid_t pid;       /* 0: none. */
    int control;     /* -1: none. */
    uint64_t due_us; /* Start (DOWN), SIGKILL (STARTING, ENDING); CHILD_NEVER: none. */
    uint64_t ready_us;
    uint32_t backoff_ms;             /* Before the next start. */
    uint32_t epoch;                  /* Of its link; workers only. */
    bool served;                     /* It was ready once: it is restarted for ever. */
    char failed[CONTROL_TEXT_BYTES]; /* From CONTROL_FAILED; empty: none. */
};

/* "core", or "worker 3". */
void child_label(const struct child *child, char label[CHILD_LABEL_BYTES_MAX]);

/* Starts a child that is DOWN. 0 or -errno, and it is still DOWN. */
int child_start(struct child *child, const char *path, int config_fd, uint32_t timeout_ms,
                uint64_t now_us) MUST_CHECK;

void child_set_ready(struct child *child, uint64_t now_us);

/* Asks it to end; SIGKILL follows in the time of its row. Nothing for a child that is DOWN. */
void child_stop(struct child *child, uint64_t now_us);

/* SIGKILL within grace_ms, 0: at once. Nothing for a child that is DOWN. */
void child_end(struct child *child, uint32_t grace_ms, uint64_t now_us);

/* True when the process has ended and waits to be reaped. Never waits itself. */
bool child_ended(const struct child *child);

/* Reaps a child that has ended: it is DOWN, cause says how it ended, and due_us is when the
 * back-off lets it start again. */
void child_reap(struct child *child, uint64_t now_us, char cause[CHILD_CAUSE_BYTES_MAX]);

#endif /* AGENT_CHILD_H */
