/*
 * lanes.c - see lanes.h. Called by sluice-tune once for each file; owns nothing. From top to
 * bottom: title and summary with what the colours mean, one row for each lane, the axis. The layer
 * that the picture follows is in full colour, its neighbours are pale.
 */
#include "tools/lanes.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tools/axis.h"
#include "tools/svg.h"
#include "tools/trace.h"

enum {
    WIDTH = 1180,
    LEFT = 128,
    RIGHT = 1150,
    TOP = 128,
    ROW = 46,
    ROW_STEP = 60,
    BELOW = 76, /* Axis and its title. */
    NAME_PX = 9,
    SMALL_PX = 7, /* Of one letter, at most. */
    TEXT_BYTES = 64,
};

static const char *const class_names[] = {"compute", "memory", "network"};

static struct svg_point at(double x, double y)
{
    return (struct svg_point){x, y};
}

static double row_top(uint32_t lane)
{
    return TOP + (double)ROW_STEP * lane;
}

/* The names that have room: the operation's, and below it its tokens. */
static void draw_names(FILE *out, const struct lanes_box *box, double left, double right)
{
    const bool own = box->layer == 0;
    const double middle = (left + right) / 2, room = right - left - 4, top = row_top(box->lane);
    const double letters = (double)strlen(box->name);
    char range[TEXT_BYTES];
    const int range_bytes = snprintf(range, sizeof range, "%u-%u", box->first, box->end);
    const bool ranged = range_bytes * (double)SMALL_PX < room;
    if (letters * NAME_PX < room) {
        svg_text(out, at(middle, top + (ranged ? 20 : 28)), SVG_MIDDLE,
                 own ? "strong inside" : "label", box->name);
    } else if (letters * SMALL_PX < room) {
        svg_text(out, at(middle, top + (ranged ? 20 : 28)), SVG_MIDDLE,
                 own ? "small inside" : "small", box->name);
    }
    if (ranged) {
        svg_text(out, at(middle, top + 36), SVG_MIDDLE, own ? "small inside" : "small", range);
    }
}

static void draw_box(FILE *out, const struct lanes *lanes, const struct axis *axis,
                     const struct lanes_box *box)
{
    if (box->end_us <= lanes->from_us || box->start_us >= lanes->to_us) {
        return;
    }
    const double left = axis_place(axis, box->start_us - lanes->from_us);
    const double right = axis_place(axis, fmin(box->end_us, lanes->to_us) - lanes->from_us);
    char classes[TEXT_BYTES];
    (void)snprintf(classes, sizeof classes, "box s%u%s", box->series,
                   box->layer == 0 ? "" : " pale");
    svg_box(out, at(left, row_top(box->lane)), at(fmax(right - left - 1, 1), ROW), classes);
    draw_names(out, box, left, right);
}

static void draw_axis(FILE *out, const struct lanes *lanes, const struct axis *axis)
{
    struct axis_tick ticks[AXIS_TICKS_MAX];
    const size_t count = axis_ticks(axis, ticks);
    const double bottom = row_top(lanes->lane_count) + 4;
    char text[TEXT_BYTES];
    for (size_t i = 0; i < count; i++) {
        const double x = axis_place(axis, ticks[i].value);
        svg_line(out, at(x, TOP - 8), at(x, bottom), "grid");
        (void)snprintf(text, sizeof text, "%.10g", ticks[i].value);
        svg_text(out, at(x, bottom + 18), SVG_MIDDLE, "label", text);
    }
    svg_line(out, at(axis->from_px, bottom), at(axis->to_px, bottom), "axis");
    svg_text(out, at((axis->from_px + axis->to_px) / 2, bottom + 42), SVG_MIDDLE, "label",
             "microseconds");
}

/* A bracket above the rows: from a layer's start to the next one's. */
static void draw_interval(FILE *out, const struct lanes *lanes, const struct axis *axis)
{
    const double left = axis_place(axis, 0), right = axis_place(axis, lanes->interval_us);
    const double bottom = row_top(lanes->lane_count) + 4, y = TOP - 14;
    char text[TEXT_BYTES];
    svg_line(out, at(left, y), at(right, y), "axis");
    svg_line(out, at(left, y - 5), at(left, bottom), "axis");
    svg_line(out, at(right, y - 5), at(right, bottom), "axis");
    (void)snprintf(text, sizeof text, "the next layer starts after %.0f us", lanes->interval_us);
    svg_text(out, at((left + right) / 2, y - 8), SVG_MIDDLE, "strong", text);
}

static void draw_legend(FILE *out)
{
    double x = RIGHT - 400;
    for (uint32_t i = 0; i < sizeof class_names / sizeof class_names[0]; i++) {
        char classes[TEXT_BYTES];
        (void)snprintf(classes, sizeof classes, "box s%u", i);
        svg_box(out, at(x, 26), at(12, 12), classes);
        svg_text(out, at(x + 18, 36), SVG_LEFT, "label", class_names[i]);
        x += 90;
    }
    svg_box(out, at(x, 26), at(12, 12), "box s0 pale");
    svg_text(out, at(x + 18, 36), SVG_LEFT, "label", "another layer");
}

int lanes_draw(const struct lanes *lanes, const char *path)
{
    FILE *out = fopen(path, "wb");
    if (!out) {
        return -errno;
    }
    struct axis axis = {0, lanes->to_us - lanes->from_us, LEFT, RIGHT, false};
    svg_begin(out, WIDTH, row_top(lanes->lane_count) + BELOW, lanes->title);
    svg_text(out, at(24, 40), SVG_LEFT, "title", lanes->title);
    svg_text(out, at(24, 64), SVG_LEFT, "label", lanes->summary);
    draw_legend(out);
    draw_axis(out, lanes, &axis);
    for (uint32_t i = 0; i < lanes->lane_count; i++) {
        svg_text(out, at(LEFT - 12, row_top(i) + 28), SVG_RIGHT, "strong", lanes->lane[i]);
    }
    svg_group_begin(out, "boxes");
    for (uint32_t i = 0; i < lanes->box_count; i++) {
        draw_box(out, lanes, &axis, &lanes->box[i]);
    }
    svg_group_end(out);
    draw_interval(out, lanes, &axis);
    svg_end(out);
    const bool good = !ferror(out);
    return fclose(out) == 0 && good ? 0 : -EIO;
}

int lanes_trace(const struct lanes *lanes, const char *path)
{
    struct trace trace;
    FILE *out = fopen(path, "wb");
    if (!out) {
        return -errno;
    }
    trace_start(&trace, out);
    for (uint32_t i = 0; i < lanes->lane_count; i++) {
        trace_name_row(&trace, i + 1, lanes->lane[i]);
    }
    for (uint32_t i = 0; i < lanes->box_count; i++) {
        const struct lanes_box *box = &lanes->box[i];
        const struct trace_span span = {
            .name = box->name,
            .kind = class_names[box->series],
            .row = box->lane + 1,
            .start_us = box->start_us - lanes->from_us,
            .duration_us = box->end_us - box->start_us,
            .fact = {{"layer", box->layer}, {"first", box->first}, {"end", box->end}}};
        trace_add(&trace, &span);
    }
    const int code = trace_end(&trace);
    return fclose(out) == 0 ? code : -EIO;
}
