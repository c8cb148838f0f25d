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
#include "tools/goodput.h"

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
    uint32_t unfinished;    /* Of a run that was ended early. */
    struct goodput goodput; /* Set by the caller; without limits there is no figure of it. */
    uint32_t good;          /* Completed within them. */
    uint32_t live_max;      /* Requests under way at one time. */
    double output_peak;     /* Tokens in the best second. */
    uint64_t input_tokens;  /* Of usage. */
    uint64_t cached_tokens; /* Of them, those that the agent had computed already. */
    uint64_t output_tokens; /* Of usage, and received. */
    double duration_s;      /* First send to last DONE. */
    struct report_values values[REPORT_INTERVALS];
};

/* What one completed request took. */
struct report_request {
    uint32_t input_tokens;
    uint32_t cached_tokens;
    uint32_t output_tokens;
    double ttft_ms;
    double decode_ms; /* First token to the end. */
    double e2el_ms;
};

void report_request(struct report *report, const struct report_request *request);
void report_add(struct report *report, enum report_interval interval, double value_ms);

/* All 0 without a value. Percentiles are linear between neighbours. Sorts the values. */
struct report_figures report_figures(struct report_values *values);

void report_print(struct report *report, FILE *out);

/* The name of an interval for people, "TTFT", and in keys, "ttft". */
const char *report_name(enum report_interval interval);
const char *report_key(enum report_interval interval);

/* Of values that report_figures() has sorted, and that are not none: where share of them, 0 to 1,
 * are at most so large. */
double report_quantile(const struct report_values *values, double share);

/* Requests a second that were good. */
double report_goodput(const struct report *report);

/* Adds the figures to an object. */
void report_json(struct report *report, struct json *object);

void report_free(struct report *report);

#endif /* TOOLS_REPORT_H */
