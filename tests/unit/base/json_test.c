/*
 * json_test.c - numbers at the edges (integers that no 64 bits hold are reals, nothing else is),
 * depth, duplicates, accessors, and the conformance files, found through SLUICE_TEST_DATA.
 */
#include "base/json.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/limits.h"

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

static int refusal(const char *text, size_t count)
{
    struct json_error error = {{0}};
    struct json *root = NULL;
    const int code = json_parse(text, count, &root, &error);
    if (code) {
        assert_null(root);
        assert_int_not_equal(error.text[0], 0);
    }
    json_free(root);
    return code;
}

static void depth_ends_at_the_limit(void **state)
{
    (void)state;
    char text[2 * LIMIT_JSON_DEPTH_MAX + 2];
    for (size_t depth = LIMIT_JSON_DEPTH_MAX; depth <= LIMIT_JSON_DEPTH_MAX + 1; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        assert_int_equal(refusal(text, 2 * depth), depth > LIMIT_JSON_DEPTH_MAX ? -EINVAL : 0);
    }
    static const char quoted[] =
        "\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"";
    assert_int_equal(refusal(quoted, sizeof quoted - 1), 0);
}

static void ambiguous_texts_are_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {"{\"a\":1,\"a\":1}", "1 2",      "{} x",
                                        "{\"a\\u0000b\":1}", "\"\xff\"", ""};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(refusal(cases[i], strlen(cases[i])), -EINVAL);
    }
}

static void a_nul_byte_is_no_end(void **state)
{
    (void)state;
    assert_int_equal(refusal("123\0", 4), -EINVAL);
    assert_int_equal(refusal("{}\0x", 4), -EINVAL);
    assert_int_equal(refusal("123", 3), 0);
}

static void accessors_refuse_other_kinds(void **state)
{
    (void)state;
    struct json *root = parse("{\"n\":-1,\"s\":\"a\\u0000b\",\"l\":[true,null]}");
    uint64_t integer = 7;
    bool flag = false;
    const char *text = NULL;
    size_t bytes = 0;
    assert_false(json_u64(json_get(root, "n"), &integer));
    assert_false(json_bool(json_get(root, "n"), &flag));
    assert_false(json_text(json_get(root, "l"), &text, &bytes));
    assert_int_equal(integer, 7);
    assert_true(json_text(json_get(root, "s"), &text, &bytes));
    assert_int_equal(bytes, 3);
    assert_memory_equal(text, "a\0b", 3);
    assert_true(json_bool(json_at(json_get(root, "l"), 0), &flag) && flag);
    assert_int_equal(json_kind(json_at(json_get(root, "l"), 1)), JSON_KIND_NULL);
    assert_null(json_at(json_get(root, "l"), 2));
    assert_null(json_get(json_get(root, "n"), "x"));
    assert_int_equal(json_kind(json_get(root, "absent")), JSON_KIND_ABSENT);
    assert_int_equal(json_count(root), 3);
    json_free(root);
}

/* Valid JSON that json.h promises to refuse: duplicate keys and a NUL in a key. */
static bool is_refused_by_contract(const char *name)
{
    return strncmp(name, "y_object_duplicated_key", 23) == 0 ||
           strcmp(name, "y_object_escaped_null_in_key.json") == 0;
}

static void conformance_files_have_their_verdicts(void **state)
{
    (void)state;
    const char *data = getenv("SLUICE_TEST_DATA");
    if (!data) {
        print_message("1 skipped: SLUICE_TEST_DATA is not set\n");
        skip();
    }
    char folder[512];
    (void)snprintf(folder, sizeof folder, "%s/conformance/json/test_parsing", data);
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    unsigned files = 0;
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        char path[1024];
        struct json_error error = {{0}};
        struct json *root = NULL;
        (void)snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (entry->d_name[0] == '.') {
            continue;
        }
        const bool valid = json_parse_file(path, &root, &error) == 0;
        json_free(root);
        files++;
        /* i_ files may go either way. */
        const bool wanted = entry->d_name[0] == 'y' && !is_refused_by_contract(entry->d_name);
        if (entry->d_name[0] != 'i' && valid != wanted) {
            fail_msg("%s: %s", entry->d_name, valid ? "accepted" : error.text);
        }
    }
    (void)closedir(dir);
    assert_true(files > 300);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_too_big_are_reals),
        cmocka_unit_test(the_rest_stays_as_it_is),
        cmocka_unit_test(what_is_no_number_stays_refused),
        cmocka_unit_test(depth_ends_at_the_limit),
        cmocka_unit_test(ambiguous_texts_are_refused),
        cmocka_unit_test(a_nul_byte_is_no_end),
        cmocka_unit_test(accessors_refuse_other_kinds),
        cmocka_unit_test(conformance_files_have_their_verdicts),
    };
    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
