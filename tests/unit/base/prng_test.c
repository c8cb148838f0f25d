/* prng_test.c - Philox4x32-10 against the known answers of the Random123 distribution; range. */
#include "base/prng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* kat_vectors, philox4x32 10 rounds: counter 0, key 0 gives 6627e8d5 e169c58d bc57ac4c 9b00dbd8. */
static void known_answer(void **state)
{
    (void)state;
    assert_int_equal(prng_bits(0, 0, 0), 0xe169c58d6627e8d5u);
}

static void depends_on_every_input(void **state)
{
    (void)state;
    assert_int_not_equal(prng_bits(1, 2, 3), prng_bits(2, 2, 3));
    assert_int_not_equal(prng_bits(1, 2, 3), prng_bits(1, 3, 3));
    assert_int_not_equal(prng_bits(1, 2, 3), prng_bits(1, 2, 4));
    assert_int_not_equal(prng_bits(1, 2, 3), prng_bits((uint64_t)1 << 40 | 1, 2, 3));
}

static void uniform_is_in_range(void **state)
{
    (void)state;
    double sum = 0;
    for (uint64_t i = 0; i < 100000; i++) {
        const float value = prng_uniform(7, i, 0);
        assert_true(value >= 0.0f && value < 1.0f);
        sum += (double)value;
    }
    assert_true(sum > 49500 && sum < 50500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answer),
        cmocka_unit_test(depends_on_every_input),
        cmocka_unit_test(uniform_is_in_range),
    };
    return cmocka_run_group_tests_name("prng", tests, NULL, NULL);
}
