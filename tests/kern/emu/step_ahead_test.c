/*
 * step_ahead_test.c - a worker's step on the emulated device, which runs nothing before somebody
 * waits: the step that came next is put before the one ahead of it is taken, and answers, slots,
 * copies and refusals are those of steps one by one. What the step calls of the engine is noted.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/workers/caller.h"

enum { CALLS_MAX = 64, STEPS = 6 };

/* Calls of the engine: run, head, take, as letters. */
static char *calls(void)
{
    static char noted[CALLS_MAX + 1];
    return noted;
}

static void note(char call)
{
    must(strlen(calls()) < CALLS_MAX);
    calls()[strlen(calls()) + 1] = 0;
    calls()[strlen(calls())] = call;
}

void __real_engine_run(struct engine *engine, const struct engine_batch *batch);
void __real_engine_head(struct engine *engine, const uint32_t *tokens, uint32_t count);
void __real_engine_take(struct engine *engine);
void __wrap_engine_run(struct engine *engine, const struct engine_batch *batch);
void __wrap_engine_head(struct engine *engine, const uint32_t *tokens, uint32_t count);
void __wrap_engine_take(struct engine *engine);

void __wrap_engine_run(struct engine *engine, const struct engine_batch *batch)
{
    note('R');
    __real_engine_run(engine, batch);
}

void __wrap_engine_head(struct engine *engine, const uint32_t *tokens, uint32_t count)
{
    note('H');
    __real_engine_head(engine, tokens, count);
}

void __wrap_engine_take(struct engine *engine)
{
    note('T');
    __real_engine_take(engine);
}

static int set_up(void **state)
{
    must(setenv("SLUICE_EMU_SEED", "6", 1) == 0);
    calls()[0] = '\0';
    return caller_set_up(state);
}

/* A prompt of so many tokens for a slot that has nothing yet; generation 1 until told otherwise. */
static void push_prompt(struct caller *caller, uint32_t slot, uint32_t tokens)
{
    caller_push(caller, caller_step(caller, 1, tokens, tokens));
    caller_push(caller, caller_row(slot, 0, tokens, 0));
    caller_push_ids(caller, caller_prompt, tokens);
}

static void push_next(struct caller *caller, uint32_t slot, uint32_t position)
{
    caller_push(caller, caller_step(caller, 1, 1, 0));
    caller_push(caller, caller_last_row(slot, position));
}

/* The answer to a step of one row. */
static struct record_result take_result(struct caller *caller, uint64_t step)
{
    const struct record_result result = caller_take(caller, RECORD_RESULT).result;
    const struct record_done done = caller_take(caller, RECORD_DONE).done;
    assert_int_equal(result.step, step);
    assert_int_equal(done.step, step);
    assert_int_equal(done.result_count, 1);
    return result;
}

static void open_slot(struct caller *caller, uint32_t slot)
{
    caller_push_open(caller, slot, &(struct sample_params){0});
    caller_push_pages(caller, slot, 4);
}

/* A prompt of the slot and so many steps behind it, each answered before the next is there. */
static void one_by_one(struct caller *caller, uint32_t slot, uint32_t *ids)
{
    open_slot(caller, slot);
    push_prompt(caller, slot, CALLER_PROMPT);
    for (uint32_t i = 0; i < STEPS; i++) {
        assert_int_equal(caller_serve(caller), 0);
        ids[i] = take_result(caller, caller->steps - 1).id;
        if (i + 1 < STEPS) {
            push_next(caller, slot, CALLER_PROMPT + i);
        }
    }
    assert_string_equal(calls(), "RTRTRTRTRTRT");
    calls()[0] = '\0';
}

static void the_next_is_put_before_the_first_is_taken(void **state)
{
    struct caller *caller = *state;
    uint32_t ids[STEPS];
    one_by_one(caller, 0, ids);
    open_slot(caller, 1);
    push_prompt(caller, 1, CALLER_PROMPT);
    const uint64_t first = caller->steps - 1;
    for (uint32_t i = 0; i + 1 < STEPS; i++) {
        push_next(caller, 1, CALLER_PROMPT + i);
    }
    assert_int_equal(caller_serve(caller), 0);
    assert_string_equal(calls(), "RRTRTRTRTRTT");
    for (uint32_t i = 0; i < STEPS; i++) {
        const struct record_result result = take_result(caller, first + i);
        assert_int_equal(result.position, CALLER_PROMPT + i);
        assert_int_equal(result.id, ids[i]);
    }
    caller_expect_silence(caller);
}

/* The head runs once more for the scores, over what the next step would overwrite. */
static void nothing_is_put_behind_scores(void **state)
{
    struct caller *caller = *state;
    uint32_t ids[STEPS];
    one_by_one(caller, 0, ids);
    open_slot(caller, 1);
    caller_push_open(caller, 2, &(struct sample_params){.score_top = 2});
    caller_push_pages(caller, 2, 2);
    push_prompt(caller, 1, CALLER_PROMPT);
    caller_push(caller, caller_step(caller, 2, 4, 3));
    caller_push(caller, caller_last_row(1, CALLER_PROMPT));
    union record row = caller_row(2, 0, 3, 0);
    row.row.score_count = 2;
    caller_push(caller, row);
    caller_push_ids(caller, caller_prompt, 3);
    push_next(caller, 1, CALLER_PROMPT + 1);
    assert_int_equal(caller_serve(caller), 0);
    assert_string_equal(calls(), "RRTTHTRT");
    assert_int_equal(take_result(caller, caller->steps - 3).id, ids[0]);
    assert_int_equal(caller_take(caller, RECORD_RESULT).result.id, ids[1]);
    (void)caller_take(caller, RECORD_RESULT);
    for (uint32_t i = 1; i < 3; i++) {
        assert_int_equal(caller_take(caller, RECORD_SCORE).result.id, caller_prompt[i]);
        (void)caller_take(caller, RECORD_LOGPROBS);
    }
    (void)caller_take(caller, RECORD_DONE);
    assert_int_equal(take_result(caller, caller->steps - 1).id, ids[2]);
}

/* Closed and opened again while the last step of its first owner has no answer. */
static void a_slot_has_its_next_owner_before_the_answer(void **state)
{
    struct caller *caller = *state;
    uint32_t ids[STEPS];
    one_by_one(caller, 0, ids);
    open_slot(caller, 1);
    push_prompt(caller, 1, 4);
    caller_push(caller,
                (union record){.close = {.head.kind = RECORD_CLOSE, .slot = 1, .generation = 1}});
    caller_push(caller, (union record){.open = {.head.kind = RECORD_OPEN,
                                                .slot = 1,
                                                .generation = 2,
                                                .top_p = 1,
                                                .logprobs = true}});
    caller_push(caller, (union record){.pages = {.head.kind = RECORD_PAGES,
                                                 .slot = 1,
                                                 .generation = 2,
                                                 .count = 2,
                                                 .pages = {14, 15}}});
    caller_push(caller, caller_step(caller, 1, CALLER_PROMPT, CALLER_PROMPT));
    union record row = caller_row(1, 0, CALLER_PROMPT, 0);
    row.row.generation = 2;
    caller_push(caller, row);
    caller_push_ids(caller, caller_prompt, CALLER_PROMPT);
    assert_int_equal(caller_serve(caller), 0);
    assert_string_equal(calls(), "RRTT");
    const struct record_result old = take_result(caller, caller->steps - 2);
    assert_int_equal(old.generation, 1);
    assert_int_equal(old.logprob_count, 0);
    const struct record_result new = caller_take(caller, RECORD_RESULT).result;
    assert_int_equal(new.generation, 2);
    assert_int_equal(new.id, ids[0]);
    assert_int_equal(new.logprob_count, 1);
    (void)caller_take(caller, RECORD_LOGPROBS);
    (void)caller_take(caller, RECORD_DONE);
    caller_push(caller, caller_step(caller, 1, 1, 0));
    row = caller_last_row(1, CALLER_PROMPT);
    row.row.generation = 2;
    caller_push(caller, row);
    assert_int_equal(caller_serve(caller), 0);
    assert_int_equal(caller_take(caller, RECORD_RESULT).result.id, ids[1]);
}

/* Slot 1 goes on from copies of what the step ahead writes. */
static void a_copy_keeps_its_place(void **state)
{
    struct caller *caller = *state;
    uint32_t ids[STEPS];
    one_by_one(caller, 0, ids);
    open_slot(caller, 2);
    open_slot(caller, 1);
    push_prompt(caller, 2, CALLER_PROMPT);
    caller_push(caller, (union record){.copy = {.head.kind = RECORD_COPY,
                                                .count = 2,
                                                .sources = {1, CALLER_SLOTS + 1},
                                                .targets = {2, CALLER_SLOTS + 2}}});
    caller_push(caller, caller_step(caller, 1, 1, 1));
    union record row = caller_row(1, CALLER_PROMPT, 1, 0);
    row.row.head.flags |= RECORD_ROW_SKIPS;
    caller_push(caller, row);
    caller_push_ids(caller, ids, 1);
    assert_int_equal(caller_serve(caller), 0);
    assert_string_equal(calls(), "RRTT");
    assert_int_equal(take_result(caller, caller->steps - 2).id, ids[0]);
    assert_int_equal(take_result(caller, caller->steps - 1).id, ids[1]);
}

/* Its next row runs for nobody, beside one that is well. */
static void a_sick_row_is_followed_by_its_next(void **state)
{
    struct caller *caller = *state;
    const uint32_t poison[] = {5, CALLER_POISON};
    uint32_t ids[STEPS];
    one_by_one(caller, 0, ids);
    open_slot(caller, 1);
    open_slot(caller, 2);
    push_prompt(caller, 2, CALLER_PROMPT);
    caller_push(caller, caller_step(caller, 2, 3, 2));
    caller_push(caller, caller_row(1, 0, 2, 0));
    caller_push(caller, caller_last_row(2, CALLER_PROMPT));
    caller_push_ids(caller, poison, 2);
    caller_push(caller, caller_step(caller, 2, 2, 0));
    caller_push(caller, caller_last_row(1, 2));
    caller_push(caller, caller_last_row(2, CALLER_PROMPT + 1));
    assert_int_equal(caller_serve(caller), 0);
    assert_string_equal(calls(), "RRTRTT");
    assert_int_equal(take_result(caller, caller->steps - 3).id, ids[0]);
    for (uint32_t i = 1; i < 3; i++) {
        assert_int_equal(caller_take(caller, RECORD_RESULT).result.head.flags,
                         RECORD_RESULT_INVALID);
        assert_int_equal(caller_take(caller, RECORD_RESULT).result.id, ids[i]);
        (void)caller_take(caller, RECORD_DONE);
    }
}

/* The core is wrong: nothing more is said, not of the step that runs either. */
static void a_broken_step_behind_another_ends_the_worker(void **state)
{
    struct caller *caller = *state;
    open_slot(caller, 1);
    push_prompt(caller, 1, 3);
    push_next(caller, 1, 4); /* A gap. */
    assert_int_equal(caller_serve(caller), -EBADMSG);
    assert_string_equal(calls(), "R");
    caller_expect_silence(caller);
    engine_take(caller->probe.engine); /* The process would end. */
}

/* What is of another epoch is passed over while a step runs; a new link finds none. */
static void a_new_epoch_finds_nothing_on_the_device(void **state)
{
    struct caller *caller = *state;
    uint32_t ids[STEPS];
    one_by_one(caller, 0, ids);
    open_slot(caller, 1);
    push_prompt(caller, 1, CALLER_PROMPT);
    push_next(caller, 1, CALLER_PROMPT);
    caller_push(caller,
                (union record){.close = {.head = {.kind = RECORD_CLOSE, .epoch = CALLER_EPOCH - 1},
                                         .slot = 1,
                                         .generation = 1}});
    assert_int_equal(caller_serve(caller), 0);
    assert_string_equal(calls(), "RRTT");
    assert_false(engine_busy(caller->probe.engine));
    caller_join(caller, CALLER_EPOCH + 1);
    caller->steps = 0;
    open_slot(caller, 1);
    push_prompt(caller, 1, CALLER_PROMPT);
    push_next(caller, 1, CALLER_PROMPT);
    assert_int_equal(caller_serve(caller), 0);
    for (uint32_t i = 0; i < 2; i++) {
        const struct record_result result = caller_take(caller, RECORD_RESULT).result;
        const struct record_done done = caller_take(caller, RECORD_DONE).done;
        assert_int_equal(result.head.epoch, CALLER_EPOCH + 1);
        assert_int_equal(result.id, ids[i]);
        assert_int_equal(done.step, i);
        assert_true(i > 0 || done.wait_us == 0); /* Of the time between epochs nothing is told. */
    }
    caller_expect_silence(caller);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_next_is_put_before_the_first_is_taken, set_up,
                                        caller_tear_down),
        cmocka_unit_test_setup_teardown(nothing_is_put_behind_scores, set_up, caller_tear_down),
        cmocka_unit_test_setup_teardown(a_slot_has_its_next_owner_before_the_answer, set_up,
                                        caller_tear_down),
        cmocka_unit_test_setup_teardown(a_copy_keeps_its_place, set_up, caller_tear_down),
        cmocka_unit_test_setup_teardown(a_sick_row_is_followed_by_its_next, set_up,
                                        caller_tear_down),
        cmocka_unit_test_setup_teardown(a_broken_step_behind_another_ends_the_worker, set_up,
                                        caller_tear_down),
        cmocka_unit_test_setup_teardown(a_new_epoch_finds_nothing_on_the_device, set_up,
                                        caller_tear_down),
    };
    return cmocka_run_group_tests_name("step_ahead", tests, NULL, NULL);
}
