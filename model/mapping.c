/*
 * mapping.c - see mapping.h. Called by the file readers when a process starts; the reader owns the
 * mapping. Invariant: count is the size that fstat gave before anything was mapped.
 */
#include "model/mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int map_fd(int fd, struct mapping *mapping)
{
    struct stat info;
    if (fstat(fd, &info)) {
        return -errno;
    }
    if (!S_ISREG(info.st_mode)) {
        return -EINVAL;
    }
    if (info.st_size == 0) {
        *mapping = (struct mapping){.bytes = NULL};
        return 0;
    }
    void *bytes = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED) {
        return -errno;
    }
    *mapping = (struct mapping){.bytes = bytes, .count = (size_t)info.st_size};
    return 0;
}

int mapping_open(struct mapping *mapping, const char *path)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* A FIFO: do not wait. */
    if (fd < 0) {
        return -errno;
    }
    const int code = map_fd(fd, mapping);
    (void)close(fd);
    return code;
}

void mapping_close(struct mapping *mapping)
{
    if (mapping->bytes && !mapping->borrowed) {
        must(munmap((void *)(uintptr_t)mapping->bytes, mapping->count) == 0);
    }
    *mapping = (struct mapping){.bytes = NULL};
}
