/*
 * axis.h - maps values to a line of a picture, linearly or by logarithm, and chooses its ticks.
 */
#ifndef TOOLS_AXIS_H
#define TOOLS_AXIS_H

#include <stdbool.h>
#include <stddef.h>

enum { AXIS_TICKS_MAX = 64 };

struct axis {
    double low; /* Values at the two ends. */
    double high;
    double from_px; /* Places of the two ends. */
    double to_px;
    bool logarithmic;
};

struct axis_tick {
    double value;
    bool labelled;
};

/* From 0 to a round number of at least high. */
struct axis axis_linear(double high, double from_px, double to_px);

/* From a round number of at most low to one of at least high; low above 0. */
struct axis axis_logarithmic(double low, double high, double from_px, double to_px);

/* Where a value stands; values beyond an end stand at the end. */
double axis_place(const struct axis *axis, double value);

/* Fills ticks; how many. */
size_t axis_ticks(const struct axis *axis, struct axis_tick ticks[AXIS_TICKS_MAX]);

#endif /* TOOLS_AXIS_H */
