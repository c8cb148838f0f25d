/*
 * report.h - the figures of a benchmark run, as text and as JSON with the keys of `vllm bench
 * serve`, so that what reads those reads these.
 */
#ifndef TOOLS_REPORT_H
#define TOOLS_REPORT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/json.h"

/* A growing list of milliseconds. */
struct report_values {
    double *items;
    size_t count;
    size_t room;
};

struct report_figures {
    double mean;
    double median;
    double std; /* Of the population. */
    double p99;
};

/* The intervals of a run: time to first token; time per output token after it, of requests with
 * more than one; every gap between two messages with tokens, of all requests; send to DONE. */
enum report_interval { REPORT_TTFT, REPORT_TPOT, REPORT_ITL, REPORT_E2EL, REPORT_INTERVALS };

struct report {
    uint32_t completed;
    uint32_t failed;
    uint64_t input_tokens;  /* Of usage. */
    uint64_t output_tokens; /* Of usage, and received. */
    double duration_s;      /* First send to last DONE. */
    struct report_values values[REPORT_INTERVALS];
};

void report_add(struct report *report, enum report_interval interval, double value_ms);

/* All 0 without a value. Percentiles are linear between neighbours. Sorts the values. */
struct report_figures report_figures(struct report_values *values);

void report_print(struct report *report, FILE *out);

/* Adds the figures to an object. */
void report_json(struct report *report, struct json *object);

void report_free(struct report *report);

#endif /* TOOLS_REPORT_H */
