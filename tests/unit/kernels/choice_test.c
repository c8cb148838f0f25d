/*
 * choice_test.c - the arithmetic of a draw: keys order as values do, odds are what exp() says,
 * shares of a sum are exact.
 */
#include "kernels/choice.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void keys_fall_as_values_rise(void **state)
{
    (void)state;
    static const float falling[] = {INFINITY, FLT_MAX, 8.5f,     8.0f,  1e-40f,
                                    0.0f,     -1e-40f, -FLT_MIN, -3.0f, -INFINITY};
    for (size_t i = 0; i + 1 < sizeof falling / sizeof falling[0]; i++) {
        assert_true(choice_key(falling[i]) < choice_key(falling[i + 1]));
    }
    assert_int_equal(choice_key(-0.0f), choice_key(0.0f));
}

static void odds_are_those_of_exp(void **state)
{
    (void)state;
    assert_true(choice_odds(0) == UINT64_C(1) << CHOICE_UNIT_BITS);
    uint64_t before = choice_odds(0);
    for (uint32_t i = 0; i < 3000000; i++) {
        const float x = -1e-5f * (float)i;
        const double want = exp((double)x) * 0x1p43;
        const uint64_t odds = choice_odds(x);
        assert_true(fabs((double)odds - want) <= want * 0x1p-28 + 1);
        assert_true(odds <= before + (before >> 29)); /* Never better, but for rounding. */
        before = odds;
    }
}

static void what_is_far_below_has_no_odds(void **state)
{
    (void)state;
    assert_true(choice_odds(-29.8f) > 0);
    assert_true(choice_odds(-31.0f) == 0);
    assert_true(choice_odds(-FLT_MAX) == 0);
    assert_true(choice_odds(-INFINITY) == 0);
    assert_true(choice_odds(NAN) == 0);
}

/* The coldest draw takes the best one, and nothing else. */
static void temperatures_near_zero_stay_finite(void **state)
{
    (void)state;
    static const float temperatures[] = {1e-45f, 1e-40f, FLT_MIN, 1e-30f};
    for (size_t i = 0; i < sizeof temperatures / sizeof temperatures[0]; i++) {
        const float coldness = choice_coldness(temperatures[i]);
        assert_true(choice_odds(0.0f * coldness) == choice_odds(0));
        assert_true(choice_odds(-1e-6f * coldness) == 0);
    }
    assert_true(choice_coldness(2.0f) == 0.5f);
}

static void shares_are_exact(void **state)
{
    (void)state;
    static const uint64_t sums[] = {1, 3, UINT64_C(1) << 43, (UINT64_C(1) << 63) - 1};
    static const uint32_t shares[] = {0, 1, 1u << 31, 3435973836u, UINT32_MAX};
    for (size_t i = 0; i < sizeof sums / sizeof sums[0]; i++) {
        for (size_t j = 0; j < sizeof shares / sizeof shares[0]; j++) {
            __extension__ const unsigned __int128 product = (unsigned __int128)sums[i] * shares[j];
            assert_true(choice_share(sums[i], shares[j]) == (uint64_t)(product >> 32));
            assert_true(choice_share(sums[i], shares[j]) < sums[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_fall_as_values_rise),
        cmocka_unit_test(odds_are_those_of_exp),
        cmocka_unit_test(what_is_far_below_has_no_odds),
        cmocka_unit_test(temperatures_near_zero_stay_finite),
        cmocka_unit_test(shares_are_exact),
    };
    return cmocka_run_group_tests_name("choice", tests, NULL, NULL);
}
