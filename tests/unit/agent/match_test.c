/*
 * match_test.c - requests with a common beginning, one rule at a time; pages of 4 tokens. Random
 * cases are in tests/property.
 */
#include "agent/match.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/agent/sched_bed.h"

static const uint32_t text[32] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16,
                                  17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32};
static const uint32_t fork_after_6[12] = {1, 2, 3, 4, 5, 6, 70, 80, 90, 100, 110, 120};

static struct sched *open_bench(struct bench *bench, uint32_t tokens_max, uint32_t page_count)
{
    return bench_open(bench, &(struct sched_options){.slots_max = 8,
                                                     .tokens_max = tokens_max,
                                                     .page_count = page_count,
                                                     .context_max = 32});
}

/* 12 tokens are 3 full pages: two are borrowed, the third is copied and its last token computed. */
static void equal_prompts_cost_one_token_each(void **state)
{
    (void)state;
    struct bench bench;
    struct sched *sched = open_bench(&bench, 32, 40);
    for (uint32_t i = 0; i < 4; i++) {
        sched_add(sched, i, text, 12, NULL);
    }
    step(&bench); /* All are in; one computes. */
    assert_int_equal(bench.step.row_count, 1);
    assert_int_equal(bench.step.open_count, 4);
    assert_row(&bench, 0, 0, 0, 12);
    assert_int_equal(sched->pages.free_count, 40 - 4 - 3 * 2);
    step(&bench);
    assert_int_equal(bench.step.row_count, 4);
    assert_int_equal(bench.step.token_count, 4);
    assert_int_equal(bench.step.copy_count, 3);
    for (uint32_t i = 1; i < 4; i++) {
        assert_row(&bench, i, i, 11, 1);
        assert_false(bench.step.rows[i].from_last);
        assert_true(bench.step.rows[i].sample);
        assert_int_equal(bench.step.copies[i - 1].source, sched->entry[0].pages[2]);
        assert_int_equal(bench.step.copies[i - 1].target, sched->entry[i].pages[2]);
        assert_int_equal(sched->entry[i].pages[1], sched->entry[0].pages[1]);
        assert_int_equal(sched->entry[i].shared_tokens, 11);
    }
    assert_int_equal(sched->shared_tokens, 33);
    arena_close(&bench.arena);
}

/* The first one fills the step and is gone after it: the others are in by then. */
static void enters_a_full_step_to_borrow(void **state)
{
    (void)state;
    struct bench bench;
    struct sched *sched = open_bench(&bench, 12, 40);
    sched_add(sched, 0, text, 12, NULL);
    sched_add(sched, 1, text, 12, NULL);
    sched_add(sched, 2, text + 12, 12, NULL);
    sched_add(sched, 3, text, 12, NULL);
    step(&bench);
    assert_int_equal(bench.step.row_count, 1);
    assert_int_equal(bench.step.open_count,
                     2); /* Request 2 has nothing to borrow, 3 is behind it. */
    sched_remove(sched, 0);
    step(&bench);
    assert_row(&bench, 0, 1, 11, 1);
    assert_row(&bench, 1, 2, 0, 11);
    arena_close(&bench.arena);
}

static void shares_up_to_the_fork(void **state)
{
    (void)state;
    struct bench bench;
    struct sched *sched = open_bench(&bench, 32, 40);
    sched_add(sched, 0, text, 12, NULL);
    sched_add(sched, 1, fork_after_6, 12, NULL);
    step(&bench);
    step(&bench); /* One page and half of the next: at half a page a copy pays. */
    assert_int_equal(bench.step.copy_count, 1);
    assert_row(&bench, 0, 0, 12, 1);
    assert_row(&bench, 1, 1, 6, 6);
    assert_true(sched->entry[1].pages[1] != sched->entry[0].pages[1]);
    arena_close(&bench.arena);
}

/* The step has no room for the row behind a copy, and its request leaves: the page that is written
 * to stays out of use until the step has ended. */
static void a_copy_keeps_its_target(void **state)
{
    (void)state;
    static const uint32_t one_more[5] = {1, 2, 3, 4, 50};
    struct bench bench;
    struct sched *sched = open_bench(&bench, 4, 40);
    sched_add(sched, 0, text, 8, NULL);
    sched_add(sched, 1, fork_after_6, 12, NULL);
    sched_add(sched, 2, one_more, 5, NULL);
    sched_add(sched, 3, one_more, 5, NULL);
    step(&bench);
    step(&bench);
    assert_true(sched_form(sched, &bench.step));
    assert_int_equal(bench.step.copy_count, 1);
    for (uint32_t i = 0; i < bench.step.row_count; i++) {
        assert_int_not_equal(bench.step.rows[i].request, 1);
    }
    const struct page *target = &sched->pages.page[bench.step.copies[0].target];
    sched_remove(sched, 1);
    assert_int_equal(target->owners, 0);
    assert_int_equal(target->in_flight, 1);
    sched_commit(sched, &bench.step);
    assert_int_equal(target->in_flight, 0);
    sched_verify(sched);
    arena_close(&bench.arena);
}

static void without_ids_nothing_is_shared(void **state)
{
    (void)state;
    struct bench bench;
    struct sched *sched = open_bench(&bench, 32, 40);
    sched_add(sched, 0, text, 12, NULL);
    sched_add(sched, 1, NULL, 12, NULL);
    step(&bench);
    assert_int_equal(bench.step.row_count, 2);
    assert_row(&bench, 1, 1, 0, 12);
    arena_close(&bench.arena);
}

/* The writer leaves half way: the oldest of those that wait writes, the others wait for it. */
static void heir_writes_what_was_left(void **state)
{
    (void)state;
    struct bench bench;
    struct sched *sched = open_bench(&bench, 10, 40);
    for (uint32_t i = 0; i < 3; i++) {
        sched_add(sched, i, text, 17, NULL);
    }
    step(&bench);
    assert_int_equal(bench.step.row_count, 1);
    assert_row(&bench, 0, 0, 0, 10);
    sched_remove(sched, 0);
    step(&bench); /* Two pages are there, the third is written anew. */
    assert_int_equal(bench.step.row_count, 1);
    assert_row(&bench, 0, 1, 8, 9);
    step(&bench);
    assert_row(&bench, 0, 1, 17, 1);
    assert_row(&bench, 1, 2, 16, 1);
    assert_int_equal(bench.step.copy_count, 0);
    arena_close(&bench.arena);
}

/* Steps run in order: what one in flight writes is there for the next, whoever leaves. */
static void borrows_from_a_step_in_flight(void **state)
{
    (void)state;
    struct bench bench;
    struct sched *sched = open_bench(&bench, 32, 40);
    sched_add(sched, 0, text, 12, NULL);
    sched_add(sched, 1, text, 12, NULL);
    assert_true(sched_form(sched, &bench.step));
    assert_row(&bench, 0, 0, 0, 12);
    const struct sched_step first = bench.step;
    sched_remove(sched, 0);
    assert_true(sched_form(sched, &bench.step));
    assert_int_equal(bench.step.row_count, 1);
    assert_row(&bench, 0, 1, 11, 1);
    assert_int_equal(bench.step.copy_count, 1);
    const struct page *source = &sched->pages.page[bench.step.copies[0].source];
    sched_commit(sched, &(struct sched_step){.number = first.number});
    assert_int_equal(source->owners, 0); /* Of nobody, and still read. */
    assert_int_equal(source->in_flight, 1);
    sched_commit(sched, &bench.step);
    assert_int_equal(source->in_flight, 0);
    sched_verify(sched);
    arena_close(&bench.arena);
}

/* A borrowed page outlives its first owner, and is gone with its last. */
static void page_lives_as_long_as_it_has_owners(void **state)
{
    (void)state;
    struct bench bench;
    struct sched *sched = open_bench(&bench, 32, 40);
    sched_add(sched, 0, text, 12, NULL);
    sched_add(sched, 1, text, 12, NULL);
    step(&bench);
    step(&bench);
    const uint32_t page = sched->entry[0].pages[0];
    sched_remove(sched, 0);
    assert_int_equal(sched->pages.page[page].owners, 1);
    sched_add(sched, 2, text, 9, NULL);
    step(&bench);
    assert_row(&bench, 1, 2, 8, 1);
    assert_int_equal(sched->entry[2].pages[0], page);
    sched_remove(sched, 1);
    sched_remove(sched, 2);
    assert_int_equal(sched->pages.free_count, 40);
    sched_add(sched, 3, text, 9, NULL);
    step(&bench);
    assert_row(&bench, 0, 3, 0, 9);
    arena_close(&bench.arena);
}

static void worker_lost_while_others_wait(void **state)
{
    (void)state;
    struct bench bench;
    struct sched *sched = open_bench(&bench, 32, 40);
    sched_add(sched, 0, text, 12, NULL);
    sched_add(sched, 1, text, 12, NULL);
    assert_true(sched_form(sched, &bench.step));
    sched_reset(sched);
    sched_verify(sched);
    assert_int_equal(sched->pages.free_count, 40);
    step(&bench);
    assert_row(&bench, 0, 0, 0, 12);
    step(&bench);
    assert_row(&bench, 1, 1, 11, 1);
    arena_close(&bench.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_prompts_cost_one_token_each),
        cmocka_unit_test(enters_a_full_step_to_borrow),
        cmocka_unit_test(shares_up_to_the_fork),
        cmocka_unit_test(a_copy_keeps_its_target),
        cmocka_unit_test(without_ids_nothing_is_shared),
        cmocka_unit_test(heir_writes_what_was_left),
        cmocka_unit_test(borrows_from_a_step_in_flight),
        cmocka_unit_test(page_lives_as_long_as_it_has_owners),
        cmocka_unit_test(worker_lost_while_others_wait),
    };
    return cmocka_run_group_tests_name("match", tests, NULL, NULL);
}
