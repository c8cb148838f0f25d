/*
 * plot.h - a benchmark run as one picture: how latencies are distributed, and what went in and out
 * over time.
 */
#ifndef TOOLS_PLOT_H
#define TOOLS_PLOT_H

#include <stdio.h>

#include "base/must.h"
#include "tools/report.h"
#include "tools/timeline.h"

struct plot {
    const char *title;    /* What was measured. */
    const char *subtitle; /* Under which load. */
    struct report *report;
    const struct timeline *timeline;
};

/* Writes an SVG without references to anything outside. -errno of the stream. */
int plot_write(const struct plot *plot, FILE *out) MUST_CHECK;

#endif /* TOOLS_PLOT_H */
