/* program.h - where the agent's binaries are. Supervisor only, at start. */
#ifndef AGENT_PROGRAM_H
#define AGENT_PROGRAM_H

#include "base/config.h"
#include "base/limits.h"
#include "base/must.h"

/* This process's own binary. 0 or -errno. */
int program_own(char path[LIMIT_PATH_BYTES_MAX]) MUST_CHECK;

/* The worker binary for workers.device: beside own, else in ../libexec/sluice/. auto takes
 * sluice-worker-cuda where it exists and its --probe exits 0; cuda takes it or nothing. 0 or
 * -ENOENT. */
int program_worker(const struct config *config, const char *own,
                   char path[LIMIT_PATH_BYTES_MAX]) MUST_CHECK;

#endif /* AGENT_PROGRAM_H */
