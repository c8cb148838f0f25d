/*
 * lifetime.c - see lifetime.h. Called by sluice-bench's load generator and by its main, on one
 * thread; owns the list of rows. Invariant: a row belongs to one request at a time.
 */
#include "tools/lifetime.h"

#include <stdlib.h>

void lifetime_start(struct lifetime *lifetime, FILE *file, uint32_t rows)
{
    *lifetime = (struct lifetime){.rows = rows};
    lifetime->taken = calloc(rows, sizeof *lifetime->taken);
    must(lifetime->taken);
    trace_start(&lifetime->trace, file);
}

uint32_t lifetime_take_row(struct lifetime *lifetime)
{
    uint32_t row = 0;

    while (lifetime->taken[row]) {
        row++;
        must(row < lifetime->rows);
    }
    lifetime->taken[row] = true;
    return row;
}

void lifetime_give_row(struct lifetime *lifetime, uint32_t row)
{
    lifetime->taken[row] = false;
}

/* A span from one moment to the next; none when either did not happen. */
static void add_span(struct lifetime *lifetime, struct trace_span span, uint64_t from_us,
                     uint64_t to_us)
{
    if (from_us > 0 && to_us >= from_us) {
        span.start_us = (double)from_us;
        span.duration_us = (double)(to_us - from_us);
        trace_add(&lifetime->trace, &span);
    }
}

void lifetime_add(struct lifetime *lifetime, uint32_t row, uint32_t number,
                  const struct wire_events *events)
{
    struct trace_span span = {.kind = "request", .row = row, .fact = {{"number", number}}};

    span.name = "wait";
    add_span(lifetime, span, events->queued_us, events->scheduled_us);
    span.name = "prefill";
    add_span(lifetime, span, events->scheduled_us, events->first_token_us);
    span.name = "decode";
    add_span(lifetime, span, events->first_token_us, events->finished_us);
    span.name = "preempted";
    span.duration_us = -1;
    for (uint32_t i = 0; i < events->preempted_count && i < LIMIT_PREEMPTIONS_TOLD_MAX; i++) {
        span.start_us = (double)events->preempted_us[i];
        trace_add(&lifetime->trace, &span);
    }
}

int lifetime_end(struct lifetime *lifetime)
{
    free(lifetime->taken);
    lifetime->taken = NULL;
    return trace_end(&lifetime->trace);
}
