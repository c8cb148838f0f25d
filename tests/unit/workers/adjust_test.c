/*
 * adjust_test.c - penalties, biases and allowed ids against values computed by hand, and the tokens
 * that they count over pages in any order, borrowed and copied ones.
 */
#include "workers/adjust.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { VOCAB = 8, PAGES = 4, PAGE_TOKENS = 4 };

struct fixture {
    struct arena arena;
    struct history history;
    struct record_bias biases[3];
    uint32_t allowed[3];
    uint32_t counts[VOCAB];
    float logits[VOCAB];
};

/* The tokens of all tests: a prompt of 3, then 4 generated ones. */
static const uint32_t tokens[] = {1, 2, 2, 3, 1, 3, 3};
static const uint32_t pages[] = {3, 1};
enum { PROMPT = 3, TOKENS = 7 };

static int set_up(void **state)
{
    static struct fixture fixture;
    static const float logits[VOCAB] = {1, 2, -2, 4, -4, 0, 3, 0.5f};
    fixture = (struct fixture){0};
    assert_int_equal(arena_open(&fixture.arena, history_bytes(PAGES, PAGE_TOKENS)), 0);
    assert_int_equal(history_open(&fixture.history, &fixture.arena, PAGES, PAGE_TOKENS), 0);
    history_write(&fixture.history, pages, 0, tokens, PROMPT);
    history_write(&fixture.history, pages, PROMPT, tokens + PROMPT, TOKENS - PROMPT);
    memcpy(fixture.logits, logits, sizeof logits);
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    arena_close(&fixture->arena);
    return 0;
}

static struct adjust neutral(struct fixture *fixture)
{
    return (struct adjust){.active = true,
                           .prompt_tokens = PROMPT,
                           .repetition = 1.0f,
                           .biases = fixture->biases,
                           .allowed = fixture->allowed};
}

static void expect(struct fixture *fixture, const struct adjust *adjust, const float *expected)
{
    const struct adjust_past past = {&fixture->history, pages, TOKENS};
    adjust_apply(adjust, &past, fixture->counts, fixture->logits, VOCAB);
    for (uint32_t id = 0; id < VOCAB; id++) {
        assert_true(fixture->logits[id] == expected[id]);
        assert_int_equal(fixture->counts[id], 0);
    }
}

static void nothing_changes_nothing(void **state)
{
    struct fixture *fixture = *state;
    const struct adjust adjust = neutral(fixture);
    expect(fixture, &adjust, (const float[VOCAB]){1, 2, -2, 4, -4, 0, 3, 0.5f});
}

/* Ids 1, 2 and 3 were seen, whether in the prompt or after it, however often. */
static void repetition_divides_or_multiplies_what_was_seen(void **state)
{
    struct fixture *fixture = *state;
    struct adjust adjust = neutral(fixture);
    adjust.repetition = 2.0f;
    expect(fixture, &adjust, (const float[VOCAB]){1, 1, -4, 2, -4, 0, 3, 0.5f});
}

/* Generated: 3 three times, 1 once; 2 stands in the prompt alone. */
static void presence_and_frequency_look_at_the_answer(void **state)
{
    struct fixture *fixture = *state;
    struct adjust adjust = neutral(fixture);
    adjust.presence = 0.5f;
    adjust.frequency = 0.25f;
    expect(fixture, &adjust, (const float[VOCAB]){1, 1.25f, -2, 2.75f, -4, 0, 3, 0.5f});
}

/* 3: 4 / 2 - 3 * 0.25 - 0.5. */
static void repetition_comes_before_the_others(void **state)
{
    struct fixture *fixture = *state;
    struct adjust adjust = neutral(fixture);
    adjust.repetition = 2.0f;
    adjust.presence = 0.5f;
    adjust.frequency = 0.25f;
    expect(fixture, &adjust, (const float[VOCAB]){1, 0.25f, -4, 0.75f, -4, 0, 3, 0.5f});
}

static void negative_penalties_favour(void **state)
{
    struct fixture *fixture = *state;
    struct adjust adjust = neutral(fixture);
    adjust.presence = -1.0f;
    expect(fixture, &adjust, (const float[VOCAB]){1, 3, -2, 5, -4, 0, 3, 0.5f});
}

static void biases_add_to_what_penalties_left(void **state)
{
    struct fixture *fixture = *state;
    struct adjust adjust = neutral(fixture);
    adjust.presence = 1.0f;
    adjust.bias_count = 3;
    fixture->biases[0] = (struct record_bias){3, 10.0f};
    fixture->biases[1] = (struct record_bias){0, -100.0f};
    fixture->biases[2] = (struct record_bias){6, -INFINITY};
    expect(fixture, &adjust, (const float[VOCAB]){-99, 1, -2, 13, -4, 0, -INFINITY, 0.5f});
}

static void allowed_ids_are_all_that_is_left(void **state)
{
    struct fixture *fixture = *state;
    struct adjust adjust = neutral(fixture);
    adjust.bias_count = 2;
    fixture->biases[0] = (struct record_bias){5, 7.0f};
    fixture->biases[1] = (struct record_bias){2, 50.0f}; /* Not allowed: of no use. */
    adjust.allowed_count = 3;
    fixture->allowed[0] = 5;
    fixture->allowed[1] = 1;
    fixture->allowed[2] = 5;
    const float out = -INFINITY;
    expect(fixture, &adjust, (const float[VOCAB]){out, 2, out, out, out, 7, out, out});
}

static void a_penalty_makes_no_infinity(void **state)
{
    struct fixture *fixture = *state;
    struct adjust adjust = neutral(fixture);
    adjust.repetition = 100.0f;
    fixture->logits[2] = -3e38f;
    const struct adjust_past past = {&fixture->history, pages, TOKENS};
    adjust_apply(&adjust, &past, fixture->counts, fixture->logits, VOCAB);
    assert_true(fixture->logits[2] == -1e30f);
    adjust.repetition = 0.01f;
    fixture->logits[1] = 3e38f;
    adjust_apply(&adjust, &past, fixture->counts, fixture->logits, VOCAB);
    assert_true(fixture->logits[1] == 1e30f);
}

/* Another sequence borrows the first page and copies the second. */
static void tokens_travel_with_their_pages(void **state)
{
    struct fixture *fixture = *state;
    static const uint32_t others[] = {3, 0};
    history_copy(&fixture->history, &pages[1], &others[1], 1);
    history_write(&fixture->history, others, 6, &(const uint32_t){7}, 1);
    for (uint32_t at = 0; at < 6; at++) {
        assert_int_equal(history_id(&fixture->history, others, at), tokens[at]);
    }
    assert_int_equal(history_id(&fixture->history, others, 6), 7);
    assert_int_equal(history_id(&fixture->history, pages, 6), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_changes_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(repetition_divides_or_multiplies_what_was_seen, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(presence_and_frequency_look_at_the_answer, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(repetition_comes_before_the_others, set_up, tear_down),
        cmocka_unit_test_setup_teardown(negative_penalties_favour, set_up, tear_down),
        cmocka_unit_test_setup_teardown(biases_add_to_what_penalties_left, set_up, tear_down),
        cmocka_unit_test_setup_teardown(allowed_ids_are_all_that_is_left, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_penalty_makes_no_infinity, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tokens_travel_with_their_pages, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("adjust", tests, NULL, NULL);
}
