/*
 * binary.c - see binary.h. Called at start by the supervisor and by tools that run a worker; owns
 * nothing. Both look in the same two places, so a tool measures the worker that an agent beside it
 * would run.
 */
#include "base/binary.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int binary_own(char path[LIMIT_PATH_BYTES_MAX])
{
    const ssize_t bytes = readlink("/proc/self/exe", path, LIMIT_PATH_BYTES_MAX - 1);
    if (bytes < 0) {
        return -errno;
    }
    path[bytes] = '\0';
    return bytes == LIMIT_PATH_BYTES_MAX - 1 ? -ENAMETOOLONG : 0;
}

int binary_find(const char *own, const char *name, char path[LIMIT_PATH_BYTES_MAX])
{
    static const char *const folders[] = {"", "../libexec/sluice/"};
    const char *slash = strrchr(own, '/');
    must(slash);
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        const int bytes = snprintf(path, LIMIT_PATH_BYTES_MAX, "%.*s/%s%s", (int)(slash - own), own,
                                   folders[i], name);
        if (bytes > 0 && bytes < LIMIT_PATH_BYTES_MAX && access(path, X_OK) == 0) {
            return 0;
        }
    }
    return -ENOENT;
}
