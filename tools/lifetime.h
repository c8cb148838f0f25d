/*
 * lifetime.h - the lives of a run's requests as a Chrome trace: a row for each request under way at
 * one time, and on it waiting, prefill and decode, by the agent's clock.
 */
#ifndef TOOLS_LIFETIME_H
#define TOOLS_LIFETIME_H

#include <stdbool.h>
#include <stdint.h>

#include "tools/trace.h"
#include "wire/message.h"

struct lifetime {
    struct trace trace;
    bool *taken; /* [rows] */
    uint32_t rows;
};

/* rows: requests under way at one time, at most. file is borrowed. */
void lifetime_start(struct lifetime *lifetime, FILE *file, uint32_t rows);

/* The lowest free row; given back when the request has ended. */
uint32_t lifetime_take_row(struct lifetime *lifetime);
void lifetime_give_row(struct lifetime *lifetime, uint32_t row);

/* What DONE told of request `number`. */
void lifetime_add(struct lifetime *lifetime, uint32_t row, uint32_t number,
                  const struct wire_events *events);

/* 0, or -EIO when anything could not be written. */
int lifetime_end(struct lifetime *lifetime) MUST_CHECK;

#endif /* TOOLS_LIFETIME_H */
