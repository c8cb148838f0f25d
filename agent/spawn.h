/*
 * spawn.h - starts another program as a child that cannot outlive the supervisor and inherits
 * nothing but what is named here.
 */
#ifndef AGENT_SPAWN_H
#define AGENT_SPAWN_H

#include <sys/types.h>

#include "base/must.h"

struct spawn {
    const char *path;     /* Of the program; its last part is the process's name. */
    const char *argument; /* One, or NULL. */
    int control;          /* Becomes CONTROL_FD; -1: none. */
    int config;           /* Becomes CONTROL_CONFIG_FD; -1: none. */
};

/*
 * The pid or -errno. stdin is /dev/null and stdout goes to stderr. The child has a process group of
 * its own, so that Ctrl-C reaches the supervisor alone, and dies with the thread that called this.
 * Where the program cannot be executed, the child says so in a CONTROL_FAILED and ends with 127.
 */
pid_t spawn_program(const struct spawn *spawn) MUST_CHECK;

/* Runs it to its end, at most timeout_ms, then kills it. The wait status or -errno. */
int spawn_and_wait(const struct spawn *spawn, int timeout_ms) MUST_CHECK;

#endif /* AGENT_SPAWN_H */
