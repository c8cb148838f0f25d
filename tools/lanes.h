/*
 * lanes.h - what ran when on which lane: the boxes of a pipeline, drawn as a picture and written as
 * a trace for the viewers of Chrome's format. The same for predicted and measured times.
 */
#ifndef TOOLS_LANES_H
#define TOOLS_LANES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/must.h"

enum { LANES_MAX = 5 };

struct lanes_box {
    const char *name;
    uint32_t lane;
    uint32_t series; /* Colour: 0 compute, 1 memory, 2 network. */
    int32_t layer;   /* 0 is the one that the picture follows. */
    uint32_t first;  /* Tokens: [first, end). */
    uint32_t end;
    double start_us;
    double end_us;
};

struct lanes {
    const char *title;
    const char *summary; /* One line below it. */
    const char *lane[LANES_MAX];
    uint32_t lane_count;
    const struct lanes_box *box;
    uint32_t box_count;
    double from_us; /* What is shown. */
    double to_us;
    double interval_us; /* Between layers; marked from from_us. */
};

/* An SVG. 0, or -errno of the file. */
int lanes_draw(const struct lanes *lanes, const char *path) MUST_CHECK;

/* Complete events ("ph": "X") in microseconds, a thread for each lane. 0, or -errno of the file. */
int lanes_trace(const struct lanes *lanes, const char *path) MUST_CHECK;

#endif /* TOOLS_LANES_H */
