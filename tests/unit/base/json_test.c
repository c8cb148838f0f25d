/* json_test.c - numbers at the edges: integers that no 64 bits hold are reals, nothing else is. */
#include "base/json.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct json *parse(const char *text)
{
    struct json_error error;
    struct json *root = NULL;
    if (json_parse(text, strlen(text), &root, &error)) {
        fail_msg("%s: %s", text, error.text);
    }
    return root;
}

static void integers_too_big_are_reals(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double value;
    } cases[] = {{"1000000000000000019884624838656", 1e30},
                 {"9223372036854775808", 9223372036854775808.0},
                 {"-99999999999999999999", -1e20}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double value = 0;
        struct json *root = parse(cases[i].text);
        assert_int_equal(json_kind(root), JSON_KIND_REAL);
        assert_true(json_f64(root, &value));
        assert_true(value == cases[i].value);
        json_free(root);
    }
}

/* Beside a number that is too big, everything else keeps its kind and its bytes. */
static void the_rest_stays_as_it_is(void **state)
{
    (void)state;
    struct json *root = parse(
        "{\"n\":99999999999999999999,\"m\":9223372036854775807,\"s\":\"\\\"99999999999999999999\","
        "\"r\":0.99999999999999999999,\"e\":99999999999999999999e-19,"
        "\"x\":1e-00000000000000000001}");
    const char *text;
    size_t bytes;
    uint64_t integer;
    double real;
    assert_true(json_u64(json_get(root, "m"), &integer));
    assert_int_equal(integer, INT64_MAX);
    assert_true(json_text(json_get(root, "s"), &text, &bytes));
    assert_int_equal(bytes, 21);
    assert_memory_equal(text, "\"99999999999999999999", 21);
    assert_true(json_f64(json_get(root, "r"), &real) && real == 1.0);
    assert_true(json_f64(json_get(root, "e"), &real) && real > 9.9 && real < 10.1);
    assert_true(json_f64(json_get(root, "x"), &real) && real == 0.1);
    json_free(root);
}

static void what_is_no_number_stays_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {"1e400", "[99999999999999999999", "99999999999999999999x",
                                        "-1e400"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct json_error error = {{0}};
        struct json *root = NULL;
        assert_int_equal(json_parse(cases[i], strlen(cases[i]), &root, &error), -EINVAL);
        assert_int_not_equal(error.text[0], 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_too_big_are_reals),
        cmocka_unit_test(the_rest_stays_as_it_is),
        cmocka_unit_test(what_is_no_number_stays_refused),
    };
    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
