/* svg_test.c - texts from outside cannot break the picture that they stand in. */
#include "tools/svg.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* What a text becomes inside its element; the caller frees. */
static char *write_one(const char *text)
{
    char *bytes = NULL, *from, *to, *inner;
    size_t count = 0;
    FILE *out = open_memstream(&bytes, &count);
    assert_non_null(out);
    svg_text(out, (struct svg_point){1, 2}, SVG_LEFT, "label", text);
    assert_int_equal(fclose(out), 0);
    from = strchr(bytes, '>');
    to = strstr(bytes, "</text>\n");
    assert_true(from && to && to > from);
    inner = strndup(from + 1, (size_t)(to - from - 1));
    free(bytes);
    return inner;
}

static void texts_are_escaped(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"plain text", "plain text"},
        {"a<b>&c", "a&lt;b&gt;&amp;c"},
        {"]]>", "]]&gt;"},
        {"gr\xC3\xBC\xC3\x9F", "gr\xC3\xBC\xC3\x9F"},
        {"\xF0\x9F\x98\x80", "\xF0\x9F\x98\x80"},
        {"a\x01\nb", "a\xEF\xBF\xBD\xEF\xBF\xBD"
                     "b"},
        {"\xFFz\xC3", "\xEF\xBF\xBDz\xEF\xBF\xBD"},
        {"\xEF\xBF\xBF", "\xEF\xBF\xBD"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *inner = write_one(cases[i][0]);
        assert_string_equal(inner, cases[i][1]);
        free(inner);
    }
}

static void curves_start_with_a_move(void **state)
{
    (void)state;
    static const struct svg_point points[] = {{1, 2}, {3.25, 4}, {-5, 6}};
    char *bytes = NULL;
    size_t count = 0;
    FILE *out = open_memstream(&bytes, &count);
    assert_non_null(out);
    svg_curve(out, points, 3, "line s0");
    assert_int_equal(fclose(out), 0);
    assert_string_equal(bytes, "<path class=\"line s0\" d=\"M1.0 2.0L3.2 4.0L-5.0 6.0\"/>\n");
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_escaped),
        cmocka_unit_test(curves_start_with_a_move),
    };
    return cmocka_run_group_tests_name("svg", tests, NULL, NULL);
}
