/* e4m3_test.c - every number of a byte there and back, and what lies between two of them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/e4m3.h"

enum { GREATEST = 0x7e };

static void numbers_of_the_format_stay(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits <= GREATEST; bits++) {
        assert_int_equal(e4m3_from_float(e4m3_to_float((uint8_t)bits)), bits);
        assert_int_equal(e4m3_from_float(-e4m3_to_float((uint8_t)bits)), bits | 0x80);
    }
    assert_true(e4m3_to_float(1) == 0x1p-9f);
    assert_true(e4m3_to_float(GREATEST) == E4M3_MAX);
    assert_true(e4m3_to_float(0x38) == 1);
}

/* The middle of two numbers goes to the even one, what is off it to the nearer. */
static void others_go_to_the_nearest(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < GREATEST; bits++) {
        const float middle =
            0.5f * (e4m3_to_float((uint8_t)bits) + e4m3_to_float((uint8_t)(bits + 1)));
        assert_int_equal(e4m3_from_float(middle), bits + bits % 2);
        assert_int_equal(e4m3_from_float(nextafterf(middle, 0)), bits);
        assert_int_equal(e4m3_from_float(nextafterf(middle, 500)), bits + 1);
    }
}

static void what_is_no_number_of_it(void **state)
{
    (void)state;
    assert_int_equal(e4m3_from_float(1e9f), GREATEST);
    assert_int_equal(e4m3_from_float(-INFINITY), GREATEST | 0x80);
    assert_true(isnan(e4m3_to_float(e4m3_from_float(NAN))));
    assert_true(isnan(e4m3_to_float(0xff)));
}

static void a_row_s_greatest_becomes_448(void **state)
{
    (void)state;
    static const float rows[] = {1e-29f, 0.37f, 448, 1e9f};
    for (uint32_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(e4m3_from_float(rows[i] * e4m3_inverse(rows[i])), GREATEST);
        assert_true(fabsf(E4M3_MAX * e4m3_scale(rows[i]) / rows[i] - 1) < 1e-6f);
    }
    assert_true(e4m3_scale(0) == 0 && e4m3_inverse(0) == 0 && e4m3_inverse(1e-38f) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_of_the_format_stay),
        cmocka_unit_test(others_go_to_the_nearest),
        cmocka_unit_test(what_is_no_number_of_it),
        cmocka_unit_test(a_row_s_greatest_becomes_448),
    };
    return cmocka_run_group_tests_name("e4m3", tests, NULL, NULL);
}
