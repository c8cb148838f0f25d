/*
 * codec_reply_test.c - a client's decoders against servers that do not keep to the protocol. That
 * good replies are read is shown by the byte vectors of tests/golden.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wire/codec.h"

#define BYTES(text) ((struct wire_bytes){(const uint8_t *)(text), sizeof(text) - 1})

static struct codec *open_codec(void)
{
    struct codec *codec;
    assert_int_equal(codec_open(&codec), 0);
    return codec;
}

/* Decodes body as every kind of reply; how many took it. */
static unsigned takers(struct codec *codec, struct wire_bytes body)
{
    struct wire_number numbers[LIMIT_MSGPACK_KEYS_MAX];
    struct wire_welcome welcome;
    struct wire_tokens tokens;
    struct wire_done done;
    struct wire_failure failure;
    struct wire_pong pong;
    struct wire_plans plans;
    struct wire_text text;
    const uint32_t *ids;
    uint32_t count;
    const int results[] = {
        codec_decode_welcome(codec, body, &welcome),
        codec_decode_tokens(codec, body, &tokens),
        codec_decode_done(codec, body, &done),
        codec_decode_error(codec, body, &failure),
        codec_decode_pong(codec, body, &pong),
        codec_decode_text(codec, body, &text),
        codec_decode_ids(codec, body, &ids, &count),
        codec_decode_stats(codec, body, numbers, &count),
        codec_decode_plans(codec, body, &plans),
    };
    unsigned taken = 0;
    for (size_t i = 0; i < sizeof results / sizeof results[0]; i++) {
        assert_true(results[i] == 0 || results[i] == -EPROTO);
        taken += results[i] == 0;
    }
    return taken;
}

static void nonsense_is_no_reply(void **state)
{
    (void)state;
    struct codec *codec = open_codec();
    assert_int_equal(takers(codec, BYTES("")), 0);
    assert_int_equal(takers(codec, BYTES("\xc0")), 0);
    assert_int_equal(takers(codec, BYTES("\x90")), 0);
    assert_int_equal(takers(codec, BYTES("\x81\xa1z\xc0")), 0);
    assert_int_equal(takers(codec, BYTES("\x81\xa1z\xd4\x01\x00")), 0);
    assert_int_equal(takers(codec, BYTES("\x80")), 1); /* No statistics are statistics. */
    codec_close(codec);
}

static struct wire_bytes whole_answer(struct codec *codec)
{
    static const uint32_t ids[] = {7, 9};
    static const struct wire_token_logprobs logprobs[] = {
        {{7, -0.5f}, 2, {{7, -0.5f}, {8, -1.0f}}},
        {{9, -0.5f}, 1, {{9, -0.5f}}},
    };
    const struct wire_done done = {
        .whole = true, .ids = ids, .id_count = 2, .text = {"hi", 2}, .logprobs = logprobs};
    return codec_encode_done(codec, &done);
}

/* Every byte of a good answer changed in every way: taken or refused, never worse (ASan). */
static void changed_answers_do_no_harm(void **state)
{
    (void)state;
    struct codec *writer = open_codec(), *reader = open_codec();
    const struct wire_bytes good = whole_answer(writer);
    uint8_t *changed = malloc(good.count);
    unsigned refused = 0;
    assert_non_null(changed);
    for (size_t i = 0; i < good.count; i++) {
        for (unsigned value = 0; value < 256; value++) {
            struct wire_done done;
            memcpy(changed, good.bytes, good.count);
            changed[i] = (uint8_t)value;
            refused +=
                codec_decode_done(reader, (struct wire_bytes){changed, good.count}, &done) != 0;
        }
    }
    assert_true(refused > good.count * 100);
    free(changed);
    codec_close(writer);
    codec_close(reader);
}

static void lists_must_fit_one_another(void **state)
{
    (void)state;
    struct codec *codec = open_codec();
    struct wire_tokens tokens;
    const uint32_t *ids;
    uint32_t count;
    const struct wire_bytes fewer =
        BYTES("\x85\xa8instance\x01\xa6offset\x00\xa3ids\xc4\x04\x07\x00"
              "\x00\x00\xa4text\xa0\xa8logprobs\x90");
    assert_int_equal(codec_decode_tokens(codec, fewer, &tokens), -EPROTO);
    assert_int_equal(
        codec_decode_ids(codec, BYTES("\x81\xa3ids\xc4\x03\x01\x00\x00"), &ids, &count), -EPROTO);
    assert_int_equal(codec_decode_ids(codec, BYTES("\x81\xa3ids\xc4\x00"), &ids, &count), 0);
    assert_int_equal(count, 0);
    codec_close(codec);
}

/* More elements than any request may have. */
static void long_answers_are_read(void **state)
{
    (void)state;
    enum { TOKENS = 4096 };
    struct codec *writer = open_codec(), *reader = open_codec();
    uint32_t *ids = calloc(TOKENS, sizeof *ids);
    struct wire_token_logprobs *logprobs = calloc(TOKENS, sizeof *logprobs);
    struct wire_done done = {.whole = true, .ids = ids, .id_count = TOKENS, .text = {"", 0}};
    struct wire_done out;
    assert_true(ids && logprobs);
    for (uint32_t i = 0; i < TOKENS; i++) {
        ids[i] = i;
        logprobs[i].chosen = (struct wire_logprob){i, -1};
        logprobs[i].top_count = LIMIT_TOP_LOGPROBS_MAX;
    }
    done.logprobs = logprobs;
    assert_int_equal(codec_decode_done(reader, codec_encode_done(writer, &done), &out), 0);
    assert_int_equal(out.id_count, TOKENS);
    assert_int_equal(out.ids[TOKENS - 1], TOKENS - 1);
    assert_int_equal(out.logprobs[TOKENS - 1].chosen.id, TOKENS - 1);
    free(ids);
    free(logprobs);
    codec_close(writer);
    codec_close(reader);
}

/* The largest numbers and the most logprobs: what was reserved holds it, and little is to spare. */
static void a_reserved_codec_keeps_its_buffer(void **state)
{
    (void)state;
    enum { TOKENS = 300, TEXT_BYTES = 70000 };
    static uint32_t ids[TOKENS];
    static struct wire_token_logprobs logprobs[TOKENS];
    static char text[TEXT_BYTES];
    const size_t bound = codec_reply_bytes_max(TOKENS, TEXT_BYTES);
    struct codec *codec = open_codec();
    assert_int_equal(codec_reserve(codec, bound), 0);
    const struct wire_pong pong = {UINT64_MAX, UINT64_MAX};
    const uint8_t *before = codec_encode_pong(codec, &pong).bytes;
    const struct wire_events events = {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, 0, {0}};
    for (uint32_t i = 0; i < TOKENS; i++) {
        ids[i] = UINT32_MAX;
        logprobs[i].chosen = (struct wire_logprob){UINT32_MAX, -1};
        logprobs[i].top_count = LIMIT_TOP_LOGPROBS_MAX;
        for (uint32_t j = 0; j < LIMIT_TOP_LOGPROBS_MAX; j++) {
            logprobs[i].top[j] = (struct wire_logprob){UINT32_MAX, -1};
        }
    }
    memset(text, 'x', sizeof text);
    const struct wire_done done = {.instance = UINT64_MAX,
                                   .whole = true,
                                   .ids = ids,
                                   .id_count = TOKENS,
                                   .text = {text, TEXT_BYTES},
                                   .logprobs = logprobs,
                                   .events = &events};
    const struct wire_bytes body = codec_encode_done(codec, &done);
    assert_true(body.count <= bound && body.count + 36000 > bound);
    assert_ptr_equal(body.bytes, before);
    assert_int_equal(codec_reserve(codec, 1), 0); /* Less than there is changes nothing. */
    assert_ptr_equal(codec_encode_pong(codec, &pong).bytes, before);
    codec_close(codec);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nonsense_is_no_reply),
        cmocka_unit_test(changed_answers_do_no_harm),
        cmocka_unit_test(lists_must_fit_one_another),
        cmocka_unit_test(long_answers_are_read),
        cmocka_unit_test(a_reserved_codec_keeps_its_buffer),
    };
    return cmocka_run_group_tests_name("codec_reply", tests, NULL, NULL);
}
