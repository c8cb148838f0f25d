/*
 * pace_test.c - the model of a step's time against devices whose truth is known, and the dense
 * batch that it leads to.
 */
#include "agent/pace.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/prng.h"

enum { TOKENS_MAX = 512, DEVICES = 200 };

struct truth {
    double fixed;
    double token;
    double context;
};

static double uniform(double low, double high)
{
    static uint64_t draws;
    return low + (high - low) * (double)(prng_bits(7, draws++, 0) >> 11) * 0x1p-53;
}

static double true_us(const struct truth *truth, double tokens, double context)
{
    return truth->fixed + truth->token * tokens + truth->context * context;
}

static struct truth any_device(void)
{
    return (struct truth){uniform(100, 20000), uniform(1, 400), uniform(0, 0.2)};
}

/* A step of some size, disturbed by so much at most. */
static void learn_step(struct pace *pace, const struct truth *truth, double noise)
{
    const uint64_t tokens = (uint64_t)exp(uniform(0, log(TOKENS_MAX)));
    const uint64_t context = tokens * (uint64_t)uniform(0, 2000);
    const double us = true_us(truth, (double)tokens, (double)context);
    pace_learn(pace, tokens, context, (uint64_t)(us * uniform(1 - noise, 1 + noise)));
}

static void assert_near(const struct pace *pace, const struct truth *truth, double error)
{
    for (uint64_t tokens = 1; tokens <= TOKENS_MAX; tokens *= 2) {
        const double us = true_us(truth, (double)tokens, (double)tokens * 500);
        assert_true(fabs(pace_step_us(pace, tokens, tokens * 500) - us) <= us * error);
    }
}

static void knows_nothing_at_first(void **state)
{
    (void)state;
    struct pace pace = {0};
    const struct pace_target target = {.tpot_us = 1};
    const struct pace_load load = {.tokens_max = TOKENS_MAX, .answer_rows = 4};
    assert_true(pace_step_us(&pace, 100, 0) == 0);
    assert_int_equal(pace_dense(&pace, &target, &load), TOKENS_MAX);
}

static void finds_the_truth(void **state)
{
    (void)state;
    for (uint32_t device = 0; device < DEVICES; device++) {
        const struct truth truth = any_device();
        struct pace pace = {0};
        for (uint32_t step = 0; step < 200; step++) {
            learn_step(&pace, &truth, 0);
        }
        assert_near(&pace, &truth, 0.02); /* Of rounding to microseconds, at most. */
    }
}

static void noise_averages_out(void **state)
{
    (void)state;
    for (uint32_t device = 0; device < DEVICES; device++) {
        const struct truth truth = any_device();
        struct pace pace = {0};
        for (uint32_t step = 0; step < 500; step++) {
            learn_step(&pace, &truth, 0.2);
        }
        assert_near(&pace, &truth, 0.15);
    }
}

static void follows_a_device_that_slows_down(void **state)
{
    (void)state;
    struct pace pace = {0};
    struct truth truth = {3000, 100, 0.02};
    for (uint32_t step = 0; step < 1000; step++) {
        learn_step(&pace, &truth, 0.05);
    }
    truth = (struct truth){6000, 200, 0.04};
    for (uint32_t step = 0; step < 2000; step++) {
        learn_step(&pace, &truth, 0.05);
    }
    assert_near(&pace, &truth, 0.1);
}

/* Answers alone, for as long as it may be, do not make it forget what prompts cost. */
static void answers_alone_forget_nothing(void **state)
{
    (void)state;
    const struct truth truth = {3000, 100, 0};
    struct pace pace = {0};
    for (uint32_t step = 0; step < 100; step++) {
        learn_step(&pace, &truth, 0.05);
    }
    for (uint32_t step = 0; step < 100000; step++) {
        const double us = true_us(&truth, 8, 0) * uniform(0.95, 1.05);
        pace_learn(&pace, 8, 8ull * (step % 1000), (uint64_t)us);
    }
    assert_near(&pace, &truth, 0.1);
}

/* A step that took a hundred times as long says little. */
static void one_disturbed_step_does_little(void **state)
{
    (void)state;
    const struct truth truth = {3000, 100, 0.02};
    struct pace pace = {0};
    for (uint32_t step = 0; step < 500; step++) {
        learn_step(&pace, &truth, 0.02);
    }
    pace_learn(&pace, 256, 1000, 100 * (uint64_t)true_us(&truth, 256, 1000));
    assert_near(&pace, &truth, 0.06);
}

static struct pace learnt(const struct truth *truth)
{
    struct pace pace = {0};
    for (uint32_t step = 0; step < 500; step++) {
        learn_step(&pace, truth, 0);
    }
    return pace;
}

static void shrinks_for_tpot(void **state)
{
    (void)state;
    const struct truth truth = {2000, 100, 0};
    const struct pace pace = learnt(&truth);
    const struct pace_target target = {.tpot_us = 20000};
    struct pace_load load = {.tokens_max = TOKENS_MAX, .answer_rows = 10, .prompt_tokens = 5000};
    const uint32_t tokens = pace_dense(&pace, &target, &load);
    assert_in_range(tokens, 155, 162); /* 2 ms + 160 x 0.1 ms: 90 % of the target. */
    load.answer_rows = 300;            /* Answers alone take longer: prompts still go on. */
    assert_int_equal(pace_dense(&pace, &target, &load), 300 + PACE_CHUNK_MIN);
    load.answer_rows = TOKENS_MAX;
    assert_int_equal(pace_dense(&pace, &target, &load), TOKENS_MAX);
    assert_int_equal(pace_dense(&pace, &(struct pace_target){0}, &load), TOKENS_MAX);
}

/* Who comes now waits for what is in flight. */
static void shares_ttft_between_the_steps_in_flight(void **state)
{
    (void)state;
    const struct truth truth = {2000, 100, 0};
    const struct pace pace = learnt(&truth);
    const struct pace_load load = {.tokens_max = TOKENS_MAX, .prompt_tokens = 100};
    struct pace_target target = {.ttft_us = 60000, .steps_in_flight = 1};
    assert_in_range(pace_dense(&pace, &target, &load), 243, 257); /* 27 ms of 30. */
    target.steps_in_flight = 2;
    assert_in_range(pace_dense(&pace, &target, &load), 155, 165); /* 18 of 20. */
}

static void grows_with_the_queue_for_ttft(void **state)
{
    (void)state;
    const struct truth truth = {2000, 100, 0};
    const struct pace pace = learnt(&truth);
    const struct pace_target target = {.ttft_us = 200000, .tpot_us = 20000};
    struct pace_load load = {.tokens_max = TOKENS_MAX, .prompt_tokens = 100};
    assert_in_range(pace_dense(&pace, &target, &load), 155, 162);
    load.prompt_tokens = 1600; /* 10 steps of 18 ms: still in time. */
    assert_in_range(pace_dense(&pace, &target, &load), 155, 162);
    load.waited_us = 30000; /* No longer. */
    const uint32_t grown = pace_dense(&pace, &target, &load);
    assert_true(grown > 162);
    load.waited_us = 190000; /* Too late for any size. */
    assert_int_equal(pace_dense(&pace, &target, &load), TOKENS_MAX);
}

/* On any device, with what it has learnt, the steps chosen keep to the target where any can. */
static void chosen_steps_keep_to_the_target(void **state)
{
    (void)state;
    uint32_t late = 0;
    uint32_t possible = 0;
    uint64_t filled = 0;
    for (uint32_t device = 0; device < DEVICES; device++) {
        const struct truth truth = any_device();
        struct pace pace = {0};
        for (uint32_t step = 0; step < 400; step++) {
            const struct pace_target target = {
                .tpot_us = (uint64_t)(true_us(&truth, 100, 50000) * uniform(0.5, 3))};
            const uint32_t rows = (uint32_t)uniform(0, 64);
            const struct pace_load load = {.tokens_max = TOKENS_MAX,
                                           .answer_rows = rows,
                                           .context = rows * (uint64_t)uniform(0, 800),
                                           .prompt_tokens = 100000};
            const uint32_t tokens = pace_dense(&pace, &target, &load);
            const double us = true_us(&truth, tokens, (double)load.context);
            const double least = true_us(&truth, rows + PACE_CHUNK_MIN, (double)load.context);
            if (step >= 100 && least <= (double)target.tpot_us) {
                possible++;
                late += us * uniform(0.95, 1.05) > (double)target.tpot_us;
                filled += tokens;
            }
            pace_learn(&pace, tokens, load.context, (uint64_t)(us * uniform(0.95, 1.05)));
        }
    }
    print_message("%u steps, %.2f %% above the target, %.0f tokens on average\n", possible,
                  100.0 * late / possible, (double)filled / possible);
    assert_true(possible > 10000 && late < possible / 50);
    assert_true(filled > (uint64_t)possible * 100); /* And not by being timid. */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_nothing_at_first),
        cmocka_unit_test(finds_the_truth),
        cmocka_unit_test(noise_averages_out),
        cmocka_unit_test(follows_a_device_that_slows_down),
        cmocka_unit_test(answers_alone_forget_nothing),
        cmocka_unit_test(one_disturbed_step_does_little),
        cmocka_unit_test(shrinks_for_tpot),
        cmocka_unit_test(shares_ttft_between_the_steps_in_flight),
        cmocka_unit_test(grows_with_the_queue_for_ttft),
        cmocka_unit_test(chosen_steps_keep_to_the_target),
    };
    return cmocka_run_group_tests_name("pace", tests, NULL, NULL);
}
