/* normalizer_test.c - prefixes, replacements and Unicode forms, and what they refuse. */
#include "model/normalizer.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const struct normalizer_text MARK = {"\xe2\x96\x81", 3};
static const struct normalizer_text SPACE = {" ", 1};

static void add(struct normalizer *normalizer, enum normalizer_kind kind)
{
    struct normalizer_op op = {.kind = kind, .text = MARK};
    if (kind == NORMALIZER_REPLACE) {
        op.pattern = SPACE;
    }
    assert_true(normalizer_add(normalizer, &op));
}

static int run(const struct normalizer *normalizer, const char *text, bool first,
               const char *expected)
{
    struct normalizer_scratch scratch;
    struct normalizer_view view = {.bytes = text, .count = strlen(text), .first = first};
    assert_int_equal(normalizer_scratch_open(&scratch, normalizer, view.count), 0);
    const int error = normalizer_run(normalizer, &scratch, &view);
    if (!error) {
        assert_int_equal(view.count, strlen(expected));
        assert_memory_equal(view.bytes, expected, view.count);
    }
    normalizer_scratch_close(&scratch);
    return error;
}

static void sentencepiece_marks(void **state)
{
    (void)state;
    struct normalizer normalizer = {0};
    assert_int_equal(run(&normalizer, "as it is", true, "as it is"), 0);
    add(&normalizer, NORMALIZER_PREPEND);
    add(&normalizer, NORMALIZER_REPLACE);
    assert_int_equal(run(&normalizer, "", true, ""), 0);
    assert_int_equal(run(&normalizer, "a b", false, "\xe2\x96\x81\x61\xe2\x96\x81\x62"), 0);
    assert_int_equal(run(&normalizer, " ", false, "\xe2\x96\x81\xe2\x96\x81"), 0);
}

static void prefixes_only_where_missing_or_first(void **state)
{
    (void)state;
    struct normalizer missing = {0};
    struct normalizer first = {0};
    add(&missing, NORMALIZER_REPLACE);
    add(&missing, NORMALIZER_PREPEND_MISSING);
    assert_int_equal(run(&missing, "a", false, "\xe2\x96\x81\x61"), 0);
    assert_int_equal(run(&missing, " a", false, "\xe2\x96\x81\x61"), 0);
    add(&first, NORMALIZER_PREPEND_FIRST);
    assert_int_equal(run(&first, "a", true, "\xe2\x96\x81\x61"), 0);
    assert_int_equal(run(&first, "a", false, "a"), 0);
}

static void unicode_forms(void **state)
{
    (void)state;
    static const struct {
        enum normalizer_kind kind;
        const char *text;
        const char *expected;
    } cases[] = {
        {NORMALIZER_NFC, "plain ASCII", "plain ASCII"},
        {NORMALIZER_NFC, "e\xcc\x81", "\xc3\xa9"},
        {NORMALIZER_NFC, "\xef\xac\x81", "\xef\xac\x81"},
        {NORMALIZER_NFD, "\xc3\xa9", "e\xcc\x81"},
        {NORMALIZER_NFKC, "\xef\xac\x81\x65\xcc\x81", "fi\xc3\xa9"},
        {NORMALIZER_NFKD, "\xef\xac\x81\xc3\xa9", "fie\xcc\x81"},
        /* Hangul syllables, and marks that change places. */
        {NORMALIZER_NFC, "\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8", "\xea\xb0\x81"},
        {NORMALIZER_NFD, "a\xcc\x81\xcc\xa3", "a\xcc\xa3\xcc\x81"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct normalizer normalizer = {0};
        add(&normalizer, cases[i].kind);
        assert_int_equal(run(&normalizer, cases[i].text, true, cases[i].expected), 0);
    }
}

/* U+FDFA is 3 bytes and 33 after NFKC: the growth that the buffers are made for. */
static void the_longest_expansion_fits(void **state)
{
    (void)state;
    char text[3 * 100 + 1] = {0};
    struct normalizer normalizer = {0};
    struct normalizer_scratch scratch;
    for (size_t i = 0; i < 100; i++) {
        memcpy(text + 3 * i, "\xef\xb7\xba", 3);
    }
    struct normalizer_view view = {.bytes = text, .count = 300, .first = true};
    add(&normalizer, NORMALIZER_NFKC);
    assert_int_equal(normalizer_scratch_open(&scratch, &normalizer, 300), 0);
    assert_int_equal(normalizer_run(&normalizer, &scratch, &view), 0);
    assert_int_equal(view.count, 3300);
    normalizer_scratch_close(&scratch);
}

static void refuses_long_runs_of_marks(void **state)
{
    (void)state;
    static char text[2 * NORMALIZER_MARKS_MAX + 4];
    struct normalizer normalizer = {0};
    add(&normalizer, NORMALIZER_NFD);
    for (size_t i = 0; i <= NORMALIZER_MARKS_MAX; i++) {
        memcpy(text + 2 * i, "\xcc\x81", 2);
    }
    assert_int_equal(run(&normalizer, text, true, ""), -E2BIG);
    text[2 * NORMALIZER_MARKS_MAX] = 0;
    assert_int_equal(run(&normalizer, text, true, text), 0);
}

static void refuses_what_does_not_fit(void **state)
{
    (void)state;
    struct normalizer normalizer = {0};
    struct normalizer_scratch scratch;
    const struct normalizer_op empty = {.kind = NORMALIZER_REPLACE};
    assert_false(normalizer_add(&normalizer, &empty));
    for (size_t i = 0; i < NORMALIZER_OPS_MAX; i++) {
        add(&normalizer, NORMALIZER_PREPEND);
    }
    const struct normalizer_op more = {.kind = NORMALIZER_PREPEND};
    assert_false(normalizer_add(&normalizer, &more));
    assert_int_equal(normalizer_bytes_max(&normalizer, 5), 5 + 3 * NORMALIZER_OPS_MAX);
    assert_int_equal(normalizer_scratch_open(&scratch, &normalizer, 5), 0);
    struct normalizer_view view = {.bytes = "far too long", .count = 12};
    scratch.bytes_max = 8; /* As if the caller had asked for less. */
    assert_int_equal(normalizer_run(&normalizer, &scratch, &view), -E2BIG);
    normalizer_scratch_close(&scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sentencepiece_marks),
        cmocka_unit_test(prefixes_only_where_missing_or_first),
        cmocka_unit_test(unicode_forms),
        cmocka_unit_test(the_longest_expansion_fits),
        cmocka_unit_test(refuses_long_runs_of_marks),
        cmocka_unit_test(refuses_what_does_not_fit),
    };
    return cmocka_run_group_tests_name("normalizer", tests, NULL, NULL);
}
