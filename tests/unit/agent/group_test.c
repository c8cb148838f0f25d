/*
 * group_test.c - when a group expects the step in flight to end.
 */
#include "agent/group.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { FIXED_US = 1000, TOKEN_US = 50, CONTEXT_US = 1, SINCE_US = 7000000 };

static uint64_t true_us(uint32_t tokens, uint64_t context)
{
    return FIXED_US + (uint64_t)TOKEN_US * tokens + CONTEXT_US * context;
}

static struct sched_step one_row(struct sched_row *row, uint32_t tokens, uint32_t position)
{
    *row = (struct sched_row){.tokens = tokens, .position = position};
    return (struct sched_step){.rows = row, .row_count = 1, .token_count = tokens};
}

static void expects_what_steps_took(void **state)
{
    (void)state;
    struct group group = {.since_us = SINCE_US};
    struct sched_row row;
    struct sched_step step = one_row(&row, 8, 100);
    group_count(&group, &step);
    assert_int_equal(group_end_us(&group, &step), 0);
    for (uint32_t tokens = 1; tokens <= 64; tokens *= 2) {
        for (uint32_t position = 0; position < 400; position += 50) {
            step = one_row(&row, tokens, position);
            const uint64_t context = (uint64_t)tokens * (position + tokens / 2);
            group_count(&group, &step);
            group_learn(&group, &step, true_us(tokens, context));
        }
    }
    step = one_row(&row, 48, 200);
    group_count(&group, &step);
    const uint64_t want_us = SINCE_US + true_us(48, 48 * (200 + 24));
    assert_in_range(group_end_us(&group, &step), want_us - 200, want_us + 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(expects_what_steps_took)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
