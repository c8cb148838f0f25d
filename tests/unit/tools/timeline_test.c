/* timeline_test.c - events fall into their bins, and no time under way is lost. */
#include "tools/timeline.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { START = 123456, SECOND = 1000000 };

static void tokens_fall_into_their_bins(void **state)
{
    (void)state;
    struct timeline timeline;
    timeline_start(&timeline, START);
    timeline_add(&timeline, START, 100, 1);
    timeline_add(&timeline, START + 99999, 0, 2);
    timeline_add(&timeline, START + 100000, 0, 4);
    timeline_add(&timeline, START + 200 * SECOND, 7, 8); /* Far behind what is there. */
    assert_int_equal(timeline.bin_count, 2001);
    assert_true(timeline.bins[0].in_tokens == 100 && timeline.bins[0].out_tokens == 3);
    assert_true(timeline.bins[1].out_tokens == 4 && timeline.bins[2].out_tokens == 0);
    assert_true(timeline.bins[2000].in_tokens == 7 && timeline.bins[2000].out_tokens == 8);
    const struct timeline_bin sum = timeline_sum(&timeline, 1, 100000);
    assert_true(sum.in_tokens == 7 && sum.out_tokens == 12);
    timeline_free(&timeline);
}

static void live_time_is_shared_out(void **state)
{
    (void)state;
    struct timeline timeline;
    timeline_start(&timeline, START);
    timeline_live(&timeline, START + 50000, 3);  /* Nothing was under way. */
    timeline_live(&timeline, START + 250000, 1); /* 3 for half a bin, one bin and a half. */
    timeline_live(&timeline, START + 250000, 2);
    timeline_live(&timeline, START + 260000, 0);
    timeline_live(&timeline, START + 10 * SECOND, 0);
    assert_int_equal(timeline.live_max, 3);
    assert_true(timeline.bins[0].live_us == 3 * 50000.0);
    assert_true(timeline.bins[1].live_us == 3 * 100000.0);
    assert_true(timeline.bins[2].live_us == 3 * 50000.0 + 2 * 10000.0);
    assert_true(timeline_sum(&timeline, 3, 1000).live_us == 0);
    timeline_free(&timeline);
}

static void the_peak_is_of_a_whole_second(void **state)
{
    (void)state;
    struct timeline timeline;
    timeline_start(&timeline, START);
    assert_true(timeline_peak_out(&timeline) == 0);
    for (uint64_t i = 0; i < 30; i++) {
        timeline_add(&timeline, START + i * SECOND / 10, 0, i < 10 ? 5 : i < 20 ? 7 : 1);
    }
    assert_true(timeline_peak_out(&timeline) == 70);
    timeline_free(&timeline);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_fall_into_their_bins),
        cmocka_unit_test(live_time_is_shared_out),
        cmocka_unit_test(the_peak_is_of_a_whole_second),
    };
    return cmocka_run_group_tests_name("timeline", tests, NULL, NULL);
}
