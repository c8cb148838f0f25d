/*
 * codec_reply.c - decodes what a server sends. Called by the tools, on their one thread.
 *
 * A server is not trusted to be well-formed: replies pass the validator too, each key is looked up
 * and judged, and what is missing or of another type makes the reply -EPROTO. Arrays of ids and
 * logprobs are copied to the codec's zone, aligned.
 */
#include <errno.h>
#include <string.h>

#include "wire/codec_state.h"
#include "wire/validator.h"

static int open_reply(struct codec *codec, struct wire_bytes body, msgpack_object *root)
{
    if (validator_reply(body.bytes, body.count) != 0 || codec_unpack(codec, body, root) != 0) {
        return -EPROTO;
    }
    return 0;
}

/* Member of a map, or NULL. */
static const msgpack_object *find(const msgpack_object *map, const char *key)
{
    for (uint32_t i = 0; i < map->via.map.size; i++) {
        if (codec_key_is(&map->via.map.ptr[i].key, key)) {
            return &map->via.map.ptr[i].val;
        }
    }
    return NULL;
}

static const msgpack_object *find_kind(const msgpack_object *map, const char *key,
                                       msgpack_object_type type)
{
    const msgpack_object *value = find(map, key);

    return value && value->type == type ? value : NULL;
}

static bool get_u64(const msgpack_object *map, const char *key, uint64_t *out)
{
    const msgpack_object *value = find_kind(map, key, MSGPACK_OBJECT_POSITIVE_INTEGER);

    if (value) {
        *out = value->via.u64;
    }
    return value != NULL;
}

static bool get_u32(const msgpack_object *map, const char *key, uint32_t *out)
{
    uint64_t wide;

    if (!get_u64(map, key, &wide) || wide > UINT32_MAX) {
        return false;
    }
    *out = (uint32_t)wide;
    return true;
}

static bool get_bool(const msgpack_object *map, const char *key, bool *out)
{
    const msgpack_object *value = find_kind(map, key, MSGPACK_OBJECT_BOOLEAN);

    if (value) {
        *out = value->via.boolean;
    }
    return value != NULL;
}

static bool get_text(const msgpack_object *map, const char *key, struct wire_text *out)
{
    const msgpack_object *value = find_kind(map, key, MSGPACK_OBJECT_STR);

    if (value) {
        *out = (struct wire_text){value->via.str.ptr, value->via.str.size};
    }
    return value != NULL;
}

static bool get_ids(struct codec *codec, const msgpack_object *map, const char *key,
                    const uint32_t **ids, uint32_t *count)
{
    const msgpack_object *value = find_kind(map, key, MSGPACK_OBJECT_BIN);
    uint32_t *copy;

    if (!value || value->via.bin.size % sizeof *copy != 0) {
        return false;
    }
    copy = msgpack_zone_malloc(&codec->zone, value->via.bin.size + sizeof *copy);
    if (!copy) {
        return false;
    }
    if (value->via.bin.size > 0) {
        memcpy(copy, value->via.bin.ptr, value->via.bin.size);
    }
    *ids = copy;
    *count = value->via.bin.size / (uint32_t)sizeof *copy;
    return true;
}

static bool read_float(const msgpack_object *value, float *out)
{
    if (value->type != MSGPACK_OBJECT_FLOAT32 && value->type != MSGPACK_OBJECT_FLOAT64) {
        return false;
    }
    *out = (float)value->via.f64;
    return true;
}

/* [id, logprob] */
static bool read_pair(const msgpack_object *value, struct wire_logprob *out)
{
    if (value->type != MSGPACK_OBJECT_ARRAY || value->via.array.size != 2 ||
        value->via.array.ptr[0].type != MSGPACK_OBJECT_POSITIVE_INTEGER ||
        value->via.array.ptr[0].via.u64 > UINT32_MAX) {
        return false;
    }
    out->id = (uint32_t)value->via.array.ptr[0].via.u64;
    return read_float(&value->via.array.ptr[1], &out->logprob);
}

static bool read_logprobs(const msgpack_object *value, struct wire_token_logprobs *out)
{
    const msgpack_object *logprob, *top;

    if (value->type != MSGPACK_OBJECT_MAP || !get_u32(value, "id", &out->chosen.id)) {
        return false;
    }
    logprob = find(value, "logprob");
    top = find_kind(value, "top", MSGPACK_OBJECT_ARRAY);
    if (!logprob || !read_float(logprob, &out->chosen.logprob) || !top ||
        top->via.array.size > LIMIT_TOP_LOGPROBS_MAX) {
        return false;
    }
    out->top_count = top->via.array.size;
    for (uint32_t i = 0; i < out->top_count; i++) {
        if (!read_pair(&top->via.array.ptr[i], &out->top[i])) {
            return false;
        }
    }
    return true;
}

static bool take_logprobs(struct codec *codec, const msgpack_object *value,
                          const struct wire_token_logprobs **out)
{
    const uint32_t count = value->via.array.size;
    struct wire_token_logprobs *tokens =
        msgpack_zone_malloc(&codec->zone, (count + 1) * sizeof *tokens);

    if (!tokens) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!read_logprobs(&value->via.array.ptr[i], &tokens[i])) {
            return false;
        }
    }
    *out = tokens;
    return true;
}

/* One entry a token, or no key at all. */
static bool get_logprobs(struct codec *codec, const msgpack_object *map, uint32_t count,
                         const struct wire_token_logprobs **out)
{
    const msgpack_object *value = find(map, "logprobs");

    *out = NULL;
    if (!value) {
        return true;
    }
    return value->type == MSGPACK_OBJECT_ARRAY && value->via.array.size == count &&
           take_logprobs(codec, value, out);
}

/* Both keys or neither. */
static bool get_scores(struct codec *codec, const msgpack_object *map, struct wire_scores *out)
{
    const msgpack_object *value = find(map, "prompt_logprobs");

    *out = (struct wire_scores){0};
    if (!value) {
        return !find(map, "prompt_offset");
    }
    if (value->type != MSGPACK_OBJECT_ARRAY || !get_u32(map, "prompt_offset", &out->first)) {
        return false;
    }
    out->count = value->via.array.size;
    return take_logprobs(codec, value, &out->logprobs);
}

static bool get_finish(const msgpack_object *map, enum wire_finish *out)
{
    static const enum wire_finish known[] = {WIRE_FINISH_STOP, WIRE_FINISH_LENGTH,
                                             WIRE_FINISH_CANCELLED};
    const msgpack_object *value = find_kind(map, "finish_reason", MSGPACK_OBJECT_STR);

    for (size_t i = 0; value && i < sizeof known / sizeof known[0]; i++) {
        if (codec_key_is(value, codec_finish_name(known[i]))) {
            *out = known[i];
            return true;
        }
    }
    return false;
}

static bool get_usage(const msgpack_object *map, struct wire_usage *out)
{
    const msgpack_object *usage = find_kind(map, "usage", MSGPACK_OBJECT_MAP);

    return usage && get_u32(usage, "prompt_tokens", &out->prompt_tokens) &&
           get_u32(usage, "completion_tokens", &out->completion_tokens) &&
           get_u32(usage, "cached_tokens", &out->cached_tokens);
}

int codec_decode_welcome(struct codec *codec, struct wire_bytes body, struct wire_welcome *out)
{
    msgpack_object root;
    uint32_t minor;
    bool good;

    *out = (struct wire_welcome){0};
    if (open_reply(codec, body, &root) != 0) {
        return -EPROTO;
    }
    good = get_u64(&root, "instance", &out->instance) && get_u32(&root, "minor", &minor) &&
           minor <= UINT8_MAX && get_text(&root, "version", &out->version) &&
           get_text(&root, "model", &out->model) &&
           get_u32(&root, "context_tokens_max", &out->context_tokens_max) &&
           get_u32(&root, "vocab", &out->vocab) &&
           get_u32(&root, "page_tokens", &out->page_tokens) &&
           get_u32(&root, "credit_tokens", &out->credit_tokens) &&
           get_u32(&root, "message_bytes_max", &out->message_bytes_max) &&
           get_u32(&root, "max_tokens_default", &out->max_tokens_default) &&
           get_ids(codec, &root, "eos_ids", &out->eos_ids, &out->eos_count) &&
           get_bool(&root, "tokenizer", &out->tokenizer) && get_bool(&root, "chat", &out->chat);
    if (!good) {
        return -EPROTO;
    }
    out->minor = (uint8_t)minor;
    return 0;
}

static bool get_choice(const msgpack_object *map, struct wire_choice *out)
{
    out->several = find(map, "index") != NULL;
    return !out->several || get_u32(map, "index", &out->index);
}

int codec_decode_tokens(struct codec *codec, struct wire_bytes body, struct wire_tokens *out)
{
    msgpack_object root;

    *out = (struct wire_tokens){0};
    if (open_reply(codec, body, &root) != 0 || !get_u64(&root, "instance", &out->instance) ||
        !get_choice(&root, &out->choice) || !get_u32(&root, "offset", &out->offset) ||
        !get_ids(codec, &root, "ids", &out->ids, &out->id_count) ||
        !get_text(&root, "text", &out->text) ||
        !get_logprobs(codec, &root, out->id_count, &out->logprobs) ||
        !get_scores(codec, &root, &out->prompt)) {
        return -EPROTO;
    }
    return 0;
}

static bool get_events(struct codec *codec, const msgpack_object *map,
                       const struct wire_events **out)
{
    const msgpack_object *from = find_kind(map, "events", MSGPACK_OBJECT_MAP);
    struct wire_events *events;

    *out = NULL;
    if (!from) {
        return find(map, "events") == NULL;
    }
    const msgpack_object *times = find_kind(from, "preempted_us", MSGPACK_OBJECT_ARRAY);
    events = msgpack_zone_malloc(&codec->zone, sizeof *events);
    if (!events || !times || times->via.array.size > LIMIT_PREEMPTIONS_TOLD_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < times->via.array.size; i++) {
        if (times->via.array.ptr[i].type != MSGPACK_OBJECT_POSITIVE_INTEGER) {
            return false;
        }
        events->preempted_us[i] = times->via.array.ptr[i].via.u64;
    }
    *out = events;
    return get_u64(from, "queued_us", &events->queued_us) &&
           get_u64(from, "scheduled_us", &events->scheduled_us) &&
           get_u64(from, "first_token_us", &events->first_token_us) &&
           get_u64(from, "finished_us", &events->finished_us) &&
           get_u32(from, "preempted_count", &events->preempted_count);
}

int codec_decode_done(struct codec *codec, struct wire_bytes body, struct wire_done *out)
{
    msgpack_object root;

    *out = (struct wire_done){0};
    if (open_reply(codec, body, &root) != 0 || !get_u64(&root, "instance", &out->instance) ||
        !get_choice(&root, &out->choice) || !get_finish(&root, &out->finish) ||
        !get_usage(&root, &out->usage) || !get_events(codec, &root, &out->events)) {
        return -EPROTO;
    }
    out->whole = find(&root, "ids") != NULL;
    if (out->whole && (!get_ids(codec, &root, "ids", &out->ids, &out->id_count) ||
                       !get_text(&root, "text", &out->text) ||
                       !get_logprobs(codec, &root, out->id_count, &out->logprobs) ||
                       !get_scores(codec, &root, &out->prompt))) {
        return -EPROTO;
    }
    return 0;
}

int codec_decode_error(struct codec *codec, struct wire_bytes body, struct wire_failure *out)
{
    msgpack_object root;
    const msgpack_object *id;

    *out = (struct wire_failure){0};
    if (open_reply(codec, body, &root) != 0 || !get_text(&root, "code", &out->code) ||
        !get_u32(&root, "status", &out->status) || !get_text(&root, "message", &out->message) ||
        !get_bool(&root, "retryable", &out->retryable) ||
        !get_u32(&root, "retry_after_ms", &out->retry_after_ms)) {
        return -EPROTO;
    }
    id = find_kind(&root, "request_id", MSGPACK_OBJECT_BIN);
    if (!id) {
        return -EPROTO;
    }
    out->request_id = (struct wire_bytes){(const uint8_t *)id->via.bin.ptr, id->via.bin.size};
    return 0;
}

int codec_decode_pong(struct codec *codec, struct wire_bytes body, struct wire_pong *out)
{
    msgpack_object root;

    *out = (struct wire_pong){0};
    if (open_reply(codec, body, &root) != 0 || !get_u64(&root, "instance", &out->instance) ||
        !get_u64(&root, "steps", &out->steps)) {
        return -EPROTO;
    }
    return 0;
}

int codec_decode_ids(struct codec *codec, struct wire_bytes body, const uint32_t **ids,
                     uint32_t *count)
{
    msgpack_object root;

    if (open_reply(codec, body, &root) != 0 || !get_ids(codec, &root, "ids", ids, count)) {
        return -EPROTO;
    }
    return 0;
}

int codec_decode_text(struct codec *codec, struct wire_bytes body, struct wire_text *out)
{
    msgpack_object root;

    if (open_reply(codec, body, &root) != 0 || !get_text(&root, "text", out)) {
        return -EPROTO;
    }
    return 0;
}

int codec_decode_stats(struct codec *codec, struct wire_bytes body, struct wire_number *numbers,
                       uint32_t *count)
{
    msgpack_object root;

    if (open_reply(codec, body, &root) != 0) {
        return -EPROTO;
    }
    for (uint32_t i = 0; i < root.via.map.size; i++) {
        const msgpack_object_kv *pair = &root.via.map.ptr[i];
        if (pair->val.type != MSGPACK_OBJECT_POSITIVE_INTEGER) {
            return -EPROTO;
        }
        numbers[i].name = (struct wire_text){pair->key.via.str.ptr, pair->key.via.str.size};
        numbers[i].value = pair->val.via.u64;
    }
    *count = root.via.map.size;
    return 0;
}

static bool read_plan(const msgpack_object *map, struct wire_plan *out)
{
    return map->type == MSGPACK_OBJECT_MAP && get_text(map, "file", &out->file) &&
           get_u32(map, "plan", &out->plan) && get_u32(map, "tokens", &out->tokens) &&
           get_u32(map, "decode", &out->decode) && get_u32(map, "context", &out->context) &&
           get_u64(map, "steps_total", &out->steps) &&
           get_u64(map, "compute_us_total", &out->compute_us);
}

static bool get_plans(struct codec *codec, const msgpack_object *root, struct wire_plans *out)
{
    const msgpack_object *list = find_kind(root, "plans", MSGPACK_OBJECT_ARRAY);
    struct wire_plan *plans =
        list ? msgpack_zone_malloc(&codec->zone, (list->via.array.size + 1) * sizeof *plans) : NULL;

    for (uint32_t i = 0; plans && i < list->via.array.size; i++) {
        if (!read_plan(&list->via.array.ptr[i], &plans[i])) {
            return false;
        }
        out->plan_count++;
    }
    out->plans = plans;
    return plans != NULL;
}

static bool get_refused(struct codec *codec, const msgpack_object *root, struct wire_plans *out)
{
    const msgpack_object *list = find_kind(root, "refused", MSGPACK_OBJECT_ARRAY);
    struct wire_refusal *refused =
        list ? msgpack_zone_malloc(&codec->zone, (list->via.array.size + 1) * sizeof *refused)
             : NULL;

    for (uint32_t i = 0; refused && i < list->via.array.size; i++) {
        const msgpack_object *map = &list->via.array.ptr[i];
        if (map->type != MSGPACK_OBJECT_MAP || !get_text(map, "file", &refused[i].file) ||
            !get_text(map, "reason", &refused[i].reason)) {
            return false;
        }
        out->refused_count++;
    }
    out->refused = refused;
    return refused != NULL;
}

int codec_decode_plans(struct codec *codec, struct wire_bytes body, struct wire_plans *out)
{
    msgpack_object root;

    *out = (struct wire_plans){0};
    if (open_reply(codec, body, &root) != 0 || !get_plans(codec, &root, out) ||
        !get_refused(codec, &root, out)) {
        return -EPROTO;
    }
    return 0;
}
