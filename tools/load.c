/*
 * load.c - the load generator. Called by sluice-bench for the warm-up and for the run, on its one
 * thread with one socket, so that it takes little from the cores that it measures. Requests are
 * told apart by their ids, and an id is the request's number. Owns the flights; a flight ends once,
 * and messages of ended or unknown ones are dropped.
 */
#include "tools/load.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/prng.h"
#include "tools/progress.h"
#include "tools/talk.h"

enum {
    SILENCE_US = 120 * 1000 * 1000, /* Nothing at all for so long: the agent is gone. */
    WAIT_US_MAX = 200 * 1000,       /* Between two looks at the progress line. */
    DRAW_SEED = 1,                  /* Of a request's sampling. */
};

/* One request under way. Times are 0 until they are known. */
struct flight {
    uint64_t sent_us;
    uint64_t first_us;
    uint64_t last_us;   /* Of the last message with tokens. */
    uint32_t in_tokens; /* 0: text, counted by the agent. */
    uint32_t tokens;
    uint32_t row; /* Of the trace. */
    bool ended;
};

struct load {
    const struct load_plan *plan;
    struct report *report;
    struct timeline *timeline;
    char *error; /* [CLIENT_ERROR_BYTES_MAX] */
    struct progress progress;
    struct wire_generate *request;
    struct flight *flights; /* [plan->requests] */
    uint32_t started;
    uint32_t ended;
    uint64_t start_us;
    uint64_t heard_us; /* Of the last message. */
    uint64_t received_tokens;
};

void load_fill(const struct load_plan *plan, uint32_t index, struct wire_generate *request)
{
    *request = (struct wire_generate){.stream = true, .add_special = true, .skip_special = true};
    request->ignore_eos = plan->ignore_eos;
    request->events = plan->lifetime != NULL;
    request->priority = plan->priority;
    if (plan->tenant) {
        request->tenant = (struct wire_text){plan->tenant, strlen(plan->tenant)};
    }
    request->seed = prng_bits(plan->seed, index, DRAW_SEED);
    request->given = WIRE_GIVEN_SEED;
    if (plan->max_tokens > 0) {
        request->max_tokens = plan->max_tokens;
        request->given |= WIRE_GIVEN_MAX_TOKENS;
    }
    dataset_fill(plan->dataset, index, request);
}

static void count_live(struct load *load, uint64_t now_us)
{
    timeline_live(load->timeline, now_us, load->started - load->ended);
}

static void end(struct load *load, struct flight *flight, uint64_t now_us)
{
    flight->ended = true;
    load->ended++;
    if (load->plan->lifetime) {
        lifetime_give_row(load->plan->lifetime, flight->row);
    }
    count_live(load, now_us);
}

static void fail(struct load *load, struct flight *flight, const char *why)
{
    if (load->report->failed++ == 0) {
        (void)snprintf(load->error, CLIENT_ERROR_BYTES_MAX, "%s", why);
    }
    end(load, flight, clock_now_us());
}

/* The flight that an id names, or NULL. */
static struct flight *find_flight(struct load *load, const struct wire_id *id)
{
    uint32_t index;

    if (id->count != sizeof index) {
        return NULL;
    }
    memcpy(&index, id->bytes, sizeof index);
    index -= load->plan->first;
    return index < load->started ? &load->flights[index] : NULL;
}

static struct wire_id name_flight(const struct load *load, uint32_t number)
{
    const uint32_t index = load->plan->first + number;
    struct wire_id id = {.count = sizeof index};

    memcpy(id.bytes, &index, sizeof index);
    return id;
}

static void start_one(struct load *load)
{
    const struct wire_id id = name_flight(load, load->started);
    struct codec *codec = client_codec(load->plan->client);
    struct flight *flight = &load->flights[load->started];

    load_fill(load->plan, load->plan->first + load->started, load->request);
    load->started++;
    flight->row = load->plan->lifetime ? lifetime_take_row(load->plan->lifetime) : 0;
    flight->in_tokens = (uint32_t)(load->request->ids.count / sizeof(uint32_t));
    flight->sent_us = clock_now_us();
    count_live(load, flight->sent_us);
    if (client_send(load->plan->client, WIRE_GENERATE, &id,
                    codec_encode_generate(codec, load->request)) != 0) {
        fail(load, flight, "a request could not be sent");
    }
}

/* Microseconds until the next request arrives, 0 where it has; UINT64_MAX: none may start. */
static uint64_t next_arrival_us(const struct load *load, uint64_t now_us)
{
    const struct load_plan *plan = load->plan;
    uint64_t at_us;

    if (load->started == plan->requests || load->started - load->ended >= plan->concurrency) {
        return UINT64_MAX;
    }
    at_us = load->start_us + (plan->arrivals_us ? plan->arrivals_us[load->started] : 0);
    return at_us > now_us ? at_us - now_us : 0;
}

static double ms_between(uint64_t from_us, uint64_t to_us)
{
    return (double)(to_us - from_us) / 1e3;
}

static void take_tokens(struct load *load, struct flight *flight, const struct wire_tokens *tokens)
{
    const uint64_t now_us = clock_now_us();

    if (tokens->offset != flight->tokens) {
        return; /* DONE will not agree either: the request fails there. */
    }
    if (tokens->id_count == 0) {
        return;
    }
    timeline_add(load->timeline, now_us, flight->first_us == 0 ? flight->in_tokens : 0,
                 tokens->id_count);
    if (flight->first_us == 0) {
        flight->first_us = now_us;
    } else {
        report_add(load->report, REPORT_ITL, ms_between(flight->last_us, now_us));
    }
    flight->last_us = now_us;
    flight->tokens += tokens->id_count;
    load->received_tokens += tokens->id_count;
}

static void take_done(struct load *load, struct flight *flight, const struct wire_done *done)
{
    const uint64_t now_us = clock_now_us();

    if (done->usage.completion_tokens != flight->tokens || flight->tokens == 0) {
        fail(load, flight, "the tokens received are not those that usage counts");
        return;
    }
    if (flight->in_tokens == 0) { /* Text: only now its length is known. */
        timeline_add(load->timeline, now_us, done->usage.prompt_tokens, 0);
    }
    report_request(load->report, &(struct report_request){
                                     .input_tokens = done->usage.prompt_tokens,
                                     .cached_tokens = done->usage.cached_tokens,
                                     .output_tokens = flight->tokens,
                                     .ttft_ms = ms_between(flight->sent_us, flight->first_us),
                                     .decode_ms = ms_between(flight->first_us, now_us),
                                     .e2el_ms = ms_between(flight->sent_us, now_us),
                                 });
    if (load->plan->lifetime && done->events) {
        lifetime_add(load->plan->lifetime, flight->row, (uint32_t)(flight - load->flights),
                     done->events);
    }
    end(load, flight, now_us);
}

static void take_reply(struct load *load, const struct client_reply *reply)
{
    struct codec *codec = client_codec(load->plan->client);
    struct flight *flight = find_flight(load, &reply->id);
    char error[TALK_ERROR_BYTES_MAX];
    struct wire_tokens tokens;
    struct wire_done done;
    struct wire_failure failure;

    if (!flight || flight->ended) {
        return;
    }
    if (reply->command == WIRE_TOKENS && codec_decode_tokens(codec, reply->body, &tokens) == 0) {
        take_tokens(load, flight, &tokens);
    } else if (reply->command == WIRE_DONE && codec_decode_done(codec, reply->body, &done) == 0) {
        take_done(load, flight, &done);
    } else if (reply->command == WIRE_ERROR &&
               codec_decode_error(codec, reply->body, &failure) == 0) {
        talk_explain(&failure, error);
        fail(load, flight, error);
    } else {
        fail(load, flight, "the agent sent what protocol v1 does not know");
    }
}

static void show_progress(struct load *load, bool last)
{
    const struct progress_state state = {load->ended, load->plan->requests,
                                         load->started - load->ended, load->received_tokens};

    progress_show(&load->progress, &state, clock_now_us(), last);
}

/* How long nothing but a message can happen. */
static uint32_t wait_ms(const struct load *load)
{
    const uint64_t left_us = next_arrival_us(load, clock_now_us());

    return left_us < WAIT_US_MAX ? (uint32_t)((left_us + 999) / 1000) : WAIT_US_MAX / 1000;
}

/* Whether somebody wants the run to end: the signals are blocked while it lasts. */
static bool take_signal(const sigset_t *signals)
{
    const struct timespec at_once = {0, 0};

    return sigtimedwait(signals, NULL, &at_once) > 0;
}

/* Ends what is under way at the agent too, without waiting for it. */
static void cancel_all(struct load *load)
{
    struct codec *codec = client_codec(load->plan->client);

    for (uint32_t i = 0; i < load->started; i++) {
        const struct wire_id id = name_flight(load, i);
        if (!load->flights[i].ended) {
            (void)!client_send(load->plan->client, WIRE_CANCEL, &id, codec_encode_empty(codec));
        }
    }
}

/* 0, or -ETIMEDOUT. */
static int fly(struct load *load, const sigset_t *signals)
{
    struct client_reply reply;

    while (load->ended < load->plan->requests) {
        if (take_signal(signals)) {
            cancel_all(load);
            break;
        }
        while (next_arrival_us(load, clock_now_us()) == 0) {
            start_one(load);
        }
        if (client_receive(load->plan->client, wait_ms(load), &reply) == 0) {
            load->heard_us = clock_now_us();
            take_reply(load, &reply);
        } else if (load->started == load->ended) {
            load->heard_us = clock_now_us(); /* Nothing is expected. */
        } else if (clock_now_us() - load->heard_us > SILENCE_US) {
            (void)snprintf(load->error, CLIENT_ERROR_BYTES_MAX, "the agent has stopped answering");
            return -ETIMEDOUT;
        }
        show_progress(load, false);
    }
    show_progress(load, true);
    return 0;
}

int load_run(const struct load_plan *plan, struct report *report, struct timeline *timeline,
             char error[CLIENT_ERROR_BYTES_MAX])
{
    const uint64_t start_us = clock_now_us();
    sigset_t signals, before;
    struct load load = {
        .plan = plan,
        .report = report,
        .timeline = timeline,
        .error = error,
        .request = calloc(1, sizeof *load.request),
        .flights = calloc(plan->requests, sizeof *load.flights),
        .start_us = start_us,
        .heard_us = start_us,
    };
    int status;

    must(load.request && load.flights);
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGTERM);
    must(sigprocmask(SIG_BLOCK, &signals, &before) == 0);
    timeline_start(timeline, start_us);
    progress_start(&load.progress, plan->command, plan->what, start_us);
    status = fly(&load, &signals);
    must(sigprocmask(SIG_SETMASK, &before, NULL) == 0);
    report->unfinished = plan->requests - load.ended;
    report->duration_s = ms_between(start_us, clock_now_us()) / 1e3;
    report->live_max = timeline->live_max;
    report->output_peak = timeline_peak_out(timeline);
    free(load.request);
    free(load.flights);
    return status;
}
