/*
 * sched_test.c - the scheduler's rules one by one, on small named cases. Random ones are in
 * tests/property.
 */
#include "agent/sched.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/agent/sched_bed.h"

static struct sched *open_large(struct bench *bench, uint32_t tokens_max, uint32_t page_count,
                                uint32_t context_max)
{
    return bench_open(bench, &(struct sched_options){.slots_max = 4,
                                                     .tokens_max = tokens_max,
                                                     .page_count = page_count,
                                                     .context_max = context_max});
}

static struct sched *open_bench(struct bench *bench, uint32_t tokens_max, uint32_t page_count)
{
    return open_large(bench, tokens_max, page_count, 32);
}

static void decodes_then_fills_the_budget(void **state)
{
    (void)state;
    struct bench bench;
    struct sched *sched = open_bench(&bench, 8, 32);
    sched_add(sched, 5, NULL, 3, NULL);
    step(&bench);
    assert_int_equal(bench.step.row_count, 1);
    assert_row(&bench, 0, 5, 0, 3);
    assert_true(bench.step.rows[0].sample && !bench.step.rows[0].from_last);
    sched_add(sched, 1, NULL, 10, NULL);
    sched_add(sched, 0, NULL, 2, NULL);
    step(&bench); /* One decode, the rest of the budget to the first prompt, none to the second. */
    assert_int_equal(bench.step.row_count, 2);
    assert_row(&bench, 0, 5, 3, 1);
    assert_true(bench.step.rows[0].from_last && bench.step.rows[0].sample);
    assert_row(&bench, 1, 1, 0, 7);
    assert_false(bench.step.rows[1].sample);
    assert_int_equal(bench.step.token_count, 8);
    step(&bench);
    assert_int_equal(bench.step.row_count, 3);
    assert_row(&bench, 0, 5, 4, 1);
    assert_row(&bench, 1, 1, 7, 3);
    assert_true(bench.step.rows[1].sample && !bench.step.rows[1].from_last);
    assert_row(&bench, 2, 0, 0, 2);
    arena_close(&bench.arena);
}

static void last_prompt_token_alone_is_listed(void **state)
{
    (void)state;
    struct bench bench;
    struct sched *sched = open_bench(&bench, 8, 32);
    sched_add(sched, 0, NULL, 9, NULL);
    step(&bench);
    assert_row(&bench, 0, 0, 0, 8);
    assert_false(bench.step.rows[0].sample);
    step(&bench);
    assert_row(&bench, 0, 0, 8, 1);
    assert_true(bench.step.rows[0].sample && !bench.step.rows[0].from_last);
    step(&bench);
    assert_true(bench.step.rows[0].from_last);
    arena_close(&bench.arena);
}

static void head_of_queue_waits_for_pages(void **state)
{
    (void)state;
    struct bench bench;
    struct sched *sched = open_bench(&bench, 32, 6);
    sched_add(sched, 0, NULL, 10, NULL); /* 3 pages for it and its next token. */
    step(&bench);
    sched_add(sched, 1, NULL, 13, NULL); /* 4 pages: one too many. */
    sched_add(sched, 2, NULL, 1, NULL);  /* Would fit, but is not first. */
    step(&bench);
    assert_int_equal(bench.step.row_count, 1);
    assert_int_equal(sched->fair.waiting_count, 2);
    assert_int_equal(sched->waiting_tokens, 14);
    sched_remove(sched, 0);
    step(&bench);
    assert_int_equal(bench.step.open_count, 2);
    assert_int_equal(bench.step.opens[0].request, 1);
    assert_int_equal(bench.step.opens[1].request, 2);
    arena_close(&bench.arena);
}

static void youngest_yields(void **state)
{
    (void)state;
    struct bench bench;
    struct sched *sched = open_bench(&bench, 32, 4);
    sched_add(sched, 3, NULL, 7, NULL);
    sched_add(sched, 1, NULL, 6, NULL);
    step(&bench); /* 2 pages each: 8 places, the pool is empty. */
    assert_int_equal(sched->running_count, 2);
    assert_int_equal(sched->pages.free_count, 0);
    const uint32_t slot = sched->entry[1].slot;
    const uint32_t generation = sched->generation[slot];
    step(&bench); /* 8 and 7 tokens: both in their pages. */
    assert_int_equal(bench.step.row_count, 2);
    step(&bench); /* The oldest needs its ninth place. */
    assert_int_equal(bench.step.row_count, 1);
    assert_row(&bench, 0, 3, 8, 1);
    assert_int_equal(sched->preemptions, 1);
    assert_int_equal(sched->recomputed_tokens, 7);
    assert_int_equal(bench.step.close_count, 1);
    assert_int_equal(bench.step.closes[0].slot, slot);
    assert_int_equal(bench.step.closes[0].generation, generation);
    sched_add(sched, 0, NULL, 1, NULL); /* Younger: behind the one that yielded. */
    assert_int_equal(fair_first(&sched->fair), 1);
    sched_remove(sched, 3);
    step(&bench);
    assert_row(&bench, 0, 1, 0, 8); /* From its log: prompt and answer. */
    assert_row(&bench, 1, 0, 0, 1);
    arena_close(&bench.arena);
}

static void fits_by_context_and_pool(void **state)
{
    (void)state;
    struct bench bench;
    struct sched *sched = open_bench(&bench, 32, 32);
    assert_true(sched_fits(sched, 32));
    assert_false(sched_fits(sched, 33)); /* The context. */
    assert_false(sched_fits(sched, UINT64_MAX));
    arena_close(&bench.arena);
    sched = open_bench(&bench, 32, 3);
    assert_true(sched_fits(sched, 12));
    assert_false(sched_fits(sched, 13)); /* The pool. */
    sched_add(sched, 0, NULL, 11, NULL);
    step(&bench);
    step(&bench); /* 12 of 12 places: alone it can end. */
    assert_row(&bench, 0, 0, 11, 1);
    arena_close(&bench.arena);
}

static void close_is_told_once(void **state)
{
    (void)state;
    struct bench bench;
    struct sched *sched = open_bench(&bench, 32, 32);
    sched_add(sched, 0, NULL, 2, NULL);
    step(&bench);
    sched_remove(sched, 0);
    assert_false(sched_form(sched, &bench.step)); /* It waits for a step. */
    sched_add(sched, 1, NULL, 2, NULL);
    step(&bench);
    assert_int_equal(bench.step.close_count, 1);
    assert_int_equal(bench.step.closes[0].request, 0);
    assert_int_equal(bench.step.closes[0].slot,
                     bench.step.opens[0].slot); /* Closed, then opened again. */
    assert_int_equal(bench.step.closes[0].generation + 1, bench.step.opens[0].generation);
    step(&bench);
    assert_int_equal(bench.step.close_count, 0);
    sched_remove(sched, 1);
    sched_reset(sched); /* The next worker has nothing open: nothing to close. */
    sched_add(sched, 2, NULL, 2, NULL);
    step(&bench);
    assert_int_equal(bench.step.close_count, 0);
    arena_close(&bench.arena);
}

static void removed_in_flight_keeps_pages_until_commit(void **state)
{
    (void)state;
    struct bench bench;
    struct sched *sched = open_bench(&bench, 32, 4);
    sched_add(sched, 0, NULL, 6, NULL);
    assert_true(sched_form(sched, &bench.step));
    sched_remove(sched, 0);
    sched_verify(sched);
    assert_int_equal(sched->pages.free_count, 2);
    assert_false(sched_row_current(sched, &bench.step.rows[0]));
    sched_commit(sched, &bench.step);
    assert_int_equal(sched->pages.free_count, 4);
    arena_close(&bench.arena);
}

static void held_keeps_pages_without_rows(void **state)
{
    (void)state;
    struct bench bench;
    struct sched *sched = open_bench(&bench, 32, 4);
    sched_add(sched, 0, NULL, 2, NULL);
    step(&bench);
    sched_hold(sched, 0, true);
    assert_false(sched_form(sched, &bench.step));
    assert_int_equal(sched->pages.free_count, 3);
    sched_hold(sched, 0, false);
    step(&bench);
    assert_row(&bench, 0, 0, 2, 1);
    arena_close(&bench.arena);
}

static void lost_worker_sends_all_back_in_order(void **state)
{
    (void)state;
    struct bench bench;
    struct sched *sched = open_bench(&bench, 32, 32);
    sched_add(sched, 4, NULL, 3, NULL);
    sched_add(sched, 2, NULL, 5, NULL);
    step(&bench);
    assert_true(sched_form(sched, &bench.step));
    const struct sched_row late = bench.step.rows[0];
    sched_reset(sched);
    sched_verify(sched);
    assert_int_equal(sched->pages.free_count, 32);
    assert_int_equal(fair_first(&sched->fair), 4);
    assert_int_equal(sched->fair.returned.last, 2);
    step(&bench);
    assert_row(&bench, 0, 4, 0, 4);
    assert_row(&bench, 1, 2, 0, 6);
    assert_false(sched_row_current(sched, &late));
    arena_close(&bench.arena);
}

/* A step judges so many tokens in all; what was judged is not judged again after a loss. */
static void judges_a_bounded_number_a_step(void **state)
{
    (void)state;
    enum { PROMPT = 900, BUDGET = 2000 };
    struct bench bench;
    struct sched *sched = open_large(&bench, BUDGET, 1200, 2 * PROMPT);
    sched_add(sched, 0, NULL, PROMPT, &(struct sched_terms){.scores = PROMPT - 1});
    sched_add(sched, 1, NULL, PROMPT, &(struct sched_terms){.scores = PROMPT - 1});
    sched_add(sched, 2, NULL, 40, NULL);
    step(&bench);
    assert_int_equal(bench.step.score_count, LIMIT_STEP_SCORES_MAX);
    assert_row(&bench, 0, 0, 0, PROMPT);
    assert_int_equal(bench.step.rows[0].score_first, 0);
    assert_int_equal(bench.step.rows[0].score_count, PROMPT - 1);
    const uint32_t rest = LIMIT_STEP_SCORES_MAX - (PROMPT - 1);
    assert_row(&bench, 1, 1, 0, rest);
    assert_int_equal(bench.step.rows[1].score_count, rest);
    assert_row(&bench, 2, 2, 0, 40); /* Who asks for none is not held up. */
    assert_int_equal(bench.step.rows[2].score_count, 0);
    sched_reset(sched);
    step(&bench);
    assert_row(&bench, 0, 0, 0, PROMPT + 1); /* With the token that it sampled. */
    assert_int_equal(bench.step.rows[0].score_count, 0);
    assert_row(&bench, 1, 1, 0, PROMPT);
    assert_int_equal(bench.step.rows[1].score_first, rest);
    assert_int_equal(bench.step.rows[1].score_count, PROMPT - 1 - rest);
    arena_close(&bench.arena);
}

/* What a worker waits before such a step is not the core's doing. */
static void knows_when_there_was_nothing_to_run(void **state)
{
    (void)state;
    struct bench bench;
    struct sched *sched = open_bench(&bench, 32, 32);
    assert_false(sched_form(sched, &bench.step));
    sched_add(sched, 0, NULL, 2, NULL);
    step(&bench);
    assert_true(bench.step.rested);
    step(&bench);
    assert_false(bench.step.rested);
    sched_hold(sched, 0, true);
    assert_false(sched_form(sched, &bench.step));
    sched_hold(sched, 0, false);
    step(&bench);
    assert_true(bench.step.rested);
    arena_close(&bench.arena);
}

/* Long lists of several requests do not fill the ring: the next ones enter with the next step. */
static void opens_what_the_ring_takes(void **state)
{
    (void)state;
    struct bench bench;
    struct sched *sched = open_bench(&bench, 64, 32);
    for (uint32_t request = 0; request < 3; request++) {
        sched_add(sched, request, NULL, 2,
                  &(struct sched_terms){.open_cells = SCHED_OPEN_CELLS_MAX / 2});
    }
    step(&bench);
    assert_int_equal(bench.step.open_count, 2);
    step(&bench);
    assert_int_equal(bench.step.open_count, 1);
    assert_int_equal(bench.step.opens[0].request, 2);
    arena_close(&bench.arena);
}

/* Whose turn it was is changed by service alone: a newcomer joins its own tenant at once. */
static void joining_is_no_service(void **state)
{
    (void)state;
    struct bench bench;
    struct sched *sched = open_bench(&bench, 8, 32);
    const struct sched_terms terms = {.tenant = 3, .priority = -5, .answer_tokens_max = 4};
    sched_add(sched, 0, NULL, 2, &(struct sched_terms){.tenant = 7});
    step(&bench);
    const uint32_t served = sched->fair.served;
    sched_add(sched, 1, NULL, 2, &terms);
    assert_int_equal(sched->fair.served, served);
    assert_int_equal(sched->entry[1].tokens_max, 6);
    assert_int_equal(sched->entry[1].order, fair_order(1, -5));
    assert_int_equal(sched->entry[1].tenant, 3);
    arena_close(&bench.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(joining_is_no_service),
        cmocka_unit_test(decodes_then_fills_the_budget),
        cmocka_unit_test(last_prompt_token_alone_is_listed),
        cmocka_unit_test(head_of_queue_waits_for_pages),
        cmocka_unit_test(youngest_yields),
        cmocka_unit_test(fits_by_context_and_pool),
        cmocka_unit_test(close_is_told_once),
        cmocka_unit_test(removed_in_flight_keeps_pages_until_commit),
        cmocka_unit_test(held_keeps_pages_without_rows),
        cmocka_unit_test(lost_worker_sends_all_back_in_order),
        cmocka_unit_test(judges_a_bounded_number_a_step),
        cmocka_unit_test(knows_when_there_was_nothing_to_run),
        cmocka_unit_test(opens_what_the_ring_takes),
    };
    return cmocka_run_group_tests_name("sched", tests, NULL, NULL);
}
