/*
 * tune_worker.h - a measuring mode of the worker's binary, run as a child: its progress as a bar,
 * its error on stderr, its answer to the caller.
 */
#ifndef TOOLS_TUNE_WORKER_H
#define TOOLS_TUNE_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"
#include "base/must.h"

#define TUNE_WORKER_DEVICE_HELP "auto, cpu or cuda, as in workers.device; default auto"

#define TUNE_WORKER_SEED_HELP "as in model.random_weights: PATH needs config.json alone"

struct tune_worker {
    const char *command;          /* "sluice-tune profile", before what is said. */
    const char *device;           /* As in workers.device. */
    const char *const *arguments; /* Behind the binary's name; ends with NULL. */
    uint32_t seconds;             /* That it means to take, beside loading the model. */
    int (*take)(void *context, const struct json *answer); /* Returns the exit status. */
    void *context;
};

/* Whether --device has one of the words of workers.device. */
bool tune_worker_device(const char *word) MUST_CHECK;

/* The exit status. */
int tune_worker_run(const struct tune_worker *worker) MUST_CHECK;

#endif /* TOOLS_TUNE_WORKER_H */
