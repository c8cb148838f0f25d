/*
 * program.c - see program.h. Called by the supervisor's main thread before it starts its children;
 * owns nothing. Names are resolved once, so that every restart runs what the first start ran.
 */
#include "agent/program.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/spawn.h"

enum { PROGRAM_PROBE_MS = 10000 }; /* A driver that wakes up its devices takes seconds. */

int program_own(char path[LIMIT_PATH_BYTES_MAX])
{
    const ssize_t bytes = readlink("/proc/self/exe", path, LIMIT_PATH_BYTES_MAX - 1);
    if (bytes < 0) {
        return -errno;
    }
    path[bytes] = '\0';
    return bytes == LIMIT_PATH_BYTES_MAX - 1 ? -ENAMETOOLONG : 0;
}

/* The executable of that name in a folder given relative to own's. */
static bool program_find(const char *own, const char *folder, const char *name,
                         char path[LIMIT_PATH_BYTES_MAX])
{
    const char *slash = strrchr(own, '/');
    must(slash);
    const int bytes =
        snprintf(path, LIMIT_PATH_BYTES_MAX, "%.*s/%s%s", (int)(slash - own), own, folder, name);
    return bytes > 0 && bytes < LIMIT_PATH_BYTES_MAX && access(path, X_OK) == 0;
}

static bool program_find_any(const char *own, const char *name, char path[LIMIT_PATH_BYTES_MAX])
{
    return program_find(own, "", name, path) || program_find(own, "../libexec/sluice/", name, path);
}

int program_worker(const struct config *config, const char *own, char path[LIMIT_PATH_BYTES_MAX])
{
    if (config->workers.device == CONFIG_DEVICE_CUDA) {
        return program_find_any(own, "sluice-worker-cuda", path) ? 0 : -ENOENT;
    }
    if (config->workers.device == CONFIG_DEVICE_AUTO &&
        program_find_any(own, "sluice-worker-cuda", path)) {
        const struct spawn probe = {
            .path = path, .argument = "--probe", .control = -1, .config = -1};
        const int status = spawn_and_wait(&probe, PROGRAM_PROBE_MS);
        if (status >= 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
            return 0;
        }
    }
    return program_find_any(own, "sluice-worker-cpu", path) ? 0 : -ENOENT;
}
