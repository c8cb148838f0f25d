/* goodput_test.c - the limits that --goodput takes, and which requests keep them. */
#include "tools/goodput.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void reads_limits(void **state)
{
    (void)state;
    static const char *const words[] = {"tpot:50", "ttft:200.5", "e2el:1e4"};
    char error[GOODPUT_ERROR_BYTES_MAX];
    struct goodput goodput;
    assert_int_equal(goodput_parse(&goodput, words, 3, error), 0);
    assert_true(goodput.ttft_ms == 200.5 && goodput.tpot_ms == 50 && goodput.e2el_ms == 1e4);
    assert_true(goodput_given(&goodput));
    assert_int_equal(goodput_parse(&goodput, NULL, 0, error), 0);
    assert_false(goodput_given(&goodput));
    assert_true(goodput_met(&goodput, 1e9, 1e9, 1e9));
}

static void refuses_the_rest(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",        "ttft",    "ttft:",    "ttft:0",
                                        "ttft:-1", "ttft:1x", "ttft:inf", "ttft:nan",
                                        "itl:50",  "TTFT:5",  "ttft=5",   "200"};
    static const char *const twice[] = {"ttft:5", "ttft:6"};
    char error[GOODPUT_ERROR_BYTES_MAX];
    struct goodput goodput;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        if (goodput_parse(&goodput, &wrong[i], 1, error) != -EINVAL || !strstr(error, wrong[i])) {
            fail_msg("'%s' gave '%s'", wrong[i], error);
        }
    }
    assert_int_equal(goodput_parse(&goodput, twice, 2, error), -EINVAL);
}

static void a_request_at_its_limits_is_good(void **state)
{
    (void)state;
    const struct goodput all = {200, 50, 1000}, one = {.tpot_ms = 50};
    assert_true(goodput_met(&all, 200, 50, 1000));
    assert_false(goodput_met(&all, 200.1, 50, 1000));
    assert_false(goodput_met(&all, 200, 50.1, 1000));
    assert_false(goodput_met(&all, 200, 50, 1000.1));
    assert_true(goodput_met(&one, 1e6, 50, 1e6));
    assert_false(goodput_met(&one, 0, 51, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_limits),
        cmocka_unit_test(refuses_the_rest),
        cmocka_unit_test(a_request_at_its_limits_is_good),
    };
    return cmocka_run_group_tests_name("goodput", tests, NULL, NULL);
}
