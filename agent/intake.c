/*
 * intake.c - see intake.h. Two stages of the core's loop, on its thread; owns nothing. Invariant: a
 * message changes at most its own request, and everything that is wrong with it is said by id.
 */
#include "agent/intake.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/admit.h"
#include "agent/answer.h"

static void reply(struct core *core, const struct request_address *address, uint8_t command,
                  struct wire_bytes body)
{
    if (front_send(&core->front, address, command, body)) {
        core->counters.replies_dropped++;
    }
}

/* An error that finds its peer's queue full waits: nobody asks again for an answer that was lost.
 */
static void park(struct core *core, const struct request_address *address,
                 const struct wire_error *error)
{
    if (core->refusal_count == CORE_REFUSALS_MAX) {
        core->counters.replies_dropped++;
        return;
    }
    struct core_refusal *refusal = &core->refusals[core->refusal_count++];
    *refusal = (struct core_refusal){.address = *address, .error = *error};
    refusal->until_us = core->now_us + (uint64_t)core->config->stream.stall_timeout_ms * 1000;
    if (error->message) { /* It may be the codec's, until its next message. */
        (void)snprintf(refusal->message, sizeof refusal->message, "%s", error->message);
    }
}

static int send_refusal(struct core *core, const struct core_refusal *refusal)
{
    struct wire_error error = refusal->error;
    error.message = error.message ? refusal->message : NULL;
    return front_send(&core->front, &refusal->address, WIRE_ERROR,
                      codec_encode_error(core->codec, &error, &refusal->address.id));
}

bool intake_resend(struct core *core)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < core->refusal_count; i++) {
        const struct core_refusal *refusal = &core->refusals[i];
        const int code = send_refusal(core, refusal);
        if (code == -EAGAIN && core->now_us < refusal->until_us) {
            core->refusals[kept++] = *refusal;
        } else {
            core->counters.replies_dropped += code != 0;
        }
    }
    core->refusal_count = kept;
    return kept > 0;
}

void intake_refuse(struct core *core, const struct request_address *address,
                   const struct wire_error *error)
{
    const struct wire_bytes body = codec_encode_error(core->codec, error, &address->id);
    const int code = front_send(&core->front, address, WIRE_ERROR, body);
    core->counters.refused++;
    if (code == -EAGAIN) {
        park(core, address, error);
    } else if (code) {
        core->counters.replies_dropped++;
    }
}

static void refuse(struct core *core, const struct request_address *address,
                   enum wire_error_code code, const char *message)
{
    const struct wire_error error = {.code = code, .message = message};
    intake_refuse(core, address, &error);
}

static void on_hello(struct core *core, const struct request_address *address,
                     struct wire_bytes body)
{
    struct wire_hello hello;
    struct wire_error error;
    if (codec_decode_hello(core->codec, body, &hello, &error)) {
        intake_refuse(core, address, &error);
        return;
    }
    const char *name = core->config->model.name;
    if (name[0] == '\0') { /* The last part of the path. */
        const char *slash = strrchr(core->config->model.path, '/');
        name = slash && slash[1] ? slash + 1 : core->config->model.path;
    }
    const struct wire_welcome welcome = {
        .instance = core->instance,
        .minor = WIRE_MINOR,
        .version = {SLUICE_VERSION, strlen(SLUICE_VERSION)},
        .model = {name, strlen(name)},
        .context_tokens_max = core->context_max,
        .vocab = core->hparams.vocab,
        .page_tokens = core->config->kv.page_tokens,
        .credit_tokens = core->config->stream.credit_tokens,
        .message_bytes_max = core->config->zmq.message_bytes_max,
        .max_tokens_default = ADMIT_MAX_TOKENS_DEFAULT,
        .eos_ids = core->hparams.eos_ids,
        .eos_count = core->hparams.eos_count,
        .tokenizer = core->tokenizer != NULL,
        .chat = core->chat != CHAT_NONE,
    };
    reply(core, address, WIRE_WELCOME, codec_encode_welcome(core->codec, &welcome));
}

static void on_ping(struct core *core, const struct request_address *address)
{
    const struct wire_pong pong = {.instance = core->instance, .steps = core->counters.steps};
    reply(core, address, WIRE_PONG, codec_encode_pong(core->codec, &pong));
}

static void on_stats(struct core *core, const struct request_address *address)
{
    stats_fill(core);
    reply(core, address, WIRE_RESULT,
          codec_encode_stats(core->codec, core->stats.stat, core->stats.count));
}

static void on_plans(struct core *core, const struct request_address *address)
{
    struct plans_told told;
    plans_tell(&core->plans, &told);
    reply(core, address, WIRE_RESULT, codec_encode_plans(core->codec, &told.message));
}

/* False where it is ending anyway. */
static bool cancel(struct core *core, struct request *request)
{
    if (request->cancelled ||
        (request->state == REQUEST_ENDING && !request_waits_for_credit(request))) {
        return false;
    }
    if (request->state == REQUEST_TEXT) {
        request->cancelled = true; /* Its ids are the tokenizer's until it comes back. */
    } else {
        answer_cancel(core, request);
    }
    return true;
}

/* The operator knows no routing ids: every client's request of this id is meant. */
static uint64_t cancel_everywhere(struct core *core, const struct wire_id *id)
{
    uint64_t cancelled = 0;
    for (uint32_t i = 0; i < core->requests.count; i++) {
        struct request *request = &core->requests.request[i];
        const struct wire_id *own = &request->address.id;
        if (request->state != REQUEST_FREE && own->count == id->count &&
            memcmp(own->bytes, id->bytes, id->count) == 0) {
            cancelled += cancel(core, request);
        }
    }
    return cancelled;
}

static void on_cancel(struct core *core, const struct request_address *address)
{
    if (address->admin) {
        const struct wire_stat count = {"cancelled", cancel_everywhere(core, &address->id)};
        if (count.value > 0) {
            reply(core, address, WIRE_RESULT, codec_encode_stats(core->codec, &count, 1));
            return;
        }
    } else {
        bool live = false;
        for (uint32_t i = 0; i < core->requests.count; i++) {
            struct request *request = &core->requests.request[i];
            if (request_is(request, address)) {
                (void)cancel(core, request);
                live = true;
            }
        }
        if (live) {
            return; /* The end that is still to leave is the answer. */
        }
    }
    refuse(core, address, WIRE_NOT_FOUND, NULL);
}

static void on_credit(struct core *core, const struct request_address *address,
                      struct wire_bytes body)
{
    struct wire_credit credit;
    struct wire_error error;
    if (codec_decode_credit(core->codec, body, &credit, &error)) {
        intake_refuse(core, address, &error);
        return;
    }
    for (uint32_t i = 0; i < core->requests.count; i++) {
        struct request *request = &core->requests.request[i];
        if (request_is(request, address)) { /* One that has just ended is no error. */
            request->credit += credit.tokens;
            request->credit_explicit = true;
        }
    }
}

static void on_text_job(struct core *core, const struct request_address *address, uint8_t command,
                        struct wire_bytes body)
{
    if (!core->tokenizer) {
        refuse(core, address, WIRE_UNSUPPORTED, "this model has no tokenizer: send ids");
        return;
    }
    struct scribe_job *job = scribe_take(core->scribe);
    must(job); /* The loop reads no message while there is none. */
    job->command = command;
    job->address = *address;
    job->body_bytes = body.count;
    memcpy(job->body, body.bytes, body.count);
    scribe_submit(core->scribe, job);
}

static void on_command(struct core *core, const struct request_address *address, uint8_t command,
                       struct wire_bytes body)
{
    struct wire_error error = {.code = WIRE_OK};
    if (command >= WIRE_CANCEL && command != WIRE_CREDIT && command != WIRE_TOKENIZE &&
        command != WIRE_DETOKENIZE && command <= WIRE_PLANS &&
        codec_decode_empty(core->codec, body, &error)) {
        intake_refuse(core, address, &error);
        return;
    }
    switch (command) {
    case WIRE_HELLO:
        on_hello(core, address, body);
        break;
    case WIRE_GENERATE:
        admit_generate(core, address, body);
        break;
    case WIRE_CANCEL:
        on_cancel(core, address);
        break;
    case WIRE_CREDIT:
        on_credit(core, address, body);
        break;
    case WIRE_PING:
        on_ping(core, address);
        break;
    case WIRE_TOKENIZE:
    case WIRE_DETOKENIZE:
        on_text_job(core, address, command, body);
        break;
    case WIRE_STATS:
        on_stats(core, address);
        break;
    case WIRE_PLANS:
        on_plans(core, address);
        break;
    default:
        core->counters.malformed_frames++;
        refuse(core, address, WIRE_UNSUPPORTED, "unknown command");
        break;
    }
}

static void on_message(struct core *core, struct front_message *message)
{
    struct wire_head head = {0};
    struct request_address *address = &message->address;
    const int code = wire_head_parse(message->frames, &head);
    address->id = head.id;
    if (head.id.count == 0) { /* Nothing to answer by: protocol.md gives this id. */
        address->id = (struct wire_id){.count = 1, .bytes = {'?'}};
    }
    if (message->malformed || code) {
        core->counters.malformed_frames++;
        if (!message->malformed && code == -ENOTSUP) {
            refuse(core, address, WIRE_UNSUPPORTED, "this server speaks protocol version 1");
        } else {
            refuse(core, address, WIRE_INVALID_ARGUMENT,
                   "a message has four frames: SLCE and version, command, request id, map");
        }
        return;
    }
    on_command(core, address, head.command, message->frames[3]);
}

bool intake_messages(struct core *core, uint32_t max)
{
    struct front_message message;
    for (uint32_t i = 0; i < max && scribe_has_room(core->scribe); i++) {
        if (front_recv(&core->front, &message)) {
            return true;
        }
        on_message(core, &message);
    }
    return false;
}

static void on_text_done(struct core *core, const struct scribe_job *job)
{
    const struct request_address *address = &job->address;
    if (job->command == WIRE_GENERATE) {
        admit_text(core, &core->requests.request[job->request], job);
    } else if (job->error.code != WIRE_OK) {
        intake_refuse(core, address, &job->error);
    } else if (job->command == WIRE_TOKENIZE) {
        reply(core, address, WIRE_RESULT, codec_encode_ids(core->codec, job->ids, job->id_count));
    } else {
        const struct wire_text text = {job->text, job->text_bytes};
        reply(core, address, WIRE_RESULT, codec_encode_text(core->codec, text));
    }
}

void intake_texts(struct core *core, uint32_t max)
{
    for (uint32_t i = 0; i < max; i++) {
        struct scribe_job *job = scribe_done(core->scribe);
        if (!job) {
            return;
        }
        on_text_done(core, job);
        scribe_release(core->scribe, job);
    }
}
