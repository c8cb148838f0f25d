/* added_test.c - leftmost, longest, filters by kind, stripping and single words. */
#include "model/added.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "model/vocab.h"

static void add(struct added *added, const char *text, uint32_t id, unsigned flags)
{
    assert_int_equal(added_add(added, text, strlen(text), id, flags), 0);
}

static void expect(const struct added *added, const char *text, bool special, size_t start,
                   size_t end, uint32_t id)
{
    struct added_match match = {0};
    assert_true(added_find(added, text, strlen(text), 0, special, &match));
    assert_int_equal(match.start, start);
    assert_int_equal(match.end, end);
    assert_int_equal(match.id, id);
}

static void finds_the_leftmost_longest(void **state)
{
    (void)state;
    struct added added = {0};
    struct added_match match;
    add(&added, "<a>", 1, 0);
    add(&added, "<ab>", 2, 0);
    add(&added, "<a", 3, 0);
    add(&added, "\xc3\xa9", 4, 0);
    add(&added, "<a>", 9, 0); /* Given twice: the first stays. */
    add(&added, "", 8, 0);
    add(&added, "\xa9", 8, 0); /* Would match inside a character. */
    added_seal(&added);
    assert_int_equal(added.count, 4);
    expect(&added, "x<a>y", false, 1, 4, 1);
    expect(&added, "<ab", false, 0, 2, 3);
    expect(&added, "<<ab>", false, 1, 5, 2);
    expect(&added, "\xc3\xa8\xc3\xa9", false, 2, 4, 4);
    assert_false(added_find(&added, "<b>", 3, 0, true, &match));
    assert_false(added_find(&added, "<a>", 3, 1, true, &match));
    assert_int_equal(added_exact(&added, "<ab>", 4), 2);
    assert_int_equal(added_exact(&added, "<ab", 3), VOCAB_NONE);
    added_close(&added);
    added_seal(&added);
    assert_false(added_find(&added, "<a>", 3, 0, true, &match));
    assert_int_equal(added_exact(&added, "<a>", 3), VOCAB_NONE);
}

static void special_ones_only_when_asked_for(void **state)
{
    (void)state;
    struct added added = {0};
    add(&added, "<s>", 1, ADDED_SPECIAL);
    add(&added, "<", 2, 0);
    added_seal(&added);
    expect(&added, "a<s>", true, 1, 4, 1);
    expect(&added, "a<s>", false, 1, 2, 2);
    added_close(&added);
}

static void strips_white_space(void **state)
{
    (void)state;
    struct added added = {0};
    struct added_match match;
    add(&added, "<l>", 1, ADDED_STRIP_LEFT);
    add(&added, "<r>", 2, ADDED_STRIP_RIGHT);
    added_seal(&added);
    expect(&added, "a \xe2\x80\x83<l> b", false, 1, 8, 1);
    expect(&added, "a <r>\xc2\xa0\n", false, 2, 8, 2);
    assert_true(added_find(&added, "   <l>", 6, 2, false, &match));
    assert_int_equal(match.start, 2); /* Not over what was taken before. */
    added_close(&added);
}

static void single_words_stand_alone(void **state)
{
    (void)state;
    struct added added = {0};
    struct added_match match;
    add(&added, "ab", 1, ADDED_SINGLE_WORD);
    added_seal(&added);
    expect(&added, "xab ab.", false, 4, 6, 1);
    assert_false(added_find(&added, "abc", 3, 0, false, &match));
    assert_false(added_find(&added, "ab\xc3\xa9", 4, 0, false, &match));
    assert_false(added_find(&added, "_ab", 3, 0, false, &match));
    added_close(&added);
}

static void holds_many_and_refuses_long_ones(void **state)
{
    (void)state;
    static char large[VOCAB_TOKEN_BYTES_MAX + 1];
    struct added added = {0};
    assert_int_equal(added_add(&added, large, sizeof large, 0, 0), -E2BIG);
    for (uint32_t i = 0; i < 1000; i++) {
        const char text[] = {
            '[', (char)('a' + i % 10), (char)('a' + i / 10 % 10), (char)('a' + i / 100), ']', 0};
        add(&added, text, i, 0);
    }
    added_seal(&added);
    for (uint32_t i = 0; i < 1000; i++) {
        const char text[] = {
            '.', '[', (char)('a' + i % 10), (char)('a' + i / 10 % 10), (char)('a' + i / 100),
            ']', 0};
        expect(&added, text, false, 1, 6, i);
    }
    added_close(&added);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_the_leftmost_longest),
        cmocka_unit_test(special_ones_only_when_asked_for),
        cmocka_unit_test(strips_white_space),
        cmocka_unit_test(single_words_stand_alone),
        cmocka_unit_test(holds_many_and_refuses_long_ones),
    };
    return cmocka_run_group_tests_name("added", tests, NULL, NULL);
}
