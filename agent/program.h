/* program.h - which worker the agent runs. Supervisor only, at start. */
#ifndef AGENT_PROGRAM_H
#define AGENT_PROGRAM_H

#include "base/config.h"
#include "base/limits.h"
#include "base/must.h"

/* The worker binary for workers.device, found by base/binary.h from own. auto takes
 * sluice-worker-cuda where it exists and its --probe exits 0; cuda takes it or nothing. 0 or
 * -ENOENT. */
int program_worker(const struct config *config, const char *own,
                   char path[LIMIT_PATH_BYTES_MAX]) MUST_CHECK;

#endif /* AGENT_PROGRAM_H */
