/* pretoken_test.c - every behaviour of a split, chains of splits, expressions of real models. */
#include "model/pretoken.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/words.h"

static void add(struct pretoken *pretoken, const char *pattern, enum pretoken_behavior behavior,
                bool literal, bool invert)
{
    struct model_error error;
    const struct pretoken_rule rule = {.pattern = pattern,
                                       .bytes = strlen(pattern),
                                       .literal = literal,
                                       .invert = invert,
                                       .behavior = behavior};
    assert_int_equal(pretoken_add(pretoken, &rule, &error), 0);
}

/* expected: the pieces with a bar between them. */
static void expect(const struct pretoken *pretoken, const char *text, const char *expected)
{
    char joined[512];
    size_t bytes = 0;
    size_t count;
    const struct pretoken_span *spans;
    struct pretoken_scratch *scratch;
    assert_int_equal(pretoken_scratch_open(&scratch, strlen(text)), 0);
    assert_int_equal(pretoken_split(pretoken, scratch, text, strlen(text), &spans, &count), 0);
    for (size_t i = 0; i < count; i++) {
        if (i > 0) {
            joined[bytes++] = '|';
        }
        memcpy(joined + bytes, text + spans[i].start, spans[i].end - spans[i].start);
        bytes += spans[i].end - spans[i].start;
    }
    joined[bytes] = 0;
    assert_string_equal(joined, expected);
    pretoken_scratch_close(scratch);
}

static void behaviours(void **state)
{
    (void)state;
    static const struct {
        enum pretoken_behavior behavior;
        bool invert;
        const char *expected;
    } cases[] = {
        {PRETOKEN_ISOLATED, false, "-|a|-|-|b|-"},
        {PRETOKEN_REMOVED, false, "a|b"},
        {PRETOKEN_REMOVED, true, "-|-|-|-"},
        {PRETOKEN_CONTIGUOUS, false, "-|a|--|b|-"},
        {PRETOKEN_MERGED_PREVIOUS, false, "-|a-|-|b-"},
        {PRETOKEN_MERGED_NEXT, false, "-a|-|-b|-"},
        {PRETOKEN_MERGED_NEXT, true, "-|a-|-|b-"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int literal = 0; literal < 2; literal++) {
            struct pretoken *pretoken;
            assert_int_equal(pretoken_open(&pretoken), 0);
            add(pretoken, "-", cases[i].behavior, literal, cases[i].invert);
            expect(pretoken, "-a--b-", cases[i].expected);
            expect(pretoken, "", "");
            pretoken_close(pretoken);
        }
    }
}

static void a_chain_cuts_pieces_of_pieces(void **state)
{
    (void)state;
    struct pretoken *pretoken;
    assert_int_equal(pretoken_open(&pretoken), 0);
    expect(pretoken, "no split at all", "no split at all");
    add(pretoken, "\\p{N}", PRETOKEN_ISOLATED, false, false);
    add(pretoken, WORDS_GPT2, PRETOKEN_ISOLATED, false, false);
    expect(pretoken, "I'm 12 years  old!", "I|'m| |1|2| years| | old|!");
    expect(pretoken, "\xd9\xa3\xd9\xa4x", "\xd9\xa3|\xd9\xa4|x"); /* Arabic digits. */
    pretoken_close(pretoken);
}

/* A piece has no neighbours: what looks ahead or behind sees its ends. */
static void pieces_do_not_see_each_other(void **state)
{
    (void)state;
    struct pretoken *pretoken;
    assert_int_equal(pretoken_open(&pretoken), 0);
    add(pretoken, "-", PRETOKEN_REMOVED, true, false);
    add(pretoken, "^a|a$", PRETOKEN_ISOLATED, false, false);
    expect(pretoken, "aba-aba", "a|b|a|a|b|a");
    pretoken_close(pretoken);
}

static void follows_oniguruma(void **state)
{
    (void)state;
    struct pretoken *spaces;
    struct pretoken *line_ends;
    struct pretoken *last;
    assert_int_equal(pretoken_open(&spaces), 0);
    add(spaces, "\\s+", PRETOKEN_ISOLATED, false, false);
    expect(spaces, "a\xe3\x80\x80\x62", "a|\xe3\x80\x80|b");
    expect(spaces, "a\xe1\xa0\x8e\x62", "a\xe1\xa0\x8e\x62"); /* U+180E is no space. */
    pretoken_close(spaces);
    assert_int_equal(pretoken_open(&line_ends), 0);
    add(line_ends, "[^\\S ]|\\\\s", PRETOKEN_ISOLATED, false, false);
    expect(line_ends, "a b\nc\\s", "a b|\n|c|\\s"); /* An escaped backslash, then an s. */
    pretoken_close(line_ends);
    assert_int_equal(pretoken_open(&last), 0);
    add(last, "\\s+$", PRETOKEN_ISOLATED, false, false);
    expect(last, "a  b \n  c  ", "a  b| |\n  c|  "); /* $ is also where a line ends. */
    expect(last, "   ", "   ");
    pretoken_close(last);
}

static void empty_matches_cut(void **state)
{
    (void)state;
    static const struct {
        enum pretoken_behavior behavior;
        const char *expected;
    } cases[] = {{PRETOKEN_ISOLATED, "\xc3\xa9|bb|a|\xc3\xa9"},
                 {PRETOKEN_MERGED_NEXT, "\xc3\xa9|bba|\xc3\xa9"},
                 {PRETOKEN_MERGED_PREVIOUS, "\xc3\xa9\x62\x62|a|\xc3\xa9"},
                 {PRETOKEN_REMOVED, "\xc3\xa9|a|\xc3\xa9"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pretoken *pretoken;
        assert_int_equal(pretoken_open(&pretoken), 0);
        add(pretoken, "b*", cases[i].behavior, false, false);
        expect(pretoken, "\xc3\xa9\x62\x62\x61\xc3\xa9", cases[i].expected);
        pretoken_close(pretoken);
    }
}

static void refuses(void **state)
{
    (void)state;
    static char large[PRETOKEN_PATTERN_BYTES_MAX + 1];
    static const char *const wrong[] = {"(", "\\C", "[z-a]", "(?", "\\"};
    struct model_error error;
    struct pretoken *pretoken;
    memset(large, 'a', sizeof large);
    assert_int_equal(pretoken_open(&pretoken), 0);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const struct pretoken_rule rule = {.pattern = wrong[i], .bytes = strlen(wrong[i])};
        error.text[0] = 0;
        assert_int_equal(pretoken_add(pretoken, &rule, &error), -EINVAL);
        assert_non_null(strstr(error.text, wrong[i]));
    }
    const struct pretoken_rule too_long = {.pattern = large, .bytes = sizeof large};
    assert_int_equal(pretoken_add(pretoken, &too_long, &error), -ENOTSUP);
    for (size_t i = 0; i < PRETOKEN_STEPS_MAX; i++) {
        add(pretoken, "a", PRETOKEN_ISOLATED, false, false);
    }
    const struct pretoken_rule more = {.pattern = "a", .bytes = 1};
    assert_int_equal(pretoken_add(pretoken, &more, &error), -ENOTSUP);
    pretoken_close(pretoken);
    pretoken_close(NULL);
    struct pretoken_scratch *scratch;
    assert_int_equal(pretoken_scratch_open(&scratch, UINT32_MAX), -ENOMEM);
    pretoken_scratch_close(NULL);
}

/* Work and memory of a match are bounded: a hostile expression ends with an error. */
static void hostile_expressions_end(void **state)
{
    (void)state;
    static const char *const hostile[] = {"(a|aa)+\\z", "(a+)+[bd]"};
    static char text[20000];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = 'c';
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        const struct pretoken_span *spans;
        size_t count;
        struct pretoken *pretoken;
        struct pretoken_scratch *scratch;
        assert_int_equal(pretoken_open(&pretoken), 0);
        add(pretoken, hostile[i], PRETOKEN_ISOLATED, false, false);
        assert_int_equal(pretoken_scratch_open(&scratch, sizeof text), 0);
        assert_int_equal(pretoken_split(pretoken, scratch, text, sizeof text, &spans, &count),
                         -E2BIG);
        pretoken_scratch_close(scratch);
        pretoken_close(pretoken);
    }
}

static void knows_cuttings_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *text;
        const char *expected;
    } cases[] = {
        {"gpt-2", "It's 2024.", "It|'s| 2024|."},
        {"smollm", "in 2024", "in| |2|0|2|4"},
        {"llama-bpe", "IT'S 20245 a\n\n b", "IT|'S| |202|45| a|\n\n| b"},
        {"deepseek-llm", "a1 B!!  ", "a|1| B|!!|  "},
        {"deepseek-coder", "a12 b", "a|1|2| b"},
    };
    assert_null(words_find("gpt", 3));
    assert_null(words_find("gpt-22", 6));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct words *words = words_find(cases[i].name, strlen(cases[i].name));
        struct pretoken *pretoken;
        assert_non_null(words);
        assert_int_equal(pretoken_open(&pretoken), 0);
        for (size_t at = 0; at < WORDS_PATTERNS_MAX && words->patterns[at]; at++) {
            add(pretoken, words->patterns[at], PRETOKEN_ISOLATED, false, false);
        }
        expect(pretoken, cases[i].text, cases[i].expected);
        pretoken_close(pretoken);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(behaviours),
        cmocka_unit_test(a_chain_cuts_pieces_of_pieces),
        cmocka_unit_test(pieces_do_not_see_each_other),
        cmocka_unit_test(follows_oniguruma),
        cmocka_unit_test(empty_matches_cut),
        cmocka_unit_test(refuses),
        cmocka_unit_test(hostile_expressions_end),
        cmocka_unit_test(knows_cuttings_by_name),
    };
    return cmocka_run_group_tests_name("pretoken", tests, NULL, NULL);
}
