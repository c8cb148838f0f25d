/* report_test.c - means and percentiles as numpy has them, and the keys of the JSON. */
#include "tools/report.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static bool near(double a, double b)
{
    return fabs(a - b) < 1e-9;
}

static void figures_of_nothing_are_zero(void **state)
{
    (void)state;
    struct report_values values = {0};
    const struct report_figures figures = report_figures(&values);
    assert_true(figures.mean == 0 && figures.median == 0 && figures.std == 0 && figures.p99 == 0);
}

static void figures_of_one_are_it(void **state)
{
    (void)state;
    struct report report = {0};
    report_add(&report, REPORT_TTFT, 7);
    const struct report_figures figures = report_figures(&report.values[REPORT_TTFT]);
    assert_true(figures.mean == 7 && figures.median == 7 && figures.std == 0 && figures.p99 == 7);
    report_free(&report);
}

/* numpy: percentile(range(1, 2001), 99) = 1980.01, median 1000.5, std 577.3501970208376. */
static void figures_are_those_of_numpy(void **state)
{
    (void)state;
    struct report report = {0};
    for (int i = 0; i < 2000; i++) {
        report_add(&report, REPORT_ITL, (i * 1237) % 2000 + 1); /* Every number once. */
    }
    const struct report_figures figures = report_figures(&report.values[REPORT_ITL]);
    assert_true(near(figures.mean, 1000.5));
    assert_true(near(figures.median, 1000.5));
    assert_true(near(figures.p99, 1980.01));
    assert_true(near(figures.std, 577.3501970208376));
    report_free(&report);
}

static double number(const struct json *object, const char *key)
{
    double value = NAN;
    if (!json_f64(json_get(object, key), &value)) {
        fail_msg("%s is missing", key);
    }
    return value;
}

static void json_has_the_known_keys(void **state)
{
    (void)state;
    static const char *const kinds[] = {"mean", "median", "std", "p99"};
    static const char *const names[] = {"ttft", "tpot", "itl", "e2el"};
    struct report report = {
        .completed = 3, .failed = 1, .input_tokens = 30, .output_tokens = 60, .duration_s = 2};
    struct json *object = json_new_object();
    for (int i = 0; i < REPORT_INTERVALS; i++) {
        report_add(&report, (enum report_interval)i, 10.0 * (i + 1));
    }
    report_json(&report, object);
    assert_true(number(object, "completed") == 3 && number(object, "failed") == 1);
    assert_true(number(object, "total_input_tokens") == 30);
    assert_true(number(object, "total_output_tokens") == 60);
    assert_true(number(object, "duration") == 2);
    assert_true(number(object, "request_throughput") == 1.5);
    assert_true(number(object, "output_throughput") == 30);
    assert_true(number(object, "total_token_throughput") == 45);
    for (int i = 0; i < REPORT_INTERVALS; i++) {
        for (size_t j = 0; j < 4; j++) {
            char key[32];
            (void)snprintf(key, sizeof key, "%s_%s_ms", kinds[j], names[i]);
            assert_true(number(object, key) == (j == 2 ? 0 : 10.0 * (i + 1)));
        }
    }
    json_free(object);
    report_free(&report);
}

static void good_requests_keep_every_limit(void **state)
{
    (void)state;
    static const struct report_request requests[] = {
        {10, 3, 11, 100, 500, 600},  /* TPOT 50 */
        {10, 3, 11, 101, 500, 601},  /* too late */
        {10, 3, 11, 100, 501, 601},  /* too slow */
        {10, 3, 1, 100, 9000, 9100}, /* one token: no TPOT to miss */
    };
    struct report report = {.goodput = {.ttft_ms = 100, .tpot_ms = 50}};
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        report_request(&report, &requests[i]);
    }
    report.duration_s = 4;
    assert_int_equal(report.completed, 4);
    assert_int_equal(report.good, 2);
    assert_int_equal(report.input_tokens, 40);
    assert_int_equal(report.cached_tokens, 12);
    assert_int_equal(report.output_tokens, 34);
    assert_int_equal(report.values[REPORT_TPOT].count, 3);
    struct json *object = json_new_object();
    report_json(&report, object);
    assert_true(number(object, "request_goodput") == 0.5);
    json_free(object);
    report_free(&report);
}

static void goodput_is_left_out_without_limits(void **state)
{
    (void)state;
    struct report report = {.completed = 1, .duration_s = 1};
    struct json *object = json_new_object();
    report_json(&report, object);
    assert_null(json_get(object, "request_goodput"));
    assert_null(json_get(object, "unfinished"));
    json_free(object);
}

static void the_block_is_50_columns(void **state)
{
    (void)state;
    struct report report = {.completed = 3, .duration_s = 2};
    FILE *file = tmpfile();
    char line[256];
    int lines = 0;
    assert_non_null(file);
    report_print(&report, file);
    rewind(file);
    while (fgets(line, sizeof line, file)) {
        const size_t count = strcspn(line, "\n");
        const bool ruler = line[0] == '=' || line[0] == '-';
        assert_true(ruler ? count == 50 : count >= 50);
        lines++;
    }
    assert_int_equal(lines, 13 + REPORT_INTERVALS * 4);
    (void)fclose(file);
    report_free(&report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figures_of_nothing_are_zero),
        cmocka_unit_test(figures_of_one_are_it),
        cmocka_unit_test(figures_are_those_of_numpy),
        cmocka_unit_test(json_has_the_known_keys),
        cmocka_unit_test(the_block_is_50_columns),
        cmocka_unit_test(good_requests_keep_every_limit),
        cmocka_unit_test(goodput_is_left_out_without_limits),
    };
    return cmocka_run_group_tests_name("report", tests, NULL, NULL);
}
