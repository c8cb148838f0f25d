/*
 * talk.c - runs one generation over a client and keeps what comes. Called by sluicectl's generate
 * and chat, on their one thread; owns the arrays of struct talk.
 *
 * A stream may rightly be silent for long (a queue, a long prompt), so silence is answered with
 * PING: the agent's loop answers that, and says by its instance whether it is still the same.
 */
#include "tools/talk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

enum { PING_MS = 2000, SILENCE_MS = 20000 };

/* Makes room for more items; out of memory is must(), as everywhere in the tools. */
static void *make_room(void *items, size_t *room, size_t wanted, size_t item_bytes)
{
    if (wanted <= *room) {
        return items;
    }
    while (*room < wanted) {
        *room = *room ? 2 * *room : 256;
    }
    items = realloc(items, *room * item_bytes);
    must(items);
    return items;
}

static void append(struct talk *talk, const uint32_t *ids, uint32_t id_count, struct wire_text text,
                   const struct wire_token_logprobs *logprobs)
{
    const size_t ids_after = talk->id_count + id_count;

    talk->ids = make_room(talk->ids, &talk->id_room, ids_after, sizeof *ids);
    talk->text =
        make_room(talk->text, &talk->text_room, talk->text_bytes + text.count, sizeof *text.bytes);
    if (id_count > 0) {
        memcpy(talk->ids + talk->id_count, ids, id_count * sizeof *ids);
        talk->first_us = talk->first_us ? talk->first_us : clock_now_us();
    }
    if (text.count > 0) {
        memcpy(talk->text + talk->text_bytes, text.bytes, text.count);
    }
    if (logprobs && id_count > 0) {
        talk->logprobs = make_room(talk->logprobs, &talk->logprob_room,
                                   talk->logprob_count + id_count, sizeof *logprobs);
        memcpy(talk->logprobs + talk->logprob_count, logprobs, id_count * sizeof *logprobs);
        talk->logprob_count += id_count;
    }
    talk->id_count = ids_after;
    talk->text_bytes += text.count;
    if (talk->echo && text.count > 0) {
        (void)fwrite(text.bytes, 1, text.count, talk->echo);
        (void)fflush(talk->echo);
    }
}

/* False: a piece is missing. */
static bool append_scores(struct talk *talk, const struct wire_scores *scores)
{
    if (scores->count == 0) {
        return true;
    }
    if (scores->first != talk->prompt_count + 1) {
        return false;
    }
    talk->prompt = make_room(talk->prompt, &talk->prompt_room, talk->prompt_count + scores->count,
                             sizeof *talk->prompt);
    memcpy(talk->prompt + talk->prompt_count, scores->logprobs,
           scores->count * sizeof *scores->logprobs);
    talk->prompt_count += scores->count;
    return true;
}

void talk_explain(const struct wire_failure *failure, char error[TALK_ERROR_BYTES_MAX])
{
    const int code_bytes = failure->code.count < 64 ? (int)failure->code.count : 64;
    const int message_bytes = failure->message.count < 256 ? (int)failure->message.count : 256;
    const int used = snprintf(error, TALK_ERROR_BYTES_MAX, "%.*s: %.*s", code_bytes,
                              failure->code.bytes, message_bytes, failure->message.bytes);

    if (failure->retry_after_ms > 0 && used > 0) {
        (void)snprintf(error + used, (size_t)(TALK_ERROR_BYTES_MAX - used), " (try again in %u ms)",
                       failure->retry_after_ms);
    }
}

/* 1: the generation goes on; 0: it is done; -E...: it failed. */
static int take_reply(struct talk *talk, struct codec *codec, const struct client_reply *reply,
                      char error[TALK_ERROR_BYTES_MAX])
{
    struct wire_tokens tokens;
    struct wire_done done;
    struct wire_failure failure;

    if (reply->command == WIRE_TOKENS && codec_decode_tokens(codec, reply->body, &tokens) == 0 &&
        tokens.offset == talk->id_count && append_scores(talk, &tokens.prompt)) {
        append(talk, tokens.ids, tokens.id_count, tokens.text, tokens.logprobs);
        return 1;
    }
    if (reply->command == WIRE_DONE && codec_decode_done(codec, reply->body, &done) == 0 &&
        append_scores(talk, &done.prompt)) {
        if (done.whole) {
            append(talk, done.ids, done.id_count, done.text, done.logprobs);
        }
        talk->finish = done.finish;
        talk->usage = done.usage;
        if (done.events) {
            talk->events = *done.events;
        }
        talk->end_us = clock_now_us();
        return 0;
    }
    if (reply->command == WIRE_ERROR && codec_decode_error(codec, reply->body, &failure) == 0) {
        talk_explain(&failure, error);
        return -EREMOTEIO;
    }
    (void)snprintf(error, TALK_ERROR_BYTES_MAX, "the agent sent what protocol v1 does not know");
    return -EPROTO;
}

/* A sign of life, unless it comes from a successor. */
static int take_pong(struct client *client, const struct client_reply *reply,
                     char error[TALK_ERROR_BYTES_MAX])
{
    struct wire_pong pong;

    if (codec_decode_pong(client_codec(client), reply->body, &pong) == 0 &&
        pong.instance != client_welcome(client)->instance) {
        (void)snprintf(error, TALK_ERROR_BYTES_MAX,
                       "the agent was restarted and lost this request: ask again");
        return -ECONNRESET;
    }
    return 1;
}

static int send_ping(struct client *client)
{
    const struct wire_id id = client_next_id(client);

    return client_send(client, WIRE_PING, &id, codec_encode_empty(client_codec(client)));
}

int talk_run(struct talk *talk, struct client *client, const struct wire_generate *request,
             const struct wire_id *id, char error[TALK_ERROR_BYTES_MAX])
{
    struct codec *codec = client_codec(client);
    struct client_reply reply;
    uint32_t silent_ms = 0;
    int status = client_send(client, WIRE_GENERATE, id, codec_encode_generate(codec, request));

    error[0] = '\0';
    talk->sent_us = clock_now_us();
    status = status ? status : 1;
    while (status > 0) {
        const int received = client_receive(client, PING_MS, &reply);
        if (received == -EAGAIN) {
            silent_ms += PING_MS;
            status = silent_ms >= SILENCE_MS ? -ETIMEDOUT : send_ping(client);
            status = status ? status : 1;
        } else if (received == 0) {
            silent_ms = 0;
            if (reply.id.count == id->count && memcmp(reply.id.bytes, id->bytes, id->count) == 0) {
                status = take_reply(talk, codec, &reply, error);
            } else if (reply.command == WIRE_PONG) {
                status = take_pong(client, &reply, error);
            }
        }
    }
    if (status < 0 && error[0] == '\0') {
        (void)snprintf(error, TALK_ERROR_BYTES_MAX, "the agent has stopped answering");
    }
    return status;
}

void talk_free(struct talk *talk)
{
    free(talk->ids);
    free(talk->logprobs);
    free(talk->prompt);
    free(talk->text);
}
