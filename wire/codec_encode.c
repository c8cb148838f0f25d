/*
 * codec_encode.c - structs to msgpack bodies: replies for the core, requests for the tools.
 *
 * Each encoder starts the codec's one buffer anew; the buffer keeps the size that the largest
 * message so far needed. Packing fails only when memory ends, which is must(). Request encoders
 * leave out what has its default, so that a request reads as short as it was meant.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "wire/codec_state.h"

static void put_map(struct codec *codec, size_t pairs)
{
    must(msgpack_pack_map(&codec->packer, pairs) == 0);
}

static void put_array(struct codec *codec, size_t items)
{
    must(msgpack_pack_array(&codec->packer, items) == 0);
}

static void put_str(struct codec *codec, const char *bytes, size_t count)
{
    must(msgpack_pack_str(&codec->packer, count) == 0);
    must(msgpack_pack_str_body(&codec->packer, bytes, count) == 0);
}

static void put_bin(struct codec *codec, const void *bytes, size_t count)
{
    must(msgpack_pack_bin(&codec->packer, count) == 0);
    must(msgpack_pack_bin_body(&codec->packer, bytes, count) == 0);
}

static void put_key(struct codec *codec, const char *key)
{
    put_str(codec, key, strlen(key));
}

static void put_number(struct codec *codec, uint64_t value)
{
    must(msgpack_pack_uint64(&codec->packer, value) == 0);
}

static void put_float(struct codec *codec, float value)
{
    must(msgpack_pack_float(&codec->packer, value) == 0);
}

static void put_truth(struct codec *codec, bool value)
{
    must((value ? msgpack_pack_true(&codec->packer) : msgpack_pack_false(&codec->packer)) == 0);
}

/* Key and value. */
static void put_u64(struct codec *codec, const char *key, uint64_t value)
{
    put_key(codec, key);
    put_number(codec, value);
}

static void put_i32(struct codec *codec, const char *key, int32_t value)
{
    put_key(codec, key);
    must(msgpack_pack_int32(&codec->packer, value) == 0);
}

static void put_f64(struct codec *codec, const char *key, double value)
{
    put_key(codec, key);
    must(msgpack_pack_double(&codec->packer, value) == 0);
}

static void put_bool(struct codec *codec, const char *key, bool value)
{
    put_key(codec, key);
    put_truth(codec, value);
}

static void put_text(struct codec *codec, const char *key, struct wire_text text)
{
    put_key(codec, key);
    put_str(codec, text.bytes, text.count);
}

/* Token ids as bin of little-endian u32, which is how they lie in the memory of every machine that
 * Sluice runs on. */
static void put_ids(struct codec *codec, const char *key, const uint32_t *ids, size_t count)
{
    static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "ids are sent as they lie in memory");
    put_key(codec, key);
    put_bin(codec, ids, count * sizeof *ids);
}

/* [{id, logprob, top: [[id, logprob], ...]}, ...] */
static void put_logprobs(struct codec *codec, const char *key,
                         const struct wire_token_logprobs *tokens, size_t count)
{
    put_key(codec, key);
    put_array(codec, count);
    for (size_t i = 0; i < count; i++) {
        put_map(codec, 3);
        put_u64(codec, "id", tokens[i].chosen.id);
        put_key(codec, "logprob");
        put_float(codec, tokens[i].chosen.logprob);
        put_key(codec, "top");
        put_array(codec, tokens[i].top_count);
        for (uint32_t j = 0; j < tokens[i].top_count; j++) {
            put_array(codec, 2);
            put_number(codec, tokens[i].top[j].id);
            put_float(codec, tokens[i].top[j].logprob);
        }
    }
}

static void put_scores(struct codec *codec, const struct wire_scores *in)
{
    if (in->logprobs) {
        put_u64(codec, "prompt_offset", in->first);
        put_logprobs(codec, "prompt_logprobs", in->logprobs, in->count);
    }
}

/* By msgpack's sizes: a number 5 bytes, a float 5, heads of arrays 3 here, a short text and its
 * head as long as it looks. Ids cost 4 bytes each once more, in their own array. */
size_t codec_reply_bytes_max(size_t tokens, size_t text_bytes)
{
    enum {
        PAIR_BYTES = 1 + 5 + 5,
        KEYS_BYTES = 1 + sizeof "id" + sizeof "logprob" + sizeof "top",
        TOP_BYTES = LIMIT_TOP_LOGPROBS_MAX * PAIR_BYTES,
        TOKEN_BYTES = sizeof(uint32_t) + KEYS_BYTES + 5 + 5 + 3 + TOP_BYTES,
        REST_BYTES = 32768, /* Everything with a bound of its own: WELCOME, STATS, PLANS, events. */
    };
    return REST_BYTES + text_bytes + tokens * TOKEN_BYTES;
}

static void begin(struct codec *codec, size_t pairs)
{
    msgpack_sbuffer_clear(&codec->buffer);
    put_map(codec, pairs);
}

static struct wire_bytes end(const struct codec *codec)
{
    return (struct wire_bytes){(const uint8_t *)codec->buffer.data, codec->buffer.size};
}

struct wire_bytes codec_encode_welcome(struct codec *codec, const struct wire_welcome *in)
{
    begin(codec, 13);
    put_u64(codec, "instance", in->instance);
    put_u64(codec, "minor", in->minor);
    put_text(codec, "version", in->version);
    put_text(codec, "model", in->model);
    put_u64(codec, "context_tokens_max", in->context_tokens_max);
    put_u64(codec, "vocab", in->vocab);
    put_u64(codec, "page_tokens", in->page_tokens);
    put_u64(codec, "credit_tokens", in->credit_tokens);
    put_u64(codec, "message_bytes_max", in->message_bytes_max);
    put_u64(codec, "max_tokens_default", in->max_tokens_default);
    put_ids(codec, "eos_ids", in->eos_ids, in->eos_count);
    put_bool(codec, "tokenizer", in->tokenizer);
    put_bool(codec, "chat", in->chat);
    return end(codec);
}

static void put_choice(struct codec *codec, struct wire_choice choice)
{
    if (choice.several) {
        put_u64(codec, "index", choice.index);
    }
}

struct wire_bytes codec_encode_tokens(struct codec *codec, const struct wire_tokens *in)
{
    begin(codec,
          4u + in->choice.several + (in->logprobs != NULL) + (in->prompt.logprobs ? 2u : 0u));
    put_u64(codec, "instance", in->instance);
    put_choice(codec, in->choice);
    put_u64(codec, "offset", in->offset);
    put_ids(codec, "ids", in->ids, in->id_count);
    put_text(codec, "text", in->text);
    if (in->logprobs) {
        put_logprobs(codec, "logprobs", in->logprobs, in->id_count);
    }
    put_scores(codec, &in->prompt);
    return end(codec);
}

static void put_events(struct codec *codec, const struct wire_events *events)
{
    const uint32_t told = events->preempted_count < LIMIT_PREEMPTIONS_TOLD_MAX
                              ? events->preempted_count
                              : LIMIT_PREEMPTIONS_TOLD_MAX;
    put_key(codec, "events");
    put_map(codec, 6);
    put_u64(codec, "queued_us", events->queued_us);
    put_u64(codec, "scheduled_us", events->scheduled_us);
    put_u64(codec, "first_token_us", events->first_token_us);
    put_u64(codec, "finished_us", events->finished_us);
    put_u64(codec, "preempted_count", events->preempted_count);
    put_key(codec, "preempted_us");
    put_array(codec, told);
    for (uint32_t i = 0; i < told; i++) {
        put_number(codec, events->preempted_us[i]);
    }
}

struct wire_bytes codec_encode_done(struct codec *codec, const struct wire_done *in)
{
    const bool logprobs = in->whole && in->logprobs;
    const bool scores = in->whole && in->prompt.logprobs;

    begin(codec, 3u + in->choice.several + (in->whole ? 2u : 0u) + logprobs + (scores ? 2u : 0u) +
                     (in->events != NULL));
    put_u64(codec, "instance", in->instance);
    put_choice(codec, in->choice);
    put_key(codec, "finish_reason");
    put_key(codec, codec_finish_name(in->finish));
    put_key(codec, "usage");
    put_map(codec, 3);
    put_u64(codec, "prompt_tokens", in->usage.prompt_tokens);
    put_u64(codec, "completion_tokens", in->usage.completion_tokens);
    put_u64(codec, "cached_tokens", in->usage.cached_tokens);
    if (in->whole) {
        put_ids(codec, "ids", in->ids, in->id_count);
        put_text(codec, "text", in->text);
    }
    if (logprobs) {
        put_logprobs(codec, "logprobs", in->logprobs, in->id_count);
    }
    if (scores) {
        put_scores(codec, &in->prompt);
    }
    if (in->events) {
        put_events(codec, in->events);
    }
    return end(codec);
}

struct wire_bytes codec_encode_error(struct codec *codec, const struct wire_error *in,
                                     const struct wire_id *id)
{
    static const struct wire_id unread = {.count = 1, .bytes = "?"};
    const struct wire_error_row *row = wire_error_row(in->code);
    const char *message = in->message ? in->message : row->message;

    if (!id || id->count == 0) {
        id = &unread;
    }
    begin(codec, 6);
    put_key(codec, "code");
    put_key(codec, row->code);
    put_u64(codec, "status", row->status);
    put_key(codec, "message");
    put_key(codec, message);
    put_bool(codec, "retryable", row->retryable);
    put_u64(codec, "retry_after_ms", in->retry_after_ms);
    put_key(codec, "request_id");
    put_bin(codec, id->bytes, id->count);
    return end(codec);
}

struct wire_bytes codec_encode_pong(struct codec *codec, const struct wire_pong *in)
{
    begin(codec, 2);
    put_u64(codec, "instance", in->instance);
    put_u64(codec, "steps", in->steps);
    return end(codec);
}

struct wire_bytes codec_encode_ids(struct codec *codec, const uint32_t *ids, size_t count)
{
    begin(codec, 1);
    put_ids(codec, "ids", ids, count);
    return end(codec);
}

struct wire_bytes codec_encode_text(struct codec *codec, struct wire_text text)
{
    begin(codec, 1);
    put_text(codec, "text", text);
    return end(codec);
}

struct wire_bytes codec_encode_stats(struct codec *codec, const struct wire_stat *stats,
                                     size_t count)
{
    begin(codec, count);
    for (size_t i = 0; i < count; i++) {
        put_u64(codec, stats[i].name, stats[i].value);
    }
    return end(codec);
}

static void put_plan(struct codec *codec, const struct wire_plan *plan)
{
    put_map(codec, 7);
    put_text(codec, "file", plan->file);
    put_u64(codec, "plan", plan->plan);
    put_u64(codec, "tokens", plan->tokens);
    put_u64(codec, "decode", plan->decode);
    put_u64(codec, "context", plan->context);
    put_u64(codec, "steps_total", plan->steps);
    put_u64(codec, "compute_us_total", plan->compute_us);
}

struct wire_bytes codec_encode_plans(struct codec *codec, const struct wire_plans *in)
{
    begin(codec, 2);
    put_key(codec, "plans");
    put_array(codec, in->plan_count);
    for (uint32_t i = 0; i < in->plan_count; i++) {
        put_plan(codec, &in->plans[i]);
    }
    put_key(codec, "refused");
    put_array(codec, in->refused_count);
    for (uint32_t i = 0; i < in->refused_count; i++) {
        put_map(codec, 2);
        put_text(codec, "file", in->refused[i].file);
        put_text(codec, "reason", in->refused[i].reason);
    }
    return end(codec);
}

struct wire_bytes codec_encode_hello(struct codec *codec, const struct wire_hello *in)
{
    begin(codec, 1);
    put_u64(codec, "minor_max", in->minor_max);
    return end(codec);
}

static size_t generate_pairs(const struct wire_generate *in)
{
    const bool others[] = {
        in->prompt.bytes,
        in->ids.bytes,
        in->message_count > 0,
        in->presence_penalty != 0,
        in->frequency_penalty != 0,
        in->bias_count > 0,
        in->bad_id_count > 0,
        in->allowed_id_count > 0,
        in->min_tokens > 0,
        in->scores_prompt,
        in->include_stop,
        in->ignore_eos,
        !in->stream,
        in->logprobs,
        !in->add_special,
        in->parse_special,
        !in->skip_special,
        in->strict,
        in->timeout_ms > 0,
        in->priority != 0,
        in->tenant.bytes,
        in->stop_count > 0,
        in->stop_id_count > 0,
        in->n > 1,
        in->events,
    };
    size_t pairs = (size_t)__builtin_popcount(in->given);

    for (size_t i = 0; i < sizeof others; i++) {
        pairs += others[i];
    }
    return pairs;
}

static void put_prompt(struct codec *codec, const struct wire_generate *in)
{
    if (in->prompt.bytes) {
        put_text(codec, "prompt", in->prompt);
    }
    if (in->ids.bytes) {
        put_key(codec, "ids");
        put_bin(codec, in->ids.bytes, in->ids.count);
    }
    if (in->message_count > 0) {
        put_key(codec, "messages");
        put_array(codec, in->message_count);
        for (uint32_t i = 0; i < in->message_count; i++) {
            put_map(codec, 2);
            put_text(codec, "role", in->messages[i].role);
            put_text(codec, "content", in->messages[i].content);
        }
    }
}

/* What enum wire_given tells about. */
static void put_given(struct codec *codec, const struct wire_generate *in)
{
    if (in->given & WIRE_GIVEN_MAX_TOKENS) {
        put_u64(codec, "max_tokens", in->max_tokens);
    }
    if (in->given & WIRE_GIVEN_TEMPERATURE) {
        put_f64(codec, "temperature", in->temperature);
    }
    if (in->given & WIRE_GIVEN_TOP_K) {
        put_u64(codec, "top_k", in->top_k);
    }
    if (in->given & WIRE_GIVEN_TOP_P) {
        put_f64(codec, "top_p", in->top_p);
    }
    if (in->given & WIRE_GIVEN_MIN_P) {
        put_f64(codec, "min_p", in->min_p);
    }
    if (in->given & WIRE_GIVEN_SEED) {
        put_u64(codec, "seed", in->seed);
    }
    if (in->given & WIRE_GIVEN_REPETITION) {
        put_f64(codec, "repetition_penalty", in->repetition_penalty);
    }
}

/* What changes the logits, beyond enum wire_given. */
static void put_adjust(struct codec *codec, const struct wire_generate *in)
{
    if (in->presence_penalty != 0) {
        put_f64(codec, "presence_penalty", in->presence_penalty);
    }
    if (in->frequency_penalty != 0) {
        put_f64(codec, "frequency_penalty", in->frequency_penalty);
    }
    if (in->bias_count > 0) {
        put_key(codec, "logit_bias");
        put_map(codec, in->bias_count);
        for (uint32_t i = 0; i < in->bias_count; i++) {
            char id[16];
            (void)snprintf(id, sizeof id, "%u", in->biases[i].id);
            put_key(codec, id);
            put_float(codec, in->biases[i].bias);
        }
    }
    if (in->bad_id_count > 0) {
        put_ids(codec, "bad_ids", in->bad_ids, in->bad_id_count);
    }
    if (in->allowed_id_count > 0) {
        put_ids(codec, "allowed_ids", in->allowed_ids, in->allowed_id_count);
    }
}

/* How the request stands to others. */
static void put_terms(struct codec *codec, const struct wire_generate *in)
{
    if (in->priority != 0) {
        put_i32(codec, "priority", in->priority);
    }
    if (in->tenant.bytes) {
        put_text(codec, "tenant", in->tenant);
    }
}

/* A flag whose default is the other value. */
static void put_unusual(struct codec *codec, const char *key, bool value, bool usual)
{
    if (value != usual) {
        put_bool(codec, key, value);
    }
}

static void put_stops(struct codec *codec, const struct wire_generate *in)
{
    if (in->stop_count > 0) {
        put_key(codec, "stop");
        put_array(codec, in->stop_count);
        for (uint32_t i = 0; i < in->stop_count; i++) {
            put_str(codec, in->stop[i].bytes, in->stop[i].count);
        }
    }
    if (in->stop_id_count > 0) {
        put_ids(codec, "stop_ids", in->stop_ids, in->stop_id_count);
    }
}

struct wire_bytes codec_encode_generate(struct codec *codec, const struct wire_generate *in)
{
    begin(codec, generate_pairs(in));
    put_prompt(codec, in);
    put_given(codec, in);
    put_adjust(codec, in);
    if (in->min_tokens > 0) {
        put_u64(codec, "min_tokens", in->min_tokens);
    }
    if (in->n > 1) {
        put_u64(codec, "n", in->n);
    }
    if (in->logprobs) {
        put_u64(codec, "top_logprobs", in->top_logprobs);
    }
    if (in->scores_prompt) {
        put_u64(codec, "prompt_logprobs", in->prompt_logprobs);
    }
    if (in->timeout_ms > 0) {
        put_u64(codec, "timeout_ms", in->timeout_ms);
    }
    put_terms(codec, in);
    put_unusual(codec, "ignore_eos", in->ignore_eos, false);
    put_unusual(codec, "stream", in->stream, true);
    put_unusual(codec, "add_special", in->add_special, true);
    put_unusual(codec, "parse_special", in->parse_special, false);
    put_unusual(codec, "skip_special", in->skip_special, true);
    put_unusual(codec, "include_stop", in->include_stop, false);
    put_unusual(codec, "strict", in->strict, false);
    put_unusual(codec, "events", in->events, false);
    put_stops(codec, in);
    return end(codec);
}

struct wire_bytes codec_encode_credit(struct codec *codec, const struct wire_credit *in)
{
    begin(codec, 1);
    put_u64(codec, "tokens", in->tokens);
    return end(codec);
}

struct wire_bytes codec_encode_tokenize(struct codec *codec, const struct wire_tokenize *in)
{
    begin(codec, 3);
    put_text(codec, "text", in->text);
    put_bool(codec, "add_special", in->add_special);
    put_bool(codec, "parse_special", in->parse_special);
    return end(codec);
}

struct wire_bytes codec_encode_detokenize(struct codec *codec, const struct wire_detokenize *in)
{
    begin(codec, 2);
    put_key(codec, "ids");
    put_bin(codec, in->ids.bytes, in->ids.count);
    put_bool(codec, "skip_special", in->skip_special);
    return end(codec);
}

struct wire_bytes codec_encode_empty(struct codec *codec)
{
    begin(codec, 0);
    return end(codec);
}
