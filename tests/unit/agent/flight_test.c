/*
 * flight_test.c - the scheduler with a step formed while the one before runs: what it takes for
 * granted, and what becomes of it when that does not come true. Pages of 4 tokens. Random cases are
 * in tests/property.
 */
#include "agent/flight.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/sched.h"

enum { REQUESTS = 8, SLOTS = 4 };

struct bench {
    struct arena arena;
    struct sched sched;
    struct sched_step step[FLIGHT_STEPS_MAX]; /* By number. */
};

static struct sched *open_large(struct bench *bench, uint32_t tokens_max, uint32_t page_count,
                                uint32_t context_max)
{
    const struct sched_options options = {
        .requests_max = REQUESTS,
        .slots_max = SLOTS,
        .tokens_max = tokens_max,
        .page_tokens = 4,
        .page_count = page_count,
        .context_max = context_max,
    };
    *bench = (struct bench){0};
    const size_t bytes = sched_bytes(&options) + FLIGHT_STEPS_MAX * sched_step_bytes(SLOTS);
    assert_int_equal(arena_open(&bench->arena, bytes), 0);
    assert_int_equal(sched_open(&bench->sched, &bench->arena, &options), 0);
    for (uint32_t i = 0; i < FLIGHT_STEPS_MAX; i++) {
        assert_int_equal(sched_step_open(&bench->step[i], &bench->arena, SLOTS), 0);
    }
    return &bench->sched;
}

static struct sched *open_bench(struct bench *bench, uint32_t page_count)
{
    return open_large(bench, 32, page_count, 32);
}

/* Forms the next step; its rows, none where nothing can run. */
static uint32_t form(struct bench *bench)
{
    struct sched *sched = &bench->sched;
    struct sched_step *step = &bench->step[(sched->flight.formed + 1) % FLIGHT_STEPS_MAX];
    const bool formed = sched_form(sched, step);
    sched_verify(sched);
    return formed ? step->row_count : 0;
}

static void commit(struct bench *bench)
{
    struct sched *sched = &bench->sched;
    sched_commit(sched, &bench->step[(sched->flight.ended + 1) % FLIGHT_STEPS_MAX]);
    sched_verify(sched);
}

static const struct sched_row *newest_row(const struct bench *bench, uint32_t index)
{
    return &bench->step[bench->sched.flight.formed % FLIGHT_STEPS_MAX].rows[index];
}

static void assert_row(const struct sched_row *row, uint32_t request, uint32_t position,
                       uint32_t tokens)
{
    assert_int_equal(row->request, request);
    assert_int_equal(row->position, position);
    assert_int_equal(row->tokens, tokens);
}

static void goes_on_from_a_token_nobody_knows(void **state)
{
    (void)state;
    struct bench bench;
    struct sched *sched = open_bench(&bench, 32);
    sched_add(sched, 0, NULL, 3, NULL);
    assert_int_equal(form(&bench), 1);
    assert_false(newest_row(&bench, 0)->from_last);
    assert_int_equal(newest_row(&bench, 0)->pages_told, 0);
    assert_int_equal(form(&bench), 1);
    assert_row(newest_row(&bench, 0), 0, 3, 1);
    assert_true(newest_row(&bench, 0)->from_last && newest_row(&bench, 0)->sample);
    assert_int_equal(newest_row(&bench, 0)->pages_told, 1);
    assert_int_equal(sched->entry[0].to_come, 2);
    commit(&bench);
    assert_int_equal(sched->entry[0].to_come, 1);
    assert_int_equal(form(&bench), 1);
    assert_row(newest_row(&bench, 0), 0, 4, 1);
    arena_close(&bench.arena);
}

static void a_known_end_costs_no_row(void **state)
{
    (void)state;
    struct bench bench;
    struct sched *sched = open_bench(&bench, 32);
    sched_add(sched, 0, NULL, 3, &(struct sched_terms){.answer_tokens_max = 2});
    assert_int_equal(form(&bench), 1);
    assert_int_equal(form(&bench), 1);
    commit(&bench);
    assert_int_equal(form(&bench), 0); /* The second token is on its way. */
    assert_false(sched->resting);
    commit(&bench);
    assert_true(sched_row_current(sched, newest_row(&bench, 0)));
    arena_close(&bench.arena);
}

/* A stop is seen when the next row is on its way: that row is nobody's, its pages wait for it. */
static void an_end_is_seen_a_step_late(void **state)
{
    (void)state;
    struct bench bench;
    struct sched *sched = open_bench(&bench, 3);
    sched_add(sched, 0, NULL, 6, NULL);
    assert_int_equal(form(&bench), 1);
    assert_int_equal(form(&bench), 1);
    const struct sched_row extra = *newest_row(&bench, 0);
    commit(&bench);
    sched_end(sched, 0);
    sched_verify(sched);
    assert_false(sched_row_current(sched, &extra));
    assert_int_equal(sched->pages.free_count, 1);
    sched_add(sched, 0, NULL, 6, NULL); /* In the same place: it is another. */
    assert_int_equal(form(&bench), 0);
    commit(&bench);
    assert_int_equal(sched->pages.free_count, 3);
    assert_int_equal(sched->entry[0].tokens, 6);
    assert_int_equal(form(&bench), 1);
    assert_int_equal(newest_row(&bench, 0)->slot, extra.slot);
    assert_false(sched_row_current(sched, &extra));
    arena_close(&bench.arena);
}

/* Pages that come back with the steps in flight are waited for: one yields, not all. */
static void waits_for_pages_on_their_way(void **state)
{
    (void)state;
    struct bench bench;
    struct sched *sched = open_bench(&bench, 6);
    sched_add(sched, 0, NULL, 6, NULL);
    sched_add(sched, 1, NULL, 5, NULL);
    sched_add(sched, 2, NULL, 5, NULL);
    assert_int_equal(form(&bench), 3); /* 2 pages each: the pool is empty. */
    assert_int_equal(form(&bench), 3);
    commit(&bench);
    assert_int_equal(form(&bench), 3);
    commit(&bench);
    assert_int_equal(form(&bench), 1); /* The oldest needs a ninth place, and has no row. */
    assert_row(newest_row(&bench, 0), 1, 7, 1);
    assert_int_equal(sched->preemptions, 1);
    commit(&bench);
    assert_int_equal(sched->pages.free_count, 2);
    assert_int_equal(form(&bench), 2);
    assert_row(newest_row(&bench, 0), 0, 8, 1);
    assert_row(newest_row(&bench, 1), 1, 8, 1);
    assert_int_equal(sched->preemptions, 1);
    arena_close(&bench.arena);
}

/* What was sampled for who yields is not known yet: it is computed again. */
static void who_yields_loses_what_is_to_come(void **state)
{
    (void)state;
    struct bench bench;
    struct sched *sched = open_bench(&bench, 4);
    sched_add(sched, 0, NULL, 8 - 1, NULL);
    sched_add(sched, 1, NULL, 5, NULL);
    assert_int_equal(form(&bench), 2);
    assert_int_equal(form(&bench), 2);
    commit(&bench); /* Request 1 has 6 known tokens, and a 7th to come. */
    const struct sched_row extra = *newest_row(&bench, 1);
    assert_int_equal(form(&bench), 0);
    assert_int_equal(sched->preemptions, 1);
    assert_int_equal(sched->entry[1].state, SCHED_WAITING);
    assert_int_equal(sched->entry[1].tokens, 6);
    assert_int_equal(sched->waiting_tokens, 6);
    commit(&bench);
    assert_false(sched_row_current(sched, &extra));
    assert_int_equal(sched->entry[1].tokens, 6);
    assert_int_equal(form(&bench), 1); /* The oldest has the page that it waited for. */
    assert_row(newest_row(&bench, 0), 0, 8, 1);
    assert_int_equal(sched->preemptions, 1);
    arena_close(&bench.arena);
}

static void a_lost_worker_takes_all_steps_with_it(void **state)
{
    (void)state;
    struct bench bench;
    struct sched *sched = open_bench(&bench, 32);
    sched_add(sched, 0, NULL, 3, NULL);
    assert_int_equal(form(&bench), 1);
    commit(&bench); /* 4 known. */
    assert_int_equal(form(&bench), 1);
    assert_int_equal(form(&bench), 1);
    const struct sched_row late = *newest_row(&bench, 0);
    sched_reset(sched);
    sched_verify(sched);
    assert_int_equal(flight_steps(&sched->flight), 0);
    assert_int_equal(sched->pages.free_count, 32);
    assert_int_equal(sched->entry[0].tokens, 4);
    assert_int_equal(form(&bench), 1);
    assert_row(newest_row(&bench, 0), 0, 0, 4);
    assert_false(newest_row(&bench, 0)->from_last);
    assert_false(sched_row_current(sched, &late));
    arena_close(&bench.arena);
}

/* What was to be judged by a step that is lost is judged again. */
static void scores_count_when_they_are_there(void **state)
{
    (void)state;
    enum { PROMPT = 1000 };
    struct bench bench;
    struct sched *sched = open_large(&bench, 1024, 1200, 4 * PROMPT);
    sched_add(sched, 0, NULL, 2 * PROMPT, &(struct sched_terms){.scores = 2 * PROMPT - 1});
    assert_int_equal(form(&bench), 1);
    assert_int_equal(newest_row(&bench, 0)->score_count, LIMIT_STEP_SCORES_MAX);
    assert_int_equal(form(&bench), 1);
    assert_int_equal(newest_row(&bench, 0)->position, LIMIT_STEP_SCORES_MAX);
    commit(&bench);
    sched_reset(sched);
    assert_int_equal(form(&bench), 1);
    assert_row(newest_row(&bench, 0), 0, 0, 1024);
    assert_int_equal(newest_row(&bench, 0)->score_count, 0);
    assert_int_equal(form(&bench), 1);
    assert_int_equal(newest_row(&bench, 0)->position, 1024);
    assert_int_equal(newest_row(&bench, 0)->score_count, 2 * PROMPT - 1 - 1024);
    arena_close(&bench.arena);
}

/* Block tables of many pages leave the ring room for the rest of two steps: a row then waits. */
static void tells_of_so_many_pages_a_step(void **state)
{
    (void)state;
    enum { CELLS = SCHED_PAGE_CELLS_MAX * 2 / 5, PAGES = 9 * CELLS, TOKENS = 4 * PAGES };
    struct bench bench;
    struct sched *sched = open_large(&bench, 3 * TOKENS, 3 * PAGES, TOKENS);
    for (uint32_t i = 0; i < 3; i++) {
        sched_add(sched, i, NULL, TOKENS - 1, NULL);
    }
    assert_int_equal(form(&bench), 2);
    assert_int_equal(sched->running_count, 3);
    assert_int_equal(form(&bench), 1);
    assert_row(newest_row(&bench, 0), 2, 0, TOKENS - 1);
    assert_int_equal(newest_row(&bench, 0)->pages_told, 0);
    arena_close(&bench.arena);
}

static void retired_pages_leave_in_order(void **state)
{
    (void)state;
    enum { PAGES = 4 };
    struct arena arena;
    struct pages pages;
    struct flight flight;
    uint32_t page[PAGES];
    assert_int_equal(arena_open(&arena, 4096), 0);
    assert_int_equal(pages_open(&pages, &arena, PAGES), 0);
    assert_int_equal(flight_open(&flight, &arena, PAGES), 0);
    assert_int_equal(pages_take(&pages, PAGES, page), 0);
    for (uint32_t i = 0; i < PAGES; i++) { /* One before, one in each step, one after the first. */
        flight_retire(&flight, &pages, page[i]);
        pages_drop(&pages, page[i]);
        if (i < FLIGHT_STEPS_MAX) {
            assert_int_equal(flight_begin(&flight), i + 1);
        }
    }
    assert_int_equal(pages.free_count, 1);
    assert_true(flight_claim(&flight) && flight_claim(&flight) && flight_claim(&flight));
    assert_false(flight_claim(&flight));
    flight_end(&flight, &pages);
    assert_int_equal(pages.free_count, 2);
    flight_end(&flight, &pages);
    assert_int_equal(pages.free_count, PAGES);
    pages_verify(&pages);
    arena_close(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goes_on_from_a_token_nobody_knows),
        cmocka_unit_test(a_known_end_costs_no_row),
        cmocka_unit_test(an_end_is_seen_a_step_late),
        cmocka_unit_test(waits_for_pages_on_their_way),
        cmocka_unit_test(who_yields_loses_what_is_to_come),
        cmocka_unit_test(a_lost_worker_takes_all_steps_with_it),
        cmocka_unit_test(scores_count_when_they_are_there),
        cmocka_unit_test(tells_of_so_many_pages_a_step),
        cmocka_unit_test(retired_pages_leave_in_order),
    };
    return cmocka_run_group_tests_name("flight", tests, NULL, NULL);
}
