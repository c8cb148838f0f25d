/* options_test.c - the command lines that tools take, and what they say of others. */
#include "tools/options.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct values {
    bool flag;
    const char *text;
    struct options_texts texts;
    struct options_texts words;
    int32_t i32;
    uint32_t u32;
    uint64_t u64;
    double f64;
    uint32_t flags;
    int status;
};

enum { ARGUMENTS_MAX = 48 };

/* Parses words; what is printed goes nowhere. */
static bool parse(struct values *values, const char *const *words, int count)
{
    const struct options_row rows[] = {
        {"flag", OPTIONS_FLAG, 1, &values->flag, NULL, "a flag"},
        {"text", OPTIONS_TEXT, 2, &values->text, "T", "a text"},
        {"texts", OPTIONS_TEXTS, 4, &values->texts, "T", "texts"},
        {"words", OPTIONS_WORDS, 64, &values->words, "W...", "words"},
        {"i32", OPTIONS_I32, 128, &values->i32, "N", "a number"},
        {"u32", OPTIONS_U32, 8, &values->u32, "N", "a number"},
        {"u64", OPTIONS_U64, 16, &values->u64, "N", "a number"},
        {"f64", OPTIONS_F64, 32, &values->f64, "X", "a number"},
    };
    const struct options options = {"tool", "Does things.", rows, sizeof rows / sizeof rows[0]};
    char *argv[ARGUMENTS_MAX] = {(char *)(uintptr_t) "tool"};
    bool on;
    *values = (struct values){.status = -1};
    assert_true(count + 1 < ARGUMENTS_MAX);
    for (int i = 0; i < count; i++) {
        argv[i + 1] = (char *)(uintptr_t)words[i];
    }
    on = options_parse(&options, count + 1, argv, &values->flags, &values->status);
    (void)fflush(NULL);
    return on;
}

#define PARSE(...)                                                                                 \
    parse(&values, (const char *const[]){__VA_ARGS__},                                             \
          (int)(sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)))

static void fills_every_kind(void **state)
{
    (void)state;
    struct values values;
    assert_true(parse(&values, NULL, 0));
    assert_int_equal(values.flags, 0);
    assert_true(PARSE("--flag", "--text", "a b", "--texts=x", "--texts", "--y", "--u32=4294967295",
                      "--u64", "18446744073709551615", "--f64", "-1.5e3"));
    assert_int_equal(values.flags, 63);
    assert_true(values.flag);
    assert_string_equal(values.text, "a b");
    assert_int_equal(values.texts.count, 2);
    assert_string_equal(values.texts.items[1], "--y");
    assert_int_equal(values.u32, UINT32_MAX);
    assert_true(values.u64 == UINT64_MAX);
    assert_true(values.f64 == -1500);
    assert_true(PARSE("--f64=inf") && isinf(values.f64));
    assert_true(PARSE("--i32=-2147483647") && values.i32 == -INT32_MAX);
    assert_true(PARSE("--i32", "7") && values.i32 == 7 && values.flags == 128);
    assert_true(PARSE("--text=") && values.text[0] == '\0');
    assert_true(PARSE("--text=a=b"));
    assert_string_equal(values.text, "a=b");
}

static void refuses_the_rest(void **state)
{
    (void)state;
    static const char *const lines[][2] = {
        {"--unknown", NULL}, {"word", NULL},          {"--", NULL},
        {"-f", NULL},        {"--fla", NULL},         {"--flag=1", NULL},
        {"--text", NULL},    {"--u32", "-1"},         {"--u32", "+1"},
        {"--u32", " 1"},     {"--u32", "1x"},         {"--u32", ""},
        {"--u32", "0x10"},   {"--u32", "4294967296"}, {"--u64", "1.5"},
        {"--f64", "nan"},    {"--f64", "x"},          {"--u64", "18446744073709551616"},
        {"--f64", ""},       {"--u32", NULL},         {"--i32", "--1"},
        {"--i32", "-"},      {"--i32", "1.5"},        {"--i32", "2147483648"},
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct values values;
        if (parse(&values, lines[i], lines[i][1] ? 2 : 1) || values.status != EXIT_STATUS_USAGE) {
            fail_msg("%s %s", lines[i][0], lines[i][1] ? lines[i][1] : "");
        }
    }
}

static void repetitions_have_a_bound(void **state)
{
    (void)state;
    const char *words[2 * (OPTIONS_TEXTS_MAX + 1)];
    struct values values;
    for (size_t i = 0; i <= OPTIONS_TEXTS_MAX; i++) {
        words[2 * i] = "--texts";
        words[2 * i + 1] = "x";
    }
    assert_true(parse(&values, words, 2 * OPTIONS_TEXTS_MAX));
    assert_int_equal(values.texts.count, OPTIONS_TEXTS_MAX);
    assert_false(parse(&values, words, 2 * (OPTIONS_TEXTS_MAX + 1)));
    assert_int_equal(values.status, EXIT_STATUS_USAGE);
}

static void words_end_at_the_next_option(void **state)
{
    (void)state;
    struct values values;
    assert_true(PARSE("--words", "a:1", "b:2", "c", "--u32", "3"));
    assert_int_equal(values.words.count, 3);
    assert_string_equal(values.words.items[2], "c");
    assert_int_equal(values.u32, 3);
    assert_true(PARSE("--words=a", "--words", "b") && values.words.count == 2);
    assert_false(PARSE("--words"));
    assert_int_equal(values.status, EXIT_STATUS_USAGE);
    assert_false(PARSE("--words", "a", "--u32", "3", "b"));
    assert_int_equal(values.status, EXIT_STATUS_USAGE);
}

static void help_and_version_end_well(void **state)
{
    (void)state;
    struct values values;
    assert_false(PARSE("--flag", "--help", "--nonsense"));
    assert_int_equal(values.status, EXIT_STATUS_DONE);
    assert_false(PARSE("--version"));
    assert_int_equal(values.status, EXIT_STATUS_DONE);
    assert_false(PARSE("-h"));
    assert_int_equal(values.status, EXIT_STATUS_DONE);
}

static void reads_lists_of_ids(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",    ",",  "1,",  ",1",         "1,,2",
                                        "1 2", "-1", "1,a", "4294967296", "1,2,3,4"};
    uint32_t ids[3];
    size_t count;
    assert_true(options_ids("7", ids, 3, &count) && count == 1 && ids[0] == 7);
    assert_true(options_ids("0,4294967295,2", ids, 3, &count) && count == 3);
    assert_int_equal(ids[1], UINT32_MAX);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        if (options_ids(wrong[i], ids, 3, &count)) {
            fail_msg("'%s'", wrong[i]);
        }
    }
}

static void reads_lists_of_biases(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "",     "1",     "1:",   ":1",    "1:x",          "1:2,",           "1:2 ,3:4",
        "1: 2", "1:nan", "-1:2", "1:2:3", "4294967296:1", "1:1,2:2,3:3,4:4"};
    struct wire_bias biases[3];
    size_t count;
    assert_true(options_biases("7:-100", biases, 3, &count) && count == 1);
    assert_int_equal(biases[0].id, 7);
    assert_true(biases[0].bias == -100.0f);
    assert_true(options_biases("0:0.5,4294967295:+2,9:1e1", biases, 3, &count) && count == 3);
    assert_int_equal(biases[1].id, UINT32_MAX);
    assert_true(biases[1].bias == 2.0f && biases[2].bias == 10.0f);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        if (options_biases(wrong[i], biases, 3, &count)) {
            fail_msg("'%s'", wrong[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fills_every_kind),
        cmocka_unit_test(refuses_the_rest),
        cmocka_unit_test(repetitions_have_a_bound),
        cmocka_unit_test(help_and_version_end_well),
        cmocka_unit_test(reads_lists_of_ids),
        cmocka_unit_test(reads_lists_of_biases),
        cmocka_unit_test(words_end_at_the_next_option),
    };
    return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
