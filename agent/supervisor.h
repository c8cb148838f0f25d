/*
 * supervisor.h - the parent of all: starts, watches, restarts and stops the processes of one agent,
 * and speaks to the service manager. It never sees a client's bytes and never maps a ring.
 */
#ifndef AGENT_SUPERVISOR_H
#define AGENT_SUPERVISOR_H

#include "base/config.h"

/*
 * Runs the agent until SIGTERM or SIGINT, which supervisor_block_signals() has blocked, or until a
 * child that was never ready ends. Prints "ready" on stdout once everything serves. The exit
 * status: 0 after a stop, 1 with one line on stderr that says why.
 */
int supervisor_run(const struct config *config);

/* Before anything else: signals that arrive from here on wait for supervisor_run(). */
void supervisor_block_signals(void);

#endif /* AGENT_SUPERVISOR_H */
