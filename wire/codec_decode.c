/*
 * codec_decode.c - the requests of protocol v1: one table of fields for each command, with the text
 * that a client gets for breaking a rule, and their decoders. Called by the core. docs/protocol.md
 * says the same in words.
 */
#include <errno.h>
#include <float.h>
#include <string.h>

#include "base/limits.h"
#include "wire/codec.h"
#include "wire/field.h"
#include "wire/unsupported.h"

/* Flags of struct field beyond enum wire_given. */
enum {
    FLAG_PROMPT = 1 << 8,
    FLAG_IDS = 1 << 9,
    FLAG_MESSAGES = 1 << 10,
    FLAG_TOP_LOGPROBS = 1 << 11,
    FLAG_REQUIRED = 1 << 12, /* The one field that a small command needs. */
    FLAG_LOGPROBS = 1 << 13,
    FLAG_PROMPT_LOGPROBS = 1 << 14,
    FLAGS_GIVEN = FLAG_PROMPT - 1,
};

static const struct field generate_fields[] = {
    {"prompt", FIELD_TEXT, FLAG_PROMPT, offsetof(struct wire_generate, prompt), 0, 0,
     "prompt must be a string"},
    {"ids", FIELD_IDS, FLAG_IDS, offsetof(struct wire_generate, ids), 0, 0,
     "ids must be bin: little-endian u32 token ids, at least one"},
    {"messages", FIELD_MESSAGES, FLAG_MESSAGES, 0, 0, 0,
     "messages must be 1 to 1024 maps with the strings role and content"},
    {"max_tokens", FIELD_U32, WIRE_GIVEN_MAX_TOKENS, offsetof(struct wire_generate, max_tokens), 1,
     LIMIT_CONTEXT_MAX, "max_tokens must be an integer from 1 to 1048576"},
    {"temperature", FIELD_F64, WIRE_GIVEN_TEMPERATURE, offsetof(struct wire_generate, temperature),
     0, 100, "temperature must be a number from 0 to 100"},
    {"top_k", FIELD_U32, WIRE_GIVEN_TOP_K, offsetof(struct wire_generate, top_k), 0,
     LIMIT_VOCAB_MAX, "top_k must be an integer from 0 to 1048576"},
    {"top_p", FIELD_F64, WIRE_GIVEN_TOP_P, offsetof(struct wire_generate, top_p), DBL_TRUE_MIN, 1,
     "top_p must be a number above 0 and at most 1"},
    {"min_p", FIELD_F64, WIRE_GIVEN_MIN_P, offsetof(struct wire_generate, min_p), 0, 1,
     "min_p must be a number from 0 to 1"},
    {"seed", FIELD_U64, WIRE_GIVEN_SEED, offsetof(struct wire_generate, seed), 0, 0,
     "seed must be an integer from 0 to 2^64 - 1"},
    {"repetition_penalty", FIELD_F64, WIRE_GIVEN_REPETITION,
     offsetof(struct wire_generate, repetition_penalty), 0.01, 100,
     "repetition_penalty must be a number from 0.01 to 100"},
    {"presence_penalty", FIELD_F64, 0, offsetof(struct wire_generate, presence_penalty), -2, 2,
     "presence_penalty must be a number from -2 to 2"},
    {"frequency_penalty", FIELD_F64, 0, offsetof(struct wire_generate, frequency_penalty), -2, 2,
     "frequency_penalty must be a number from -2 to 2"},
    {"logit_bias", FIELD_BIASES, 0, 0, 0, 0,
     "logit_bias must be a map of up to 512 distinct decimal token ids to numbers from -100 to "
     "100"},
    {"bad_ids", FIELD_BAD_IDS, 0, 0, 0, 0,
     "bad_ids must be up to 512 single token ids, as an array or as bin"},
    {"allowed_ids", FIELD_ALLOWED_IDS, 0, 0, 0, 0,
     "allowed_ids must be 1 to 1024 token ids, as an array or as bin"},
    {"n", FIELD_U32, 0, offsetof(struct wire_generate, n), 1, LIMIT_CHOICES_MAX,
     "n must be an integer from 1 to 16"},
    {"min_tokens", FIELD_U32, 0, offsetof(struct wire_generate, min_tokens), 0, LIMIT_CONTEXT_MAX,
     "min_tokens must be an integer from 0 to 1048576"},
    {"top_logprobs", FIELD_U32, FLAG_TOP_LOGPROBS, offsetof(struct wire_generate, top_logprobs), 0,
     LIMIT_TOP_LOGPROBS_MAX, "top_logprobs must be an integer from 0 to 20"},
    {"logprobs", FIELD_LOGPROBS, FLAG_LOGPROBS, 0, 0, 0,
     "logprobs must be a boolean or an integer from 0 to 20"},
    {"prompt_logprobs", FIELD_U32, FLAG_PROMPT_LOGPROBS,
     offsetof(struct wire_generate, prompt_logprobs), 0, LIMIT_TOP_LOGPROBS_MAX,
     "prompt_logprobs must be an integer from 0 to 20"},
    {"timeout_ms", FIELD_U32, 0, offsetof(struct wire_generate, timeout_ms), 0, UINT32_MAX,
     "timeout_ms must be an integer from 0 to 2^32 - 1"},
    {"priority", FIELD_I32, 0, offsetof(struct wire_generate, priority), -LIMIT_PRIORITY_MAX,
     LIMIT_PRIORITY_MAX, "priority must be an integer from -100 to 100"},
    {"tenant", FIELD_TEXT, 0, offsetof(struct wire_generate, tenant), 1, LIMIT_TENANT_BYTES_MAX,
     "tenant must be a string of 1 to 64 bytes"},
    {"ignore_eos", FIELD_BOOL, 0, offsetof(struct wire_generate, ignore_eos), 0, 0,
     "ignore_eos must be a boolean"},
    {"stream", FIELD_BOOL, 0, offsetof(struct wire_generate, stream), 0, 0,
     "stream must be a boolean"},
    {"add_special", FIELD_BOOL, 0, offsetof(struct wire_generate, add_special), 0, 0,
     "add_special must be a boolean"},
    {"parse_special", FIELD_BOOL, 0, offsetof(struct wire_generate, parse_special), 0, 0,
     "parse_special must be a boolean"},
    {"skip_special", FIELD_BOOL, 0, offsetof(struct wire_generate, skip_special), 0, 0,
     "skip_special must be a boolean"},
    {"include_stop", FIELD_BOOL, 0, offsetof(struct wire_generate, include_stop), 0, 0,
     "include_stop must be a boolean"},
    {"strict", FIELD_BOOL, 0, offsetof(struct wire_generate, strict), 0, 0,
     "strict must be a boolean"},
    {"events", FIELD_BOOL, 0, offsetof(struct wire_generate, events), 0, 0,
     "events must be a boolean"},
    {"stop", FIELD_STOP, 0, 0, 0, 0, "stop must be one to 8 strings of 1 to 128 bytes each"},
    {"stop_ids", FIELD_STOP_IDS, 0, 0, 0, 0,
     "stop_ids must be up to 16 token ids, as an array or as bin"},
};

/* As OpenAI's API and vLLM call them. */
static const struct field_alias generate_aliases[] = {
    {"max_completion_tokens", "max_tokens"},        {"stop_token_ids", "stop_ids"},
    {"allowed_token_ids", "allowed_ids"},           {"bad_token_ids", "bad_ids"},
    {"include_stop_str_in_output", "include_stop"}, {"skip_special_tokens", "skip_special"},
};

static const struct field hello_fields[] = {
    {"minor_max", FIELD_U32, 0, offsetof(struct wire_hello, minor_max), 0, UINT8_MAX,
     "minor_max must be an integer from 0 to 255"},
};

static const struct field credit_fields[] = {
    {"tokens", FIELD_U32, FLAG_REQUIRED, offsetof(struct wire_credit, tokens), 1, LIMIT_CONTEXT_MAX,
     "tokens must be an integer from 1 to 1048576"},
};

static const struct field tokenize_fields[] = {
    {"text", FIELD_TEXT, FLAG_REQUIRED, offsetof(struct wire_tokenize, text), 0, 0,
     "text must be a string"},
    {"add_special", FIELD_BOOL, 0, offsetof(struct wire_tokenize, add_special), 0, 0,
     "add_special must be a boolean"},
    {"parse_special", FIELD_BOOL, 0, offsetof(struct wire_tokenize, parse_special), 0, 0,
     "parse_special must be a boolean"},
};

static const struct field detokenize_fields[] = {
    {"ids", FIELD_IDS, FLAG_REQUIRED, offsetof(struct wire_detokenize, ids), 0, 0,
     "ids must be bin: little-endian u32 token ids, at least one"},
    {"skip_special", FIELD_BOOL, 0, offsetof(struct wire_detokenize, skip_special), 0, 0,
     "skip_special must be a boolean"},
};

#define SCHEMA(table, needs, text)                                                                 \
    {                                                                                              \
        .fields = (table), .field_count = sizeof(table) / sizeof(table)[0], .required = (needs),   \
        .missing = (text)                                                                          \
    }

static const struct schema generate_schema = {
    .fields = generate_fields,
    .field_count = sizeof generate_fields / sizeof generate_fields[0],
    .aliases = generate_aliases,
    .alias_count = sizeof generate_aliases / sizeof generate_aliases[0],
    .refusal = unsupported_message,
};
static const struct schema hello_schema = SCHEMA(hello_fields, 0, NULL);
static const struct schema credit_schema =
    SCHEMA(credit_fields, FLAG_REQUIRED, "tokens is missing");
static const struct schema tokenize_schema =
    SCHEMA(tokenize_fields, FLAG_REQUIRED, "text is missing");
static const struct schema detokenize_schema =
    SCHEMA(detokenize_fields, FLAG_REQUIRED, "ids is missing");
static const struct schema empty_schema = {0};

int codec_decode_hello(struct codec *codec, struct wire_bytes body, struct wire_hello *out,
                       struct wire_error *error)
{
    uint32_t flags;

    *out = (struct wire_hello){0};
    return field_decode(codec, body, &hello_schema, out, &flags, error);
}

int codec_decode_generate(struct codec *codec, struct wire_bytes body, struct wire_generate *out,
                          struct wire_error *error)
{
    uint32_t flags;

    memset(out, 0, sizeof *out);
    out->max_tokens = 256;
    out->n = 1;
    out->temperature = 1;
    out->top_p = 1;
    out->repetition_penalty = 1;
    out->stream = true;
    out->add_special = true;
    out->skip_special = true;
    if (field_decode(codec, body, &generate_schema, out, &flags, error) != 0) {
        return -EINVAL;
    }
    if (__builtin_popcount(flags & (FLAG_PROMPT | FLAG_IDS | FLAG_MESSAGES)) != 1) {
        return field_refuse(error, WIRE_INVALID_ARGUMENT,
                            "exactly one of prompt, ids and messages must be given");
    }
    if ((flags & WIRE_GIVEN_MAX_TOKENS) && out->min_tokens > out->max_tokens) {
        return field_refuse(error, WIRE_INVALID_ARGUMENT,
                            "min_tokens must not be above max_tokens");
    }
    if ((flags & FLAG_TOP_LOGPROBS) && (flags & FLAG_LOGPROBS) && !out->logprobs) {
        return field_refuse(error, WIRE_INVALID_ARGUMENT, "top_logprobs needs logprobs: true");
    }
    if ((flags & FLAG_TOP_LOGPROBS) && out->logprobs_counted) {
        return field_refuse(error, WIRE_INVALID_ARGUMENT,
                            "logprobs is a number: top_logprobs must not be given too");
    }
    out->given = flags & FLAGS_GIVEN;
    out->logprobs = out->logprobs || (flags & FLAG_TOP_LOGPROBS);
    out->scores_prompt = flags & FLAG_PROMPT_LOGPROBS;
    return 0;
}

int codec_decode_credit(struct codec *codec, struct wire_bytes body, struct wire_credit *out,
                        struct wire_error *error)
{
    uint32_t flags;

    *out = (struct wire_credit){0};
    return field_decode(codec, body, &credit_schema, out, &flags, error);
}

int codec_decode_tokenize(struct codec *codec, struct wire_bytes body, struct wire_tokenize *out,
                          struct wire_error *error)
{
    uint32_t flags;

    *out = (struct wire_tokenize){.add_special = true};
    return field_decode(codec, body, &tokenize_schema, out, &flags, error);
}

int codec_decode_detokenize(struct codec *codec, struct wire_bytes body,
                            struct wire_detokenize *out, struct wire_error *error)
{
    uint32_t flags;

    *out = (struct wire_detokenize){0};
    return field_decode(codec, body, &detokenize_schema, out, &flags, error);
}

int codec_decode_empty(struct codec *codec, struct wire_bytes body, struct wire_error *error)
{
    uint32_t flags;

    return field_decode(codec, body, &empty_schema, NULL, &flags, error);
}
