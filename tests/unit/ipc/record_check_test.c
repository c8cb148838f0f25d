/*
 * record_check_test.c - every kind of cell passes at its bounds, and one step beyond any of them is
 * refused.
 */
#include "ipc/record_check.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/config.h"

/* Of a step of these bounds. */
enum { LOGPROBS_MAX = (4 + LIMIT_STEP_SCORES_MAX) * (1 + LIMIT_TOP_LOGPROBS_MAX) };

static const struct record_bounds bounds = {.epoch = 7,
                                            .group = 1,
                                            .slots = 8,
                                            .pages = 100,
                                            .vocab = 512,
                                            .positions = 2048,
                                            .rows = 4,
                                            .tokens = 64};

static union record cell(enum record_kind kind)
{
    return (union record){.head = {.kind = (uint8_t)kind, .epoch = 7, .group = 1}};
}

#define PASSES(check, probe) assert_int_equal(check(&(probe), &bounds), 0)

/* With one field at value the cell is refused, and with the field as before it passes again. */
#define REFUSES(check, probe, field, value)                                                        \
    do {                                                                                           \
        const union record kept = (probe);                                                         \
        (probe).field = (value);                                                                   \
        assert_int_equal(check(&(probe), &bounds), -EBADMSG);                                      \
        (probe) = kept;                                                                            \
        PASSES(check, probe);                                                                      \
    } while (0)

#define REQUEST_REFUSES(probe, field, value) REFUSES(record_check_request, probe, field, value)
#define REPLY_REFUSES(probe, field, value)   REFUSES(record_check_reply, probe, field, value)

static void another_epoch_is_stale(void **state)
{
    (void)state;
    union record close = cell(RECORD_CLOSE);
    PASSES(record_check_request, close);
    close.head.epoch = 6;
    assert_int_equal(record_check_request(&close, &bounds), -ESTALE);
    union record done = cell(RECORD_DONE);
    PASSES(record_check_reply, done);
    done.head.epoch = 8;
    assert_int_equal(record_check_reply(&done, &bounds), -ESTALE);
}

static void directions_do_not_mix(void **state)
{
    (void)state;
    for (int kind = 0; kind < 256; kind++) {
        union record record = cell((enum record_kind)kind);
        assert_false(record_check_request(&record, &bounds) == 0 &&
                     record_check_reply(&record, &bounds) == 0);
    }
}

static void open_is_bounded(void **state)
{
    (void)state;
    union record open = cell(RECORD_OPEN);
    open.open.slot = 7;
    open.open.top_p = 1.0f;
    open.open.min_p = 1.0f;
    open.open.temperature = 2.0f;
    open.open.top_logprobs = LIMIT_TOP_LOGPROBS_MAX;
    open.open.logprobs = 1;
    open.open.min_position = 2048;
    open.open.stop_id_count = LIMIT_STOP_IDS_MAX + LIMIT_EOS_IDS_MAX;
    PASSES(record_check_request, open);
    REQUEST_REFUSES(open, head.group, 0);
    REQUEST_REFUSES(open, head.flags, 1);
    REQUEST_REFUSES(open, open.slot, 8);
    REQUEST_REFUSES(open, open.temperature, -0.5f);
    REQUEST_REFUSES(open, open.temperature, INFINITY);
    REQUEST_REFUSES(open, open.temperature, NAN);
    REQUEST_REFUSES(open, open.top_p, 1.5f);
    REQUEST_REFUSES(open, open.top_p, -0.1f);
    REQUEST_REFUSES(open, open.top_p, NAN);
    REQUEST_REFUSES(open, open.min_p, 1.5f);
    REQUEST_REFUSES(open, open.min_p, NAN);
    REQUEST_REFUSES(open, open.top_logprobs, LIMIT_TOP_LOGPROBS_MAX + 1);
    REQUEST_REFUSES(open, open.logprobs, 2);
    REQUEST_REFUSES(open, open.min_position, 2049);
    REQUEST_REFUSES(open, open.stop_id_count, LIMIT_STOP_IDS_MAX + LIMIT_EOS_IDS_MAX + 1);
    open.open.adjusts = 1;
    open.open.score_top = LIMIT_TOP_LOGPROBS_MAX;
    PASSES(record_check_request, open);
    REQUEST_REFUSES(open, open.adjusts, 2);
    REQUEST_REFUSES(open, open.score_top, LIMIT_TOP_LOGPROBS_MAX + 1);
}

static void adjust_is_bounded(void **state)
{
    (void)state;
    union record adjust = cell(RECORD_ADJUST);
    adjust.adjust.slot = 7;
    adjust.adjust.prompt_tokens = 2048;
    adjust.adjust.repetition = 1.1f;
    adjust.adjust.presence = -2.0f;
    adjust.adjust.frequency = 2.0f;
    adjust.adjust.bias_count = RECORD_BIASES_MAX;
    adjust.adjust.allowed_count = LIMIT_ALLOWED_IDS_MAX;
    PASSES(record_check_request, adjust);
    REQUEST_REFUSES(adjust, head.flags, 1);
    REQUEST_REFUSES(adjust, adjust.slot, 8);
    REQUEST_REFUSES(adjust, adjust.prompt_tokens, 2049);
    REQUEST_REFUSES(adjust, adjust.repetition, 0.0f);
    REQUEST_REFUSES(adjust, adjust.repetition, INFINITY);
    REQUEST_REFUSES(adjust, adjust.repetition, NAN);
    REQUEST_REFUSES(adjust, adjust.presence, NAN);
    REQUEST_REFUSES(adjust, adjust.frequency, -INFINITY);
    REQUEST_REFUSES(adjust, adjust.bias_count, RECORD_BIASES_MAX + 1);
    REQUEST_REFUSES(adjust, adjust.allowed_count, LIMIT_ALLOWED_IDS_MAX + 1);

    union record biases = cell(RECORD_BIASES);
    biases.biases.slot = 7;
    biases.biases.count = RECORD_BIASES_PER_CELL;
    biases.biases.pairs[0] = (struct record_bias){.id = 511, .bias = -INFINITY};
    PASSES(record_check_request, biases);
    REQUEST_REFUSES(biases, biases.slot, 8);
    REQUEST_REFUSES(biases, biases.count, 0);
    REQUEST_REFUSES(biases, biases.count, RECORD_BIASES_PER_CELL + 1);
    REQUEST_REFUSES(biases, biases.pairs[0].id, 512);
    REQUEST_REFUSES(biases, biases.pairs[5].bias, NAN);
    REQUEST_REFUSES(biases, biases.pairs[5].bias, INFINITY);

    union record listed = cell(RECORD_ALLOWED);
    listed.stop_ids.slot = 7;
    listed.stop_ids.count = RECORD_IDS_PER_CELL;
    PASSES(record_check_request, listed);
    REQUEST_REFUSES(listed, stop_ids.slot, 8);
    REQUEST_REFUSES(listed, stop_ids.ids[3], 512);
}

static void lists_are_bounded(void **state)
{
    (void)state;
    union record stop = cell(RECORD_STOP_IDS);
    stop.stop_ids.slot = 7;
    stop.stop_ids.count = RECORD_IDS_PER_CELL;
    stop.stop_ids.ids[RECORD_IDS_PER_CELL - 1] = 511;
    PASSES(record_check_request, stop);
    REQUEST_REFUSES(stop, stop_ids.slot, 8);
    REQUEST_REFUSES(stop, stop_ids.count, 0);
    REQUEST_REFUSES(stop, stop_ids.count, RECORD_IDS_PER_CELL + 1);
    REQUEST_REFUSES(stop, stop_ids.ids[0], 512);

    union record ids = cell(RECORD_IDS);
    ids.ids.count = RECORD_IDS_PER_CELL;
    PASSES(record_check_request, ids);
    REQUEST_REFUSES(ids, ids.count, 0);
    REQUEST_REFUSES(ids, ids.count, RECORD_IDS_PER_CELL + 1);
    REQUEST_REFUSES(ids, ids.ids[RECORD_IDS_PER_CELL - 1], 512);

    union record pages = cell(RECORD_PAGES);
    pages.pages.slot = 7;
    pages.pages.count = RECORD_PAGES_PER_CELL;
    pages.pages.index = 100 - RECORD_PAGES_PER_CELL;
    pages.pages.pages[RECORD_PAGES_PER_CELL - 1] = 99;
    PASSES(record_check_request, pages);
    REQUEST_REFUSES(pages, pages.slot, 8);
    REQUEST_REFUSES(pages, pages.count, 0);
    REQUEST_REFUSES(pages, pages.count, RECORD_PAGES_PER_CELL + 1);
    REQUEST_REFUSES(pages, pages.index, 101 - RECORD_PAGES_PER_CELL);
    REQUEST_REFUSES(pages, pages.index, UINT32_MAX);
    REQUEST_REFUSES(pages, pages.pages[0], 100);

    union record close = cell(RECORD_CLOSE);
    close.close.slot = 7;
    PASSES(record_check_request, close);
    REQUEST_REFUSES(close, close.slot, 8);
}

static void step_and_rows_are_bounded(void **state)
{
    (void)state;
    union record step = cell(RECORD_STEP);
    step.step.row_count = 4;
    step.step.token_count = 64;
    step.step.ids_count = 64;
    PASSES(record_check_request, step);
    REQUEST_REFUSES(step, step.row_count, 0);
    REQUEST_REFUSES(step, step.row_count, 5);
    REQUEST_REFUSES(step, step.token_count, 3);
    REQUEST_REFUSES(step, step.token_count, 65);
    REQUEST_REFUSES(step, step.ids_count, 65);

    union record row = cell(RECORD_ROW);
    row.head.flags = RECORD_ROW_SAMPLE;
    row.row.slot = 7;
    row.row.position = 2048 - 64;
    row.row.tokens = 64;
    PASSES(record_check_request, row);
    REQUEST_REFUSES(row, head.flags, 4);
    REQUEST_REFUSES(row, row.slot, 8);
    REQUEST_REFUSES(row, row.position, 2048 - 63);
    REQUEST_REFUSES(row, row.position, UINT32_MAX);
    REQUEST_REFUSES(row, row.tokens, 0);
    REQUEST_REFUSES(row, row.tokens, 65);
    REQUEST_REFUSES(row, row.ids_first, 1);
    REQUEST_REFUSES(row, row.source, RECORD_SOURCE_LAST);
    REQUEST_REFUSES(row, row.source, 2);
    row.row.score_first = 60;
    row.row.score_count = 4;
    row.row.next_id = 511;
    PASSES(record_check_request, row);
    REQUEST_REFUSES(row, row.score_first, 61);
    REQUEST_REFUSES(row, row.score_first, UINT32_MAX);
    REQUEST_REFUSES(row, row.score_count, 65);
    REQUEST_REFUSES(row, row.next_id, 512);
    row.row.score_count = 0;
    row.row.source = RECORD_SOURCE_LAST;
    row.row.tokens = 1;
    row.row.position = 2047;
    PASSES(record_check_request, row);
    REQUEST_REFUSES(row, row.position, 2048);
    REQUEST_REFUSES(row, row.score_count, 1);
}

static void replies_are_bounded(void **state)
{
    (void)state;
    union record ready = cell(RECORD_READY);
    ready.ready.vocab = 512;
    ready.ready.device_pages = 100;
    ready.ready.page_tokens = 16;
    ready.ready.dtype = CONFIG_DTYPE_F32;
    PASSES(record_check_reply, ready);
    REPLY_REFUSES(ready, ready.vocab, 0);
    REPLY_REFUSES(ready, ready.vocab, LIMIT_VOCAB_MAX + 1);
    REPLY_REFUSES(ready, ready.device_pages, 0);
    REPLY_REFUSES(ready, ready.device_pages, LIMIT_PAGES_MAX + 1);
    REPLY_REFUSES(ready, ready.page_tokens, 48);
    REPLY_REFUSES(ready, ready.dtype, CONFIG_DTYPE_AUTO);
    REPLY_REFUSES(ready, ready.dtype, 3);

    union record result = cell(RECORD_RESULT);
    result.result.slot = 7;
    result.result.position = 2048;
    result.result.id = 511;
    result.result.logprob_first = 3 * (1 + LIMIT_TOP_LOGPROBS_MAX);
    result.result.logprob_count = 1 + LIMIT_TOP_LOGPROBS_MAX;
    PASSES(record_check_reply, result);
    REPLY_REFUSES(result, head.flags, 2);
    REPLY_REFUSES(result, result.slot, 8);
    REPLY_REFUSES(result, result.position, 2049);
    REPLY_REFUSES(result, result.id, 512);
    REPLY_REFUSES(result, result.logprob_first, LOGPROBS_MAX + 1);
    REPLY_REFUSES(result, result.logprob_count, 2 + LIMIT_TOP_LOGPROBS_MAX);
    result.head.flags = RECORD_RESULT_INVALID;
    result.result.id = UINT32_MAX; /* Meaningless, so not looked at. */
    PASSES(record_check_reply, result);
    result.head.kind = RECORD_SCORE; /* The same rules. */
    PASSES(record_check_reply, result);
    REPLY_REFUSES(result, head.flags, 2);
    REPLY_REFUSES(result, result.slot, 8);

    union record logprobs = cell(RECORD_LOGPROBS);
    logprobs.logprobs.count = RECORD_LOGPROBS_PER_CELL;
    logprobs.logprobs.pairs[0].logprob = -INFINITY;
    PASSES(record_check_reply, logprobs);
    REPLY_REFUSES(logprobs, logprobs.count, 0);
    REPLY_REFUSES(logprobs, logprobs.count, RECORD_LOGPROBS_PER_CELL + 1);
    REPLY_REFUSES(logprobs, logprobs.pairs[5].id, 512);
    REPLY_REFUSES(logprobs, logprobs.pairs[5].logprob, NAN);

    union record done = cell(RECORD_DONE);
    done.done.result_count = 4;
    done.done.logprob_count = LOGPROBS_MAX;
    done.done.score_count = LIMIT_STEP_SCORES_MAX;
    PASSES(record_check_reply, done);
    REPLY_REFUSES(done, head.flags, 2);
    REPLY_REFUSES(done, done.late, LIMIT_WORKERS_MAX);
    REPLY_REFUSES(done, done.result_count, 5);
    REPLY_REFUSES(done, done.logprob_count, LOGPROBS_MAX + 1);
    REPLY_REFUSES(done, done.score_count, LIMIT_STEP_SCORES_MAX + 1);
    done.head.flags = RECORD_DONE_STALLED;
    PASSES(record_check_reply, done);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_epoch_is_stale), cmocka_unit_test(directions_do_not_mix),
        cmocka_unit_test(open_is_bounded),        cmocka_unit_test(lists_are_bounded),
        cmocka_unit_test(adjust_is_bounded),      cmocka_unit_test(step_and_rows_are_bounded),
        cmocka_unit_test(replies_are_bounded),
    };
    return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
