/*
 * subprocess.h - a program of ours run as a child whose lines on stdout are read one by one: how
 * sluice-tune reaches the engine, which only the worker's binary has.
 */
#ifndef TOOLS_SUBPROCESS_H
#define TOOLS_SUBPROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/must.h"

enum { SUBPROCESS_LINE_BYTES_MAX = 4 << 20 };

struct subprocess {
    pid_t pid;
    int fd;
    char *bytes; /* What was read and not given out. */
    size_t count;
    size_t given; /* Of the last line, with its end. */
};

/* argv ends with NULL. 0 or -errno. */
int subprocess_start(struct subprocess *subprocess, const char *path,
                     const char *const argv[]) MUST_CHECK;

/* The next line, valid until the next call. NULL: none came by the deadline, the child closed its
 * end, or a line is too long. */
const char *subprocess_line(struct subprocess *subprocess, uint64_t deadline_us);

/* Ends it if it still runs. True: it had ended by itself with status 0. */
bool subprocess_stop(struct subprocess *subprocess, uint64_t deadline_us);

#endif /* TOOLS_SUBPROCESS_H */
