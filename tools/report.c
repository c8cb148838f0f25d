/*
 * report.c - sums up a benchmark run. Called by sluice-bench when all requests have ended; owns the
 * lists of values. Definitions of the intervals: report.h.
 */
#include "tools/report.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/must.h"

enum { WIDTH = 50, LABEL = 40 };

static const struct {
    const char *key; /* In JSON: mean_KEY_ms. */
    const char *name;
    const char *title;
} intervals[REPORT_INTERVALS] = {
    [REPORT_TTFT] = {"ttft", "TTFT", "Time to First Token"},
    [REPORT_TPOT] = {"tpot", "TPOT", "Time per Output Token (excl. 1st token)"},
    [REPORT_ITL] = {"itl", "ITL", "Inter-token Latency"},
    [REPORT_E2EL] = {"e2el", "E2EL", "End-to-end Latency"},
};

void report_add(struct report *report, enum report_interval interval, double value_ms)
{
    struct report_values *values = &report->values[interval];

    if (values->count == values->room) {
        values->room = values->room ? 2 * values->room : 1024;
        values->items = realloc(values->items, values->room * sizeof *values->items);
        must(values->items);
    }
    values->items[values->count++] = value_ms;
}

void report_request(struct report *report, const struct report_request *request)
{
    double tpot_ms = 0;

    report->completed++;
    report->input_tokens += request->input_tokens;
    report->cached_tokens += request->cached_tokens;
    report->output_tokens += request->output_tokens;
    report_add(report, REPORT_TTFT, request->ttft_ms);
    report_add(report, REPORT_E2EL, request->e2el_ms);
    if (request->output_tokens > 1) {
        tpot_ms = request->decode_ms / (request->output_tokens - 1);
        report_add(report, REPORT_TPOT, tpot_ms);
    }
    if (goodput_met(&report->goodput, request->ttft_ms, tpot_ms, request->e2el_ms)) {
        report->good++;
    }
}

static int compare(const void *a, const void *b)
{
    const double left = *(const double *)a, right = *(const double *)b;

    return (left > right) - (left < right);
}

double report_quantile(const struct report_values *values, double share)
{
    const double place = share * (double)(values->count - 1);
    const size_t below = (size_t)place;
    const size_t above = below + 1 < values->count ? below + 1 : below;

    return values->items[below] +
           (place - (double)below) * (values->items[above] - values->items[below]);
}

struct report_figures report_figures(struct report_values *values)
{
    struct report_figures figures = {0};
    const double count = (double)values->count;
    double sum = 0, squares = 0;

    if (values->count == 0) {
        return figures;
    }
    qsort(values->items, values->count, sizeof *values->items, compare);
    for (size_t i = 0; i < values->count; i++) {
        sum += values->items[i];
    }
    figures.mean = sum / count;
    for (size_t i = 0; i < values->count; i++) {
        squares += (values->items[i] - figures.mean) * (values->items[i] - figures.mean);
    }
    figures.std = sqrt(squares / count);
    figures.median = report_quantile(values, 0.5);
    figures.p99 = report_quantile(values, 0.99);
    return figures;
}

static double per_second(double amount, const struct report *report)
{
    return report->duration_s > 0 ? amount / report->duration_s : 0;
}

const char *report_name(enum report_interval interval)
{
    return intervals[interval].name;
}

const char *report_key(enum report_interval interval)
{
    return intervals[interval].key;
}

double report_goodput(const struct report *report)
{
    return per_second(report->good, report);
}

static void print_line(FILE *out, char fill, const char *title)
{
    const int around = WIDTH - (int)strlen(title);

    for (int i = 0; i < around / 2; i++) {
        (void)fputc(fill, out);
    }
    (void)fputs(title, out);
    for (int i = around / 2; i < around; i++) {
        (void)fputc(fill, out);
    }
    (void)fputc('\n', out);
}

static void print_count(FILE *out, const char *label, uint64_t value)
{
    (void)fprintf(out, "%-*s %-10" PRIu64 "\n", LABEL, label, value);
}

static void print_value(FILE *out, const char *label, double value)
{
    (void)fprintf(out, "%-*s %-10.2f\n", LABEL, label, value);
}

static void print_interval(FILE *out, const char *kind, const char *name, double value)
{
    char label[LABEL];

    (void)snprintf(label, sizeof label, "%s %s (ms):", kind, name);
    print_value(out, label, value);
}

void report_print(struct report *report, FILE *out)
{
    const double output = (double)report->output_tokens;

    print_line(out, '=', " Serving Benchmark Result ");
    print_count(out, "Successful requests:", report->completed);
    print_count(out, "Failed requests:", report->failed);
    print_value(out, "Benchmark duration (s):", report->duration_s);
    print_count(out, "Total input tokens:", report->input_tokens);
    print_count(out, "Cached input tokens:", report->cached_tokens);
    print_count(out, "Total generated tokens:", report->output_tokens);
    print_value(out, "Request throughput (req/s):", per_second(report->completed, report));
    if (goodput_given(&report->goodput)) {
        print_value(out, "Request goodput (req/s):", report_goodput(report));
    }
    print_value(out, "Output token throughput (tok/s):", per_second(output, report));
    print_value(out, "Peak output token throughput (tok/s):", report->output_peak);
    print_count(out, "Peak concurrent requests:", report->live_max);
    print_value(out, "Total token throughput (tok/s):",
                per_second(output + (double)report->input_tokens, report));
    for (size_t i = 0; i < REPORT_INTERVALS; i++) {
        const struct report_figures figures = report_figures(&report->values[i]);
        print_line(out, '-', intervals[i].title);
        print_interval(out, "Mean", intervals[i].name, figures.mean);
        print_interval(out, "Median", intervals[i].name, figures.median);
        print_interval(out, "P99", intervals[i].name, figures.p99);
    }
    print_line(out, '=', "");
}

static void add_interval(struct json *object, const char *kind, const char *key, double value)
{
    char name[32];

    (void)snprintf(name, sizeof name, "%s_%s_ms", kind, key);
    json_add(object, name, json_new_f64(value));
}

void report_json(struct report *report, struct json *object)
{
    const double output = (double)report->output_tokens;

    json_add(object, "duration", json_new_f64(report->duration_s));
    json_add(object, "completed", json_new_u64(report->completed));
    json_add(object, "failed", json_new_u64(report->failed));
    if (report->unfinished > 0) {
        json_add(object, "unfinished", json_new_u64(report->unfinished));
    }
    json_add(object, "total_input_tokens", json_new_u64(report->input_tokens));
    json_add(object, "total_cached_tokens", json_new_u64(report->cached_tokens));
    json_add(object, "total_output_tokens", json_new_u64(report->output_tokens));
    json_add(object, "request_throughput", json_new_f64(per_second(report->completed, report)));
    if (goodput_given(&report->goodput)) {
        json_add(object, "request_goodput", json_new_f64(report_goodput(report)));
    }
    json_add(object, "output_throughput", json_new_f64(per_second(output, report)));
    json_add(object, "total_token_throughput",
             json_new_f64(per_second(output + (double)report->input_tokens, report)));
    json_add(object, "max_output_tokens_per_s", json_new_f64(report->output_peak));
    json_add(object, "max_concurrent_requests", json_new_u64(report->live_max));
    for (size_t i = 0; i < REPORT_INTERVALS; i++) {
        const struct report_figures figures = report_figures(&report->values[i]);
        add_interval(object, "mean", intervals[i].key, figures.mean);
        add_interval(object, "median", intervals[i].key, figures.median);
        add_interval(object, "std", intervals[i].key, figures.std);
        add_interval(object, "p99", intervals[i].key, figures.p99);
    }
}

void report_free(struct report *report)
{
    for (size_t i = 0; i < REPORT_INTERVALS; i++) {
        free(report->values[i].items);
    }
    *report = (struct report){0};
}
