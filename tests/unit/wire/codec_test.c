/*
 * codec_test.c - requests: defaults, every field's rule with its text, strict, prompts, and that
 * decoding does not allocate. Bodies are packed by hand with a few macros, so that a wrong type is
 * easy to write.
 */
#include "wire/codec.h"

#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
    struct codec *codec;
    struct wire_generate *generate;
    struct wire_error error;
};

static int open_fixture(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    if (!fixture || codec_open(&fixture->codec) != 0) {
        return -1;
    }
    fixture->generate = calloc(1, sizeof *fixture->generate);
    *state = fixture;
    return fixture->generate ? 0 : -1;
}

static int close_fixture(void **state)
{
    struct fixture *fixture = *state;
    codec_close(fixture->codec);
    free(fixture->generate);
    free(fixture);
    return 0;
}

/* A body: a map of pairs pairs, its inside as bytes. */
struct body {
    uint8_t bytes[4096];
    size_t count;
};

static void add(struct body *body, const char *bytes, size_t count)
{
    assert_true(body->count + count <= sizeof body->bytes);
    memcpy(body->bytes + body->count, bytes, count);
    body->count += count;
}

static void add_key(struct body *body, const char *key)
{
    const char head = (char)(0xa0 | strlen(key));
    assert_true(strlen(key) < 32);
    body->bytes[0]++; /* Of a fixmap. */
    add(body, &head, 1);
    add(body, key, strlen(key));
}

/* {"prompt": "a"}: what a request needs. */
static struct body small(void)
{
    struct body body = {.bytes = {0x80}, .count = 1};
    add_key(&body, "prompt");
    add(&body,
        "\xa1"
        "a",
        2);
    return body;
}

static int decode(struct fixture *fixture, const struct body *body)
{
    return codec_decode_generate(fixture->codec, (struct wire_bytes){body->bytes, body->count},
                                 fixture->generate, &fixture->error);
}

/* Decodes {"prompt": "a", key: value}. */
static int decode_with(struct fixture *fixture, const char *key, const char *value, size_t count)
{
    struct body body = small();
    add_key(&body, key);
    add(&body, value, count);
    return decode(fixture, &body);
}

#define WITH(key, value) decode_with(fixture, key, value, sizeof(value) - 1)

static void defaults_are_those_of_the_protocol(void **state)
{
    struct fixture *fixture = *state;
    const struct body body = small();
    const struct wire_generate *out = fixture->generate;
    memset(fixture->generate, 0xee, sizeof *fixture->generate);
    assert_int_equal(decode(fixture, &body), 0);
    assert_int_equal(out->prompt.count, 1);
    assert_null(out->ids.bytes);
    assert_int_equal(out->message_count, 0);
    assert_int_equal(out->given, 0);
    assert_int_equal(out->max_tokens, 256);
    assert_true(out->temperature == 1 && out->top_p == 1 && out->min_p == 0);
    assert_int_equal(out->top_k, 0);
    assert_int_equal(out->min_tokens, 0);
    assert_int_equal(out->timeout_ms, 0);
    assert_int_equal(out->stop_count, 0);
    assert_int_equal(out->stop_id_count, 0);
    assert_true(out->repetition_penalty == 1 && out->presence_penalty == 0 &&
                out->frequency_penalty == 0);
    assert_int_equal(out->bias_count + out->bad_id_count + out->allowed_id_count, 0);
    assert_false(out->scores_prompt || out->include_stop);
    assert_true(out->stream && out->add_special && out->skip_special);
    assert_false(out->ignore_eos || out->logprobs || out->parse_special || out->strict);
}

static void says_what_was_given(void **state)
{
    struct fixture *fixture = *state;
    const struct wire_generate *out = fixture->generate;
    assert_int_equal(WITH("max_tokens", "\x05"), 0);
    assert_int_equal(out->given, WIRE_GIVEN_MAX_TOKENS);
    assert_int_equal(out->max_tokens, 5);
    assert_int_equal(WITH("temperature", "\x02"), 0); /* An integer is a number too. */
    assert_int_equal(out->given, WIRE_GIVEN_TEMPERATURE);
    assert_true(out->temperature == 2);
    assert_int_equal(WITH("temperature", "\xca\x3f\x00\x00\x00"), 0);
    assert_true(out->temperature == 0.5);
    assert_int_equal(WITH("seed", "\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), 0);
    assert_int_equal(out->given, WIRE_GIVEN_SEED);
    assert_true(out->seed == UINT64_MAX);
    assert_int_equal(WITH("max_tokens", "\xd2\x00\x00\x01\x00"), 0); /* Signed, not negative. */
    assert_int_equal(out->max_tokens, 256);
    assert_int_equal(WITH("top_logprobs", "\x00"), 0);
    assert_true(out->logprobs && out->top_logprobs == 0 && out->given == 0);
}

struct wrong {
    const char *key;
    const char *value;
    size_t count;
};

#define WRONG(key, value)                                                                          \
    {                                                                                              \
        key, value, sizeof(value) - 1                                                              \
    }
#define F64(bits) "\xcb" bits
#define NAN_BITS  "\x7f\xf8\x00\x00\x00\x00\x00\x00"
#define INF_BITS  "\x7f\xf0\x00\x00\x00\x00\x00\x00"
#define STOP_129                                                                                   \
    "\xd9\x81"                                                                                     \
    "0123456789012345678901234567890123456789012345678901234567890123456789"                       \
    "01234567890123456789012345678901234567890123456789012345678"

static const struct wrong wrongs[] = {
    WRONG("max_tokens", "\x00"),
    WRONG("max_tokens", "\xff"),
    WRONG("max_tokens", "\xce\x00\x10\x00\x01"),
    WRONG("max_tokens", "\xcf\x00\x00\x00\x01\x00\x00\x00\x01"),
    WRONG("max_tokens", "\xca\x40\x00\x00\x00"),
    WRONG("max_tokens", "\xc3"),
    WRONG("max_tokens", "\xa1"
                        "5"),
    WRONG("temperature", "\xff"),
    WRONG("temperature", "\x65"),
    WRONG("temperature", F64(NAN_BITS)),
    WRONG("temperature", F64(INF_BITS)),
    WRONG("temperature", "\xc0"),
    WRONG("top_k", "\xff"),
    WRONG("top_k", "\xce\x00\x10\x00\x01"),
    WRONG("top_p", "\x00"),
    WRONG("top_p", "\x02"),
    WRONG("top_p", F64(NAN_BITS)),
    WRONG("min_p", "\xff"),
    WRONG("min_p", "\x02"),
    WRONG("seed", "\xff"),
    WRONG("seed", F64(INF_BITS)),
    WRONG("min_tokens", "\xff"),
    WRONG("top_logprobs", "\x15"),
    WRONG("timeout_ms", "\xcf\x00\x00\x00\x01\x00\x00\x00\x00"),
    WRONG("priority", "\x65"),
    WRONG("priority", "\xd0\x9b"),
    WRONG("priority", "\xd3\x80\x00\x00\x00\x00\x00\x00\x00"),
    WRONG("priority", "\xcf\xff\xff\xff\xff\xff\xff\xff\xff"),
    WRONG("priority", F64(NAN_BITS)),
    WRONG("tenant", "\xa0"),
    WRONG("tenant", "\x05"),
    WRONG("tenant", STOP_129),
    WRONG("ignore_eos", "\x01"),
    WRONG("stream", "\xc0"),
    WRONG("add_special", "\x00"),
    WRONG("parse_special", "\x00"),
    WRONG("skip_special", "\x00"),
    WRONG("strict", "\x00"),
    WRONG("events", "\x00"),
    WRONG("n", "\x00"),
    WRONG("n", "\x11"),
    WRONG("stop", "\x05"),
    WRONG("stop", "\xa0"),
    WRONG("stop", "\x91\xa0"),
    WRONG("stop", "\x91\x05"),
    WRONG("stop", "\x99\xa1z\xa1z\xa1z\xa1z\xa1z\xa1z\xa1z\xa1z\xa1z"),
    WRONG("stop", STOP_129),
    WRONG("stop_ids", "\xa1z"),
    WRONG("stop_ids", "\xc4\x03\x01\x00\x00"),
    WRONG("stop_ids", "\x91\xff"),
    WRONG("stop_ids", "\x91\xa1z"),
    WRONG("stop_ids", "\x91\xce\x00\x10\x00\x00"),
    WRONG("stop_ids", "\xdc\x00\x11\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01"
                      "\x01\x01"),
    WRONG("repetition_penalty", "\x00"),
    WRONG("repetition_penalty", "\x65"),
    WRONG("repetition_penalty", F64(NAN_BITS)),
    WRONG("presence_penalty", "\x03"),
    WRONG("presence_penalty", "\xfd"),
    WRONG("frequency_penalty", "\xfd"),
    WRONG("frequency_penalty", F64(INF_BITS)),
    WRONG("logit_bias", "\x90"),
    WRONG("logit_bias", "\x81\xa1"
                        "5\x65"),
    WRONG("logit_bias", "\x81\xa1"
                        "5\xa1"
                        "1"),
    WRONG("logit_bias", "\x81\xa2"
                        "05\x01"),
    WRONG("logit_bias", "\x81\xa2"
                        "-1\x01"),
    WRONG("logit_bias", "\x81\xa0\x01"),
    WRONG("logit_bias", "\x81\xa7"
                        "1048576\x01"),
    WRONG("logit_bias", "\x81\xaa"
                        "4294967301\x01"),
    WRONG("logit_bias", "\x82\xa1"
                        "5\x01\xa1"
                        "5\x02"),
    WRONG("bad_ids", "\x91\x92\x01\x02"), /* A sequence of tokens. */
    WRONG("bad_ids", "\xc4\x03\x01\x00\x00"),
    WRONG("allowed_ids", "\x90"),
    WRONG("allowed_ids", "\x91\xa1z"),
    WRONG("logprobs", "\x15"),
    WRONG("logprobs", "\xff"),
    WRONG("logprobs", "\xc0"),
    WRONG("prompt_logprobs", "\x15"),
    WRONG("prompt_logprobs", "\xc3"),
    WRONG("include_stop", "\x01"),
    WRONG("ids", "\xc4\x00"),
    WRONG("ids", "\xc4\x05\x01\x00\x00\x00\x01"),
    WRONG("ids", "\x91\x01"),
    WRONG("ids", "\xa4"
                 "abcd"),
    WRONG("messages", "\x90"),
    WRONG("messages", "\xa1z"),
    WRONG("messages", "\x91\x05"),
    WRONG("messages", "\x91\x81\xa4role\xa1u"),
    WRONG("messages", "\x91\x82\xa4role\xa1u\xa7"
                      "content\x05"),
    WRONG("messages", "\x91\x83\xa4role\xa1u\xa4role\xa1u\xa7"
                      "content\xa0"),
};

static void each_field_has_its_rule(void **state)
{
    struct fixture *fixture = *state;
    for (size_t i = 0; i < sizeof wrongs / sizeof wrongs[0]; i++) {
        const struct wrong *wrong = &wrongs[i];
        fixture->error = (struct wire_error){0};
        if (decode_with(fixture, wrong->key, wrong->value, wrong->count) != -EINVAL ||
            fixture->error.code != WIRE_INVALID_ARGUMENT ||
            strncmp(fixture->error.message, wrong->key, strlen(wrong->key)) != 0) {
            fail_msg("case %zu: %s", i, wrong->key);
        }
    }
}

static void bounds_themselves_are_allowed(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(WITH("max_tokens", "\xce\x00\x10\x00\x00"), 0);
    assert_int_equal(WITH("temperature", "\x00"), 0);
    assert_int_equal(WITH("temperature", "\x64"), 0);
    assert_int_equal(WITH("top_p", "\x01"), 0);
    assert_int_equal(WITH("top_p", F64("\x00\x00\x00\x00\x00\x00\x00\x01")), 0);
    assert_int_equal(WITH("min_p", "\x00"), 0);
    assert_int_equal(WITH("top_logprobs", "\x14"), 0);
    assert_int_equal(WITH("timeout_ms", "\xce\xff\xff\xff\xff"), 0);
    assert_int_equal(WITH("stop_ids", "\x91\xce\x00\x0f\xff\xff"), 0);
    assert_int_equal(WITH("stop_ids", "\x90"), 0);
    assert_int_equal(WITH("repetition_penalty", "\x64"), 0);
    assert_int_equal(fixture->generate->given, WIRE_GIVEN_REPETITION);
    assert_int_equal(WITH("presence_penalty", "\x02"), 0);
    assert_int_equal(WITH("frequency_penalty", "\xfe"), 0);
    assert_true(fixture->generate->frequency_penalty == -2);
    assert_int_equal(WITH("prompt_logprobs", "\x14"), 0);
}

static void lists_of_tokens_are_read(void **state)
{
    struct fixture *fixture = *state;
    const struct wire_generate *out = fixture->generate;
    assert_int_equal(WITH("logit_bias", "\x83\xa1"
                                        "0\xd0\x9c\xa5"
                                        "70000\x64\xa1"
                                        "7\xca\x3f\x00\x00\x00"),
                     0);
    assert_int_equal(out->bias_count, 3);
    assert_int_equal(out->biases[0].id, 0);
    assert_true(out->biases[0].bias == -100);
    assert_int_equal(out->biases[1].id, 70000);
    assert_true(out->biases[1].bias == 100 && out->biases[2].bias == 0.5f);
    assert_int_equal(WITH("logit_bias", "\x80"), 0);
    assert_int_equal(out->bias_count, 0);
    assert_int_equal(WITH("bad_ids", "\x92\x05\xcd\x01\x00"), 0);
    assert_int_equal(out->bad_id_count, 2);
    assert_int_equal(out->bad_ids[1], 256);
    assert_int_equal(WITH("allowed_ids", "\xc4\x04\x70\x11\x01\x00"), 0);
    assert_int_equal(out->allowed_id_count, 1);
    assert_int_equal(out->allowed_ids[0], 70000);
}

static void logprobs_are_a_boolean_or_a_number(void **state)
{
    struct fixture *fixture = *state;
    const struct wire_generate *out = fixture->generate;
    assert_int_equal(WITH("logprobs", "\xc3"), 0);
    assert_true(out->logprobs && out->top_logprobs == 0);
    assert_int_equal(WITH("logprobs", "\x05"), 0);
    assert_true(out->logprobs && out->top_logprobs == 5);
    assert_int_equal(WITH("logprobs", "\xc2"), 0);
    assert_false(out->logprobs);
    assert_int_equal(WITH("prompt_logprobs", "\x00"), 0);
    assert_true(out->scores_prompt && !out->logprobs && out->prompt_logprobs == 0);
    struct body body = small();
    add_key(&body, "top_logprobs");
    add(&body, "\x03", 1);
    add_key(&body, "logprobs");
    add(&body, "\xc3", 1);
    assert_int_equal(decode(fixture, &body), 0);
    assert_true(out->logprobs && out->top_logprobs == 3);
    body.bytes[body.count - 1] = 0xc2;
    assert_int_equal(decode(fixture, &body), -EINVAL);
    assert_string_equal(fixture->error.message, "top_logprobs needs logprobs: true");
    body.bytes[body.count - 1] = 0x05; /* Which of the two numbers holds is not for order to say. */
    assert_int_equal(decode(fixture, &body), -EINVAL);
    assert_string_equal(fixture->error.message,
                        "logprobs is a number: top_logprobs must not be given too");
}

static void other_names_are_taken_once(void **state)
{
    struct fixture *fixture = *state;
    const struct wire_generate *out = fixture->generate;
    assert_int_equal(WITH("stop_token_ids", "\x91\x07"), 0);
    assert_int_equal(out->stop_id_count, 1);
    assert_int_equal(WITH("include_stop_str_in_output", "\xc3"), 0);
    assert_true(out->include_stop);
    assert_int_equal(WITH("skip_special_tokens", "\xc2"), 0);
    assert_false(out->skip_special);
    assert_int_equal(WITH("max_completion_tokens", "\x07"), 0);
    assert_true(out->max_tokens == 7 && out->given == WIRE_GIVEN_MAX_TOKENS);
    struct body body = small();
    add_key(&body, "bad_token_ids");
    add(&body, "\x91\x07", 2);
    assert_int_equal(decode(fixture, &body), 0);
    assert_int_equal(out->bad_ids[0], 7);
    add_key(&body, "bad_ids");
    add(&body, "\x91\x08", 2);
    assert_int_equal(decode(fixture, &body), -EINVAL);
    assert_string_equal(fixture->error.message, "a field is given under two names");
}

/* Whatever its value is, and without strict. */
static void what_changes_the_answer_is_never_ignored(void **state)
{
    struct fixture *fixture = *state;
    static const char *const keys[] = {"best_of",
                                       "use_beam_search",
                                       "guided_json",
                                       "response_format",
                                       "tools",
                                       "tool_choice",
                                       "lora",
                                       "bad_words",
                                       "logits_processors",
                                       "echo",
                                       "suffix",
                                       "typical_p",
                                       "regex",
                                       "prompt_embeds",
                                       "chat_template"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        assert_int_equal(decode_with(fixture, keys[i], "\xc2", 1), -EINVAL);
        assert_int_equal(fixture->error.code, WIRE_UNSUPPORTED);
        assert_memory_equal(fixture->error.message, keys[i], strlen(keys[i]));
    }
    assert_int_equal(WITH("model", "\xa1x"), 0);
    assert_int_equal(WITH("user", "\xa1x"), 0);
}

static void stops_come_as_one_or_many(void **state)
{
    struct fixture *fixture = *state;
    const struct wire_generate *out = fixture->generate;
    assert_int_equal(WITH("stop", "\xa3"
                                  "END"),
                     0);
    assert_int_equal(out->stop_count, 1);
    assert_memory_equal(out->stop[0].bytes, "END", 3);
    assert_int_equal(WITH("stop", "\x92\xa1x\xa2yz"), 0);
    assert_int_equal(out->stop_count, 2);
    assert_int_equal(out->stop[1].count, 2);
    assert_int_equal(WITH("stop_ids", "\xc4\x08\x02\x00\x00\x00\x70\x11\x01\x00"), 0);
    assert_int_equal(out->stop_id_count, 2);
    assert_int_equal(out->stop_ids[1], 70000);
    assert_int_equal(WITH("stop_ids", "\x92\x02\xce\x00\x01\x11\x70"), 0);
    assert_int_equal(out->stop_id_count, 2);
    assert_int_equal(out->stop_ids[1], 70000);
}

static void exactly_one_prompt(void **state)
{
    struct fixture *fixture = *state;
    const char ids[] = "\xc4\x04\x01\x00\x00\x00";
    struct body body = {.bytes = {0x80}, .count = 1};
    assert_int_equal(decode(fixture, &body), -EINVAL);
    assert_string_equal(fixture->error.message,
                        "exactly one of prompt, ids and messages must be given");
    add_key(&body, "ids");
    add(&body, ids, sizeof ids - 1);
    assert_int_equal(decode(fixture, &body), 0);
    assert_int_equal(fixture->generate->ids.count, 4);
    assert_null(fixture->generate->prompt.bytes);
    assert_int_equal(decode_with(fixture, "ids", ids, sizeof ids - 1), -EINVAL);
    assert_int_equal(WITH("messages", "\x91\x82\xa4role\xa1u\xa7"
                                      "content\xa0"),
                     -EINVAL);
}

static void min_tokens_is_not_above_max_tokens(void **state)
{
    struct fixture *fixture = *state;
    struct body body = small();
    add_key(&body, "min_tokens");
    add(&body, "\x06", 1);
    assert_int_equal(decode(fixture, &body), 0);
    add_key(&body, "max_tokens");
    add(&body, "\x05", 1);
    assert_int_equal(decode(fixture, &body), -EINVAL);
    assert_string_equal(fixture->error.message, "min_tokens must not be above max_tokens");
}

static int decode_strict(struct fixture *fixture, const char *key)
{
    struct body body = small();
    add_key(&body, "strict");
    add(&body, "\xc3", 1);
    add_key(&body, key);
    add(&body, "\x01", 1);
    return decode(fixture, &body);
}

static void unknown_keys_only_hurt_when_strict(void **state)
{
    struct fixture *fixture = *state;
    struct body body = small();
    add_key(&body, "colour");
    add(&body,
        "\xa4"
        "blue",
        5);
    assert_int_equal(decode(fixture, &body), 0);
    add_key(&body, "strict"); /* Behind the key that it judges. */
    add(&body, "\xc3", 1);
    assert_int_equal(decode(fixture, &body), -EINVAL);
    assert_int_equal(fixture->error.code, WIRE_INVALID_ARGUMENT);
    assert_string_equal(fixture->error.message, "strict: colour is not known here");
    body.bytes[body.count - 1] = 0xc2;
    assert_int_equal(decode(fixture, &body), 0);
    assert_int_equal(decode_strict(fixture, "n\xc3\xb6"), -EINVAL); /* Not repeated. */
    assert_string_equal(fixture->error.message, "strict: a key is not known here");
    assert_int_equal(WITH("strict", "\xc3"), 0);
    assert_true(fixture->generate->strict);
}

static void strict_reaches_into_messages(void **state)
{
    struct fixture *fixture = *state;
    const char message[] = "\x91\x83\xa4role\xa1u\xa7"
                           "content\xa1x\xa4name\xa1"
                           "A";
    struct body body = {.bytes = {0x80}, .count = 1};
    add_key(&body, "messages");
    add(&body, message, sizeof message - 1);
    assert_int_equal(decode(fixture, &body), 0);
    assert_int_equal(fixture->generate->message_count, 1);
    assert_memory_equal(fixture->generate->messages[0].content.bytes, "x", 1);
    add_key(&body, "strict");
    add(&body, "\xc3", 1);
    assert_int_equal(decode(fixture, &body), -EINVAL);
}

static int decode_bytes(struct fixture *fixture, const char *bytes, size_t count)
{
    return codec_decode_generate(fixture->codec, (struct wire_bytes){(const uint8_t *)bytes, count},
                                 fixture->generate, &fixture->error);
}

static void broken_bodies_have_a_code(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(decode_bytes(fixture, "", 0), -EINVAL);
    assert_int_equal(fixture->error.code, WIRE_INVALID_ARGUMENT);
    assert_int_equal(decode_bytes(fixture, "\x90", 1), -EINVAL);
    assert_int_equal(fixture->error.code, WIRE_INVALID_ARGUMENT);
    assert_int_equal(decode_bytes(fixture, "\x81\xa1z\xd4\x01\x00", 6), -EINVAL);
    assert_int_equal(fixture->error.code, WIRE_INVALID_ARGUMENT);
    assert_int_equal(decode_bytes(fixture, "\x81\xa1z\x91\x91\x91\x91\x91\x91\x91\x91\xc0", 12),
                     -EINVAL);
    assert_int_equal(fixture->error.code, WIRE_TOO_LARGE);
}

#define BYTES(text) ((struct wire_bytes){(const uint8_t *)(text), sizeof(text) - 1})

static void small_commands_have_their_rules(void **state)
{
    struct fixture *fixture = *state;
    struct codec *codec = fixture->codec;
    struct wire_error *error = &fixture->error;
    struct wire_hello hello;
    struct wire_credit credit;
    struct wire_tokenize tokenize;
    struct wire_detokenize detokenize;
    assert_int_equal(codec_decode_hello(codec, BYTES("\x80"), &hello, error), 0);
    assert_int_equal(hello.minor_max, 0);
    assert_int_equal(
        codec_decode_hello(codec, BYTES("\x81\xa9minor_max\xcd\x01\x00"), &hello, error), -EINVAL);
    assert_int_equal(codec_decode_credit(codec, BYTES("\x80"), &credit, error), -EINVAL);
    assert_string_equal(error->message, "tokens is missing");
    assert_int_equal(codec_decode_credit(codec, BYTES("\x81\xa6tokens\x00"), &credit, error),
                     -EINVAL);
    assert_int_equal(codec_decode_credit(codec, BYTES("\x81\xa6tokens\x09"), &credit, error), 0);
    assert_int_equal(credit.tokens, 9);
    assert_int_equal(codec_decode_tokenize(codec, BYTES("\x80"), &tokenize, error), -EINVAL);
    assert_int_equal(codec_decode_tokenize(codec, BYTES("\x81\xa4text\xa0"), &tokenize, error), 0);
    assert_true(tokenize.add_special && !tokenize.parse_special && tokenize.text.bytes);
    assert_int_equal(codec_decode_detokenize(codec, BYTES("\x80"), &detokenize, error), -EINVAL);
    assert_int_equal(codec_decode_detokenize(codec, BYTES("\x81\xa3ids\xc4\x04\x01\x00\x00\x00"),
                                             &detokenize, error),
                     0);
    assert_false(detokenize.skip_special);
    assert_int_equal(codec_decode_empty(codec, BYTES("\x81\xa1z\x01"), error), 0);
    assert_int_equal(codec_decode_empty(codec, BYTES("\x82\xa1z\x01\xa6strict\xc3"), error),
                     -EINVAL);
    assert_int_equal(codec_decode_empty(codec, BYTES("\x90"), error), -EINVAL);
}

/* As many messages as a request may have: 5,122 elements. */
static struct wire_bytes largest_messages(uint8_t *out)
{
    static const uint8_t turn[] = "\x82\xa4role\xa1u\xa7"
                                  "content\xa1x";
    size_t count = 0;
    memcpy(out, "\x81\xa8messages\xdc\x04\x00", 13);
    for (count = 13; count < 13 + LIMIT_MESSAGES_MAX * (sizeof turn - 1);
         count += sizeof turn - 1) {
        memcpy(out + count, turn, sizeof turn - 1);
    }
    return (struct wire_bytes){out, count};
}

/* Bytes in use by malloc while the last decoded struct is alive. A sanitizer's heap is not seen:
 * the test then only shows that the largest request decodes. */
static size_t heap_bytes(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return 0;
#else
    const struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
#endif
}

static void decoding_does_not_allocate(void **state)
{
    struct fixture *fixture = *state;
    const struct body body = small();
    uint8_t *bytes = malloc((size_t)64 * 1024);
    assert_non_null(bytes);
    const struct wire_bytes most = largest_messages(bytes);
    const size_t before = heap_bytes();
    for (int i = 0; i < 100; i++) {
        assert_int_equal(decode(fixture, &body), 0);
        assert_int_equal(heap_bytes(), before);
        assert_int_equal(
            codec_decode_generate(fixture->codec, most, fixture->generate, &fixture->error), 0);
        assert_int_equal(fixture->generate->message_count, LIMIT_MESSAGES_MAX);
        assert_int_equal(heap_bytes(), before);
    }
    free(bytes);
}

static void encoding_reuses_its_buffer(void **state)
{
    struct fixture *fixture = *state;
    const struct wire_pong pong = {1, 2};
    const uint8_t *first = codec_encode_pong(fixture->codec, &pong).bytes;
    for (int i = 0; i < 100; i++) {
        assert_ptr_equal(codec_encode_pong(fixture->codec, &pong).bytes, first);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_those_of_the_protocol),
        cmocka_unit_test(says_what_was_given),
        cmocka_unit_test(each_field_has_its_rule),
        cmocka_unit_test(bounds_themselves_are_allowed),
        cmocka_unit_test(stops_come_as_one_or_many),
        cmocka_unit_test(lists_of_tokens_are_read),
        cmocka_unit_test(logprobs_are_a_boolean_or_a_number),
        cmocka_unit_test(other_names_are_taken_once),
        cmocka_unit_test(what_changes_the_answer_is_never_ignored),
        cmocka_unit_test(exactly_one_prompt),
        cmocka_unit_test(min_tokens_is_not_above_max_tokens),
        cmocka_unit_test(unknown_keys_only_hurt_when_strict),
        cmocka_unit_test(strict_reaches_into_messages),
        cmocka_unit_test(broken_bodies_have_a_code),
        cmocka_unit_test(small_commands_have_their_rules),
        cmocka_unit_test(decoding_does_not_allocate),
        cmocka_unit_test(encoding_reuses_its_buffer),
    };
    return cmocka_run_group_tests_name("codec", tests, open_fixture, close_fixture);
}
