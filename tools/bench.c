/*
 * bench.c - sluice-bench: sends many requests to an agent and measures what comes back. A process
 * of its own with one thread and one socket, so that it takes little from the cores that it
 * measures: requests are told apart by their ids, and an id is the request's number.
 *
 * Requests start when they have arrived (all at once, or as a Poisson process of a rate) and fewer
 * than --max-concurrency are under way. A request fails when the agent says so, or when the tokens
 * received are not those that its usage counts.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/prng.h"
#include "tools/dataset.h"
#include "tools/options.h"
#include "tools/report.h"
#include "tools/talk.h"
#include "wire/client.h"

#define COMMAND "sluice-bench"

enum {
    CONNECT_MS = 5000,
    SILENCE_US = 120 * 1000 * 1000, /* Nothing at all for so long: the agent is gone. */
    WAIT_MS_MAX = 200,              /* Between two looks at the progress line. */
    PROGRESS_TERMINAL_US = 200 * 1000,
    PROGRESS_LOG_US = 5 * 1000 * 1000,
    PROGRESS_CELLS = 30,
    PROBE_TOKENS_MAX = 8, /* Of the request that is sent before the clock starts. */
    FLAG_MAX_TOKENS = 1,
};

/* One request under way. Times are 0 until they are known. */
struct flight {
    uint64_t sent_us;
    uint64_t first_us;
    uint64_t last_us; /* Of the last message with tokens. */
    uint32_t tokens;
    bool ended;
};

struct bench {
    /* The command line. */
    const char *endpoint;
    const char *dataset_spec;
    const char *json_path;
    uint32_t prompts;
    uint32_t concurrency;
    double rate;
    bool ignore_eos;
    uint64_t seed;
    uint32_t max_tokens;
    uint32_t flags;

    FILE *json; /* Opened before the run: a path that cannot be written costs no run. */
    struct client *client;
    struct dataset dataset;
    struct wire_generate *request;
    struct flight *flights; /* [prompts] */
    struct report report;
    uint32_t started;
    uint32_t ended;
    uint64_t arrival_us; /* Of the next request. */
    uint64_t heard_us;   /* Of the last message. */
    uint64_t shown_us;   /* Of the last progress line. */
    uint64_t received_tokens;
    char error[TALK_ERROR_BYTES_MAX]; /* The first failure. */
};

static bool parse(struct bench *bench, int argc, char **argv, int *status)
{
    const struct options_row rows[] = {
        {"endpoint", OPTIONS_TEXT, 0, &bench->endpoint, "E", "default " OPTIONS_ENDPOINT_DEFAULT},
        {"dataset", OPTIONS_TEXT, 0, &bench->dataset_spec, "D",
         "fixed:IN:OUT or prompts:FILE (one a line)"},
        {"num-prompts", OPTIONS_U32, 0, &bench->prompts, "N", "requests in all, default 64"},
        {"max-concurrency", OPTIONS_U32, 0, &bench->concurrency, "C",
         "requests at one time, default all"},
        {"request-rate", OPTIONS_F64, 0, &bench->rate, "R", "a second, Poisson; default inf"},
        {"max-tokens", OPTIONS_U32, FLAG_MAX_TOKENS, &bench->max_tokens, "N",
         "length of an answer to a prompt of FILE"},
        {"ignore-eos", OPTIONS_FLAG, 0, &bench->ignore_eos, NULL, "every answer has full length"},
        {"seed", OPTIONS_U64, 0, &bench->seed, "S", "of ids and arrivals, default 0"},
        {"json", OPTIONS_TEXT, 0, &bench->json_path, "FILE", "write the figures there too"},
    };
    const struct options options = {COMMAND, "Measures an agent under load.", rows,
                                    sizeof rows / sizeof rows[0]};

    if (!options_parse(&options, argc, argv, &bench->flags, status)) {
        return false;
    }
    *status = EXIT_STATUS_USAGE;
    if (!bench->dataset_spec) {
        (void)options_wrong(COMMAND, "--dataset is missing");
    } else if (bench->prompts == 0 || bench->concurrency == 0 || !(bench->rate > 0)) {
        (void)options_wrong(COMMAND, "--num-prompts, --max-concurrency and --request-rate must be "
                                     "above 0");
    } else {
        return true;
    }
    return false;
}

static void end(struct bench *bench, struct flight *flight)
{
    flight->ended = true;
    bench->ended++;
}

static void fail(struct bench *bench, struct flight *flight, const char *why)
{
    if (bench->report.failed++ == 0) {
        (void)snprintf(bench->error, sizeof bench->error, "%s", why);
    }
    end(bench, flight);
}

/* The request that number index sends. */
static void fill_request(struct bench *bench, uint32_t index)
{
    struct wire_generate *request = bench->request;

    *request = (struct wire_generate){.stream = true, .add_special = true, .skip_special = true};
    request->ignore_eos = bench->ignore_eos;
    request->seed = prng_bits(bench->seed, index, 1);
    request->given = WIRE_GIVEN_SEED;
    if (bench->flags & FLAG_MAX_TOKENS) {
        request->max_tokens = bench->max_tokens;
        request->given |= WIRE_GIVEN_MAX_TOKENS;
    }
    dataset_fill(&bench->dataset, index, request);
}

/* One short answer first: what is slow only once is not measured. */
static int probe(struct bench *bench)
{
    const struct wire_id id = client_next_id(bench->client);
    struct talk talk = {0};
    int status;

    fill_request(bench, bench->prompts);
    if (!(bench->request->given & WIRE_GIVEN_MAX_TOKENS) ||
        bench->request->max_tokens > PROBE_TOKENS_MAX) {
        bench->request->max_tokens = PROBE_TOKENS_MAX;
        bench->request->given |= WIRE_GIVEN_MAX_TOKENS;
    }
    status = talk_run(&talk, bench->client, bench->request, &id, bench->error);
    talk_free(&talk);
    return status;
}

/* The flight that an id names, or NULL. */
static struct flight *find_flight(struct bench *bench, const struct wire_id *id)
{
    uint32_t index;

    if (id->count != sizeof index) {
        return NULL;
    }
    memcpy(&index, id->bytes, sizeof index);
    return index < bench->started ? &bench->flights[index] : NULL;
}

static void start_one(struct bench *bench, uint64_t now_us)
{
    const uint32_t index = bench->started++;
    struct wire_id id = {.count = sizeof index};
    struct codec *codec = client_codec(bench->client);

    memcpy(id.bytes, &index, sizeof index);
    fill_request(bench, index);
    bench->flights[index].sent_us = now_us;
    if (client_send(bench->client, WIRE_GENERATE, &id,
                    codec_encode_generate(codec, bench->request)) != 0) {
        fail(bench, &bench->flights[index], "a request could not be sent");
    }
    if (isfinite(bench->rate)) {
        const double uniform = (double)prng_uniform(bench->seed, index, 2);
        bench->arrival_us += (uint64_t)(-log1p(-uniform) / bench->rate * 1e6);
    }
}

static void start_arrived(struct bench *bench)
{
    const uint64_t now_us = clock_now_us();

    while (bench->started < bench->prompts && bench->arrival_us <= now_us &&
           bench->started - bench->ended < bench->concurrency) {
        start_one(bench, clock_now_us());
    }
}

static double ms_between(uint64_t from_us, uint64_t to_us)
{
    return (double)(to_us - from_us) / 1e3;
}

static void take_tokens(struct bench *bench, struct flight *flight,
                        const struct wire_tokens *tokens)
{
    const uint64_t now_us = clock_now_us();

    if (tokens->offset != flight->tokens) {
        return; /* DONE will not agree either: the request fails there. */
    }
    if (tokens->id_count == 0) {
        return;
    }
    if (flight->first_us == 0) {
        flight->first_us = now_us;
    } else {
        report_add(&bench->report, REPORT_ITL, ms_between(flight->last_us, now_us));
    }
    flight->last_us = now_us;
    flight->tokens += tokens->id_count;
    bench->received_tokens += tokens->id_count;
}

static void take_done(struct bench *bench, struct flight *flight, const struct wire_done *done)
{
    struct report *report = &bench->report;
    const uint64_t now_us = clock_now_us();

    if (done->usage.completion_tokens != flight->tokens || flight->tokens == 0) {
        fail(bench, flight, "the tokens received are not those that usage counts");
        return;
    }
    end(bench, flight);
    report->completed++;
    report->input_tokens += done->usage.prompt_tokens;
    report->output_tokens += done->usage.completion_tokens;
    report_add(report, REPORT_TTFT, ms_between(flight->sent_us, flight->first_us));
    report_add(report, REPORT_E2EL, ms_between(flight->sent_us, now_us));
    if (flight->tokens > 1) {
        report_add(report, REPORT_TPOT,
                   ms_between(flight->first_us, now_us) / (flight->tokens - 1));
    }
}

static void take_reply(struct bench *bench, const struct client_reply *reply)
{
    struct codec *codec = client_codec(bench->client);
    struct flight *flight = find_flight(bench, &reply->id);
    char error[TALK_ERROR_BYTES_MAX];
    struct wire_tokens tokens;
    struct wire_done done;
    struct wire_failure failure;

    if (!flight || flight->ended) {
        return;
    }
    if (reply->command == WIRE_TOKENS && codec_decode_tokens(codec, reply->body, &tokens) == 0) {
        take_tokens(bench, flight, &tokens);
    } else if (reply->command == WIRE_DONE && codec_decode_done(codec, reply->body, &done) == 0) {
        take_done(bench, flight, &done);
    } else if (reply->command == WIRE_ERROR &&
               codec_decode_error(codec, reply->body, &failure) == 0) {
        talk_explain(&failure, error);
        fail(bench, flight, error);
    } else {
        fail(bench, flight, "the agent sent what protocol v1 does not know");
    }
}

/* A bar where a person waits, else a line now and then. */
static void show_progress(struct bench *bench, uint64_t start_us, bool last)
{
    const bool terminal = isatty(STDERR_FILENO);
    const uint64_t now_us = clock_now_us();
    const uint64_t every_us = terminal ? PROGRESS_TERMINAL_US : PROGRESS_LOG_US;
    const double seconds = ms_between(start_us, now_us) / 1e3;
    const double rate = seconds > 0 ? (double)bench->received_tokens / seconds : 0;

    if (!last && now_us - bench->shown_us < every_us) {
        return;
    }
    bench->shown_us = now_us;
    if (terminal) {
        static const char full[] = "##############################";
        const int cells = (int)((uint64_t)PROGRESS_CELLS * bench->ended / bench->prompts);
        (void)fprintf(stderr, "\r[%-*.*s] %u/%u  %.0f s  %.0f tokens/s out %s", PROGRESS_CELLS,
                      cells, full, bench->ended, bench->prompts, seconds, rate, last ? "\n" : "");
    } else if (!last) {
        (void)fprintf(stderr, "%s: %u of %u done, %.0f s, %.0f tokens/s out\n", COMMAND,
                      bench->ended, bench->prompts, seconds, rate);
    }
}

/* How long nothing but a message can happen. */
static uint32_t wait_ms(const struct bench *bench)
{
    const uint64_t now_us = clock_now_us();
    uint64_t left_ms = WAIT_MS_MAX;

    if (bench->started < bench->prompts && bench->started - bench->ended < bench->concurrency) {
        left_ms = bench->arrival_us > now_us ? (bench->arrival_us - now_us + 999) / 1000 : 0;
    }
    return (uint32_t)(left_ms < WAIT_MS_MAX ? left_ms : WAIT_MS_MAX);
}

/* Runs until every request has ended. 0, or -ETIMEDOUT where the agent went silent. */
static int run(struct bench *bench)
{
    const uint64_t start_us = clock_now_us();
    struct client_reply reply;

    bench->arrival_us = bench->heard_us = bench->shown_us = start_us;
    while (bench->ended < bench->prompts) {
        start_arrived(bench);
        if (client_receive(bench->client, wait_ms(bench), &reply) == 0) {
            bench->heard_us = clock_now_us();
            take_reply(bench, &reply);
        } else if (bench->started == bench->ended) {
            bench->heard_us = clock_now_us(); /* Nothing is expected. */
        } else if (clock_now_us() - bench->heard_us > SILENCE_US) {
            (void)snprintf(bench->error, sizeof bench->error, "the agent has stopped answering");
            return -ETIMEDOUT;
        }
        show_progress(bench, start_us, false);
    }
    bench->report.duration_s = ms_between(start_us, clock_now_us()) / 1e3;
    show_progress(bench, start_us, true);
    return 0;
}

static int write_json(struct bench *bench)
{
    const struct wire_welcome *welcome = client_welcome(bench->client);
    struct json *root = json_new_object();
    char *line;
    bool good;

    json_add(root, "backend", json_new_string("sluice", 6));
    json_add(root, "model_id", json_new_string(welcome->model.bytes, welcome->model.count));
    json_add(root, "dataset", json_new_string(bench->dataset_spec, strlen(bench->dataset_spec)));
    json_add(root, "num_prompts", json_new_u64(bench->prompts));
    json_add(root, "max_concurrency", json_new_u64(bench->concurrency));
    json_add(root, "request_rate",
             isfinite(bench->rate) ? json_new_f64(bench->rate) : json_new_string("inf", 3));
    json_add(root, "seed", json_new_u64(bench->seed));
    report_json(&bench->report, root);
    line = json_dump(root);
    json_free(root);
    good = fprintf(bench->json, "%s\n", line) > 0 && fflush(bench->json) == 0;
    free(line);
    if (!good) {
        (void)fprintf(stderr, "%s: %s: %s\n", COMMAND, bench->json_path, strerror(errno));
    }
    return good ? EXIT_STATUS_DONE : EXIT_STATUS_FAILED;
}

static int measure(struct bench *bench)
{
    uint64_t nonce;
    int status;

    if (bench->json_path) {
        bench->json = fopen(bench->json_path, "w");
        if (!bench->json) {
            (void)fprintf(stderr, "%s: %s: %s\n", COMMAND, bench->json_path, strerror(errno));
            return EXIT_STATUS_FAILED;
        }
    }
    must(getrandom(&nonce, sizeof nonce, 0) == (ssize_t)sizeof nonce);
    status = client_open(&bench->client, bench->endpoint, CONNECT_MS, bench->error);
    status = status ? status
                    : dataset_open(&bench->dataset, bench->dataset_spec, bench->seed, nonce,
                                   client_welcome(bench->client), bench->error);
    if (status == -EINVAL) {
        return options_wrong(COMMAND, bench->error);
    }
    status = status ? status : probe(bench);
    status = status ? status : run(bench);
    if (status != 0) {
        (void)fprintf(stderr, "%s: %s\n", COMMAND, bench->error);
        return EXIT_STATUS_FAILED;
    }
    report_print(&bench->report, stdout);
    if (bench->report.failed > 0) {
        (void)fprintf(stderr, "%s: %u requests failed, the first with: %s\n", COMMAND,
                      bench->report.failed, bench->error);
    }
    status = bench->json ? write_json(bench) : EXIT_STATUS_DONE;
    return bench->report.failed > 0 ? EXIT_STATUS_FAILED : status;
}

int main(int argc, char **argv)
{
    struct bench bench = {
        .endpoint = OPTIONS_ENDPOINT_DEFAULT,
        .prompts = 64,
        .concurrency = UINT32_MAX,
        .rate = INFINITY,
    };
    int status;

    if (parse(&bench, argc, argv, &status)) {
        if (bench.concurrency > bench.prompts) {
            bench.concurrency = bench.prompts;
        }
        bench.flights = calloc(bench.prompts, sizeof *bench.flights);
        bench.request = calloc(1, sizeof *bench.request);
        must(bench.flights && bench.request);
        status = measure(&bench);
    }
    dataset_close(&bench.dataset);
    report_free(&bench.report);
    client_close(bench.client);
    if (bench.json) {
        (void)fclose(bench.json);
    }
    free(bench.flights);
    free(bench.request);
    return status;
}
