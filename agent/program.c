/*
 * program.c - see program.h. Called by the supervisor's main thread before it starts its children;
 * owns nothing. Names are resolved once, so that every restart runs what the first start ran.
 */
#include "agent/program.h"

#include <sys/wait.h>

#include "agent/spawn.h"
#include "base/binary.h"

enum { PROGRAM_PROBE_MS = 10000 }; /* A driver that wakes up its devices takes seconds. */

int program_worker(const struct config *config, const char *own, char path[LIMIT_PATH_BYTES_MAX])
{
    if (config->workers.device == CONFIG_DEVICE_CUDA) {
        return binary_find(own, "sluice-worker-cuda", path);
    }
    if (config->workers.device == CONFIG_DEVICE_AUTO &&
        !binary_find(own, "sluice-worker-cuda", path)) {
        const struct spawn probe = {
            .path = path, .argument = "--probe", .control = -1, .config = -1};
        const int status = spawn_and_wait(&probe, PROGRAM_PROBE_MS);
        if (status >= 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
            return 0;
        }
    }
    return binary_find(own, "sluice-worker-cpu", path);
}
