/*
 * stream.c - see stream.h. Stages of the core's loop, on its thread; owns nothing: messages are
 * made from the token log when they can leave, so that a slow reader costs no memory. Invariant:
 * tokens leave in order, each once, and DONE or ERROR after the last.
 */
#include "agent/stream.h"

#include <errno.h>

#include "agent/answer.h"

enum { STREAM_SCORES_MAX = 64 }; /* Of a message: at most some 17 KiB. */

/* Tokens of the answer that may be sent now. */
static uint32_t sendable(const struct request *request)
{
    const uint32_t unsent = request->answer_tokens - request->sent_tokens;
    if (!request->credit_explicit) {
        return unsent;
    }
    const uint64_t room =
        request->credit > request->sent_tokens ? request->credit - request->sent_tokens : 0;
    return unsent < room ? unsent : (uint32_t)room;
}

static int send_tokens(struct core *core, struct request *request, uint32_t count)
{
    const uint32_t at = request->sent_tokens;
    /* Text belongs to the newest token: it leaves with it, not while older ones wait for credit. */
    const bool newest = at + count == request->answer_tokens;
    const uint32_t text_bytes = newest ? request->text_free - request->sent_text : 0;
    const struct wire_tokens tokens = {
        .instance = core->instance,
        .choice = request->params.choice,
        .offset = at,
        .ids = request->ids + request->prompt_tokens + at,
        .id_count = count,
        .text = {request->text + request->sent_text, text_bytes},
        .logprobs =
            request->params.logprobs ? request->logprobs + request->prompt_tokens + at : NULL,
    };
    const int code = front_send(&core->front, &request->address, WIRE_TOKENS,
                                codec_encode_tokens(core->codec, &tokens));
    if (!code) {
        request->sent_tokens += count;
        request->sent_text += text_bytes;
        request->progress_us = core->now_us;
    }
    return code;
}

/* Logprobs of the prompt leave before the answer, in pieces. */
static int send_scores(struct core *core, struct request *request)
{
    int code = 0;
    while (request->sent_scores < request->scored && !code) {
        const uint32_t left = request->scored - request->sent_scores;
        const uint32_t count = left < STREAM_SCORES_MAX ? left : STREAM_SCORES_MAX;
        const uint32_t first = request->sent_scores + 1;
        const struct wire_tokens tokens = {
            .instance = core->instance,
            .choice = request->params.choice,
            .text = {request->text, 0},
            .ids = request->ids,
            .prompt = {first, count, request->logprobs + first},
        };
        code = front_send(&core->front, &request->address, WIRE_TOKENS,
                          codec_encode_tokens(core->codec, &tokens));
        if (!code) {
            request->sent_scores += count;
            request->progress_us = core->now_us;
        }
    }
    return code;
}

static void forget(struct core *core, struct request *request)
{
    if (request->state == REQUEST_ACTIVE) {
        answer_cancel(core, request);
        core->again = true;
    }
    request_move(&core->requests, request, REQUEST_FREE);
}

/* An ERROR ends a request with all of its answers. */
static int send_error(struct core *core, struct request *request)
{
    const int code =
        front_send(&core->front, &request->address, WIRE_ERROR,
                   codec_encode_error(core->codec, &request->error, &request->address.id));
    for (uint32_t i = 0; i < core->requests.count && !code && request->params.choice.several; i++) {
        struct request *sibling = &core->requests.request[i];
        if (sibling != request && request_is(sibling, &request->address)) {
            forget(core, sibling);
        }
    }
    return code;
}

static int send_end(struct core *core, struct request *request)
{
    if (request->error.code != WIRE_OK) {
        return send_error(core, request);
    }
    const bool whole = !request->params.stream;
    const struct wire_done done = {
        .instance = core->instance,
        .choice = request->params.choice,
        .finish = request->finish,
        .usage = {.prompt_tokens = request->prompt_tokens,
                  .completion_tokens = request->answer_tokens,
                  .cached_tokens = request->cached_tokens},
        .whole = whole,
        .ids = request->ids + request->prompt_tokens,
        .id_count = request->answer_tokens,
        .text = {request->text, request->text_free},
        .logprobs =
            whole && request->params.logprobs ? request->logprobs + request->prompt_tokens : NULL,
        .prompt = whole && request->params.scores_prompt
                      ? (struct wire_scores){1, request->scored, request->logprobs + 1}
                      : (struct wire_scores){0},
        .events = request->params.events ? &request->events : NULL,
    };
    return front_send(&core->front, &request->address, WIRE_DONE,
                      codec_encode_done(core->codec, &done));
}

/* A reader that is a whole window behind pauses its sequence. */
static void pace(struct core *core, const struct request *request)
{
    const uint32_t behind = request->answer_tokens - request->sent_tokens;
    const bool held = request->params.stream && behind >= core->config->stream.credit_tokens;
    const uint32_t index = request_index(&core->requests, request);
    struct sched *sched = placement_sched(&core->placement, index);
    core->again = core->again || (sched->entry[index].held && !held);
    sched_hold(sched, index, held);
}

/* 0; -EAGAIN: the peer's queue is full; -EHOSTUNREACH: it is gone. */
static int send_request(struct core *core, struct request *request)
{
    const bool streams = request->params.stream && request->error.code == WIRE_OK;
    const uint32_t count = streams ? sendable(request) : 0;
    const bool last_text = request->state == REQUEST_ENDING && streams &&
                           request->text_free > request->sent_text &&
                           request->sent_tokens + count == request->answer_tokens;
    int code = streams ? send_scores(core, request) : 0;
    if (!code && (count > 0 || last_text)) {
        code = send_tokens(core, request, count);
    }
    if (!code && request->state == REQUEST_ENDING &&
        (!streams || request->sent_tokens == request->answer_tokens)) {
        code = send_end(core, request);
        if (!code) {
            request_move(&core->requests, request, REQUEST_FREE);
        }
    }
    return code;
}

bool stream_send(struct core *core)
{
    uint32_t left = core->requests.live;
    bool blocked = false;
    for (uint32_t i = 0; i < core->requests.count && left > 0; i++) {
        struct request *request = &core->requests.request[i];
        left -= request->state != REQUEST_FREE;
        if (request->state != REQUEST_ACTIVE && request->state != REQUEST_ENDING) {
            continue;
        }
        const int code = send_request(core, request);
        if (code == -EHOSTUNREACH) {
            forget(core, request);
        } else if (request->state == REQUEST_ACTIVE) {
            pace(core, request);
        }
        blocked = blocked || code == -EAGAIN;
    }
    return blocked;
}

/* A stream with something to send that has sent nothing for too long. */
static bool stalled(const struct core *core, struct request *request)
{
    const bool waits = request->state == REQUEST_ENDING ||
                       (request->params.stream && request->sent_tokens < request->answer_tokens);
    if (!waits) {
        request->progress_us = core->now_us;
    }
    return core->now_us - request->progress_us >
           (uint64_t)core->config->stream.stall_timeout_ms * 1000;
}

/* Tokens that wait for credit do not wait for ever; an error that cannot leave is forgotten. */
static void expire_ending(struct core *core, struct request *request)
{
    const bool late = core->now_us >= request->deadline_us;
    if (request_waits_for_credit(request) && (late || stalled(core, request))) {
        request->error = (struct wire_error){.code = WIRE_DEADLINE_EXCEEDED};
        request->progress_us = core->now_us;
    } else if (stalled(core, request)) {
        forget(core, request);
    }
}

void stream_expire(struct core *core)
{
    uint32_t left = core->requests.live;
    for (uint32_t i = 0; i < core->requests.count && left > 0; i++) {
        struct request *request = &core->requests.request[i];
        left -= request->state != REQUEST_FREE;
        if (request->state == REQUEST_ACTIVE) {
            if (core->now_us >= request->deadline_us) {
                answer_fail(core, request, WIRE_DEADLINE_EXCEEDED, NULL);
            } else if (stalled(core, request)) {
                answer_fail(core, request, WIRE_DEADLINE_EXCEEDED, "the stream was not read");
            }
        } else if (request->state == REQUEST_ENDING) {
            expire_ending(core, request);
        }
    }
}

void stream_end_all(struct core *core, enum wire_error_code code)
{
    for (uint32_t i = 0; i < core->requests.count; i++) {
        struct request *request = &core->requests.request[i];
        if (request->state == REQUEST_ACTIVE) {
            answer_fail(core, request, code, NULL);
        } else if (request_waits_for_credit(request)) {
            request->error = (struct wire_error){.code = code};
        }
    }
}
