/* axis_test.c - scales end at round numbers, ticks stand on them, values stand where they belong.
 */
#include "tools/axis.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-9 * fmax(1, fabs(b));
}

static void linear_scales_start_at_0(void **state)
{
    (void)state;
    static const double cases[][2] = {{0.7, 0.8}, {1, 1},       {11, 15},
                                      {64, 80},   {6543, 8000}, {0, 0.2}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct axis axis = axis_linear(cases[i][0], 100, 0);
        struct axis_tick ticks[AXIS_TICKS_MAX];
        const size_t count = axis_ticks(&axis, ticks);
        assert_true(axis.low == 0);
        if (!near(axis.high, cases[i][1])) {
            fail_msg("%g became %g", cases[i][0], axis.high);
        }
        assert_true(count >= 3 && count <= 7);
        assert_true(ticks[0].value == 0 && near(ticks[count - 1].value, axis.high));
    }
}

static void logarithmic_scales_end_at_1_2_5(void **state)
{
    (void)state;
    struct axis_tick ticks[AXIS_TICKS_MAX];
    struct axis axis = axis_logarithmic(0.3, 7300, 0, 100);
    assert_true(near(axis.low, 0.2) && near(axis.high, 10000));
    const size_t count = axis_ticks(&axis, ticks);
    assert_int_equal(count, 15); /* 0.2 0.5 1 2 5 ... 10000 */
    assert_true(near(ticks[0].value, 0.2) && !ticks[0].labelled);
    assert_true(near(ticks[2].value, 1) && ticks[2].labelled);
    assert_true(near(ticks[14].value, 10000) && ticks[14].labelled);
    axis = axis_logarithmic(12, 31, 0, 100); /* Little room: every tick has its label. */
    assert_int_equal(axis_ticks(&axis, ticks), 3);
    assert_true(ticks[0].labelled && ticks[1].labelled && ticks[2].labelled);
    axis = axis_logarithmic(5, 5, 0, 100);
    assert_true(axis.high > axis.low);
    axis = axis_logarithmic(1e-2, 1e9, 0, 100); /* More than anybody waits. */
    assert_true(axis_ticks(&axis, ticks) <= AXIS_TICKS_MAX);
}

static void values_stand_in_proportion(void **state)
{
    (void)state;
    const struct axis linear = {0, 10, 100, 0, false};
    const struct axis logarithmic = {1, 100, 0, 200, true};
    assert_true(near(axis_place(&linear, 2.5), 75));
    assert_true(near(axis_place(&linear, -1), 100) && near(axis_place(&linear, 11), 0));
    assert_true(near(axis_place(&logarithmic, 10), 100));
    assert_true(near(axis_place(&logarithmic, 0), 0) && near(axis_place(&logarithmic, 1e9), 200));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_scales_start_at_0),
        cmocka_unit_test(logarithmic_scales_end_at_1_2_5),
        cmocka_unit_test(values_stand_in_proportion),
    };
    return cmocka_run_group_tests_name("axis", tests, NULL, NULL);
}
