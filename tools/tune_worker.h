/*
 * tune_worker.h - a measuring mode of the worker's binary, run as a child: its progress as a bar,
 * its error on stderr, its answer to the caller.
 */
#ifndef TOOLS_TUNE_WORKER_H
#define TOOLS_TUNE_WORKER_H

#include <stdint.h>

#include "base/json.h"
#include "base/must.h"

struct tune_worker {
    const char *command;          /* "sluice-tune profile", before what is said. */
    const char *const *arguments; /* Behind the binary's name; ends with NULL. */
    uint32_t seconds;             /* That it means to take, beside loading the model. */
    int (*take)(void *context, const struct json *answer); /* Returns the exit status. */
    void *context;
};

/* The exit status. */
int tune_worker_run(const struct tune_worker *worker) MUST_CHECK;

#endif /* TOOLS_TUNE_WORKER_H */
