/*
 * forecast_test.c - learnt lengths against distributions that are known, and the predicted peak
 * against one that is found by stepping through every step to come.
 */
#include "agent/forecast.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/prng.h"

static uint32_t draw(uint32_t bound)
{
    static uint64_t draws;
    return (uint32_t)(prng_bits(3, draws++, 0) % bound);
}

static struct lengths *fresh(void)
{
    static struct lengths lengths;
    memset(&lengths, 0, sizeof lengths);
    return &lengths;
}

static void buckets_cover_every_length(void **state)
{
    (void)state;
    uint32_t before = 0;
    for (uint32_t tokens = 0; tokens <= LIMIT_CONTEXT_MAX; tokens++) {
        const uint32_t bucket = lengths_bucket(tokens);
        const uint32_t end = lengths_bucket_end(bucket);
        assert_true(bucket < LENGTHS_BUCKETS && bucket - before <= 1);
        assert_true(end >= tokens && end - tokens <= tokens / LENGTHS_A_DOUBLING);
        before = bucket;
    }
    assert_int_equal(before, LENGTHS_BUCKETS - 1);
}

static void knows_nothing_at_first(void **state)
{
    (void)state;
    struct lengths *lengths = fresh();
    assert_false(lengths_enough(lengths));
    assert_int_equal(lengths_predict(lengths, 0, 50), LENGTHS_UNKNOWN);
    for (uint32_t i = 0; i < LENGTHS_ENOUGH; i++) {
        lengths_learn(lengths, 20, false);
    }
    assert_true(lengths_enough(lengths));
    assert_int_equal(lengths_predict(lengths, 0, 50), 20);
    assert_int_equal(lengths_predict(lengths, 19, 50), 20);
    assert_int_equal(lengths_predict(lengths, 20, 50), LENGTHS_UNKNOWN); /* None was longer. */
    assert_int_equal(lengths_predict(lengths, LIMIT_CONTEXT_MAX, 50), LENGTHS_UNKNOWN);
}

/* Answers of 1 to 100 tokens, all as likely: of those past 50, half end by 75. */
static void quantiles_are_of_what_goes_on(void **state)
{
    (void)state;
    struct lengths *lengths = fresh();
    for (uint32_t i = 0; i < 4000; i++) {
        lengths_learn(lengths, 1 + draw(100), false);
    }
    assert_in_range(lengths_predict(lengths, 0, 50), 45, 55);
    assert_in_range(lengths_predict(lengths, 0, 90), 85, 95);
    assert_in_range(lengths_predict(lengths, 50, 50), 70, 80);
    assert_in_range(lengths_predict(lengths, 90, 50), 92, 99);
}

/* max_tokens of 30 cuts most of them: that they end there is not learnt. */
static void cut_answers_are_not_taken_for_short_ones(void **state)
{
    (void)state;
    struct lengths *lengths = fresh();
    for (uint32_t i = 0; i < 4000; i++) {
        const uint32_t answer = 1 + draw(100);
        const uint32_t most = draw(4) > 0 ? 30 : 200;
        lengths_learn(lengths, answer < most ? answer : most, answer > most);
    }
    assert_in_range(lengths_predict(lengths, 0, 50), 44, 58);
    assert_in_range(lengths_predict(lengths, 40, 50), 63, 77);
    lengths = fresh();
    for (uint32_t i = 0; i < 100; i++) {
        lengths_learn(lengths, 128, true); /* Nobody is let go on: nothing is known. */
    }
    assert_int_equal(lengths_predict(lengths, 0, 10), LENGTHS_UNKNOWN);
}

static void old_answers_fade(void **state)
{
    (void)state;
    struct lengths *lengths = fresh();
    for (uint32_t i = 0; i < 20000; i++) {
        lengths_learn(lengths, 300, false);
    }
    for (uint32_t i = 0; i < 2 * LENGTHS_WEIGHT_MAX; i++) {
        lengths_learn(lengths, 10, false);
    }
    assert_int_equal(lengths_predict(lengths, 0, 70), 10);
}

struct one { /* A running request. */
    uint64_t tokens;
    uint32_t steps;
};

/* Each takes a token a step and is gone after its last. */
static uint64_t peak_by_steps(const struct one *ones, uint32_t count, uint32_t page_tokens)
{
    uint64_t peak = 0;
    uint32_t last = 0;
    for (uint32_t i = 0; i < count; i++) {
        last = ones[i].steps > last ? ones[i].steps : last;
    }
    for (uint32_t step = 1; step <= last; step++) {
        uint64_t pages = 0;
        for (uint32_t i = 0; i < count; i++) {
            const uint64_t tokens = ones[i].tokens + step;
            pages += ones[i].steps >= step ? (tokens + page_tokens - 1) / page_tokens : 0;
        }
        peak = pages > peak ? pages : peak;
    }
    return peak;
}

static void a_page_a_token_is_exact(void **state)
{
    (void)state;
    struct forecast forecast;
    for (uint32_t round = 0; round < 2000; round++) {
        struct one ones[40];
        const uint32_t count = 1 + draw(40);
        forecast_begin(&forecast, 1, 0);
        for (uint32_t i = 0; i < count; i++) {
            ones[i] = (struct one){draw(200), 1 + draw(LENGTHS_EXACT - 1)};
            forecast_add(&forecast, ones[i].tokens, ones[i].steps);
        }
        assert_int_equal(forecast_peak(&forecast), peak_by_steps(ones, count, 1));
    }
}

/* With pages of 16 and long answers: at most a sixteenth of growth and half a page each away. */
static void any_peak_is_near(void **state)
{
    (void)state;
    struct forecast forecast;
    for (uint32_t round = 0; round < 500; round++) {
        struct one ones[40];
        const uint32_t count = 1 + draw(40);
        uint64_t slack = 16;
        forecast_begin(&forecast, 16, 0);
        for (uint32_t i = 0; i < count; i++) {
            ones[i] = (struct one){draw(2000), 1 + draw(1000)};
            forecast_add(&forecast, ones[i].tokens, ones[i].steps);
            slack += ones[i].steps / LENGTHS_A_DOUBLING + 8;
        }
        const uint64_t exact = peak_by_steps(ones, count, 16);
        const uint64_t told = forecast_peak(&forecast);
        assert_true(told * 16 <= exact * 16 + slack && exact * 16 <= told * 16 + slack);
    }
}

static void what_is_dropped_counts_no_more(void **state)
{
    (void)state;
    struct forecast forecast;
    forecast_begin(&forecast, 16, 7);
    assert_int_equal(forecast_peak(&forecast), 7);
    forecast_add(&forecast, 100, 20);
    const uint64_t one = forecast_peak(&forecast);
    forecast_add(&forecast, 300, 500);
    assert_true(forecast_peak(&forecast) > one);
    forecast_drop(&forecast, 300, 500);
    assert_int_equal(forecast_peak(&forecast), one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buckets_cover_every_length),
        cmocka_unit_test(knows_nothing_at_first),
        cmocka_unit_test(quantiles_are_of_what_goes_on),
        cmocka_unit_test(cut_answers_are_not_taken_for_short_ones),
        cmocka_unit_test(old_answers_fade),
        cmocka_unit_test(a_page_a_token_is_exact),
        cmocka_unit_test(any_peak_is_near),
        cmocka_unit_test(what_is_dropped_counts_no_more),
    };
    return cmocka_run_group_tests_name("forecast", tests, NULL, NULL);
}
