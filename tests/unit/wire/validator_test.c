/*
 * validator_test.c - the walk against the msgpack test suite, against lies about lengths and depth,
 * and the rules of a body.
 */
#include "wire/validator.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/limits.h"

#define WALK(text) validator_walk((const uint8_t *)(text), sizeof(text) - 1)
#define BODY(text) validator_body((const uint8_t *)(text), sizeof(text) - 1)

static void takes_every_type(void **state)
{
    (void)state;
    assert_int_equal(WALK("\x00"), 0);
    assert_int_equal(WALK("\xff"), 0);
    assert_int_equal(WALK("\xc0"), 0);
    assert_int_equal(WALK("\xca\x00\x00\x00\x00"), 0);
    assert_int_equal(WALK("\xd3\x80\x00\x00\x00\x00\x00\x00\x00"), 0);
    assert_int_equal(WALK("\xc5\x00\x02\xff\xff"), 0);
    assert_int_equal(WALK("\xdb\x00\x00\x00\x01z"), 0);
    assert_int_equal(WALK("\x93\x01\x90\x81\xc2\xc3"), 0);
    assert_int_equal(WALK("\xdf\x00\x00\x00\x01\x01\xdd\x00\x00\x00\x00"), 0);
}

static void refuses_what_is_no_value(void **state)
{
    (void)state;
    assert_int_equal(validator_walk(NULL, 0), -EINVAL);
    assert_int_equal(WALK("\xc1"), -EINVAL);
    assert_int_equal(WALK("\x91\xc1"), -EINVAL);
    assert_int_equal(WALK("\x01\x01"), -EINVAL);
    assert_int_equal(WALK("\x91\x01\xc0"), -EINVAL);
}

static void refuses_ext(void **state)
{
    (void)state;
    assert_int_equal(WALK("\xd4\x01\x00"), -ENOTSUP);
    assert_int_equal(WALK("\xd6\xff\x00\x00\x00\x00"), -ENOTSUP);
    assert_int_equal(WALK("\xc7\x00\x01"), -ENOTSUP);
    assert_int_equal(WALK("\xc9\x00\x00\x00\x00\x01"), -ENOTSUP);
    assert_int_equal(WALK("\x81\xa1z\xd4\x01\x00"), -ENOTSUP);
}

/* Every beginning of a good value is refused, and no count makes the walk read past the end. */
static void refuses_every_cut(void **state)
{
    (void)state;
    static const char good[] = "\x85\xa1s\xd9\x02hi\xa1z\xc4\x01\x00\xa1i\xce\x00\x01\x00\x00\xa1y"
                               "\x92\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00\xd1\x80\x00\xa1m\x81\xa1k"
                               "\xc0";
    uint8_t *cut;
    assert_int_equal(WALK(good), 0);
    assert_int_equal(BODY(good), 0);
    for (size_t count = 0; count < sizeof good - 1; count++) {
        cut = malloc(count ? count : 1); /* Exact: ASan sees a byte too far. */
        assert_non_null(cut);
        memcpy(cut, good, count);
        assert_int_equal(validator_walk(cut, count), -EINVAL);
        assert_int_equal(validator_body(cut, count), -EINVAL);
        free(cut);
    }
}

static void refuses_counts_beyond_the_bytes(void **state)
{
    (void)state;
    assert_int_equal(WALK("\xdd\xff\xff\xff\xff"), -EINVAL);
    assert_int_equal(WALK("\xdf\xff\xff\xff\xff\x01\x01"), -EINVAL);
    assert_int_equal(WALK("\xdf\x80\x00\x00\x01\x01\x01"), -EINVAL); /* 2n wraps in 32 bits. */
    assert_int_equal(WALK("\xc6\xff\xff\xff\xff\x00"), -EINVAL);
    assert_int_equal(WALK("\xdb\xff\xff\xff\xff\x00"), -EINVAL);
    assert_int_equal(WALK("\xdc\x00\x03\x01\x01"), -EINVAL);
    assert_int_equal(WALK("\x82\x01\x01\x01"), -EINVAL);
}

static void bounds_depth(void **state)
{
    (void)state;
    uint8_t nested[LIMIT_MSGPACK_DEPTH_MAX + 2];
    memset(nested, 0x91, sizeof nested);
    nested[LIMIT_MSGPACK_DEPTH_MAX] = 0xc0;
    assert_int_equal(validator_walk(nested, LIMIT_MSGPACK_DEPTH_MAX + 1), 0);
    nested[LIMIT_MSGPACK_DEPTH_MAX] = 0x90; /* An empty container is a level too. */
    assert_int_equal(validator_walk(nested, LIMIT_MSGPACK_DEPTH_MAX + 1), -E2BIG);
    nested[LIMIT_MSGPACK_DEPTH_MAX] = 0x91;
    nested[LIMIT_MSGPACK_DEPTH_MAX + 1] = 0xc0;
    assert_int_equal(validator_walk(nested, LIMIT_MSGPACK_DEPTH_MAX + 2), -E2BIG);
}

/* One budget over all levels: many small arrays cost what one large one costs. */
static void bounds_elements(void **state)
{
    (void)state;
    enum { COUNT = LIMIT_MSGPACK_ELEMENTS_MAX };
    uint8_t *flat = calloc(COUNT + 4, 1);
    assert_non_null(flat);
    flat[0] = 0xdc;
    flat[1] = (COUNT - 1) >> 8;
    flat[2] = (COUNT - 1) & 0xff;
    assert_int_equal(validator_walk(flat, 3 + COUNT - 1), 0);
    flat[1] = COUNT >> 8;
    flat[2] = COUNT & 0xff;
    assert_int_equal(validator_walk(flat, 3 + COUNT), -E2BIG);

    memset(flat, 0, COUNT + 4); /* Pairs of [[...]]: an array and its item. */
    flat[0] = 0xdc;
    flat[1] = (COUNT / 2) >> 8;
    flat[2] = (COUNT / 2) & 0xff;
    for (size_t i = 0; i < COUNT / 2; i++) {
        flat[3 + 2 * i] = 0x91;
    }
    assert_int_equal(validator_walk(flat, 3 + COUNT), -E2BIG);
    assert_int_equal(validator_reply(flat, 3 + COUNT), -EINVAL); /* No map, but not too much. */
    free(flat);
}

static void text_is_utf8(void **state)
{
    (void)state;
    assert_int_equal(WALK("\xaaz\xc3\xa9\xe4\xb8\x96\xf0\x9f\x98\x80"), 0);
    assert_int_equal(WALK("\xa2z\x00"), 0);
    assert_int_equal(WALK("\xa1\x80"), -EINVAL);         /* A continuation alone. */
    assert_int_equal(WALK("\xa2\xc3\x28"), -EINVAL);     /* None behind a lead. */
    assert_int_equal(WALK("\xa2\xc0\xaf"), -EINVAL);     /* Overlong. */
    assert_int_equal(WALK("\xa3\xe0\x9f\xbf"), -EINVAL); /* Overlong. */
    assert_int_equal(WALK("\xa4\xf0\x8f\xbf\xbf"), -EINVAL);
    assert_int_equal(WALK("\xa3\xe0\xa0\x80"), 0);
    assert_int_equal(WALK("\xa3\xed\xa0\x80"), -EINVAL); /* A surrogate. */
    assert_int_equal(WALK("\xa3\xed\x9f\xbf"), 0);
    assert_int_equal(WALK("\xa3\xee\x80\x80"), 0);
    assert_int_equal(WALK("\xa4\xf4\x8f\xbf\xbf"), 0);
    assert_int_equal(WALK("\xa4\xf4\x90\x80\x80"), -EINVAL); /* Above U+10FFFF. */
    assert_int_equal(WALK("\xa4\xf5\x80\x80\x80"), -EINVAL);
    assert_int_equal(WALK("\xa3\xe4\xb8z"), -EINVAL);
    assert_int_equal(WALK("\xc4\x02\xc3\x28"), 0); /* bin is any bytes. */
}

static void a_body_is_a_map_with_string_keys(void **state)
{
    (void)state;
    assert_int_equal(BODY("\x80"), 0);
    assert_int_equal(BODY("\x90"), -EINVAL);
    assert_int_equal(BODY("\xc0"), -EINVAL);
    assert_int_equal(BODY("\x81\x01\x01"), -EINVAL);
    assert_int_equal(BODY("\x81\xc4\x01k\x01"), -EINVAL);
    assert_int_equal(BODY("\x81\xa1k\x81\x01\x01"), -EINVAL);
    assert_int_equal(BODY("\x81\xa1k\x91\x81\x90\x01"), -EINVAL);
    assert_int_equal(BODY("\x82\xa1k\x01\xa1j\x92\x01\x81\xa1k\x02"), 0);
}

static void a_body_has_no_key_twice(void **state)
{
    (void)state;
    assert_int_equal(BODY("\x82\xa1k\x01\xa1k\x02"), -EINVAL);
    assert_int_equal(BODY("\x82\xa1k\x01\xd9\x01k\x02"), -EINVAL); /* Spelt otherwise. */
    assert_int_equal(BODY("\x83\xa1k\x90\xa2kk\x01\xa1k\x02"), -EINVAL);
    assert_int_equal(BODY("\x83\xa0\x90\xa2kk\x01\xa1k\x02"), 0);
    assert_int_equal(BODY("\x82\xa1k\x81\xa1k\x01\xa1j\xa1k"), 0); /* Of another map; a value. */
}

static void a_body_has_so_many_keys(void **state)
{
    (void)state;
    uint8_t body[3 + 4 * (LIMIT_MSGPACK_KEYS_MAX + 1)] = {0xde};
    for (size_t i = 0; i <= LIMIT_MSGPACK_KEYS_MAX; i++) {
        uint8_t *pair = body + 3 + 4 * i;
        pair[0] = 0xa2;
        pair[1] = (uint8_t)('a' + i / 20);
        pair[2] = (uint8_t)('a' + i % 20);
    }
    body[2] = LIMIT_MSGPACK_KEYS_MAX;
    assert_int_equal(validator_body(body, sizeof body - 4), 0);
    body[2] = LIMIT_MSGPACK_KEYS_MAX + 1;
    assert_int_equal(validator_body(body, sizeof body), -E2BIG);
}

/* "c7-01-ff" to bytes. */
static size_t unhex(const char *text, size_t count, uint8_t *out)
{
    size_t bytes = 0;
    for (size_t i = 0; i + 1 < count; i += 3) {
        const char digits[] = {text[i], text[i + 1], '\0'};
        out[bytes++] = (uint8_t)strtoul(digits, NULL, 16);
    }
    return bytes;
}

static size_t walk_cases(const struct json *cases, bool ext)
{
    size_t walked = 0;
    for (size_t i = 0; i < json_count(cases); i++) {
        const struct json *spellings = json_get(json_at(cases, i), "msgpack");
        for (size_t j = 0; j < json_count(spellings); j++, walked++) {
            uint8_t bytes[512];
            const char *text;
            size_t count;
            assert_true(json_text(json_at(spellings, j), &text, &count));
            assert_true(count < 3 * sizeof bytes);
            count = unhex(text, count, bytes);
            assert_int_equal(validator_walk(bytes, count), ext ? -ENOTSUP : 0);
            assert_int_not_equal(validator_walk(bytes, count - 1), 0);
        }
    }
    return walked;
}

static void walks_the_test_suite(void **state)
{
    (void)state;
    const char *data = getenv("SLUICE_TEST_DATA");
    struct json_error error;
    struct json *suite;
    char path[1024];
    size_t taken = 0, refused = 0;
    if (!data) {
        print_message("skipped: SLUICE_TEST_DATA is not set\n");
        skip();
    }
    (void)snprintf(path, sizeof path, "%s/conformance/msgpack/msgpack-test-suite.json", data);
    if (json_parse_file(path, &suite, &error) != 0) {
        fail_msg("%s: %s", path, error.text);
    }
    for (struct json_member *at = json_first(suite); at; at = json_next(suite, at)) {
        const char *group = json_member_key(at);
        const bool ext = strstr(group, "ext") || strstr(group, "timestamp");
        *(ext ? &refused : &taken) += walk_cases(json_member_value(at), ext);
    }
    json_free(suite);
    print_message("%zu taken, %zu refused\n", taken, refused);
    assert_true(taken > 200 && refused > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_every_type),
        cmocka_unit_test(refuses_what_is_no_value),
        cmocka_unit_test(refuses_ext),
        cmocka_unit_test(refuses_every_cut),
        cmocka_unit_test(refuses_counts_beyond_the_bytes),
        cmocka_unit_test(bounds_depth),
        cmocka_unit_test(bounds_elements),
        cmocka_unit_test(text_is_utf8),
        cmocka_unit_test(a_body_is_a_map_with_string_keys),
        cmocka_unit_test(a_body_has_no_key_twice),
        cmocka_unit_test(a_body_has_so_many_keys),
        cmocka_unit_test(walks_the_test_suite),
    };
    return cmocka_run_group_tests_name("validator", tests, NULL, NULL);
}
