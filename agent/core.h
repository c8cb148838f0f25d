/*
 * core.h - the core process: clients, scheduler, KV manager. The supervisor starts it as its own
 * binary with the hidden argument --core.
 */
#ifndef AGENT_CORE_H
#define AGENT_CORE_H

#include "base/config.h"

/* Serves until CONTROL_STOP comes on control_fd or the supervisor is gone. The exit status. */
int core_main(const struct config *config, int control_fd);

#endif /* AGENT_CORE_H */
