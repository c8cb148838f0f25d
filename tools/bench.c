/*
 * bench.c - sluice-bench: sends many requests to an agent and measures what comes back, or compares
 * two results. A process of its own with one thread. order.c reads the command line, this file
 * opens what the run needs and writes what it gave, load.c runs it.
 *
 * Everything that can fail for a bad file, path or option fails before the first request is sent.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/json.h"
#include "tools/arrivals.h"
#include "tools/compare.h"
#include "tools/dataset.h"
#include "tools/load.h"
#include "tools/options.h"
#include "tools/order.h"
#include "tools/plot.h"
#include "tools/talk.h"

enum {
    CONNECT_MS = 5000,
    PROBE_TOKENS_MAX = 8,             /* Of the request that is sent before everything else. */
    ARRIVAL_S_MAX = 10 * 366 * 86400, /* Later ones are as good as never. */
    PLOT_TEXT_BYTES = 256,
};

struct bench {
    struct order order;
    FILE *json; /* Opened before the run: a path that cannot be written costs no run. */
    FILE *plot;
    FILE *trace;
    struct lifetime lifetime; /* Where there is a trace. */
    struct client *client;
    struct dataset dataset;
    uint64_t *arrivals_us; /* [requests] */
    struct report report;
    struct timeline timeline;
    char error[TALK_ERROR_BYTES_MAX]; /* The first failure. */
};

/* False after one line on stderr. */
static bool open_output(const char *path, FILE **out)
{
    *out = path ? fopen(path, "we") : NULL;
    if (path && !*out) {
        (void)fprintf(stderr, "%s: %s: %s\n", ORDER_COMMAND, path, strerror(errno));
    }
    return !path || *out;
}

/* Connects and reads the dataset; an exit status. */
static int open_inputs(struct bench *bench)
{
    struct dataset_source source = {.spec = bench->order.dataset_spec,
                                    .requests = bench->order.requests,
                                    .seed = bench->order.seed};
    int status = client_open(&bench->client, bench->order.endpoint, CONNECT_MS, bench->error);

    if (status == 0) {
        must(getrandom(&source.nonce, sizeof source.nonce, 0) == (ssize_t)sizeof source.nonce);
        source.welcome = client_welcome(bench->client);
        status = dataset_open(&bench->dataset, &source, bench->error);
    }
    if (status == -EINVAL) {
        return options_wrong(ORDER_COMMAND, bench->error);
    }
    if (status != 0) {
        (void)fprintf(stderr, "%s: %s\n", ORDER_COMMAND, bench->error);
    }
    return status ? EXIT_STATUS_FAILED : EXIT_STATUS_DONE;
}

/* Says what of a file is sent. */
static void tell_dataset(struct bench *bench)
{
    const struct workload *workload = &bench->dataset.workload;
    const uint32_t asked = bench->order.requests;

    if (workload->count == 0) {
        return;
    }
    bench->order.requests = dataset_requests(&bench->dataset);
    (void)fprintf(stderr,
                  "%s: %s: %u requests%s, %zu clipped to the context of %u tokens, %zu unusable "
                  "and skipped\n",
                  ORDER_COMMAND, bench->order.dataset_spec, bench->order.requests,
                  bench->order.requests < asked ? " (it has no more)" : "", workload->clipped,
                  client_welcome(bench->client)->context_tokens_max, workload->skipped);
}

static void plan_arrivals(struct bench *bench)
{
    const struct arrivals arrivals = {bench->order.rate, bench->order.burstiness,
                                      bench->order.seed};
    double at_s = 0;

    bench->arrivals_us = calloc(bench->order.requests, sizeof *bench->arrivals_us);
    must(bench->arrivals_us);
    for (uint32_t i = 0; i < bench->order.requests; i++) {
        if (bench->order.kind == DATASET_TRACE) {
            at_s = (double)bench->dataset.workload.items[i].arrival_us / 1e6 / bench->order.speed;
        }
        bench->arrivals_us[i] = (uint64_t)(fmin(at_s, ARRIVAL_S_MAX) * 1e6);
        if (bench->order.kind != DATASET_TRACE) {
            at_s += arrivals_gap_s(&arrivals, i);
        }
    }
}

/* One short answer first, past all others: what is slow only once is not measured. */
static int probe(struct bench *bench, const struct load_plan *plan)
{
    const struct wire_id id = client_next_id(bench->client);
    struct wire_generate *request = calloc(1, sizeof *request);
    struct talk talk = {0};
    int status;

    must(request);
    load_fill(plan, bench->order.requests + bench->order.warmup, request);
    if (!(request->given & WIRE_GIVEN_MAX_TOKENS) || request->max_tokens > PROBE_TOKENS_MAX) {
        request->max_tokens = PROBE_TOKENS_MAX;
        request->given |= WIRE_GIVEN_MAX_TOKENS;
    }
    status = talk_run(&talk, bench->client, request, &id, bench->error);
    talk_free(&talk);
    free(request);
    return status;
}

/* The requests behind those that count; their failures are told as failures. */
static int warm_up(struct bench *bench, const struct load_plan *plan)
{
    struct load_plan warm = *plan;
    struct report report = {0};
    struct timeline timeline = {0};
    int status;

    if (bench->order.warmup == 0) {
        return 0;
    }
    warm.what = "warm-up: ";
    warm.first = bench->order.requests;
    warm.requests = bench->order.warmup;
    warm.arrivals_us = NULL;
    warm.lifetime = NULL;
    status = load_run(&warm, &report, &timeline, bench->error);
    if (status == 0 && report.failed > 0) {
        status = -EREMOTEIO; /* The error says what the first one met. */
    } else if (status == 0 && report.unfinished > 0) {
        (void)snprintf(bench->error, sizeof bench->error, "ended while warming up");
        status = -EINTR;
    }
    report_free(&report);
    timeline_free(&timeline);
    return status;
}

/* 0, or -E... with the error set. Requests that fail alone are counted in the report. */
static int run(struct bench *bench)
{
    const struct load_plan plan = {
        .client = bench->client,
        .dataset = &bench->dataset,
        .command = ORDER_COMMAND,
        .what = "",
        .requests = bench->order.requests,
        .concurrency = bench->order.concurrency,
        .max_tokens = bench->order.max_tokens,
        .ignore_eos = bench->order.ignore_eos,
        .tenant = bench->order.tenant,
        .priority = bench->order.priority,
        .seed = bench->order.seed,
        .arrivals_us = bench->arrivals_us,
        .lifetime = bench->trace ? &bench->lifetime : NULL,
    };
    int status = probe(bench, &plan);

    status = status ? status : warm_up(bench, &plan);
    return status ? status : load_run(&plan, &bench->report, &bench->timeline, bench->error);
}

static void add_text(struct json *object, const char *key, const char *text)
{
    json_add(object, key, json_new_string(text, strlen(text)));
}

/* The names are those of `vllm bench serve`, but for dataset, speed, clipped and skipped. */
static bool write_json(struct bench *bench)
{
    const struct wire_welcome *welcome = client_welcome(bench->client);
    struct json *root = json_new_object();
    char *line;
    bool good;

    add_text(root, "backend", "sluice");
    json_add(root, "model_id", json_new_string(welcome->model.bytes, welcome->model.count));
    add_text(root, "dataset", bench->order.dataset_spec);
    json_add(root, "num_prompts", json_new_u64(bench->order.requests));
    json_add(root, "max_concurrency", json_new_u64(bench->order.concurrency));
    if (bench->order.kind == DATASET_TRACE) {
        json_add(root, "speed", json_new_f64(bench->order.speed));
    } else {
        json_add(root, "request_rate",
                 isfinite(bench->order.rate) ? json_new_f64(bench->order.rate)
                                             : json_new_string("inf", 3));
        json_add(root, "burstiness", json_new_f64(bench->order.burstiness));
    }
    json_add(root, "warmup", json_new_u64(bench->order.warmup));
    json_add(root, "seed", json_new_u64(bench->order.seed));
    if (bench->dataset.workload.count > 0) {
        json_add(root, "clipped", json_new_u64(bench->dataset.workload.clipped));
        json_add(root, "skipped", json_new_u64(bench->dataset.workload.skipped));
    }
    report_json(&bench->report, root);
    line = json_dump(root);
    json_free(root);
    good = fprintf(bench->json, "%s\n", line) > 0 && fflush(bench->json) == 0;
    free(line);
    return good;
}

static bool draw_plot(struct bench *bench)
{
    const struct wire_welcome *welcome = client_welcome(bench->client);
    const char *name = strrchr(bench->order.dataset_spec, '/');
    char title[PLOT_TEXT_BYTES], subtitle[PLOT_TEXT_BYTES], load[PLOT_TEXT_BYTES / 2];
    const struct plot plot = {title, subtitle, &bench->report, &bench->timeline};

    (void)snprintf(title, sizeof title, "%.*s under %s", (int)welcome->model.count,
                   welcome->model.bytes, name ? name + 1 : bench->order.dataset_spec);
    if (bench->order.kind == DATASET_TRACE) {
        (void)snprintf(load, sizeof load, "arrivals of the trace, %.6g times as fast",
                       bench->order.speed);
    } else if (isinf(bench->order.rate)) {
        (void)snprintf(load, sizeof load, "all there from the start");
    } else {
        (void)snprintf(load, sizeof load, "%.6g arrivals/s, burstiness %.6g", bench->order.rate,
                       bench->order.burstiness);
    }
    (void)snprintf(subtitle, sizeof subtitle, "%s; at most %u at one time; seed %" PRIu64, load,
                   bench->order.concurrency, bench->order.seed);
    return plot_write(&plot, bench->plot) == 0;
}

static int write_results(struct bench *bench)
{
    int status = EXIT_STATUS_DONE;

    report_print(&bench->report, stdout);
    if (bench->json && !write_json(bench)) {
        (void)fprintf(stderr, "%s: %s: it could not be written\n", ORDER_COMMAND,
                      bench->order.json_path);
        status = EXIT_STATUS_FAILED;
    }
    if (bench->plot && !draw_plot(bench)) {
        (void)fprintf(stderr, "%s: %s: it could not be written\n", ORDER_COMMAND,
                      bench->order.plot_path);
        status = EXIT_STATUS_FAILED;
    }
    if (bench->trace && lifetime_end(&bench->lifetime) != 0) {
        (void)fprintf(stderr, "%s: %s: it could not be written\n", ORDER_COMMAND,
                      bench->order.trace_path);
        status = EXIT_STATUS_FAILED;
    }
    if (bench->report.failed > 0) {
        (void)fprintf(stderr, "%s: %u requests failed, the first with: %s\n", ORDER_COMMAND,
                      bench->report.failed, bench->error);
        status = EXIT_STATUS_FAILED;
    }
    if (bench->report.unfinished > 0) {
        (void)fprintf(stderr, "%s: ended early: %u of %u requests did not finish\n", ORDER_COMMAND,
                      bench->report.unfinished, bench->order.requests);
        status = EXIT_STATUS_FAILED;
    }
    return status;
}

static int measure(struct bench *bench)
{
    int status;

    if (!open_output(bench->order.json_path, &bench->json) ||
        !open_output(bench->order.plot_path, &bench->plot) ||
        !open_output(bench->order.trace_path, &bench->trace)) {
        return EXIT_STATUS_FAILED;
    }
    status = open_inputs(bench);
    if (status != EXIT_STATUS_DONE) {
        return status;
    }
    tell_dataset(bench);
    if (bench->order.concurrency > bench->order.requests) {
        bench->order.concurrency = bench->order.requests;
    }
    plan_arrivals(bench);
    if (bench->trace) {
        lifetime_start(&bench->lifetime, bench->trace, bench->order.concurrency);
    }
    if (run(bench) != 0) {
        (void)fprintf(stderr, "%s: %s\n", ORDER_COMMAND, bench->error);
        return EXIT_STATUS_FAILED;
    }
    return write_results(bench);
}

int main(int argc, char **argv)
{
    struct bench bench = {0};
    int status;

    if (argc > 1 && strcmp(argv[1], "compare") == 0) {
        return compare_main(argc - 1, argv + 1);
    }
    if (order_parse(&bench.order, argc, argv, &status)) {
        bench.report.goodput = bench.order.goodput;
        status = measure(&bench);
    }
    dataset_close(&bench.dataset);
    report_free(&bench.report);
    timeline_free(&bench.timeline);
    client_close(bench.client);
    if (bench.json) {
        (void)fclose(bench.json);
    }
    if (bench.plot) {
        (void)fclose(bench.plot);
    }
    if (bench.trace) {
        (void)fclose(bench.trace);
    }
    free(bench.arrivals_us);
    return status;
}
