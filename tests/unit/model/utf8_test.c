/* utf8_test.c - what is UTF-8 and what is not, walking back, and white space and word characters.
 */
#include "model/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void accepts_what_the_rfc_allows(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t codepoint;
    } cases[] = {{"A", 0x41},
                 {"\xc2\x80", 0x80},
                 {"\xdf\xbf", 0x7ff},
                 {"\xe0\xa0\x80", 0x800},
                 {"\xed\x9f\xbf", 0xd7ff},
                 {"\xef\xbf\xbf", 0xffff},
                 {"\xf0\x90\x80\x80", 0x10000},
                 {"\xf4\x8f\xbf\xbf", 0x10ffff}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t codepoint = 0;
        const size_t bytes = strlen(cases[i].text);
        assert_int_equal(utf8_next(cases[i].text, bytes, &codepoint), bytes);
        assert_int_equal(codepoint, cases[i].codepoint);
        assert_true(utf8_valid(cases[i].text, bytes));
        assert_int_equal(utf8_lead((uint8_t)cases[i].text[0]), bytes);
        assert_int_equal(utf8_back(cases[i].text, bytes), 0);
        if (bytes > 1) {
            assert_false(utf8_valid(cases[i].text, bytes - 1));
        }
    }
    assert_true(utf8_valid("", 0));
}

static void refuses_the_rest(void **state)
{
    (void)state;
    static const char *const cases[] = {"\x80",
                                        "\xc0\x80",
                                        "\xc1\xbf",
                                        "\xc2",
                                        "\xc2\x41",
                                        "\xe0\x9f\xbf",
                                        "\xed\xa0\x80",
                                        "\xf0\x8f\xbf\xbf",
                                        "\xf4\x90\x80\x80",
                                        "\xf5\x80\x80\x80",
                                        "\xff",
                                        "ok\xe2\x82"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_false(utf8_valid(cases[i], strlen(cases[i])));
    }
}

/* A head and a byte may go on exactly when some valid character starts with them. */
static void continues_as_valid_characters_do(void **state)
{
    (void)state;
    for (unsigned lead = 0xc0; lead <= 0xff; lead++) {
        for (unsigned second = 0; second <= 0xff; second++) {
            char text[4] = {(char)lead, (char)second, (char)0x80, (char)0x80};
            const unsigned bytes = utf8_lead((uint8_t)lead);
            uint32_t codepoint;
            const bool valid = bytes > 0 && utf8_next(text, bytes, &codepoint) == bytes;
            const uint8_t head = (uint8_t)lead;
            if (bytes > 0) {
                assert_int_equal(utf8_continues(&head, 1, (uint8_t)second), valid);
            }
        }
    }
    static const uint8_t head[] = {0xe0, 0xa0};
    assert_true(utf8_continues(head, 2, 0x80));
    assert_false(utf8_continues(head, 2, 0x7f));
    assert_false(utf8_continues(head, 2, 0xc0));
}

static void knows_spaces_and_words(void **state)
{
    (void)state;
    static const uint32_t spaces[] = {'\t',   '\r',   ' ',    0x85,   0xa0,   0x1680,
                                      0x2000, 0x200a, 0x2028, 0x202f, 0x205f, 0x3000};
    static const uint32_t others[] = {0, 8, 0x1c, 'a', 0x180e, 0x200b, 0x2060, 0xfeff};
    for (size_t i = 0; i < sizeof spaces / sizeof *spaces; i++) {
        assert_true(utf8_is_space(spaces[i]));
        assert_false(utf8_is_word(spaces[i]));
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        assert_false(utf8_is_space(others[i]));
    }
    assert_true(utf8_is_word('a') && utf8_is_word('7') && utf8_is_word('_'));
    assert_true(utf8_is_word(0x4e2d) && utf8_is_word(0x301));
    assert_false(utf8_is_word('-') || utf8_is_word('<'));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_what_the_rfc_allows),
        cmocka_unit_test(refuses_the_rest),
        cmocka_unit_test(continues_as_valid_characters_do),
        cmocka_unit_test(knows_spaces_and_words),
    };
    return cmocka_run_group_tests_name("utf8", tests, NULL, NULL);
}
