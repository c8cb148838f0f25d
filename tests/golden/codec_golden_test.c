/*
 * codec_golden_test.c - the codec against the byte vectors of tests/golden/wire, which
 * make_vectors.py wrote without it: what is encoded equals them, and they survive decoding and
 * encoding again.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wire/codec.h"

#define FOLDER "tests/golden/wire/"

enum { FRAME_BYTES_MAX = 4096 };

struct vector {
    uint8_t bytes[WIRE_FRAMES][FRAME_BYTES_MAX];
    struct wire_bytes frames[WIRE_FRAMES];
};

static const uint64_t INSTANCE = 0x0123456789abcdef;
static const uint32_t ANSWER_IDS[] = {7, 70000};
static const struct wire_usage USAGE = {5, 2, 0};
static const struct wire_token_logprobs LOGPROBS[] = {
    {{7, -0.5f}, 2, {{7, -0.5f}, {300, -1.25f}}},
    {{70000, -2.0f}, 0, {{0, 0}}},
};

static struct wire_text text_of(const char *text)
{
    return (struct wire_text){text, strlen(text)};
}

static struct wire_bytes ids_of(const uint32_t *ids, size_t count)
{
    return (struct wire_bytes){(const uint8_t *)ids, count * sizeof *ids};
}

/* Bytes of one line of hexadecimal digits. */
static size_t read_line(FILE *file, uint8_t *out)
{
    size_t count = 0;
    unsigned byte;

    while (count < FRAME_BYTES_MAX && fscanf(file, "%2x", &byte) == 1) {
        out[count++] = (uint8_t)byte;
        const int next = fgetc(file);
        if (next == '\n') {
            break;
        }
        assert_int_equal(ungetc(next, file), next);
    }
    return count;
}

static void read_vector(const char *name, struct vector *vector)
{
    char path[256];
    FILE *file;

    (void)snprintf(path, sizeof path, FOLDER "%s.hex", name);
    file = fopen(path, "r");
    if (!file) {
        fail_msg("%s is missing", path);
    }
    for (size_t i = 0; i < WIRE_FRAMES; i++) {
        vector->frames[i] = (struct wire_bytes){vector->bytes[i], 0};
        vector->frames[i].count = read_line(file, vector->bytes[i]);
    }
    assert_int_equal(fgetc(file), EOF);
    (void)fclose(file);
}

static struct wire_bytes encode_generate(struct codec *codec, const char *name)
{
    static const uint32_t prompt[] = {1, 403, 70000};
    struct wire_generate *in = calloc(1, sizeof *in);
    struct wire_bytes body;

    assert_non_null(in);
    in->stream = in->add_special = in->skip_special = true;
    if (strcmp(name, "generate_prompt") == 0) {
        in->prompt = text_of("Once upon a time");
    } else if (strcmp(name, "generate_n") == 0) {
        in->prompt = text_of("Once");
        in->n = 4;
    } else if (strcmp(name, "generate_terms") == 0) {
        in->prompt = text_of("Once");
        in->priority = -5;
        in->tenant = text_of("search");
    } else if (strcmp(name, "generate_messages") == 0) {
        in->message_count = 2;
        in->messages[0] = (struct wire_chat_message){text_of("system"), text_of("Be brief.")};
        in->messages[1] = (struct wire_chat_message){text_of("user"), text_of("Grüße, 世界")};
        in->max_tokens = 300;
        in->given = WIRE_GIVEN_MAX_TOKENS;
    } else if (strcmp(name, "generate_adjust") == 0) {
        in->prompt = text_of("Once");
        in->given = WIRE_GIVEN_REPETITION;
        in->repetition_penalty = 1.1;
        in->presence_penalty = 0.5;
        in->frequency_penalty = -0.25;
        in->bias_count = 2;
        in->biases[0] = (struct wire_bias){7, -100.0f};
        in->biases[1] = (struct wire_bias){70000, 2.5f};
        in->bad_id_count = 2;
        memcpy(in->bad_ids, (const uint32_t[]){11, 12}, 2 * sizeof(uint32_t));
        in->allowed_id_count = 3;
        memcpy(in->allowed_ids, (const uint32_t[]){7, 13, 70000}, 3 * sizeof(uint32_t));
        in->scores_prompt = true;
        in->include_stop = true;
        in->events = true;
        in->stop_count = 1;
        in->stop[0] = text_of("END");
    } else {
        *in = (struct wire_generate){
            .ids = ids_of(prompt, 3),
            .given = WIRE_GIVEN_MAX_TOKENS | WIRE_GIVEN_TEMPERATURE | WIRE_GIVEN_TOP_K |
                     WIRE_GIVEN_TOP_P | WIRE_GIVEN_MIN_P | WIRE_GIVEN_SEED,
            .max_tokens = 64,
            .temperature = 0,
            .top_k = 40,
            .top_p = 0.95,
            .min_p = 0.05,
            .seed = 0xfedcba9876543210,
            .min_tokens = 2,
            .logprobs = true,
            .top_logprobs = 2,
            .timeout_ms = 30000,
            .ignore_eos = true,
            .parse_special = true,
            .strict = true,
            .stop_count = 2,
            .stop = {text_of("\n\n"), text_of("END")},
            .stop_id_count = 2,
            .stop_ids = {2, 9},
        };
    }
    body = codec_encode_generate(codec, in);
    free(in);
    return body;
}

static struct wire_bytes encode_small(struct codec *codec, const char *name)
{
    static const uint32_t ids[] = {1, 2, 3};

    if (strcmp(name, "hello") == 0) {
        return codec_encode_hello(codec, &(struct wire_hello){0});
    }
    if (strcmp(name, "credit") == 0) {
        return codec_encode_credit(codec, &(struct wire_credit){256});
    }
    if (strcmp(name, "tokenize") == 0) {
        return codec_encode_tokenize(codec, &(struct wire_tokenize){text_of("Hello"), true, false});
    }
    if (strcmp(name, "detokenize") == 0) {
        return codec_encode_detokenize(codec, &(struct wire_detokenize){ids_of(ids, 3), true});
    }
    if (strcmp(name, "result_ids") == 0) {
        return codec_encode_ids(codec, ids, 3);
    }
    if (strcmp(name, "result_text") == 0) {
        return codec_encode_text(codec, text_of("Hello"));
    }
    if (strcmp(name, "result_stats") == 0) {
        const struct wire_stat stats[] = {{"requests_running", 3}, {"steps_total", 1ull << 40}};
        return codec_encode_stats(codec, stats, 2);
    }
    if (strcmp(name, "result_plans") == 0) {
        const struct wire_plan plans[] = {
            {.steps = 7, .compute_us = 900, .file = text_of("")},
            {text_of("512-0-64.json"), 1, 512, 0, 64, 1ull << 33, 1ull << 40},
        };
        const struct wire_refusal refused = {text_of("old.json"),
                                             text_of("it was made for tp 1, this is 2")};
        return codec_encode_plans(codec, &(struct wire_plans){plans, 2, 1, &refused});
    }
    if (strcmp(name, "pong") == 0) {
        return codec_encode_pong(codec, &(struct wire_pong){INSTANCE, 123456});
    }
    return codec_encode_empty(codec);
}

static struct wire_bytes encode_welcome(struct codec *codec, const char *name)
{
    static const uint32_t eos_ids[] = {2, 0};
    const struct wire_welcome in = {
        .instance = INSTANCE,
        .version = text_of("0.1.0"),
        .model = text_of("SmolLM2-135M"),
        .context_tokens_max = 8192,
        .vocab = 49152,
        .page_tokens = 16,
        .credit_tokens = 1024,
        .message_bytes_max = 1 << 20,
        .max_tokens_default = 256,
        .eos_ids = eos_ids,
        .eos_count = 2,
        .tokenizer = true,
        .chat = true,
    };

    (void)name;
    return codec_encode_welcome(codec, &in);
}

static struct wire_choice choice_of(const char *name)
{
    return strstr(name, "_index") ? (struct wire_choice){true, 2} : (struct wire_choice){false, 0};
}

static struct wire_bytes encode_tokens(struct codec *codec, const char *name)
{
    const bool logprobs = strcmp(name, "tokens_logprobs") == 0;
    const struct wire_tokens in = {
        .instance = INSTANCE,
        .choice = choice_of(name),
        .offset = logprobs ? 0 : 3,
        .ids = ANSWER_IDS,
        .id_count = 2,
        .text = text_of(logprobs ? "é" : " sky"),
        .logprobs = logprobs ? LOGPROBS : NULL,
    };
    const struct wire_tokens prompt = {
        .instance = INSTANCE,
        .ids = ANSWER_IDS,
        .text = text_of(""),
        .prompt = {65, 2, LOGPROBS},
    };

    return codec_encode_tokens(codec, strcmp(name, "tokens_prompt") == 0 ? &prompt : &in);
}

static const struct wire_events EVENTS = {
    .queued_us = 1000,
    .scheduled_us = 2000,
    .first_token_us = 1ull << 40,
    .finished_us = (1ull << 40) + 1,
    .preempted_count = 2,
    .preempted_us = {3000, 4000},
};

static struct wire_bytes encode_done(struct codec *codec, const char *name)
{
    struct wire_done in = {.instance = INSTANCE, .choice = choice_of(name), .usage = USAGE};

    if (strcmp(name, "done_events") == 0) {
        in.events = &EVENTS;
    } else if (strcmp(name, "done_cancelled") == 0) {
        in.finish = WIRE_FINISH_CANCELLED;
    } else if (strcmp(name, "done_whole") == 0 || strcmp(name, "done_prompt") == 0) {
        in.finish = WIRE_FINISH_LENGTH;
        in.whole = true;
        in.ids = ANSWER_IDS;
        in.id_count = 2;
        in.text = text_of(" sky");
        in.logprobs = strcmp(name, "done_whole") == 0 ? LOGPROBS : NULL;
        in.prompt = strcmp(name, "done_prompt") == 0 ? (struct wire_scores){1, 2, LOGPROBS}
                                                     : (struct wire_scores){0};
    }
    return codec_encode_done(codec, &in);
}

static struct wire_bytes encode_error(struct codec *codec, const char *name)
{
    const struct wire_id id = {3, "r-1"};
    struct wire_error in = {.code = WIRE_INVALID_ARGUMENT};

    if (strcmp(name, "error") == 0) {
        in = (struct wire_error){.code = WIRE_OVERLOADED, .retry_after_ms = 250};
    } else if (strcmp(name, "error_field") == 0) {
        in.message = "temperature must be a number from 0 to 100";
    }
    return codec_encode_error(codec, &in, strcmp(name, "error_unread_id") == 0 ? NULL : &id);
}

/* Each decodes a body and encodes what came out. */
static struct wire_bytes again_generate(struct codec *codec, struct wire_bytes body)
{
    struct wire_generate *out = calloc(1, sizeof *out);
    struct wire_error error;
    struct wire_bytes again;

    assert_non_null(out);
    assert_int_equal(codec_decode_generate(codec, body, out, &error), 0);
    again = codec_encode_generate(codec, out);
    free(out);
    return again;
}

static struct wire_bytes again_hello(struct codec *codec, struct wire_bytes body)
{
    struct wire_hello out;
    struct wire_error error;

    assert_int_equal(codec_decode_hello(codec, body, &out, &error), 0);
    return codec_encode_hello(codec, &out);
}

static struct wire_bytes again_credit(struct codec *codec, struct wire_bytes body)
{
    struct wire_credit out;
    struct wire_error error;

    assert_int_equal(codec_decode_credit(codec, body, &out, &error), 0);
    return codec_encode_credit(codec, &out);
}

static struct wire_bytes again_tokenize(struct codec *codec, struct wire_bytes body)
{
    struct wire_tokenize out;
    struct wire_error error;

    assert_int_equal(codec_decode_tokenize(codec, body, &out, &error), 0);
    return codec_encode_tokenize(codec, &out);
}

static struct wire_bytes again_detokenize(struct codec *codec, struct wire_bytes body)
{
    struct wire_detokenize out;
    struct wire_error error;

    assert_int_equal(codec_decode_detokenize(codec, body, &out, &error), 0);
    return codec_encode_detokenize(codec, &out);
}

static struct wire_bytes again_empty(struct codec *codec, struct wire_bytes body)
{
    struct wire_error error;

    assert_int_equal(codec_decode_empty(codec, body, &error), 0);
    return codec_encode_empty(codec);
}

static struct wire_bytes again_welcome(struct codec *codec, struct wire_bytes body)
{
    struct wire_welcome out;

    assert_int_equal(codec_decode_welcome(codec, body, &out), 0);
    return codec_encode_welcome(codec, &out);
}

static struct wire_bytes again_tokens(struct codec *codec, struct wire_bytes body)
{
    struct wire_tokens out;

    assert_int_equal(codec_decode_tokens(codec, body, &out), 0);
    return codec_encode_tokens(codec, &out);
}

static struct wire_bytes again_done(struct codec *codec, struct wire_bytes body)
{
    struct wire_done out;

    assert_int_equal(codec_decode_done(codec, body, &out), 0);
    return codec_encode_done(codec, &out);
}

/* An ERROR's texts are the server's, so the client's struct has no encoder: the table stands in. */
static struct wire_bytes again_error(struct codec *codec, struct wire_bytes body)
{
    struct wire_failure out;
    struct wire_error error = {.code = WIRE_OK};
    struct wire_id id;
    char message[256];

    assert_int_equal(codec_decode_error(codec, body, &out), 0);
    for (int code = 1; code < WIRE_ERROR_COUNT; code++) {
        const struct wire_error_row *row = wire_error_row((enum wire_error_code)code);
        if (strlen(row->code) == out.code.count &&
            memcmp(row->code, out.code.bytes, out.code.count) == 0) {
            error.code = (enum wire_error_code)code;
            assert_int_equal(out.status, row->status);
            assert_int_equal(out.retryable, row->retryable);
        }
    }
    (void)snprintf(message, sizeof message, "%.*s", (int)out.message.count, out.message.bytes);
    error.message = message;
    error.retry_after_ms = out.retry_after_ms;
    id.count = (uint8_t)out.request_id.count;
    memcpy(id.bytes, out.request_id.bytes, out.request_id.count);
    return codec_encode_error(codec, &error, &id);
}

static struct wire_bytes again_pong(struct codec *codec, struct wire_bytes body)
{
    struct wire_pong out;

    assert_int_equal(codec_decode_pong(codec, body, &out), 0);
    return codec_encode_pong(codec, &out);
}

static struct wire_bytes again_ids(struct codec *codec, struct wire_bytes body)
{
    const uint32_t *ids;
    uint32_t count;

    assert_int_equal(codec_decode_ids(codec, body, &ids, &count), 0);
    return codec_encode_ids(codec, ids, count);
}

static struct wire_bytes again_text(struct codec *codec, struct wire_bytes body)
{
    struct wire_text out;

    assert_int_equal(codec_decode_text(codec, body, &out), 0);
    return codec_encode_text(codec, out);
}

static struct wire_bytes again_stats(struct codec *codec, struct wire_bytes body)
{
    struct wire_number numbers[LIMIT_MSGPACK_KEYS_MAX];
    struct wire_stat stats[2];
    char names[2][64];
    uint32_t count;

    assert_int_equal(codec_decode_stats(codec, body, numbers, &count), 0);
    assert_int_equal(count, 2);
    for (uint32_t i = 0; i < count; i++) {
        (void)snprintf(names[i], sizeof names[i], "%.*s", (int)numbers[i].name.count,
                       numbers[i].name.bytes);
        stats[i] = (struct wire_stat){names[i], numbers[i].value};
    }
    return codec_encode_stats(codec, stats, count);
}

static struct wire_bytes again_plans(struct codec *codec, struct wire_bytes body)
{
    struct wire_plans out;

    assert_int_equal(codec_decode_plans(codec, body, &out), 0);
    return codec_encode_plans(codec, &out);
}

static const struct {
    const char *name;
    uint8_t command;
    struct wire_bytes (*encode)(struct codec *codec, const char *name);
    struct wire_bytes (*again)(struct codec *codec, struct wire_bytes body);
} messages[] = {
    {"hello", WIRE_HELLO, encode_small, again_hello},
    {"generate_prompt", WIRE_GENERATE, encode_generate, again_generate},
    {"generate_ids", WIRE_GENERATE, encode_generate, again_generate},
    {"generate_adjust", WIRE_GENERATE, encode_generate, again_generate},
    {"generate_messages", WIRE_GENERATE, encode_generate, again_generate},
    {"generate_n", WIRE_GENERATE, encode_generate, again_generate},
    {"generate_terms", WIRE_GENERATE, encode_generate, again_generate},
    {"cancel", WIRE_CANCEL, encode_small, again_empty},
    {"credit", WIRE_CREDIT, encode_small, again_credit},
    {"ping", WIRE_PING, encode_small, again_empty},
    {"tokenize", WIRE_TOKENIZE, encode_small, again_tokenize},
    {"detokenize", WIRE_DETOKENIZE, encode_small, again_detokenize},
    {"stats", WIRE_STATS, encode_small, again_empty},
    {"plans", WIRE_PLANS, encode_small, again_empty},
    {"welcome", WIRE_WELCOME, encode_welcome, again_welcome},
    {"tokens", WIRE_TOKENS, encode_tokens, again_tokens},
    {"tokens_logprobs", WIRE_TOKENS, encode_tokens, again_tokens},
    {"tokens_prompt", WIRE_TOKENS, encode_tokens, again_tokens},
    {"tokens_index", WIRE_TOKENS, encode_tokens, again_tokens},
    {"done_index", WIRE_DONE, encode_done, again_done},
    {"done", WIRE_DONE, encode_done, again_done},
    {"done_events", WIRE_DONE, encode_done, again_done},
    {"done_cancelled", WIRE_DONE, encode_done, again_done},
    {"done_whole", WIRE_DONE, encode_done, again_done},
    {"done_prompt", WIRE_DONE, encode_done, again_done},
    {"error", WIRE_ERROR, encode_error, again_error},
    {"error_field", WIRE_ERROR, encode_error, again_error},
    {"error_unread_id", WIRE_ERROR, encode_error, again_error},
    {"pong", WIRE_PONG, encode_small, again_pong},
    {"result_ids", WIRE_RESULT, encode_small, again_ids},
    {"result_text", WIRE_RESULT, encode_small, again_text},
    {"result_stats", WIRE_RESULT, encode_small, again_stats},
    {"result_plans", WIRE_RESULT, encode_small, again_plans},
};
enum { MESSAGES = sizeof messages / sizeof messages[0] };

static void assert_bytes(const char *name, struct wire_bytes got, struct wire_bytes want)
{
    if (got.count != want.count || memcmp(got.bytes, want.bytes, want.count) != 0) {
        fail_msg("%s differs: %zu bytes, want %zu", name, got.count, want.count);
    }
}

static void encodes_every_vector(void **state)
{
    (void)state;
    struct codec *codec;
    struct vector vector;
    assert_int_equal(codec_open(&codec), 0);
    for (size_t i = 0; i < MESSAGES; i++) {
        read_vector(messages[i].name, &vector);
        assert_bytes(messages[i].name, messages[i].encode(codec, messages[i].name),
                     vector.frames[WIRE_FRAMES - 1]);
    }
    codec_close(codec);
}

static void decodes_every_vector(void **state)
{
    (void)state;
    struct codec *codec;
    struct vector vector;
    assert_int_equal(codec_open(&codec), 0);
    for (size_t i = 0; i < MESSAGES; i++) {
        read_vector(messages[i].name, &vector);
        assert_bytes(messages[i].name, messages[i].again(codec, vector.frames[WIRE_FRAMES - 1]),
                     vector.frames[WIRE_FRAMES - 1]);
    }
    codec_close(codec);
}

static void heads_are_read(void **state)
{
    (void)state;
    uint8_t magic[WIRE_MAGIC_BYTES];
    struct vector vector;
    struct wire_head head;
    wire_magic(magic);
    for (size_t i = 0; i < MESSAGES; i++) {
        read_vector(messages[i].name, &vector);
        assert_bytes(messages[i].name, (struct wire_bytes){magic, sizeof magic}, vector.frames[0]);
        assert_int_equal(wire_head_parse(vector.frames, &head), 0);
        assert_int_equal(head.command, messages[i].command);
        assert_bytes(messages[i].name, (struct wire_bytes){head.id.bytes, head.id.count},
                     vector.frames[2]);
    }
}

static void no_vector_is_forgotten(void **state)
{
    (void)state;
    DIR *folder = opendir(FOLDER);
    size_t count = 0;
    assert_non_null(folder);
    for (const struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
        const char *dot = strrchr(entry->d_name, '.');
        count += dot && strcmp(dot, ".hex") == 0;
    }
    (void)closedir(folder);
    assert_int_equal(count, MESSAGES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encodes_every_vector),
        cmocka_unit_test(decodes_every_vector),
        cmocka_unit_test(heads_are_read),
        cmocka_unit_test(no_vector_is_forgotten),
    };
    return cmocka_run_group_tests_name("codec_golden", tests, NULL, NULL);
}
