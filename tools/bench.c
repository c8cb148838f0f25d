/*
 * bench.c - sluice-bench: sends many requests to an agent and measures what comes back, or compares
 * two results. A process of its own with one thread. This file reads the command line, opens what
 * the run needs and writes what it gave; load.c runs it.
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
#include "tools/plot.h"
#include "tools/talk.h"

#define COMMAND "sluice-bench"

enum {
    CONNECT_MS = 5000,
    PROBE_TOKENS_MAX = 8,             /* Of the request that is sent before everything else. */
    REQUESTS_MAX = 1 << 24,           /* Ids number them, with warm-up and probe on top. */
    ARRIVAL_S_MAX = 10 * 366 * 86400, /* Later ones are as good as never. */
    PLOT_TEXT_BYTES = 256,
    FLAG_MAX_TOKENS = 1,
    FLAG_RATE = 2,
    FLAG_BURSTINESS = 4,
    FLAG_SPEED = 8,
};

struct bench {
    /* The command line. */
    const char *endpoint;
    const char *dataset_spec;
    const char *json_path;
    const char *plot_path;
    struct options_texts goodput_words;
    uint32_t requests;
    uint32_t warmup;
    uint32_t concurrency;
    double rate;
    double burstiness;
    double speed;
    bool ignore_eos;
    uint64_t seed;
    uint32_t max_tokens;
    uint32_t flags;

    enum dataset_kind kind;
    FILE *json; /* Opened before the run: a path that cannot be written costs no run. */
    FILE *plot;
    struct client *client;
    struct dataset dataset;
    uint64_t *arrivals_us; /* [requests] */
    struct report report;
    struct timeline timeline;
    char error[TALK_ERROR_BYTES_MAX]; /* The first failure. */
};

/* What options_parse() cannot see: NULL, or what is wrong. */
static const char *find_mistake(struct bench *bench)
{
    if (!bench->dataset_spec) {
        return "--dataset is missing";
    }
    if (!dataset_find_kind(bench->dataset_spec, &bench->kind)) {
        return "--dataset is fixed:IN:OUT, prompts:FILE, lengths:FILE or trace:FILE";
    }
    if (bench->requests == 0 || bench->concurrency == 0 || !(bench->rate > 0)) {
        return "--num-prompts, --max-concurrency and --request-rate must be above 0";
    }
    if (bench->requests > REQUESTS_MAX || bench->warmup > REQUESTS_MAX) {
        return "--num-prompts and --warmup are at most 16777216";
    }
    if ((bench->flags & FLAG_MAX_TOKENS) &&
        (bench->max_tokens == 0 || bench->kind != DATASET_PROMPTS)) {
        return "--max-tokens is above 0 and goes with prompts:FILE";
    }
    if (!(bench->burstiness > 0) || !isfinite(bench->burstiness) ||
        ((bench->flags & FLAG_BURSTINESS) && isinf(bench->rate))) {
        return "--burstiness is above 0 and goes with a finite --request-rate";
    }
    if (!(bench->speed > 0) || !isfinite(bench->speed) ||
        ((bench->flags & FLAG_SPEED) && bench->kind != DATASET_TRACE)) {
        return "--speed is above 0 and goes with trace:FILE";
    }
    if ((bench->flags & FLAG_RATE) && bench->kind == DATASET_TRACE) {
        return "a trace has times of its own: --speed, not --request-rate";
    }
    return NULL;
}

static bool parse(struct bench *bench, int argc, char **argv, int *status)
{
    const struct options_row rows[] = {
        {"endpoint", OPTIONS_TEXT, 0, &bench->endpoint, "E", "default " OPTIONS_ENDPOINT_DEFAULT},
        {"dataset", OPTIONS_TEXT, 0, &bench->dataset_spec, "D",
         "fixed:IN:OUT, prompts:FILE (one a line), lengths:FILE or trace:FILE"},
        {"num-prompts", OPTIONS_U32, 0, &bench->requests, "N",
         "requests in all, default 64; of a FILE, the first usable"},
        {"warmup", OPTIONS_U32, 0, &bench->warmup, "N", "requests before, not counted; default 0"},
        {"max-concurrency", OPTIONS_U32, 0, &bench->concurrency, "C",
         "requests at one time, default all"},
        {"request-rate", OPTIONS_F64, FLAG_RATE, &bench->rate, "R",
         "arrivals a second, default inf: all at once"},
        {"burstiness", OPTIONS_F64, FLAG_BURSTINESS, &bench->burstiness, "B",
         "of gamma arrivals; default 1: Poisson; less: in bursts"},
        {"speed", OPTIONS_F64, FLAG_SPEED, &bench->speed, "X",
         "a trace runs so many times faster, default 1"},
        {"max-tokens", OPTIONS_U32, FLAG_MAX_TOKENS, &bench->max_tokens, "N",
         "length of an answer to a prompt of FILE"},
        {"ignore-eos", OPTIONS_FLAG, 0, &bench->ignore_eos, NULL,
         "every answer has full length; lengths, trace: always"},
        {"goodput", OPTIONS_WORDS, 0, &bench->goodput_words, "L...",
         "limits in ms that a good request keeps: ttft:200 tpot:50 e2el:9000"},
        {"seed", OPTIONS_U64, 0, &bench->seed, "S", "of ids and arrivals, default 0"},
        {"json", OPTIONS_TEXT, 0, &bench->json_path, "FILE", "write the figures there too"},
        {"plot", OPTIONS_TEXT, 0, &bench->plot_path, "FILE.svg", "draw the run there"},
    };
    const struct options options = {COMMAND,
                                    "Measures an agent under load. \"" COMMAND
                                    " compare A.json B.json\" compares two results.",
                                    rows, sizeof rows / sizeof rows[0]};
    const char *mistake;

    if (!options_parse(&options, argc, argv, &bench->flags, status)) {
        return false;
    }
    mistake = find_mistake(bench);
    if (!mistake && goodput_parse(&bench->report.goodput, bench->goodput_words.items,
                                  bench->goodput_words.count, bench->error) != 0) {
        mistake = bench->error;
    }
    if (mistake) {
        *status = options_wrong(COMMAND, mistake);
    }
    return mistake == NULL;
}

/* False after one line on stderr. */
static bool open_output(const char *path, FILE **out)
{
    *out = path ? fopen(path, "we") : NULL;
    if (path && !*out) {
        (void)fprintf(stderr, "%s: %s: %s\n", COMMAND, path, strerror(errno));
    }
    return !path || *out;
}

/* Connects and reads the dataset; an exit status. */
static int open_inputs(struct bench *bench)
{
    struct dataset_source source = {
        .spec = bench->dataset_spec, .requests = bench->requests, .seed = bench->seed};
    int status = client_open(&bench->client, bench->endpoint, CONNECT_MS, bench->error);

    if (status == 0) {
        must(getrandom(&source.nonce, sizeof source.nonce, 0) == (ssize_t)sizeof source.nonce);
        source.welcome = client_welcome(bench->client);
        status = dataset_open(&bench->dataset, &source, bench->error);
    }
    if (status == -EINVAL) {
        return options_wrong(COMMAND, bench->error);
    }
    if (status != 0) {
        (void)fprintf(stderr, "%s: %s\n", COMMAND, bench->error);
    }
    return status ? EXIT_STATUS_FAILED : EXIT_STATUS_DONE;
}

/* Says what of a file is sent. */
static void tell_dataset(struct bench *bench)
{
    const struct workload *workload = &bench->dataset.workload;
    const uint32_t asked = bench->requests;

    if (workload->count == 0) {
        return;
    }
    bench->requests = dataset_requests(&bench->dataset);
    (void)fprintf(stderr,
                  "%s: %s: %u requests%s, %zu clipped to the context of %u tokens, %zu unusable "
                  "and skipped\n",
                  COMMAND, bench->dataset_spec, bench->requests,
                  bench->requests < asked ? " (it has no more)" : "", workload->clipped,
                  client_welcome(bench->client)->context_tokens_max, workload->skipped);
}

static void plan_arrivals(struct bench *bench)
{
    const struct arrivals arrivals = {bench->rate, bench->burstiness, bench->seed};
    double at_s = 0;

    bench->arrivals_us = calloc(bench->requests, sizeof *bench->arrivals_us);
    must(bench->arrivals_us);
    for (uint32_t i = 0; i < bench->requests; i++) {
        if (bench->kind == DATASET_TRACE) {
            at_s = (double)bench->dataset.workload.items[i].arrival_us / 1e6 / bench->speed;
        }
        bench->arrivals_us[i] = (uint64_t)(fmin(at_s, ARRIVAL_S_MAX) * 1e6);
        if (bench->kind != DATASET_TRACE) {
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
    load_fill(plan, bench->requests + bench->warmup, request);
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

    if (bench->warmup == 0) {
        return 0;
    }
    warm.what = "warm-up: ";
    warm.first = bench->requests;
    warm.requests = bench->warmup;
    warm.arrivals_us = NULL;
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
        .command = COMMAND,
        .what = "",
        .requests = bench->requests,
        .concurrency = bench->concurrency,
        .max_tokens = bench->max_tokens,
        .ignore_eos = bench->ignore_eos,
        .seed = bench->seed,
        .arrivals_us = bench->arrivals_us,
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
    add_text(root, "dataset", bench->dataset_spec);
    json_add(root, "num_prompts", json_new_u64(bench->requests));
    json_add(root, "max_concurrency", json_new_u64(bench->concurrency));
    if (bench->kind == DATASET_TRACE) {
        json_add(root, "speed", json_new_f64(bench->speed));
    } else {
        json_add(root, "request_rate",
                 isfinite(bench->rate) ? json_new_f64(bench->rate) : json_new_string("inf", 3));
        json_add(root, "burstiness", json_new_f64(bench->burstiness));
    }
    json_add(root, "warmup", json_new_u64(bench->warmup));
    json_add(root, "seed", json_new_u64(bench->seed));
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
    const char *name = strrchr(bench->dataset_spec, '/');
    char title[PLOT_TEXT_BYTES], subtitle[PLOT_TEXT_BYTES], load[PLOT_TEXT_BYTES / 2];
    const struct plot plot = {title, subtitle, &bench->report, &bench->timeline};

    (void)snprintf(title, sizeof title, "%.*s under %s", (int)welcome->model.count,
                   welcome->model.bytes, name ? name + 1 : bench->dataset_spec);
    if (bench->kind == DATASET_TRACE) {
        (void)snprintf(load, sizeof load, "arrivals of the trace, %.6g times as fast",
                       bench->speed);
    } else if (isinf(bench->rate)) {
        (void)snprintf(load, sizeof load, "all there from the start");
    } else {
        (void)snprintf(load, sizeof load, "%.6g arrivals/s, burstiness %.6g", bench->rate,
                       bench->burstiness);
    }
    (void)snprintf(subtitle, sizeof subtitle, "%s; at most %u at one time; seed %" PRIu64, load,
                   bench->concurrency, bench->seed);
    return plot_write(&plot, bench->plot) == 0;
}

static int write_results(struct bench *bench)
{
    int status = EXIT_STATUS_DONE;

    report_print(&bench->report, stdout);
    if (bench->json && !write_json(bench)) {
        (void)fprintf(stderr, "%s: %s: it could not be written\n", COMMAND, bench->json_path);
        status = EXIT_STATUS_FAILED;
    }
    if (bench->plot && !draw_plot(bench)) {
        (void)fprintf(stderr, "%s: %s: it could not be written\n", COMMAND, bench->plot_path);
        status = EXIT_STATUS_FAILED;
    }
    if (bench->report.failed > 0) {
        (void)fprintf(stderr, "%s: %u requests failed, the first with: %s\n", COMMAND,
                      bench->report.failed, bench->error);
        status = EXIT_STATUS_FAILED;
    }
    if (bench->report.unfinished > 0) {
        (void)fprintf(stderr, "%s: ended early: %u of %u requests did not finish\n", COMMAND,
                      bench->report.unfinished, bench->requests);
        status = EXIT_STATUS_FAILED;
    }
    return status;
}

static int measure(struct bench *bench)
{
    int status;

    if (!open_output(bench->json_path, &bench->json) ||
        !open_output(bench->plot_path, &bench->plot)) {
        return EXIT_STATUS_FAILED;
    }
    status = open_inputs(bench);
    if (status != EXIT_STATUS_DONE) {
        return status;
    }
    tell_dataset(bench);
    if (bench->concurrency > bench->requests) {
        bench->concurrency = bench->requests;
    }
    plan_arrivals(bench);
    if (run(bench) != 0) {
        (void)fprintf(stderr, "%s: %s\n", COMMAND, bench->error);
        return EXIT_STATUS_FAILED;
    }
    return write_results(bench);
}

int main(int argc, char **argv)
{
    struct bench bench = {
        .endpoint = OPTIONS_ENDPOINT_DEFAULT,
        .requests = 64,
        .concurrency = UINT32_MAX,
        .rate = INFINITY,
        .burstiness = 1,
        .speed = 1,
    };
    int status;

    if (argc > 1 && strcmp(argv[1], "compare") == 0) {
        return compare_main(argc - 1, argv + 1);
    }
    if (parse(&bench, argc, argv, &status)) {
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
    free(bench.arrivals_us);
    return status;
}
