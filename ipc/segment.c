/*
 * segment.c - see segment.h. Called by link.c in core and workers and by a worker's collectives, on
 * main threads; owns nothing. Invariant: an access to a mapped segment cannot fault, since its size
 * is sealed.
 */
#include "ipc/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SEGMENT_SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL };

int segment_create(const char *name, size_t bytes, void **out)
{
    const int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        return -errno;
    }
    void *segment = MAP_FAILED;
    if (ftruncate(fd, (off_t)bytes) == 0) {
        segment = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    if (segment == MAP_FAILED || fcntl(fd, F_ADD_SEALS, SEGMENT_SEALS) != 0) {
        const int error = -errno;
        if (segment != MAP_FAILED) {
            must(munmap(segment, bytes) == 0);
        }
        (void)close(fd);
        return error;
    }
    *out = segment;
    return fd;
}

int segment_map(int fd, size_t bytes, const void **out)
{
    struct stat status;
    const int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || fstat(fd, &status) != 0) {
        return -errno;
    }
    if ((seals & SEGMENT_SEALS) != SEGMENT_SEALS || status.st_size != (off_t)bytes) {
        return -EBADMSG;
    }
    const void *segment = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (segment == MAP_FAILED) {
        return -errno;
    }
    *out = segment;
    return 0;
}

void segment_unmap(const void *segment, size_t bytes)
{
    if (segment) {
        must(munmap((void *)(uintptr_t)segment, bytes) == 0);
    }
}
