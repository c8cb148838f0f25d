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

enum { TOKENS_MAX = 512, DEVICES = 200, CROWD = 24 };

struct truth {
    double fixed;
    double token;
    double read;
    double look;
};

static double uniform(double low, double high)
{
    static uint64_t draws;
    return low + (high - low) * (double)(prng_bits(7, draws++, 0) >> 11) * 0x1p-53;
}

static double true_us(const struct truth *truth, const struct pace_step *step)
{
    return truth->fixed + truth->token * (double)step->tokens +
           truth->read * (double)step->answers_context +
           truth->look * (double)step->prompts_context;
}

/* Products at 1 to 400 us a token, reading and looking from next to nothing to as much as the
 * products at 1,000 tokens of context, as kernels built without optimisation do. */
static struct truth any_device(void)
{
    return (struct truth){uniform(100, 20000), uniform(1, 400), uniform(0, 0.2), uniform(0, 0.4)};
}

/* Some rows of one token, some tokens of a prompt, each with some past. */
static struct pace_step any_step(void)
{
    const uint64_t tokens = (uint64_t)exp(uniform(0, log(TOKENS_MAX)));
    const uint64_t rows = (uint64_t)((double)tokens * uniform(0, 1));
    return (struct pace_step){.tokens = tokens,
                              .answers_context = rows * (uint64_t)uniform(1, 2000),
                              .prompts_context =
                                  pace_context((uint64_t)uniform(0, 2000), tokens - rows)};
}

/* A step of some size, disturbed by so much at most. */
static void learn_step(struct pace *pace, const struct truth *truth, double noise)
{
    const struct pace_step step = any_step();
    const double us = true_us(truth, &step) * uniform(1 - noise, 1 + noise);
    pace_learn(pace, &step, (uint64_t)us);
}

static void assert_near(const struct pace *pace, const struct truth *truth, double error)
{
    for (uint64_t tokens = 1; tokens <= TOKENS_MAX; tokens *= 2) {
        const struct pace_step step = {tokens, tokens / 2 * 500, pace_context(300, tokens / 2)};
        const double us = true_us(truth, &step);
        assert_true(fabs(pace_step_us(pace, &step) - us) <= us * error);
    }
}

static void knows_nothing_at_first(void **state)
{
    (void)state;
    struct pace pace = {0};
    const struct pace_target target = {.tpot_us = 1};
    const struct pace_load load = {.tokens_max = TOKENS_MAX, .answer_rows = 4};
    assert_true(pace_step_us(&pace, &(struct pace_step){.tokens = 100}) == 0);
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
    struct truth truth = {3000, 100, 0.02, 0.01};
    for (uint32_t step = 0; step < 1000; step++) {
        learn_step(&pace, &truth, 0.05);
    }
    truth = (struct truth){6000, 200, 0.04, 0.02};
    for (uint32_t step = 0; step < 2000; step++) {
        learn_step(&pace, &truth, 0.05);
    }
    assert_near(&pace, &truth, 0.1);
}

/* Answers alone, for as long as it may be, do not make it forget what prompts cost. */
static void answers_alone_forget_nothing(void **state)
{
    (void)state;
    const struct truth truth = {3000, 100, 0, 0};
    struct pace pace = {0};
    for (uint32_t step = 0; step < 100; step++) {
        learn_step(&pace, &truth, 0.05);
    }
    for (uint32_t step = 0; step < 100000; step++) {
        const struct pace_step answers = {8, 8ull * (step % 1000), 0};
        const double us = true_us(&truth, &answers) * uniform(0.95, 1.05);
        pace_learn(&pace, &answers, (uint64_t)us);
    }
    assert_near(&pace, &truth, 0.1);
}

/* A step that took a hundred times as long says little. */
static void one_disturbed_step_does_little(void **state)
{
    (void)state;
    const struct truth truth = {3000, 100, 0.02, 0.01};
    struct pace pace = {0};
    for (uint32_t step = 0; step < 500; step++) {
        learn_step(&pace, &truth, 0.02);
    }
    const struct pace_step step = {256, 1000, 10000};
    pace_learn(&pace, &step, 100 * (uint64_t)true_us(&truth, &step));
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
    const struct truth truth = {2000, 100, 0, 0};
    const struct pace pace = learnt(&truth);
    const struct pace_target target = {.tpot_us = 20000};
    struct pace_load load = {.tokens_max = TOKENS_MAX, .answer_rows = 10, .next_tokens = 5000};
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
    const struct truth truth = {2000, 100, 0, 0};
    const struct pace pace = learnt(&truth);
    const struct pace_load load = {.tokens_max = TOKENS_MAX, .next_tokens = 100};
    struct pace_target target = {.ttft_us = 60000, .steps_in_flight = 1};
    assert_in_range(pace_dense(&pace, &target, &load), 243, 257); /* 27 ms of 30. */
    target.steps_in_flight = 2;
    assert_in_range(pace_dense(&pace, &target, &load), 155, 165); /* 18 of 20. */
}

static void grows_with_the_queue_for_ttft(void **state)
{
    (void)state;
    const struct truth truth = {2000, 100, 0, 0};
    const struct pace pace = learnt(&truth);
    const struct pace_target target = {.ttft_us = 200000, .tpot_us = 20000};
    struct pace_load load = {.tokens_max = TOKENS_MAX, .next_tokens = 100};
    assert_in_range(pace_dense(&pace, &target, &load), 155, 162);
    load.rest.tokens = 1500; /* 10 steps of 18 ms: still in time. */
    assert_in_range(pace_dense(&pace, &target, &load), 155, 162);
    load.waited_us = 30000; /* No longer. */
    const uint32_t grown = pace_dense(&pace, &target, &load);
    assert_true(grown > 162);
    load.waited_us = 190000; /* Too late for any size. */
    assert_int_equal(pace_dense(&pace, &target, &load), TOKENS_MAX);
}

/* A prompt's tokens pay for what they look back at: far into it a step holds fewer. */
static void shrinks_for_what_prompts_look_back_at(void **state)
{
    (void)state;
    const struct truth truth = {2000, 50, 0, 0.5};
    const struct pace pace = learnt(&truth);
    const struct pace_target target = {.tpot_us = 20000};
    struct pace_load load = {.tokens_max = TOKENS_MAX, .next_tokens = 5000};
    assert_in_range(pace_dense(&pace, &target, &load), 165, 177);
    load.next_position = 500;
    assert_in_range(pace_dense(&pace, &target, &load), 47, 53);
    load.next_tokens = 20; /* Others begin behind it, and look back at next to nothing. */
    load.rest = (struct pace_prompt){1000, pace_context(0, 50) * 20};
    assert_in_range(pace_dense(&pace, &target, &load), 165, 180);
}

/* Requests of a closed loop: each computes its prompt, then answers, then begins anew. */
struct crowd {
    uint32_t position[CROWD];
    uint32_t prompt[CROWD];
    uint32_t answer[CROWD];
};

static bool answers(const struct crowd *crowd, uint32_t i)
{
    return crowd->position[i] >= crowd->prompt[i];
}

static struct pace_load load_of(const struct crowd *crowd)
{
    struct pace_load load = {.tokens_max = TOKENS_MAX};
    for (uint32_t i = 0; i < CROWD; i++) {
        const uint64_t left = crowd->prompt[i] - crowd->position[i];
        if (answers(crowd, i)) {
            load.answer_rows++;
            load.answers_context += crowd->position[i] + 1;
        } else if (load.next_tokens == 0) {
            load.next_position = crowd->position[i];
            load.next_tokens = left;
        } else {
            load.rest.tokens += left;
            load.rest.context += pace_context(crowd->position[i], left);
        }
    }
    return load;
}

/* As the scheduler forms steps: answers first, then prompts up to the dense batch. */
static struct pace_step crowd_step(struct crowd *crowd, uint32_t dense)
{
    struct pace_step step = {0};
    for (uint32_t i = 0; i < CROWD; i++) {
        if (answers(crowd, i)) {
            step.tokens++;
            step.answers_context += ++crowd->position[i];
        }
    }
    for (uint32_t i = 0; i < CROWD; i++) {
        const uint32_t left = crowd->prompt[i] - crowd->position[i];
        const uint32_t room = step.tokens < dense ? dense - (uint32_t)step.tokens : 0;
        const uint32_t tokens = left < room ? left : room;
        if (!answers(crowd, i) && tokens > 0) {
            step.tokens += tokens;
            step.prompts_context += pace_context(crowd->position[i], tokens);
            crowd->position[i] += tokens;
        }
    }
    for (uint32_t i = 0; i < CROWD; i++) {
        if (crowd->position[i] >= crowd->prompt[i] + crowd->answer[i]) {
            crowd->position[i] = 0;
            crowd->prompt[i] = (uint32_t)uniform(2, 2000);
            crowd->answer[i] = (uint32_t)uniform(1, 300);
        }
    }
    return step;
}

/* What the rows of answers and PACE_CHUNK_MIN tokens of the next prompt would take. */
static double least_us(const struct truth *truth, const struct pace_load *load)
{
    const struct pace_step least = {load->answer_rows + PACE_CHUNK_MIN, load->answers_context,
                                    pace_context(load->next_position, PACE_CHUNK_MIN)};
    return true_us(truth, &least);
}

/* On any device, with what it has learnt from the steps that it chose, they keep to the target
 * where any can, and are not smaller than they need be. */
static void chosen_steps_keep_to_the_target(void **state)
{
    (void)state;
    uint32_t late = 0, possible = 0;
    double used = 0; /* Of the target, by steps that prompts could have filled. */
    for (uint32_t device = 0; device < DEVICES; device++) {
        const struct truth truth = any_device();
        const struct pace_step usual = {100, 40000, pace_context(500, 50)};
        const struct pace_target target = {
            .tpot_us = (uint64_t)(true_us(&truth, &usual) * uniform(0.7, 3))};
        struct pace pace = {0};
        struct crowd crowd = {{0}, {0}, {0}};
        for (uint32_t step = 0; step < 600; step++) {
            const struct pace_load load = load_of(&crowd);
            const uint32_t dense = pace_dense(&pace, &target, &load);
            const struct pace_step formed = crowd_step(&crowd, dense);
            const double us = true_us(&truth, &formed) * uniform(0.95, 1.05);
            if (step >= 100 && least_us(&truth, &load) <= (double)target.tpot_us * 0.9 &&
                formed.tokens == dense && dense < TOKENS_MAX) {
                possible++;
                late += us > (double)target.tpot_us;
                used += us / (double)target.tpot_us;
            }
            pace_learn(&pace, &formed, (uint64_t)us);
        }
    }
    print_message("%u steps, %.2f %% above the target, %.0f %% of it used\n", possible,
                  100.0 * late / possible, 100 * used / possible);
    assert_true(possible > 5000 && late < possible / 50);
    assert_true(used > 0.8 * possible);
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
        cmocka_unit_test(shrinks_for_what_prompts_look_back_at),
        cmocka_unit_test(chosen_steps_keep_to_the_target),
    };
    return cmocka_run_group_tests_name("pace", tests, NULL, NULL);
}
