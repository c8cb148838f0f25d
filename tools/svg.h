/*
 * svg.h - writes a picture as SVG: boxes, lines, curves and texts, with a style that suits light
 * and dark pages. Colours and sizes are classes of that style.
 */
#ifndef TOOLS_SVG_H
#define TOOLS_SVG_H

#include <stddef.h>
#include <stdio.h>

struct svg_point {
    double x;
    double y;
};

enum svg_anchor { SVG_LEFT, SVG_MIDDLE, SVG_RIGHT };

/* Classes: texts are title, label, small, strong; lines are grid, axis, limit; series s0 to s3 are
 * for lines (with line), areas (with area) and boxes (with box, and pale); texts upon them are
 * inside. */
void svg_begin(FILE *out, double width, double height, const char *title);
void svg_end(FILE *out);

void svg_group_begin(FILE *out, const char *id);
void svg_group_end(FILE *out);

void svg_box(FILE *out, struct svg_point corner, struct svg_point size, const char *classes);
void svg_line(FILE *out, struct svg_point from, struct svg_point to, const char *classes);
void svg_curve(FILE *out, const struct svg_point *points, size_t count, const char *classes);

/* What does not belong into XML is replaced. */
void svg_text(FILE *out, struct svg_point at, enum svg_anchor anchor, const char *classes,
              const char *text);

/* Turned to be read from below, around its middle. */
void svg_text_upright(FILE *out, struct svg_point at, const char *classes, const char *text);

#endif /* TOOLS_SVG_H */
