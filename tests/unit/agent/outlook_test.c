/*
 * outlook_test.c - entering by the predicted peak: small named cases, random worlds in which the
 * peak is stepped through by force, and what it is for, fewer requests that yield.
 */
#include "agent/outlook.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/sched.h"
#include "base/prng.h"

enum { REQUESTS = 64, SLOTS = 24, PAGE_TOKENS = 4, CONTEXT = 128 };

struct bench {
    struct arena arena;
    struct sched sched;
    struct sched_step step;
    uint32_t end[REQUESTS];
    uint64_t draws;
};

static struct sched *open_bench(struct bench *bench, uint32_t page_count, uint32_t percent)
{
    const struct sched_options options = {
        .requests_max = REQUESTS,
        .slots_max = SLOTS,
        .tokens_max = 256,
        .page_tokens = PAGE_TOKENS,
        .page_count = page_count,
        .context_max = CONTEXT,
        .forecast_percent = percent,
    };
    *bench = (struct bench){0};
    const size_t bytes = sched_bytes(&options) + sched_step_bytes(SLOTS);
    assert_int_equal(arena_open(&bench->arena, bytes), 0);
    assert_int_equal(sched_open(&bench->sched, &bench->arena, &options), 0);
    assert_int_equal(sched_step_open(&bench->step, &bench->arena, SLOTS), 0);
    return &bench->sched;
}

static uint32_t draw(struct bench *bench, uint32_t bound)
{
    return (uint32_t)(prng_bits(5, bench->draws++, 0) % bound);
}

static void add(struct bench *bench, uint32_t request, uint64_t tenant, uint32_t prompt,
                uint32_t answer_max)
{
    const struct sched_terms terms = {.tenant = tenant, .answer_tokens_max = answer_max};
    sched_add(&bench->sched, request, NULL, prompt, &terms);
}

static void step(struct bench *bench)
{
    assert_true(sched_form(&bench->sched, &bench->step));
    sched_commit(&bench->sched, &bench->step);
    sched_verify(&bench->sched);
}

/* One request after the other, each with an answer of so many tokens. */
static void teach(struct bench *bench, uint64_t tenant, uint32_t answer, uint32_t times)
{
    for (uint32_t i = 0; i < times; i++) {
        add(bench, 0, tenant, 1, CONTEXT / 2);
        for (uint32_t t = 0; t < answer; t++) {
            step(bench);
        }
        sched_end(&bench->sched, 0);
    }
}

static void knows_no_better_at_first(void **state)
{
    (void)state;
    struct bench bench;
    struct sched *sched = open_bench(&bench, 10, 80);
    teach(&bench, 0, 32, LENGTHS_ENOUGH - 1);
    for (uint32_t i = 0; i < 5; i++) {
        add(&bench, i, 0, 4, 32);
    }
    step(&bench); /* Two pages each: all of the pool. */
    assert_int_equal(sched->running_count, 5);
    arena_close(&bench.arena);
}

static void holds_back_what_would_not_last(void **state)
{
    (void)state;
    struct bench bench;
    struct sched *sched = open_bench(&bench, 20, 80);
    teach(&bench, 0, 28, LENGTHS_ENOUGH);
    add(&bench, 0, 0, 4, 64);
    add(&bench, 1, 0, 4, 64);
    add(&bench, 2, 0, 4, 64);
    step(&bench); /* 4 + 28 tokens: 8 pages each, 2.5 of 20 with the half page. */
    assert_int_equal(sched->running_count, 2);
    assert_int_equal(sched->entry[0].predicted_end, 32);
    for (uint32_t i = 1; i < 28; i++) {
        step(&bench);
        assert_int_equal(sched->preemptions, 0);
    }
    assert_int_equal(sched->running_count, 3); /* Some steps before the others end. */
    sched_end(sched, 0);
    sched_end(sched, 1);
    assert_int_equal(sched->outlook.predictions, 2);
    assert_int_equal(sched->outlook.predictions_short, 0);
    arena_close(&bench.arena);
}

static void max_tokens_bounds_a_prediction(void **state)
{
    (void)state;
    struct bench bench;
    struct sched *sched = open_bench(&bench, 20, 80);
    teach(&bench, 0, 28, LENGTHS_ENOUGH);
    for (uint32_t i = 0; i < 5; i++) {
        add(&bench, i, 0, 4, 8); /* 12 tokens: 3 pages, with the half page 3.4. */
    }
    step(&bench);
    assert_int_equal(sched->running_count, 5);
    assert_int_equal(sched->entry[4].predicted_end, 12);
    arena_close(&bench.arena);
}

static void a_tenant_is_known_by_its_own(void **state)
{
    (void)state;
    struct bench bench;
    struct sched *sched = open_bench(&bench, 100, 80);
    teach(&bench, 1, 28, LENGTHS_ENOUGH);
    teach(&bench, 2, 3, LENGTHS_ENOUGH);
    add(&bench, 0, 1, 4, 64);
    add(&bench, 1, 2, 4, 64);
    add(&bench, 2, 3, 4, 64); /* Unknown: of all answers 80 % have at most 28. */
    step(&bench);
    assert_int_equal(sched->entry[0].predicted_end, 4 + 28);
    assert_int_equal(sched->entry[1].predicted_end, 4 + 3);
    assert_int_equal(sched->entry[2].predicted_end, 4 + 28);
    arena_close(&bench.arena);
}

static void one_alone_always_enters(void **state)
{
    (void)state;
    struct bench bench;
    struct sched *sched = open_bench(&bench, 9, 80);
    teach(&bench, 0, 32, LENGTHS_ENOUGH);
    add(&bench, 0, 0, 30, 6); /* 9 pages at its end, and the half page. */
    step(&bench);
    assert_int_equal(sched->running_count, 1);
    arena_close(&bench.arena);
}

static void who_outlives_its_prediction_counts(void **state)
{
    (void)state;
    struct bench bench;
    struct sched *sched = open_bench(&bench, 100, 50);
    teach(&bench, 0, 5, LENGTHS_ENOUGH);
    teach(&bench, 0, 20, LENGTHS_ENOUGH / 2);
    add(&bench, 0, 0, 4, 64);
    for (uint32_t i = 0; i < 5; i++) {
        step(&bench);
    }
    assert_int_equal(sched->entry[0].predicted_end, 4 + 5);
    add(&bench, 1, 0, 4, 64);
    step(&bench); /* Of those that go on, half have 20. */
    assert_int_equal(sched->entry[0].predicted_end, 4 + 20);
    const uint64_t predictions = sched->outlook.predictions;
    const uint64_t missed = sched->outlook.predictions_short;
    sched_end(sched, 0);
    assert_int_equal(sched->outlook.predictions, predictions + 1);
    assert_int_equal(sched->outlook.predictions_short, missed + 1);
    arena_close(&bench.arena);
}

/* A cancel, and an end by max_tokens, say only that the answer would have been longer. */
static void cuts_are_learnt_as_cuts(void **state)
{
    (void)state;
    struct bench bench;
    struct sched *sched = open_bench(&bench, 100, 50);
    teach(&bench, 0, 20, LENGTHS_ENOUGH);
    for (uint32_t i = 0; i < 4 * LENGTHS_ENOUGH; i++) {
        add(&bench, 0, 0, 4, 64);
        step(&bench);
        step(&bench);
        sched_remove(sched, 0);
    }
    add(&bench, 0, 0, 4, 64);
    step(&bench);
    assert_int_equal(sched->entry[0].predicted_end, 4 + 20);
    arena_close(&bench.arena);
}

/* The pages of a prompt that sixteen answers share count once. */
static void shared_pages_count_once(void **state)
{
    (void)state;
    enum { PROMPT = 41, ANSWERS = 16, ANSWER = 8 };
    uint32_t ids[CONTEXT];
    struct bench bench;
    struct sched *sched = open_bench(&bench, 80, 80);
    teach(&bench, 0, ANSWER, LENGTHS_ENOUGH);
    for (uint32_t i = 0; i < CONTEXT; i++) {
        ids[i] = i;
    }
    for (uint32_t i = 0; i < ANSWERS; i++) {
        sched_add(sched, i, ids, PROMPT, NULL); /* 10 pages in common, up to 3 of its own. */
    }
    step(&bench);
    assert_int_equal(sched->running_count, ANSWERS);
    arena_close(&bench.arena);
}

static uint32_t steps_of(const struct sched_entry *entry)
{
    return entry->predicted_end > entry->tokens ? entry->predicted_end - entry->tokens : 1;
}

/* Pages in the worst of the steps to come, with `extra` among those that run, or SCHED_NONE. */
static uint64_t peak_by_steps(const struct sched *sched, uint32_t extra)
{
    uint64_t peak = 0;
    for (uint32_t at = 1; at <= CONTEXT; at++) {
        uint64_t pages = 0;
        for (uint32_t i = 0; i <= sched->running_count; i++) {
            const uint32_t request = i < sched->running_count ? sched->running[i] : extra;
            const struct sched_entry *entry = &sched->entry[request == SCHED_NONE ? 0 : request];
            if (request != SCHED_NONE && steps_of(entry) >= at) {
                pages += sched_pages_for(sched, entry->tokens + at);
            }
        }
        peak = pages > peak ? pages : peak;
    }
    return peak;
}

struct tally {
    uint64_t entered;
    uint64_t held_back;
};

/* What entered fits by the predictions, and what was held back would not have: but for half a page
 * and a sixteenth of the steps for each. */
static void check_outlook(const struct sched *sched, bool entered, struct tally *tally)
{
    uint64_t slack = 2ull * PAGE_TOKENS;
    const uint32_t head = fair_first(&sched->fair);
    for (uint32_t i = 0; i < sched->running_count; i++) {
        slack += steps_of(&sched->entry[sched->running[i]]) / 16 + PAGE_TOKENS / 2;
    }
    const uint64_t slack_pages = slack / PAGE_TOKENS + 1;
    if (entered && sched->running_count > 1) {
        assert_true(peak_by_steps(sched, SCHED_NONE) <= sched->pages.count + slack_pages);
        tally->entered++;
    }
    const bool room =
        head != FAIR_NONE && sched->free_slot_count > 0 &&
        sched->pages.free_count > sched_pages_for(sched, (uint64_t)sched->entry[head].tokens + 1);
    if (room && sched->running_count > 0) {
        assert_true(peak_by_steps(sched, head) + slack_pages > sched->pages.count);
        tally->held_back++;
    }
}

static void end_done(struct bench *bench)
{
    for (uint32_t i = 0; i < bench->step.row_count; i++) {
        const struct sched_row *row = &bench->step.rows[i];
        if (sched_row_current(&bench->sched, row) &&
            bench->sched.entry[row->request].tokens == bench->end[row->request]) {
            sched_end(&bench->sched, row->request);
        }
    }
}

static void arrive(struct bench *bench)
{
    const uint32_t request = draw(bench, REQUESTS);
    if (bench->sched.entry[request].state == SCHED_ABSENT) {
        const uint32_t prompt = 1 + draw(bench, CONTEXT / 4);
        const uint32_t answer = 1 + draw(bench, 8) * draw(bench, 8);
        add(bench, request, draw(bench, 3), prompt, 50);
        bench->end[request] = prompt + answer;
    }
}

static void any_entry_is_by_the_peak(void **state)
{
    (void)state;
    struct bench bench;
    struct tally tally = {0};
    struct sched *sched = open_bench(&bench, 120, 75);
    for (uint32_t turn = 0; turn < 20000; turn++) {
        for (uint32_t i = draw(&bench, 4); i > 0; i--) {
            arrive(&bench);
        }
        if (!sched_form(sched, &bench.step)) {
            continue;
        }
        check_outlook(sched, bench.step.open_count > 0, &tally);
        sched_commit(sched, &bench.step);
        end_done(&bench);
    }
    print_message("%llu steps in which some entered, %llu in which one was held back\n",
                  (unsigned long long)tally.entered, (unsigned long long)tally.held_back);
    assert_true(tally.entered > 1000 && tally.held_back > 1000);
    arena_close(&bench.arena);
}

/* Steps and yields until so many answers have ended, with a queue that never runs dry. */
static void serve(uint32_t percent, uint64_t *steps, uint64_t *yields)
{
    struct bench bench;
    struct sched *sched = open_bench(&bench, 120, percent);
    *steps = 0;
    for (uint32_t taken = 0; taken < 4000;) {
        while (sched->fair.waiting_count < 20) {
            const uint32_t waiting = sched->fair.waiting_count;
            arrive(&bench);
            taken += sched->fair.waiting_count > waiting;
        }
        step(&bench);
        end_done(&bench);
        (*steps)++;
    }
    *yields = sched->preemptions;
    arena_close(&bench.arena);
}

static void fewer_yield_than_by_known_tokens(void **state)
{
    (void)state;
    uint64_t steps[2];
    uint64_t yields[2];
    serve(0, &steps[0], &yields[0]);
    serve(80, &steps[1], &yields[1]);
    print_message("known tokens: %llu steps, %llu yield; predicted peak: %llu steps, %llu yield\n",
                  (unsigned long long)steps[0], (unsigned long long)yields[0],
                  (unsigned long long)steps[1], (unsigned long long)yields[1]);
    assert_true(yields[0] > 500 && yields[1] < yields[0] / 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_no_better_at_first),
        cmocka_unit_test(holds_back_what_would_not_last),
        cmocka_unit_test(max_tokens_bounds_a_prediction),
        cmocka_unit_test(a_tenant_is_known_by_its_own),
        cmocka_unit_test(one_alone_always_enters),
        cmocka_unit_test(who_outlives_its_prediction_counts),
        cmocka_unit_test(cuts_are_learnt_as_cuts),
        cmocka_unit_test(shared_pages_count_once),
        cmocka_unit_test(any_entry_is_by_the_peak),
        cmocka_unit_test(fewer_yield_than_by_known_tokens),
    };
    return cmocka_run_group_tests_name("outlook", tests, NULL, NULL);
}
