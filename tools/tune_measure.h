/* tune_measure.h - lets the worker's binary run plan files for real. */
#ifndef TOOLS_TUNE_MEASURE_H
#define TOOLS_TUNE_MEASURE_H

#include <stdint.h>

#include "base/must.h"

enum { TUNE_MEASURE_PLANS_MAX = 9 };

struct tune_measure {
    const char *model;
    const char *device; /* As in workers.device. */
    uint32_t seed;      /* As in model.random_weights. */
    uint32_t threads;   /* Of a CPU its units. Beside a GPU they only load the weights. */
    uint32_t count;
    const char *path[TUNE_MEASURE_PLANS_MAX]; /* Plan files of one regime. */
    double step_us[TUNE_MEASURE_PLANS_MAX];   /* All layers, measured. */
};

/* Says on stderr what went wrong; the exit status. */
int tune_measure_plans(struct tune_measure *measure) MUST_CHECK;

#endif /* TOOLS_TUNE_MEASURE_H */
