/*
 * trace.h - writes a Chrome trace: spans and moments on numbered rows, which chrome://tracing and
 * Perfetto draw. The format is the JSON of Google's "Trace Event Format"; written as it comes.
 */
#ifndef TOOLS_TRACE_H
#define TOOLS_TRACE_H

#include <stdint.h>
#include <stdio.h>

#include "base/must.h"

struct trace {
    FILE *file; /* Borrowed. */
    uint64_t count;
};

enum { TRACE_FACTS_MAX = 3 };

struct trace_fact {
    const char *name; /* NULL: none. */
    int64_t value;
};

struct trace_span {
    const char *name; /* As kind, printable and without quotes or backslashes. */
    const char *kind; /* Spans of one kind have one colour. */
    uint32_t row;
    double start_us;
    double duration_us;                      /* Below 0: a moment. */
    struct trace_fact fact[TRACE_FACTS_MAX]; /* Shown when clicked, up to the first without name. */
};

void trace_start(struct trace *trace, FILE *file);
void trace_name_row(struct trace *trace, uint32_t row, const char *name);
void trace_add(struct trace *trace, const struct trace_span *span);

/* Ends the file's text and flushes it. 0, or -EIO when anything could not be written. */
int trace_end(struct trace *trace) MUST_CHECK;

#endif /* TOOLS_TRACE_H */
