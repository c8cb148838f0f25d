/* stub.c - see stub.h. Linked into both stand-ins; owns nothing. */
#include "tests/fault/stub.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/must.h"

static int stub_open(const char *name, const char *suffix, int flags)
{
    char path[512];
    const char *folder = getenv("SLUICE_STUB");
    must(folder);
    (void)snprintf(path, sizeof path, "%s/%s%s", folder, name, suffix);
    return open(path, flags | O_CLOEXEC, 0600);
}

void stub_log(const char *format, ...)
{
    char line[256];
    va_list args;
    va_start(args, format);
    int bytes = snprintf(line, sizeof line, "%d ", (int)getpid());
    bytes += vsnprintf(line + bytes, sizeof line - (size_t)bytes - 1, format, args);
    va_end(args);
    line[bytes++] = '\n';
    const int fd = stub_open("log", "", O_WRONLY | O_APPEND | O_CREAT);
    must(fd >= 0 && write(fd, line, (size_t)bytes) == bytes && close(fd) == 0);
}

bool stub_mode(const char *name, const char *word)
{
    char text[32] = "";
    const int fd = stub_open(name, ".mode", O_RDONLY);
    if (fd < 0) {
        return false;
    }
    must(read(fd, text, sizeof text - 1) >= 0 && close(fd) == 0);
    return strcmp(text, word) == 0;
}

int stub_extra_fds(void)
{
    int extra = 0;
    DIR *dir = opendir("/proc/self/fd");
    must(dir);
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        const long fd = strtol(entry->d_name, NULL, 10); /* 0 for the folders. */
        extra += fd > 4 && fd != dirfd(dir);
    }
    must(closedir(dir) == 0);
    return extra;
}
