/*
 * step_test.c - the worker's side of the record contract, over a real link in one process: answers
 * to steps equal what the engine gives directly, and every relation a core could break ends it.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/workers/caller.h"

enum { GENERATED = 20 };

static void greedy_directly(struct caller *caller, uint32_t *out)
{
    probe_restart(&caller->probe);
    const float *logits = probe_feed(&caller->probe, caller_prompt, CALLER_PROMPT);
    for (uint32_t i = 0; i < GENERATED; i++) {
        out[i] = probe_best(logits, CALLER_VOCAB, NULL);
        logits = probe_feed(&caller->probe, &out[i], 1);
    }
}

/* Two chunks of the prompt, then tokens that never leave the worker. */
static void answers_as_the_engine_does(void **state)
{
    struct caller *caller = *state;
    uint32_t expected[GENERATED];
    greedy_directly(caller, expected);
    caller_push_open(caller, 2, &(struct sample_params){0});
    caller_push_pages(caller, 2, 4);
    caller_push(caller, caller_step(caller, 1, 5, 5));
    union record first_row = caller_row(2, 0, 5, 0);
    first_row.head.flags = 0;
    caller_push(caller, first_row);
    caller_push_ids(caller, caller_prompt, 5);
    assert_int_equal(caller_serve(caller), 0);
    assert_int_equal(caller_take(caller, RECORD_DONE).done.result_count, 0);
    caller_push(caller, caller_step(caller, 1, CALLER_PROMPT - 5, CALLER_PROMPT - 5));
    caller_push(caller, caller_row(2, 5, CALLER_PROMPT - 5, 0));
    caller_push_ids(caller, caller_prompt + 5, CALLER_PROMPT - 5);
    for (uint32_t i = 0; i < GENERATED; i++) {
        const uint32_t progress = link_peer_progress(&caller->core);
        assert_int_equal(caller_serve(caller), 0);
        assert_true(link_peer_progress(&caller->core) - progress > CALLER_LAYERS);
        const struct record_result result = caller_take(caller, RECORD_RESULT).result;
        assert_int_equal(result.step, caller->steps - 1);
        assert_int_equal(result.slot, 2);
        assert_int_equal(result.generation, 1);
        assert_int_equal(result.position, CALLER_PROMPT + i);
        assert_int_equal(result.id, expected[i]);
        assert_int_equal(result.logprob_count, 0);
        const struct record_done done = caller_take(caller, RECORD_DONE).done;
        assert_int_equal(done.step, caller->steps - 1);
        assert_int_equal(done.result_count, 1);
        caller_expect_silence(caller);
        caller_push(caller, caller_step(caller, 1, 1, 0));
        caller_push(caller, caller_last_row(2, CALLER_PROMPT + i));
    }
}

static uint32_t sampled_id(struct caller *caller)
{
    assert_int_equal(caller_serve(caller), 0);
    const uint32_t id = caller_take(caller, RECORD_RESULT).result.id;
    caller_take(caller, RECORD_DONE);
    return id;
}

/* Slot 0 computes; slot 1 has its first page, a copy of its second one, and one token to do. */
static void computes_behind_shared_and_copied_pages(void **state)
{
    struct caller *caller = *state;
    caller_push_open(caller, 0, &(struct sample_params){0});
    caller_push_pages(caller, 0, 2);
    caller_push(caller, caller_step(caller, 1, CALLER_PROMPT, CALLER_PROMPT));
    caller_push(caller, caller_row(0, 0, CALLER_PROMPT, 0));
    caller_push_ids(caller, caller_prompt, CALLER_PROMPT);
    const uint32_t wanted = sampled_id(caller);
    const uint32_t shared = CALLER_SLOTS - 1;
    const uint32_t source = CALLER_SLOTS + CALLER_SLOTS - 1;
    const uint32_t target = CALLER_SLOTS;
    caller_push_open(caller, 1, &(struct sample_params){0});
    caller_push(caller, (union record){.pages = {.head.kind = RECORD_PAGES,
                                                 .slot = 1,
                                                 .generation = 1,
                                                 .count = 2,
                                                 .pages = {shared, target}}});
    caller_push(caller, (union record){.copy = {.head.kind = RECORD_COPY,
                                                .count = 1,
                                                .sources = {source},
                                                .targets = {target}}});
    caller_push(caller, caller_step(caller, 1, 1, 1));
    union record row = caller_row(1, CALLER_PROMPT - 1, 1, 0);
    row.head.flags |= RECORD_ROW_SKIPS;
    caller_push(caller, row);
    caller_push_ids(caller, caller_prompt + CALLER_PROMPT - 1, 1);
    assert_int_equal(sampled_id(caller), wanted);
}

/* Three rows in one step, ids listed out of row order, logprobs for two of them. */
static void lists_logprobs_of_those_who_asked(void **state)
{
    struct caller *caller = *state;
    caller_push_open(caller, 0, &(struct sample_params){.logprobs = true, .top_logprobs = 20});
    caller_push_open(caller, 1, &(struct sample_params){0});
    caller_push_open(caller, 3, &(struct sample_params){.logprobs = true});
    for (uint32_t slot = 0; slot < CALLER_SLOTS; slot++) {
        if (slot != 2) {
            caller_push_pages(caller, slot, 1);
        }
    }
    caller_push(caller, caller_step(caller, 3, 14, 14));
    caller_push(caller, caller_row(0, 0, 3, 11));
    caller_push(caller, caller_row(1, 0, 1, 10));
    caller_push(caller, caller_row(3, 0, 10, 0));
    caller_push_ids(caller, caller_prompt, 14);
    assert_int_equal(caller_serve(caller), 0);

    const struct record_result first = caller_take(caller, RECORD_RESULT).result;
    assert_int_equal(first.slot, 0);
    assert_int_equal(first.logprob_first, 0);
    assert_int_equal(first.logprob_count, 21);
    float before = 0;
    for (uint32_t taken = 0; taken < 21; taken += RECORD_LOGPROBS_PER_CELL) {
        const struct record_logprobs cell = caller_take(caller, RECORD_LOGPROBS).logprobs;
        assert_int_equal(cell.count, taken + 6 <= 21 ? 6 : 3);
        if (taken == 0) {
            assert_int_equal(cell.pairs[0].id, first.id);
            assert_int_equal(cell.pairs[1].id, first.id); /* Greedy: the best is the chosen. */
        }
        for (uint32_t i = taken == 0 ? 1 : 0; i < cell.count; i++) {
            assert_true(cell.pairs[i].logprob <= before);
            before = cell.pairs[i].logprob;
        }
    }
    const struct record_result second = caller_take(caller, RECORD_RESULT).result;
    assert_int_equal(second.slot, 1);
    assert_int_equal(second.logprob_count, 0);
    const struct record_result third = caller_take(caller, RECORD_RESULT).result;
    assert_int_equal(third.slot, 3);
    assert_int_equal(third.logprob_first, 21);
    assert_int_equal(third.logprob_count, 1);
    assert_int_equal(caller_take(caller, RECORD_LOGPROBS).logprobs.pairs[0].id, third.id);
    const struct record_done done = caller_take(caller, RECORD_DONE).done;
    assert_int_equal(done.result_count, 3);
    assert_int_equal(done.logprob_count, 22);

    /* Each row got its own ids. */
    probe_restart(&caller->probe);
    assert_int_equal(first.id, probe_best(probe_feed(&caller->probe, caller_prompt + 11, 3),
                                          CALLER_VOCAB, NULL));
    probe_restart(&caller->probe);
    assert_int_equal(third.id,
                     probe_best(probe_feed(&caller->probe, caller_prompt, 10), CALLER_VOCAB, NULL));
}

static void masks_stop_ids_of_the_slot(void **state)
{
    struct caller *caller = *state;
    probe_restart(&caller->probe);
    const uint32_t best =
        probe_best(probe_feed(&caller->probe, caller_prompt, CALLER_PROMPT), CALLER_VOCAB, NULL);
    struct sample_params params = {
        .min_position = CALLER_PROMPT + 1, .stop_id_count = 1, .stop_ids = {best}};
    caller_push_open(caller, 0, &params);
    params.min_position = CALLER_PROMPT;
    caller_push_open(caller, 1, &params);
    for (uint32_t slot = 0; slot < 2; slot++) {
        caller_push_pages(caller, slot, 2);
        caller_push(caller, caller_step(caller, 1, CALLER_PROMPT, CALLER_PROMPT));
        caller_push(caller, caller_row(slot, 0, CALLER_PROMPT, 0));
        caller_push_ids(caller, caller_prompt, CALLER_PROMPT);
    }
    assert_int_equal(caller_serve(caller), 0);
    assert_int_not_equal(caller_take(caller, RECORD_RESULT).result.id, best);
    (void)caller_take(caller, RECORD_DONE);
    assert_int_equal(caller_take(caller, RECORD_RESULT).result.id, best);
    (void)caller_take(caller, RECORD_DONE);
}

static double log_probability(const float *logits, uint32_t id)
{
    double sum = 0;
    for (uint32_t i = 0; i < CALLER_VOCAB; i++) {
        sum += exp((double)logits[i]);
    }
    return (double)logits[id] - log(sum);
}

/* A score of the token at position, and its likeliest; then the next. */
static void expect_score(struct caller *caller, uint32_t position, uint32_t *logprobs)
{
    const float *logits = probe_feed(&caller->probe, &caller_prompt[position - 1], 1);
    const struct record_result score = caller_take(caller, RECORD_SCORE).result;
    assert_int_equal(score.slot, 2);
    assert_int_equal(score.generation, 1);
    assert_int_equal(score.position, position);
    assert_int_equal(score.id, caller_prompt[position]);
    assert_int_equal(score.logprob_first, *logprobs);
    assert_int_equal(score.logprob_count, 3);
    const struct record_logprobs pairs = caller_take(caller, RECORD_LOGPROBS).logprobs;
    assert_int_equal(pairs.pairs[0].id, caller_prompt[position]);
    assert_true(fabs((double)pairs.pairs[0].logprob -
                     log_probability(logits, caller_prompt[position])) < 1e-5);
    assert_int_equal(pairs.pairs[1].id, probe_best(logits, CALLER_VOCAB, NULL));
    assert_true(pairs.pairs[2].logprob <= pairs.pairs[1].logprob);
    *logprobs += 3;
}

/* More tokens than rows of logits, in two steps: the first one's last token is judged by an id of
 * the second. Another slot samples meanwhile. The probe shares the engine: it runs behind. */
static void judges_the_tokens_of_a_prompt(void **state)
{
    struct caller *caller = *state;
    caller_push_open(caller, 2, &(struct sample_params){.score_top = 2});
    caller_push_open(caller, 0, &(struct sample_params){0});
    caller_push_pages(caller, 2, 2);
    caller_push_pages(caller, 0, 1);
    caller_push(caller, caller_step(caller, 2, 8, 8));
    union record row = caller_row(2, 0, 5, 0);
    row.head.flags = 0;
    row.row.score_count = 5;
    row.row.next_id = caller_prompt[5];
    caller_push(caller, row);
    caller_push(caller, caller_row(0, 0, 3, 5));
    caller_push_ids(caller, caller_prompt, 8);
    assert_int_equal(caller_serve(caller), 0);
    caller_push(caller, caller_step(caller, 1, CALLER_PROMPT - 5, CALLER_PROMPT - 5));
    row = caller_row(2, 5, CALLER_PROMPT - 5, 0);
    row.row.score_first = 1; /* As after a replay: one of them is known. */
    row.row.score_count = CALLER_PROMPT - 5 - 2;
    caller_push(caller, row);
    caller_push_ids(caller, caller_prompt + 5, CALLER_PROMPT - 5);
    assert_int_equal(caller_serve(caller), 0);

    probe_restart(&caller->probe);
    uint32_t logprobs = 0;
    assert_int_equal(caller_take(caller, RECORD_RESULT).result.slot, 0);
    for (uint32_t position = 1; position <= 5; position++) {
        expect_score(caller, position, &logprobs);
    }
    struct record_done done = caller_take(caller, RECORD_DONE).done;
    assert_int_equal(done.result_count, 1);
    assert_int_equal(done.score_count, 5);
    assert_int_equal(done.logprob_count, 15);
    (void)probe_feed(&caller->probe, &caller_prompt[5], 1);
    const uint32_t next = caller_take(caller, RECORD_RESULT).result.id;
    logprobs = 0;
    for (uint32_t position = 7; position < CALLER_PROMPT; position++) {
        expect_score(caller, position, &logprobs);
    }
    assert_int_equal(next,
                     probe_best(probe_feed(&caller->probe, &caller_prompt[CALLER_PROMPT - 1], 1),
                                CALLER_VOCAB, NULL)); /* Sampled from its own logits. */
    assert_int_equal(caller_take(caller, RECORD_DONE).done.score_count, CALLER_PROMPT - 7);
}

/* Greedy, never twice the same: presence alone, then over the prompt too, and after a replay. */
static void penalties_count_what_the_slot_has_seen(void **state)
{
    struct caller *caller = *state;
    uint32_t generated[GENERATED];
    const struct sample_params params = {.adjust.active = true};
    for (uint32_t life = 0; life < 2; life++) {
        const uint32_t known =
            life == 0 ? CALLER_PROMPT : CALLER_PROMPT + 6; /* A replay of 6 tokens. */
        union record adjust = {.adjust = {.head.kind = RECORD_ADJUST,
                                          .slot = 1,
                                          .generation = 1,
                                          .prompt_tokens = CALLER_PROMPT,
                                          .repetition = 1.0f,
                                          .presence = 1e9f}};
        uint32_t ids[CALLER_PROMPT + 6];
        memcpy(ids, caller_prompt, sizeof caller_prompt);
        memcpy(ids + CALLER_PROMPT, generated, (known - CALLER_PROMPT) * sizeof *ids);
        caller_push_open(caller, 1, &params);
        caller_push(caller, adjust);
        caller_push_pages(caller, 1, 4);
        caller_push(caller, caller_step(caller, 1, known, known));
        caller_push(caller, caller_row(1, 0, known, 0));
        caller_push_ids(caller, ids, known);
        for (uint32_t i = known - CALLER_PROMPT; i < GENERATED; i++) {
            assert_int_equal(caller_serve(caller), 0);
            const uint32_t id = caller_take(caller, RECORD_RESULT).result.id;
            (void)caller_take(caller, RECORD_DONE);
            for (uint32_t before = 0; before < i; before++) {
                assert_int_not_equal(generated[before], id);
            }
            assert_true(life == 0 || id == generated[i]);
            generated[i] = id;
            caller_push(caller, caller_step(caller, 1, 1, 0));
            caller_push(caller, caller_last_row(1, CALLER_PROMPT + i));
        }
        assert_int_equal(caller_serve(caller), 0);
        (void)caller_take(caller, RECORD_RESULT);
        (void)caller_take(caller, RECORD_DONE);
        union record close = {.close = {.head.kind = RECORD_CLOSE, .slot = 1, .generation = 1}};
        caller_push(caller, close);
    }
}

static void a_row_of_nan_harms_no_other(void **state)
{
    struct caller *caller = *state;
    const uint32_t ids[] = {5, CALLER_POISON, 5, 9};
    caller_push_open(caller, 0, &(struct sample_params){.logprobs = true});
    caller_push_open(caller, 1, &(struct sample_params){0});
    caller_push_pages(caller, 0, 1);
    caller_push_pages(caller, 1, 1);
    caller_push(caller, caller_step(caller, 2, 4, 4));
    caller_push(caller, caller_row(0, 0, 2, 0));
    caller_push(caller, caller_row(1, 0, 2, 2));
    caller_push_ids(caller, ids, 4);
    assert_int_equal(caller_serve(caller), 0);
    const struct record_result sick = caller_take(caller, RECORD_RESULT).result;
    assert_int_equal(sick.head.flags, RECORD_RESULT_INVALID);
    assert_int_equal(sick.logprob_count, 0);
    const struct record_result well = caller_take(caller, RECORD_RESULT).result;
    assert_int_equal(well.head.flags, 0);
    probe_restart(&caller->probe);
    assert_int_equal(well.id,
                     probe_best(probe_feed(&caller->probe, caller_prompt, 2), CALLER_VOCAB, NULL));
    assert_int_equal(caller_take(caller, RECORD_DONE).done.result_count, 2);
    /* The next step may be on its way already: it runs, for nobody. */
    caller_push(caller, caller_step(caller, 1, 1, 0));
    caller_push(caller, caller_last_row(0, 2));
    assert_int_equal(caller_serve(caller), 0);
}

static void drops_records_of_another_epoch(void **state)
{
    struct caller *caller = *state;
    caller_push_open(caller, 0, &(struct sample_params){0});
    union record stale = {0};
    stale.close = (struct record_close){
        .head = {.kind = RECORD_CLOSE, .epoch = CALLER_EPOCH - 1}, .slot = 0, .generation = 1};
    caller_push(caller, stale);
    caller_push_pages(caller, 0, 1);
    assert_int_equal(caller_serve(caller), 0);
    assert_true(caller->step.slots.slot[0].open);
    assert_int_equal(caller->step.slots.slot[0].page_count, 1);
}

static void a_new_link_starts_afresh(void **state)
{
    struct caller *caller = *state;
    caller_push_open(caller, 0, &(struct sample_params){0});
    caller_push_pages(caller, 0, 1);
    assert_int_equal(caller_serve(caller), 0);
    caller_join(caller, CALLER_EPOCH + 1);
    caller->steps = 0;
    caller_push_open(caller, 0, &(struct sample_params){0});
    caller_push_pages(caller, 0, 1);
    caller_push(caller, caller_step(caller, 1, 2, 2));
    caller_push(caller, caller_row(0, 0, 2, 0));
    caller_push_ids(caller, caller_prompt, 2);
    assert_int_equal(caller_serve(caller), 0);
    assert_int_equal(caller_take(caller, RECORD_RESULT).result.head.epoch, CALLER_EPOCH + 1);
    (void)caller_take(caller, RECORD_DONE);
}

/* Each case is a step for slot 0, which is open with two pages and nothing computed. */
enum broken {
    BROKEN_NOTHING,
    BROKEN_PLAN,
    BROKEN_ROW_MISSING,
    BROKEN_TOKEN_SUM,
    BROKEN_IDS_MISSING,
    BROKEN_IDS_SHORT_CELL,
    BROKEN_IDS_RANGE,
    BROKEN_GENERATION,
    BROKEN_GAP,
    BROKEN_PAGES,
    BROKEN_LAST_WITHOUT_ONE,
    BROKEN_TWICE,
    BROKEN_COUNT,
};

static void push_broken(struct caller *caller, enum broken broken)
{
    const uint32_t pages = broken == BROKEN_PAGES ? 1 : 2;
    const uint32_t rows = broken == BROKEN_TWICE || broken == BROKEN_ROW_MISSING ? 2 : 1;
    const uint32_t tokens = broken == BROKEN_LAST_WITHOUT_ONE ? 1 : 18;
    caller_push_open(caller, 0, &(struct sample_params){0});
    caller_push_pages(caller, 0, pages);
    union record head = caller_step(caller, rows, tokens, 18);
    head.step.ids_count = broken == BROKEN_LAST_WITHOUT_ONE ? 0 : 18;
    head.step.plan_hash ^= broken == BROKEN_PLAN;
    head.step.token_count += broken == BROKEN_TOKEN_SUM || rows == 2;
    caller_push(caller, head);
    union record row = caller_row(0, 0, tokens, 0);
    row.row.ids_first = broken == BROKEN_IDS_RANGE;
    row.row.generation += broken == BROKEN_GENERATION;
    row.row.position += broken == BROKEN_GAP;
    row.row.source = broken == BROKEN_LAST_WITHOUT_ONE;
    caller_push(caller, row);
    if (broken == BROKEN_TWICE) {
        caller_push(caller, caller_row(0, 0, 1, 0));
    }
    if (broken == BROKEN_IDS_SHORT_CELL) {
        caller_push_ids(caller, caller_prompt, 11);
        caller_push_ids(caller, caller_prompt, 7);
    } else if (broken != BROKEN_IDS_MISSING && head.step.ids_count > 0) {
        caller_push_ids(caller, caller_prompt, 18);
    }
}

static void a_broken_step_ends_the_worker(void **state)
{
    struct caller *caller = *state;
    for (enum broken broken = BROKEN_NOTHING; broken < BROKEN_COUNT; broken++) {
        caller_join(caller, CALLER_EPOCH + 1 + broken);
        push_broken(caller, broken);
        const int status = caller_serve(caller);
        if (status != (broken == BROKEN_NOTHING ? 0 : -EBADMSG)) {
            fail_msg("case %d: %d", (int)broken, status);
        }
        if (broken != BROKEN_NOTHING) {
            caller_expect_silence(caller);
        }
    }
}

/* The sequential plan, moved to two lanes, on the board as number 3. */
static void offer_plan(struct caller *caller, struct plan *plan)
{
    struct plan_table *board = link_own_board(&caller->core);
    plan_sequential(plan, false);
    plan->id = 3;
    plan->nano[4].lane = 1;
    plan->hash = plan_hash(plan);
    board->plan[plan->id - 1] = *plan;
}

static void push_step_by(struct caller *caller, const struct plan *plan)
{
    caller_push_open(caller, 0, &(struct sample_params){0});
    caller_push_pages(caller, 0, 1);
    union record head = caller_step(caller, 1, 2, 2);
    head.step.plan_id = plan->id;
    head.step.plan_hash = plan->hash;
    caller_push(caller, head);
    caller_push(caller, caller_row(0, 0, 2, 0));
    caller_push_ids(caller, caller_prompt, 2);
}

static void runs_a_plan_of_the_board(void **state)
{
    struct caller *caller = *state;
    struct plan plan;
    offer_plan(caller, &plan);
    push_step_by(caller, &plan);
    assert_int_equal(caller_serve(caller), 0);
    (void)caller_take(caller, RECORD_RESULT);
    (void)caller_take(caller, RECORD_DONE);
}

/* A plan that is not there, of another hash, under another id, or that leaves its bounds. */
static void a_plan_that_cannot_run_ends_the_worker(void **state)
{
    struct caller *caller = *state;
    for (uint32_t broken = 0; broken < 5; broken++) {
        caller_join(caller, CALLER_EPOCH + 1 + broken);
        struct plan plan;
        offer_plan(caller, &plan);
        struct plan *offered = &((struct plan_table *)link_own_board(&caller->core))->plan[2];
        plan.id += broken == 0;
        plan.hash ^= broken == 1;
        offered->id += broken == 2;
        offered->nano_count = broken == 3 ? UINT32_MAX : offered->nano_count;
        offered->nano[0].end -= broken == 4;
        push_step_by(caller, &plan);
        assert_int_equal(caller_serve(caller), -EBADMSG);
        caller_expect_silence(caller);
    }
}

static void refuses_a_sample_past_the_context(void **state)
{
    struct caller *caller = *state;
    uint32_t ids[CALLER_POSITIONS];
    for (uint32_t i = 0; i < CALLER_POSITIONS; i++) {
        ids[i] = i % 60;
    }
    caller_push_open(caller, 0, &(struct sample_params){0});
    caller_push_pages(caller, 0, 4);
    for (uint32_t position = 0; position < CALLER_POSITIONS - 16; position += 16) {
        caller_push(caller, caller_step(caller, 1, 16, 16));
        caller_push(caller, caller_row(0, position, 16, 0));
        caller_push_ids(caller, ids + position, 16);
    }
    assert_int_equal(caller_serve(caller), 0);
    caller_push(caller, caller_step(caller, 1, 16, 16));
    caller_push(caller, caller_row(0, CALLER_POSITIONS - 16, 16, 0));
    caller_push_ids(caller, ids, 16);
    assert_int_equal(caller_serve(caller), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(answers_as_the_engine_does, caller_set_up,
                                        caller_tear_down),
        cmocka_unit_test_setup_teardown(computes_behind_shared_and_copied_pages, caller_set_up,
                                        caller_tear_down),
        cmocka_unit_test_setup_teardown(lists_logprobs_of_those_who_asked, caller_set_up,
                                        caller_tear_down),
        cmocka_unit_test_setup_teardown(masks_stop_ids_of_the_slot, caller_set_up,
                                        caller_tear_down),
        cmocka_unit_test_setup_teardown(judges_the_tokens_of_a_prompt, caller_set_up,
                                        caller_tear_down),
        cmocka_unit_test_setup_teardown(penalties_count_what_the_slot_has_seen, caller_set_up,
                                        caller_tear_down),
        cmocka_unit_test_setup_teardown(a_row_of_nan_harms_no_other, caller_set_up,
                                        caller_tear_down),
        cmocka_unit_test_setup_teardown(drops_records_of_another_epoch, caller_set_up,
                                        caller_tear_down),
        cmocka_unit_test_setup_teardown(a_new_link_starts_afresh, caller_set_up, caller_tear_down),
        cmocka_unit_test_setup_teardown(a_broken_step_ends_the_worker, caller_set_up,
                                        caller_tear_down),
        cmocka_unit_test_setup_teardown(runs_a_plan_of_the_board, caller_set_up, caller_tear_down),
        cmocka_unit_test_setup_teardown(a_plan_that_cannot_run_ends_the_worker, caller_set_up,
                                        caller_tear_down),
        cmocka_unit_test_setup_teardown(refuses_a_sample_past_the_context, caller_set_up,
                                        caller_tear_down),
    };
    return cmocka_run_group_tests_name("step", tests, NULL, NULL);
}
