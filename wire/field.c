/*
 * field.c - decodes the map of a request by a table of fields. Called by codec_decode.c for every
 * message of a client, on the loop's thread of the core.
 *
 * The validator has bounded the body before a value is looked at here: maps have string keys, text
 * is UTF-8. What is left is each field's own rule, and a rule broken is answered by its text.
 */
#include "wire/field.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "wire/codec_state.h"
#include "wire/validator.h"

int field_refuse(struct wire_error *error, enum wire_error_code code, const char *message)
{
    *error = (struct wire_error){.code = code, .message = message};
    return -EINVAL;
}

static bool take_text(const msgpack_object *value, struct wire_text *out)
{
    if (value->type != MSGPACK_OBJECT_STR) {
        return false;
    }
    *out = (struct wire_text){value->via.str.ptr, value->via.str.size};
    return true;
}

static bool take_bounded_text(const msgpack_object *value, const struct field *field,
                              struct wire_text *out)
{
    return take_text(value, out) && (field->max == 0 || ((double)out->count >= field->min &&
                                                         (double)out->count <= field->max));
}

static bool take_ids(const msgpack_object *value, struct wire_bytes *out)
{
    if (value->type != MSGPACK_OBJECT_BIN || value->via.bin.size == 0 ||
        value->via.bin.size % sizeof(uint32_t) != 0) {
        return false;
    }
    *out = (struct wire_bytes){(const uint8_t *)value->via.bin.ptr, value->via.bin.size};
    return true;
}

static bool take_u32(const msgpack_object *value, const struct field *field, uint32_t *out)
{
    if (value->type != MSGPACK_OBJECT_POSITIVE_INTEGER || value->via.u64 > UINT32_MAX ||
        (double)value->via.u64 < field->min || (double)value->via.u64 > field->max) {
        return false;
    }
    *out = (uint32_t)value->via.u64;
    return true;
}

static bool take_i32(const msgpack_object *value, const struct field *field, int32_t *out)
{
    const bool positive = value->type == MSGPACK_OBJECT_POSITIVE_INTEGER;
    const double number = positive ? (double)value->via.u64 : (double)value->via.i64;
    if ((!positive && value->type != MSGPACK_OBJECT_NEGATIVE_INTEGER) || number < field->min ||
        number > field->max) {
        return false;
    }
    *out = (int32_t)number;
    return true;
}

static bool take_f64(const msgpack_object *value, const struct field *field, double *out)
{
    double number;

    switch (value->type) {
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        number = value->via.f64;
        break;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        number = (double)value->via.u64;
        break;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        number = (double)value->via.i64;
        break;
    default:
        return false;
    }
    if (!(number >= field->min && number <= field->max)) { /* NaN is in no range. */
        return false;
    }
    *out = number;
    return true;
}

/* One turn of a chat: role and content, both once. */
static bool take_message(const msgpack_object *value, bool strict, struct wire_chat_message *out)
{
    if (value->type != MSGPACK_OBJECT_MAP) {
        return false;
    }
    *out = (struct wire_chat_message){0};
    for (uint32_t i = 0; i < value->via.map.size; i++) {
        const msgpack_object_kv *pair = &value->via.map.ptr[i];
        struct wire_text *text = NULL;
        if (codec_key_is(&pair->key, "role")) {
            text = &out->role;
        } else if (codec_key_is(&pair->key, "content")) {
            text = &out->content;
        }
        if (text ? text->bytes || !take_text(&pair->val, text) : strict) {
            return false;
        }
    }
    return out->role.bytes && out->content.bytes;
}

static bool take_messages(const msgpack_object *value, bool strict, struct wire_generate *out)
{
    if (value->type != MSGPACK_OBJECT_ARRAY || value->via.array.size == 0 ||
        value->via.array.size > LIMIT_MESSAGES_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < value->via.array.size; i++) {
        if (!take_message(&value->via.array.ptr[i], strict, &out->messages[i])) {
            return false;
        }
    }
    out->message_count = value->via.array.size;
    return true;
}

/* A single value stands for an array of one. */
static bool take_stop(const msgpack_object *value, struct wire_generate *out)
{
    const bool many = value->type == MSGPACK_OBJECT_ARRAY;
    const uint32_t count = many ? value->via.array.size : 1;

    if (count > LIMIT_STOP_STRINGS_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct wire_text *stop = &out->stop[i];
        if (!take_text(many ? &value->via.array.ptr[i] : value, stop) || stop->count == 0 ||
            stop->count > LIMIT_STOP_STRING_BYTES_MAX) {
            return false;
        }
    }
    out->stop_count = count;
    return true;
}

static uint32_t load_u32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
           (uint32_t)bytes[3] << 24;
}

/* An array of integers, or bin. */
static bool take_id_list(const msgpack_object *value, uint32_t max, uint32_t *ids, uint32_t *out)
{
    const struct field any = {.max = LIMIT_VOCAB_MAX - 1};
    const bool is_bin = value->type == MSGPACK_OBJECT_BIN;
    struct wire_bytes packed = {0};
    uint32_t count;

    if (is_bin && !take_ids(value, &packed)) {
        return false;
    }
    if (!is_bin && value->type != MSGPACK_OBJECT_ARRAY) {
        return false;
    }
    count = is_bin ? value->via.bin.size / (uint32_t)sizeof(uint32_t) : value->via.array.size;
    if (count > max) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (is_bin) {
            ids[i] = load_u32(packed.bytes + i * sizeof(uint32_t));
        } else if (!take_u32(&value->via.array.ptr[i], &any, &ids[i])) {
            return false;
        }
    }
    *out = count;
    return true;
}

/* A key of a map that is a token id: decimal, without a leading zero. */
static bool take_decimal(const msgpack_object *key, uint32_t *out)
{
    const char *digits = key->via.str.ptr;
    const uint32_t count = key->via.str.size;

    *out = 0;
    if (count == 0 || count > 7 || (count > 1 && digits[0] == '0')) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (digits[i] < '0' || digits[i] > '9') {
            return false;
        }
        *out = *out * 10 + (uint32_t)(digits[i] - '0');
    }
    return *out < LIMIT_VOCAB_MAX;
}

static bool take_biases(const msgpack_object *value, struct wire_generate *out)
{
    const struct field bias = {.min = -100, .max = 100};

    if (value->type != MSGPACK_OBJECT_MAP || value->via.map.size > LIMIT_LOGIT_BIASES_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < value->via.map.size; i++) {
        const msgpack_object_kv *pair = &value->via.map.ptr[i];
        struct wire_bias *entry = &out->biases[i];
        double number;
        if (!take_decimal(&pair->key, &entry->id) || !take_f64(&pair->val, &bias, &number)) {
            return false;
        }
        entry->bias = (float)number;
        for (uint32_t j = 0; j < i; j++) {
            if (out->biases[j].id == entry->id) {
                return false;
            }
        }
    }
    out->bias_count = value->via.map.size;
    return true;
}

static bool take_logprobs(const msgpack_object *value, struct wire_generate *out)
{
    const struct field number = {.max = LIMIT_TOP_LOGPROBS_MAX};

    if (value->type == MSGPACK_OBJECT_BOOLEAN) {
        out->logprobs = value->via.boolean;
        return true;
    }
    out->logprobs = true;
    out->logprobs_counted = true;
    return take_u32(value, &number, &out->top_logprobs);
}

/* The kinds that fill several members of a GENERATE. */
static bool take_generate_field(enum field_kind kind, const msgpack_object *value, bool strict,
                                struct wire_generate *out)
{
    switch (kind) {
    case FIELD_MESSAGES:
        return take_messages(value, strict, out);
    case FIELD_STOP:
        return take_stop(value, out);
    case FIELD_STOP_IDS:
        return take_id_list(value, LIMIT_STOP_IDS_MAX, out->stop_ids, &out->stop_id_count);
    case FIELD_BAD_IDS:
        return take_id_list(value, LIMIT_BAD_IDS_MAX, out->bad_ids, &out->bad_id_count);
    case FIELD_ALLOWED_IDS:
        return take_id_list(value, LIMIT_ALLOWED_IDS_MAX, out->allowed_ids,
                            &out->allowed_id_count) &&
               out->allowed_id_count > 0;
    case FIELD_BIASES:
        return take_biases(value, out);
    case FIELD_LOGPROBS:
        return take_logprobs(value, out);
    default:
        return false;
    }
}

/* Puts a value where its field says. */
static bool take_field(const struct field *field, const msgpack_object *value, bool strict,
                       void *out)
{
    void *target = (char *)out + field->offset;

    switch (field->kind) {
    case FIELD_TEXT:
        return take_bounded_text(value, field, target);
    case FIELD_IDS:
        return take_ids(value, target);
    case FIELD_U32:
        return take_u32(value, field, target);
    case FIELD_I32:
        return take_i32(value, field, target);
    case FIELD_U64:
        if (value->type != MSGPACK_OBJECT_POSITIVE_INTEGER) {
            return false;
        }
        *(uint64_t *)target = value->via.u64;
        return true;
    case FIELD_F64:
        return take_f64(value, field, target);
    case FIELD_BOOL:
        if (value->type != MSGPACK_OBJECT_BOOLEAN) {
            return false;
        }
        *(bool *)target = value->via.boolean;
        return true;
    default:
        return take_generate_field(field->kind, value, strict, out);
    }
}

static const struct field *find_field(const struct schema *schema, const msgpack_object *key)
{
    for (size_t i = 0; i < schema->field_count; i++) {
        if (codec_key_is(key, schema->fields[i].key)) {
            return &schema->fields[i];
        }
    }
    for (size_t i = 0; i < schema->alias_count; i++) {
        for (size_t f = 0; f < schema->field_count && codec_key_is(key, schema->aliases[i].alias);
             f++) {
            if (strcmp(schema->fields[f].key, schema->aliases[i].key) == 0) {
                return &schema->fields[f];
            }
        }
    }
    return NULL;
}

/* The value of strict, which may stand behind the keys that it judges. */
static int find_strict(const msgpack_object_map *map, bool *strict, struct wire_error *error)
{
    *strict = false;
    for (uint32_t i = 0; i < map->size; i++) {
        if (codec_key_is(&map->ptr[i].key, "strict")) {
            if (map->ptr[i].val.type != MSGPACK_OBJECT_BOOLEAN) {
                return field_refuse(error, WIRE_INVALID_ARGUMENT, "strict must be a boolean");
            }
            *strict = map->ptr[i].val.via.boolean;
        }
    }
    return 0;
}

static int open_body(struct codec *codec, struct wire_bytes body, msgpack_object *root,
                     struct wire_error *error)
{
    switch (validator_body(body.bytes, body.count)) {
    case 0:
        break;
    case -E2BIG:
        return field_refuse(error, WIRE_TOO_LARGE,
                            "the body is nested too deeply or has too many values");
    case -ENOTSUP:
        return field_refuse(error, WIRE_INVALID_ARGUMENT, "the body holds a msgpack ext type");
    default:
        return field_refuse(
            error, WIRE_INVALID_ARGUMENT,
            "the body is not one msgpack map with distinct string keys and UTF-8 text");
    }
    if (codec_unpack(codec, body, root) != 0) {
        return field_refuse(error, WIRE_INTERNAL, NULL);
    }
    return 0;
}

/* Plain names alone are repeated: what else a client sends is not put into texts. */
static bool is_name(const msgpack_object *key)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";

    for (uint32_t i = 0; i < key->via.str.size; i++) {
        if (key->via.str.ptr[i] == '\0' || !strchr(letters, key->via.str.ptr[i])) {
            return false;
        }
    }
    return key->via.str.size > 0 && key->via.str.size <= CODEC_MESSAGE_BYTES / 2;
}

/* A key without a field: ignored, unless the map is strict or the key would change the answer. */
static int judge_unknown(struct codec *codec, const struct schema *schema,
                         const msgpack_object *key, bool strict, struct wire_error *error)
{
    const char *refusal =
        schema->refusal ? schema->refusal(key->via.str.ptr, key->via.str.size) : NULL;

    if (refusal) {
        return field_refuse(error, WIRE_UNSUPPORTED, refusal);
    }
    if (!strict || codec_key_is(key, "strict")) {
        return 0;
    }
    if (!is_name(key)) {
        return field_refuse(error, WIRE_INVALID_ARGUMENT, "strict: a key is not known here");
    }
    (void)snprintf(codec->message, sizeof codec->message, "strict: %.*s is not known here",
                   (int)key->via.str.size, key->via.str.ptr);
    return field_refuse(error, WIRE_INVALID_ARGUMENT, codec->message);
}

int field_decode(struct codec *codec, struct wire_bytes body, const struct schema *schema,
                 void *out, uint32_t *flags, struct wire_error *error)
{
    msgpack_object root;
    uint64_t seen = 0; /* A bit for each field. */
    bool strict;
    int status = open_body(codec, body, &root, error);

    if (status == 0) {
        status = find_strict(&root.via.map, &strict, error);
    }
    *flags = 0;
    for (uint32_t i = 0; status == 0 && i < root.via.map.size; i++) {
        const msgpack_object_kv *pair = &root.via.map.ptr[i];
        const struct field *field = find_field(schema, &pair->key);
        if (!field) {
            status = judge_unknown(codec, schema, &pair->key, strict, error);
            continue;
        }
        const uint64_t bit = 1ull << (field - schema->fields);
        if (seen & bit) {
            return field_refuse(error, WIRE_INVALID_ARGUMENT, "a field is given under two names");
        }
        seen |= bit;
        if (!take_field(field, &pair->val, strict, out)) {
            return field_refuse(error, WIRE_INVALID_ARGUMENT, field->rule);
        }
        *flags |= field->flag;
    }
    if (status == 0 && (*flags & schema->required) != schema->required) {
        status = field_refuse(error, WIRE_INVALID_ARGUMENT, schema->missing);
    }
    return status;
}
