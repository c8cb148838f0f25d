/*
 * slots_test.c - a slot's life through its records, and every relation between records that a
 * broken core could violate.
 */
#include "workers/slots.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { SLOTS = 4, PAGES_MAX = 20, PAGE_TOKENS = 16 };

struct fixture {
    struct arena arena;
    struct slots slots;
};

static int set_up(void **state)
{
    static struct fixture fixture;
    fixture = (struct fixture){0};
    assert_int_equal(arena_open(&fixture.arena, slots_bytes(SLOTS, PAGES_MAX)), 0);
    assert_int_equal(slots_open(&fixture.slots, &fixture.arena, SLOTS, PAGES_MAX, PAGE_TOKENS), 0);
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    arena_close(&fixture->arena);
    return 0;
}

static union record open_record(uint32_t slot, uint32_t generation, uint32_t stop_ids)
{
    union record record = {0};
    record.open = (struct record_open){.head.kind = RECORD_OPEN,
                                       .slot = slot,
                                       .generation = generation,
                                       .seed = 99,
                                       .temperature = 0.5f,
                                       .top_p = 0.75f,
                                       .min_p = 0.25f,
                                       .top_k = 40,
                                       .top_logprobs = 3,
                                       .logprobs = 1,
                                       .min_position = 12,
                                       .stop_id_count = stop_ids};
    return record;
}

static union record stop_ids_record(uint32_t slot, uint32_t count)
{
    union record record = {0};
    record.stop_ids =
        (struct record_stop_ids){.head.kind = RECORD_STOP_IDS, .slot = slot, .count = count};
    for (uint32_t i = 0; i < count; i++) {
        record.stop_ids.ids[i] = 100 + i;
    }
    return record;
}

static union record pages_record(uint32_t slot, uint32_t generation, uint32_t index, uint32_t count)
{
    union record record = {0};
    record.pages = (struct record_pages){.head.kind = RECORD_PAGES,
                                         .slot = slot,
                                         .generation = generation,
                                         .index = index,
                                         .count = count};
    for (uint32_t i = 0; i < count; i++) {
        record.pages.pages[i] = 7 * (index + i);
    }
    return record;
}

static union record close_record(uint32_t slot, uint32_t generation)
{
    union record record = {0};
    record.close =
        (struct record_close){.head.kind = RECORD_CLOSE, .slot = slot, .generation = generation};
    return record;
}

static int apply(struct fixture *fixture, union record record)
{
    return slots_apply(&fixture->slots, &record);
}

static struct record_row listed_row(uint32_t slot, uint32_t generation, uint32_t position,
                                    uint32_t tokens)
{
    return (struct record_row){.slot = slot,
                               .generation = generation,
                               .position = position,
                               .tokens = tokens,
                               .source = RECORD_SOURCE_LISTED};
}

static void a_request_lives(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(apply(fixture, open_record(2, 5, 14)), 0);
    assert_int_equal(apply(fixture, stop_ids_record(2, 12)), 0);
    assert_int_equal(apply(fixture, stop_ids_record(2, 2)), 0);
    assert_int_equal(apply(fixture, pages_record(2, 5, 0, 9)), 0);
    assert_int_equal(apply(fixture, pages_record(2, 5, 9, 2)), 0);
    const struct record_row row = listed_row(2, 5, 0, 11 * PAGE_TOKENS);
    struct slot *slot = slots_row(&fixture->slots, &row, 0);
    assert_non_null(slot);
    assert_int_equal(slot->page_count, 11);
    assert_int_equal(slot->pages[10], 70);
    assert_int_equal(slot->sampling.seed, 99);
    assert_int_equal(slot->sampling.top_k, 40);
    assert_int_equal(slot->sampling.top_logprobs, 3);
    assert_true(slot->sampling.logprobs);
    assert_int_equal(slot->sampling.min_position, 12);
    assert_int_equal(slot->sampling.stop_id_count, 14);
    assert_int_equal(slot->sampling.stop_ids[13], 101);
    assert_int_equal(apply(fixture, close_record(2, 5)), 0);
    assert_null(slots_row(&fixture->slots, &row, 1));
    assert_int_equal(apply(fixture, open_record(2, 6, 0)), 0);
    assert_int_equal(fixture->slots.slot[2].page_count, 0);
    assert_int_equal(fixture->slots.slot[2].sampling.stop_id_count, 0);
}

static void refuses_records_out_of_order(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(apply(fixture, close_record(1, 1)), -EBADMSG);
    assert_int_equal(apply(fixture, pages_record(1, 1, 0, 1)), -EBADMSG);
    assert_int_equal(apply(fixture, stop_ids_record(1, 1)), -EBADMSG);
    assert_int_equal(apply(fixture, open_record(1, 1, 1)), 0);
    assert_int_equal(apply(fixture, open_record(1, 2, 0)), -EBADMSG);
    assert_int_equal(apply(fixture, stop_ids_record(1, 2)), -EBADMSG);
    assert_int_equal(apply(fixture, pages_record(1, 2, 0, 1)), -EBADMSG);
    assert_int_equal(apply(fixture, pages_record(1, 1, 1, 1)), -EBADMSG);
    assert_int_equal(apply(fixture, close_record(1, 2)), -EBADMSG);
    assert_int_equal(apply(fixture, pages_record(1, 1, 0, 9)), 0);
    assert_int_equal(apply(fixture, pages_record(1, 1, 9, 9)), 0);
    assert_int_equal(apply(fixture, pages_record(1, 1, 18, 3)), -EBADMSG); /* 21 of 20. */
    union record step = {0};
    step.head.kind = RECORD_STEP;
    assert_int_equal(apply(fixture, step), -EBADMSG);
}

static void refuses_rows_that_do_not_continue(void **state)
{
    struct fixture *fixture = *state;
    struct slots *slots = &fixture->slots;
    struct record_row row = listed_row(0, 3, 0, 17);
    assert_null(slots_row(slots, &row, 0)); /* Not open. */
    assert_int_equal(apply(fixture, open_record(0, 3, 1)), 0);
    assert_int_equal(apply(fixture, pages_record(0, 3, 0, 2)), 0);
    assert_null(slots_row(slots, &row, 0)); /* A stop id is missing. */
    assert_int_equal(apply(fixture, stop_ids_record(0, 1)), 0);
    struct slot *slot = slots_row(slots, &row, 0);
    assert_non_null(slot);

    row.generation = 4;
    assert_null(slots_row(slots, &row, 0));
    row = listed_row(0, 3, 1, 17);
    assert_null(slots_row(slots, &row, 0)); /* A gap ... */
    row.head.flags = RECORD_ROW_SKIPS;
    assert_ptr_equal(slots_row(slots, &row, 0), slot); /* ... that is meant. */
    row.position = 0;
    assert_null(slots_row(slots, &row, 0)); /* Nothing to skip. */
    row = listed_row(0, 3, 0, 33);
    assert_null(slots_row(slots, &row, 0)); /* Past its pages. */

    slot->computed = 17;
    slot->step = 8;
    row = listed_row(0, 3, 17, 15);
    assert_null(slots_row(slots, &row, 8)); /* Twice in one step. */
    assert_non_null(slots_row(slots, &row, 9));
    row.tokens = 1;
    row.source = RECORD_SOURCE_LAST;
    assert_null(slots_row(slots, &row, 9)); /* Nothing was sampled. */
    slot->sampled = true;
    assert_non_null(slots_row(slots, &row, 9));
}

static union record adjust_record(uint32_t slot, uint32_t generation, uint32_t biases,
                                  uint32_t allowed)
{
    union record record = {0};
    record.adjust = (struct record_adjust){.head.kind = RECORD_ADJUST,
                                           .slot = slot,
                                           .generation = generation,
                                           .prompt_tokens = 5,
                                           .repetition = 1.5f,
                                           .presence = 0.5f,
                                           .frequency = 0.25f,
                                           .bias_count = biases,
                                           .allowed_count = allowed};
    return record;
}

static union record biases_record(uint32_t slot, uint32_t count)
{
    union record record = {0};
    record.biases =
        (struct record_biases){.head.kind = RECORD_BIASES, .slot = slot, .count = count};
    for (uint32_t i = 0; i < count; i++) {
        record.biases.pairs[i] = (struct record_bias){200 + i, (float)i};
    }
    return record;
}

static union record allowed_record(uint32_t slot, uint32_t count)
{
    union record record = stop_ids_record(slot, count);
    record.head.kind = RECORD_ALLOWED;
    return record;
}

static void a_slot_adjusts_once_all_of_it_has_come(void **state)
{
    struct fixture *fixture = *state;
    const struct record_row row = listed_row(1, 4, 0, 1);
    union record open = open_record(1, 4, 0);
    assert_int_equal(apply(fixture, adjust_record(1, 4, 0, 0)), -EBADMSG); /* Not open. */
    open.open.adjusts = 1;
    assert_int_equal(apply(fixture, open), 0);
    assert_int_equal(apply(fixture, pages_record(1, 4, 0, 1)), 0);
    assert_null(slots_row(&fixture->slots, &row, 0));
    assert_int_equal(apply(fixture, biases_record(1, 1)), -EBADMSG); /* Before their number. */
    assert_int_equal(apply(fixture, adjust_record(1, 3, 8, 13)), -EBADMSG);
    assert_int_equal(apply(fixture, adjust_record(1, 4, 8, 13)), 0);
    assert_int_equal(apply(fixture, adjust_record(1, 4, 8, 13)), -EBADMSG); /* Twice. */
    assert_null(slots_row(&fixture->slots, &row, 0));
    assert_int_equal(apply(fixture, biases_record(1, 6)), 0);
    assert_int_equal(apply(fixture, biases_record(1, 3)), -EBADMSG); /* 9 of 8. */
    assert_int_equal(apply(fixture, biases_record(1, 2)), 0);
    assert_null(slots_row(&fixture->slots, &row, 0));
    assert_int_equal(apply(fixture, allowed_record(1, 12)), 0);
    assert_int_equal(apply(fixture, allowed_record(1, 2)), -EBADMSG);
    assert_int_equal(apply(fixture, allowed_record(1, 1)), 0);
    const struct slot *slot = slots_row(&fixture->slots, &row, 0);
    assert_non_null(slot);
    const struct adjust *adjust = &slot->sampling.adjust;
    assert_true(adjust->active && adjust->repetition == 1.5f && adjust->presence == 0.5f &&
                adjust->frequency == 0.25f);
    assert_int_equal(adjust->prompt_tokens, 5);
    assert_int_equal(adjust->bias_count, 8);
    assert_int_equal(adjust->biases[7].id, 201);
    assert_int_equal(adjust->allowed_count, 13);
    assert_int_equal(adjust->allowed[12], 100);
    /* The next request of the slot starts without. */
    assert_int_equal(apply(fixture, close_record(1, 4)), 0);
    assert_int_equal(apply(fixture, open_record(1, 5, 0)), 0);
    assert_false(adjust->active);
    assert_int_equal(adjust->bias_count + adjust->allowed_count, 0);
}

static void a_new_link_closes_all(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(apply(fixture, open_record(3, 1, 0)), 0);
    assert_int_equal(apply(fixture, pages_record(3, 1, 0, 4)), 0);
    slots_reset(&fixture->slots);
    assert_int_equal(apply(fixture, pages_record(3, 1, 4, 1)), -EBADMSG);
    assert_int_equal(apply(fixture, open_record(3, 1, 0)), 0);
    assert_int_equal(apply(fixture, pages_record(3, 1, 0, 4)), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_request_lives, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refuses_records_out_of_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refuses_rows_that_do_not_continue, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_slot_adjusts_once_all_of_it_has_come, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_new_link_closes_all, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("slots", tests, NULL, NULL);
}
