/*
 * axis.c - scales for plots. Called by plot.c; no state. Ticks are 1, 2 and 5 times powers of ten:
 * people read them without counting.
 */
#include "tools/axis.h"

#include <math.h>

enum { STEPS = 5, DECADES_LABELLED_IN_FULL = 2 };

static const double rounds[] = {1, 2, 5};

/* The smallest of 1, 2, 5 times a power of ten that is at least value, which is above 0. */
static double round_up(double value)
{
    const double power = pow(10, floor(log10(value)));

    for (size_t i = 0; i < sizeof rounds / sizeof rounds[0]; i++) {
        if (rounds[i] * power >= value * (1 - 1e-9)) {
            return rounds[i] * power;
        }
    }
    return 10 * power;
}

/* The largest that is at most value. */
static double round_down(double value)
{
    const double power = pow(10, floor(log10(value)));

    for (size_t i = sizeof rounds / sizeof rounds[0]; i-- > 0;) {
        if (rounds[i] * power <= value * (1 + 1e-9)) {
            return rounds[i] * power;
        }
    }
    return power;
}

struct axis axis_linear(double high, double from_px, double to_px)
{
    const double step = high > 0 ? round_up(high / STEPS) : 1.0 / STEPS;

    return (struct axis){0, step * fmax(1, ceil(high / step - 1e-9)), from_px, to_px, false};
}

struct axis axis_logarithmic(double low, double high, double from_px, double to_px)
{
    struct axis axis = {round_down(low), round_up(high), from_px, to_px, true};

    if (axis.high <= axis.low) {
        axis.high = 10 * axis.low;
    }
    return axis;
}

double axis_place(const struct axis *axis, double value)
{
    double share;

    if (value <= axis->low) {
        return axis->from_px;
    }
    if (value >= axis->high) {
        return axis->to_px;
    }
    share = axis->logarithmic ? log(value / axis->low) / log(axis->high / axis->low)
                              : (value - axis->low) / (axis->high - axis->low);
    return axis->from_px + share * (axis->to_px - axis->from_px);
}

static size_t linear_ticks(const struct axis *axis, struct axis_tick ticks[AXIS_TICKS_MAX])
{
    const double step = round_up(axis->high / STEPS);
    size_t count = 0;

    while (count < AXIS_TICKS_MAX && (double)count * step <= axis->high * (1 + 1e-9)) {
        ticks[count] = (struct axis_tick){(double)count * step, true};
        count++;
    }
    return count;
}

size_t axis_ticks(const struct axis *axis, struct axis_tick ticks[AXIS_TICKS_MAX])
{
    const bool all_labelled = axis->high / axis->low < pow(10, DECADES_LABELLED_IN_FULL) * 1.01;
    double power = pow(10, floor(log10(axis->low) + 1e-9));
    size_t count = 0;

    if (!axis->logarithmic) {
        return linear_ticks(axis, ticks);
    }
    while (power <= axis->high) {
        for (size_t i = 0; i < 3 && count < AXIS_TICKS_MAX; i++) {
            const double value = rounds[i] * power;
            if (value >= axis->low * (1 - 1e-9) && value <= axis->high * (1 + 1e-9)) {
                ticks[count++] = (struct axis_tick){value, all_labelled || i == 0};
            }
        }
        power *= 10;
    }
    return count;
}
