/*
 * answer_test.c - sampled tokens become text, stops and outcomes: a core without sockets or worker,
 * its scheduler real, the results of its steps written here. Each token is followed by a look at
 * what may already have left: that must stay what it was, to the end.
 */
#include "agent/answer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/tokenizer_parts.h"

enum { A, B, C, AB, BC, LEAD, TAIL, END }; /* Ids; LEAD and TAIL are the bytes of an e acute. */

#define ACUTE       "\xc3\xa9"
#define REPLACEMENT "\xef\xbf\xbd"

static const char FILE_TEXT[] =
    "{\"added_tokens\":[{\"id\":7,\"content\":\"<end>\",\"special\":true}],"
    "\"decoder\":{\"type\":\"ByteLevel\"},"
    "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},"
    "\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"ab\":3,"
    "\"bc\":4,\"\xc3\x83\":5,\"\xc2\xa9\":6}}}";

enum { CONTEXT = 64, ROWS = 2, PROMPT = 1, IDS_MAX = 16 };

struct fixture {
    struct core core;
    struct record_result results[ROWS];
};

static int open_tokenizer(struct tokenizer **out)
{
    struct model_error error;
    struct json_error reason;
    struct json *root = NULL;
    int code = json_parse(FILE_TEXT, sizeof FILE_TEXT - 1, &root, &reason);
    code = code ? code : tokenizer_build(out, &(struct tokenizer_source){.root = root}, &error);
    json_free(root);
    return code;
}

static int set_up(void **state)
{
    const struct sched_options options = {.requests_max = ROWS,
                                          .slots_max = ROWS,
                                          .tokens_max = CONTEXT,
                                          .page_tokens = 16,
                                          .page_count = 8,
                                          .context_max = CONTEXT};
    struct fixture *fixture = calloc(1, sizeof *fixture);
    if (!fixture) {
        return -1;
    }
    struct core *core = &fixture->core;
    int code = open_tokenizer(&core->tokenizer);
    code = code ? code
                : arena_open(&core->arena, requests_bytes(ROWS, CONTEXT) +
                                               placement_bytes(&options, 1) + group_bytes(ROWS));
    code = code ? code : requests_open(&core->requests, &core->arena, ROWS, CONTEXT);
    code = code ? code : placement_open(&core->placement, &core->arena, &options, 1);
    code = code ? code : group_open(&core->groups[0], &core->arena, ROWS);
    plans_open(&core->plans, false);
    core->groups[0].ranks = core->devices;
    core->groups[0].rank_count = 1;
    core->devices[0].results = fixture->results;
    *state = fixture;
    return code;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    tokenizer_close(fixture->core.tokenizer);
    arena_close(&fixture->core.arena);
    free(fixture);
    return 0;
}

/* A request of one prompt token with these stop strings, up to the first NULL. */
static struct request *start(struct fixture *fixture, uint32_t max_tokens, uint32_t min_tokens,
                             const char *const stops[3])
{
    struct core *core = &fixture->core;
    struct request *request = requests_take(&core->requests, REQUEST_ACTIVE);
    assert_non_null(request);
    request->params.max_tokens = max_tokens;
    request->params.min_tokens = min_tokens;
    for (uint32_t i = 0; i < 3 && stops[i]; i++) {
        request->params.stop_bytes[i] = (uint16_t)strlen(stops[i]);
        memcpy(request->params.stop[i], stops[i], strlen(stops[i]));
        request->params.stop_count++;
    }
    request->prompt_tokens = PROMPT;
    request->ids[0] = A;
    placement_add(&core->placement, request_index(&core->requests, request), SCHED_NONE, NULL,
                  PROMPT, NULL);
    return request;
}

/* Puts a step in flight; its rows, 0: there is nothing to run. */
static uint32_t form(struct core *core)
{
    struct sched_step *step = group_next(&core->groups[0], &core->placement.sched[0]);
    if (!placement_form(&core->placement, 0, step)) {
        return 0;
    }
    group_count(&core->groups[0], step);
    return step->row_count;
}

/* Gives the request one token. */
static void give(struct fixture *fixture, struct request *request, uint32_t id)
{
    struct core *core = &fixture->core;
    char left[CONTEXT * 4];
    const uint32_t left_bytes = request->text_free;
    assert_true(left_bytes <= sizeof left);
    memcpy(left, request->text, left_bytes);
    assert_int_equal(form(core), 1);
    fixture->results[0] = (struct record_result){.id = id};
    answer_step(core, &core->groups[0]);
    assert_true(request->text_free >= left_bytes);
    assert_true(request->text_free <= request->text_bytes);
    assert_memory_equal(request->text, left, left_bytes);
}

/* Gives ids until the answer ends; how many it took. */
static uint32_t give_all(struct fixture *fixture, struct request *request, const uint32_t *ids,
                         uint32_t count)
{
    uint32_t given = 0;
    while (given < count && request->state == REQUEST_ACTIVE) {
        give(fixture, request, ids[given++]);
    }
    assert_int_equal(request->answer_tokens, given);
    assert_memory_equal(request->ids + PROMPT, ids, given * sizeof *ids);
    return given;
}

static void assert_text(const struct request *request, const char *text)
{
    assert_int_equal(request->text_free, strlen(text));
    assert_memory_equal(request->text, text, strlen(text));
}

struct answer {
    const char *stops[3];
    uint32_t max_tokens;
    uint32_t min_tokens;
    uint32_t ids[IDS_MAX];
    uint32_t count; /* Of ids: all that the model would say. */
    uint32_t taken; /* Of them, until the answer ends. */
    enum wire_finish finish;
    const char *text;
};

static void assert_answers(struct fixture *fixture, const struct answer *answers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct answer *answer = &answers[i];
        struct request *request =
            start(fixture, answer->max_tokens, answer->min_tokens, answer->stops);
        const uint32_t taken = give_all(fixture, request, answer->ids, answer->count);
        if (taken != answer->taken || request->state != REQUEST_ENDING ||
            request->finish != answer->finish || request->error.code != WIRE_OK) {
            fail_msg("answer %zu: %u tokens, state %d, finish %d", i, taken, (int)request->state,
                     (int)request->finish);
        }
        assert_text(request, answer->text);
        assert_int_equal(request->text_bytes, request->text_free);
        request_move(&fixture->core.requests, request, REQUEST_FREE);
    }
}

static void stop_strings_end_an_answer_before_them(void **state)
{
    static const struct answer answers[] = {
        /* Within one token, at its end, at its start, over two and over three tokens. */
        {{"b"}, 9, 0, {C, B, A}, 3, 2, WIRE_FINISH_STOP, "c"},
        {{"b"}, 9, 0, {C, AB, A}, 3, 2, WIRE_FINISH_STOP, "ca"},
        {{"b"}, 9, 0, {C, BC, A}, 3, 2, WIRE_FINISH_STOP, "c"},
        {{"bb"}, 9, 0, {AB, BC, A}, 3, 2, WIRE_FINISH_STOP, "a"},
        {{"cabb"}, 9, 0, {A, BC, AB, BC}, 4, 4, WIRE_FINISH_STOP, "ab"},
        /* As the very first text, and the whole of it. */
        {{"ab"}, 9, 0, {AB, A}, 2, 1, WIRE_FINISH_STOP, ""},
        {{"abc"}, 9, 0, {A, B, C}, 3, 3, WIRE_FINISH_STOP, ""},
        /* It repeats its own beginning: the second try is the match. */
        {{"aab"}, 9, 0, {A, A, A, B, C}, 5, 4, WIRE_FINISH_STOP, "a"},
        {{"abac"}, 9, 0, {AB, AB, A, C}, 4, 4, WIRE_FINISH_STOP, "ab"},
        /* Two strings that overlap: the one complete first, then the one that begins first. */
        {{"abc", "b"}, 9, 0, {A, B, C}, 3, 2, WIRE_FINISH_STOP, "a"},
        {{"bcb", "cb"}, 9, 0, {A, BC, B}, 3, 3, WIRE_FINISH_STOP, "a"},
        {{"cb", "bcb"}, 9, 0, {A, BC, B}, 3, 3, WIRE_FINISH_STOP, "a"},
        {{"cc", "ba", "ca"}, 9, 0, {C, B, C, A}, 4, 4, WIRE_FINISH_STOP, "cb"},
    };
    assert_answers(*state, answers, sizeof answers / sizeof *answers);
}

static void the_very_end_gives_what_was_held(void **state)
{
    static const struct answer answers[] = {
        {{"abc"}, 2, 0, {C, AB, C}, 3, 2, WIRE_FINISH_LENGTH, "cab"},
        /* Complete with the last token that was allowed: a stop, not the length. */
        {{"abc"}, 3, 0, {C, AB, C}, 3, 3, WIRE_FINISH_STOP, "c"},
        {{NULL}, 2, 0, {A, LEAD, TAIL}, 3, 2, WIRE_FINISH_LENGTH, "a" REPLACEMENT},
        {{"abc"}, 3, 0, {C, AB, LEAD}, 3, 3, WIRE_FINISH_LENGTH, "cab" REPLACEMENT},
    };
    assert_answers(*state, answers, sizeof answers / sizeof *answers);
}

static void a_stop_string_may_be_cut_within_a_character(void **state)
{
    static const struct answer answers[] = {
        {{ACUTE}, 9, 0, {A, LEAD, TAIL, B}, 4, 3, WIRE_FINISH_STOP, "a"},
        {{"a" ACUTE "b"}, 9, 0, {C, A, LEAD, TAIL, B}, 5, 5, WIRE_FINISH_STOP, "c"},
        {{ACUTE "c"}, 9, 0, {LEAD, TAIL, LEAD, TAIL, C}, 5, 5, WIRE_FINISH_STOP, ACUTE},
        /* Its first byte alone is no match, nor is a character that never became whole. */
        {{ACUTE}, 3, 0, {LEAD, A, LEAD}, 3, 3, WIRE_FINISH_LENGTH, REPLACEMENT "a" REPLACEMENT},
        {{REPLACEMENT "a"}, 9, 0, {B, LEAD, A}, 3, 3, WIRE_FINISH_STOP, "b"},
    };
    assert_answers(*state, answers, sizeof answers / sizeof *answers);
}

static void min_tokens_come_before_any_stop(void **state)
{
    static const struct answer answers[] = {
        {{"b"}, 9, 2, {B, B, A, B}, 4, 4, WIRE_FINISH_STOP, "bba"},
        {{"b"}, 9, 2, {A, A, B, B}, 4, 3, WIRE_FINISH_STOP, "aa"},
        {{"b"}, 2, 2, {B, B}, 2, 2, WIRE_FINISH_LENGTH, "bb"},
        /* One that was whole too early stays text, even with the next token beside it. */
        {{"ab"}, 5, 1, {AB, C, A, C, A}, 5, 5, WIRE_FINISH_LENGTH, "abcaca"},
        /* One that begins early and ends later counts. */
        {{"abc"}, 9, 2, {C, AB, C}, 3, 3, WIRE_FINISH_STOP, "c"},
    };
    assert_answers(*state, answers, sizeof answers / sizeof *answers);
}

/* What may leave while a stop string may be forming: nothing of it. */
static void text_waits_while_a_stop_string_may_form(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        uint32_t id;
        const char *leaves;
    } tokens[] = {
        {C, "c"},
        {AB, "c"},      /* "ab" of "aba", */
        {C, "ca"},      /* which it was not; but "bc" of "bca". */
        {B, "cabc"},    /* Neither was that. */
        {LEAD, "cabc"}, /* Half a character gives no text, so that b still waits. */
        {TAIL, "cabcb" ACUTE},
        {A, "cabcb" ACUTE},
        {A, "cabcb" ACUTE "a"}, /* The newer one may still begin it. */
    };
    struct request *request = start(fixture, 32, 0, (const char *const[3]){"aba", "bca"});
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
        give(fixture, request, tokens[i].id);
        assert_text(request, tokens[i].leaves);
    }
}

static void stop_ids_end_an_answer_without_their_text(void **state)
{
    struct fixture *fixture = *state;
    struct request *request = start(fixture, 9, 1, (const char *const[3]){"ac"});
    request->params.stop_id_count = 2;
    request->params.stop_ids[0] = B;
    request->params.stop_ids[1] = END;
    /* The first B comes too early; the last text was held for "ac". */
    static const uint32_t ids[] = {B, C, A, END, A};
    assert_int_equal(give_all(fixture, request, ids, 5), 4);
    assert_int_equal(request->finish, WIRE_FINISH_STOP);
    assert_text(request, "bca");
}

static void special_tokens_are_text_unless_skipped(void **state)
{
    struct fixture *fixture = *state;
    static const uint32_t ids[] = {A, END, B};
    struct request *kept = start(fixture, 3, 0, (const char *const[3]){NULL});
    assert_int_equal(give_all(fixture, kept, ids, 3), 3);
    assert_text(kept, "a<end>b");
    struct request *skipped = start(fixture, 3, 0, (const char *const[3]){"<"});
    skipped->params.skip_special = true;
    assert_int_equal(give_all(fixture, skipped, ids, 3), 3);
    assert_int_equal(skipped->finish, WIRE_FINISH_LENGTH);
    assert_text(skipped, "ab");
}

/* The stop is seen when the next step is on its way: what that one samples is nobody's. */
static void a_token_behind_the_end_never_shows(void **state)
{
    struct fixture *fixture = *state;
    struct core *core = &fixture->core;
    struct request *ended = start(fixture, 9, 0, (const char *const[3]){"b"});
    struct request *other = start(fixture, 9, 0, (const char *const[3]){NULL});
    assert_int_equal(form(core), 2);
    assert_int_equal(form(core), 2);
    fixture->results[0] = (struct record_result){.id = B};
    fixture->results[1] = (struct record_result){.id = C};
    answer_step(core, &core->groups[0]);
    assert_int_equal(ended->state, REQUEST_ENDING);
    assert_int_equal(ended->answer_tokens, 1);
    fixture->results[0] = (struct record_result){.id = A};
    fixture->results[1] = (struct record_result){.id = A};
    answer_step(core, &core->groups[0]);
    assert_int_equal(ended->answer_tokens, 1);
    assert_int_equal(ended->finish, WIRE_FINISH_STOP);
    assert_text(ended, "");
    assert_int_equal(other->answer_tokens, 2);
    assert_text(other, "ca");
    assert_int_equal(core->counters.generated_tokens, 3);
}

static void no_logits_fail_one_request(void **state)
{
    struct fixture *fixture = *state;
    struct core *core = &fixture->core;
    struct request *bad = start(fixture, 4, 0, (const char *const[3]){NULL});
    struct request *good = start(fixture, 4, 0, (const char *const[3]){NULL});
    assert_int_equal(form(core), 2);
    fixture->results[0] = (struct record_result){.head.flags = RECORD_RESULT_INVALID};
    fixture->results[1] = (struct record_result){.id = C};
    answer_step(core, &core->groups[0]);
    assert_int_equal(bad->state, REQUEST_ENDING);
    assert_int_equal(bad->error.code, WIRE_INTERNAL);
    assert_int_equal(bad->answer_tokens, 0);
    assert_int_equal(good->state, REQUEST_ACTIVE);
    assert_text(good, "c");
}

static void cancelled_answers_keep_what_has_left(void **state)
{
    struct fixture *fixture = *state;
    struct request *request = start(fixture, 9, 0, (const char *const[3]){"bc"});
    request->params.stream = true;
    give(fixture, request, A);
    give(fixture, request, A);
    request->sent_tokens = 1;
    request->sent_text = 1;
    give(fixture, request, B);
    assert_text(request, "aa"); /* The b is held. */
    answer_cancel(&fixture->core, request);
    assert_int_equal(request->state, REQUEST_ENDING);
    assert_int_equal(request->finish, WIRE_FINISH_CANCELLED);
    assert_int_equal(request->answer_tokens, 1);
    assert_text(request, "a");
}

/* Its tokens waited for credit: each request ends once in the counters. */
static void an_ended_answer_is_not_cancelled_too(void **state)
{
    struct fixture *fixture = *state;
    struct request *request = start(fixture, 1, 0, (const char *const[3]){NULL});
    request->params.stream = true;
    give(fixture, request, A);
    assert_int_equal(request->state, REQUEST_ENDING);
    answer_cancel(&fixture->core, request);
    assert_int_equal(request->finish, WIRE_FINISH_CANCELLED);
    assert_int_equal(fixture->core.counters.finished, 1);
    assert_int_equal(fixture->core.counters.cancelled, 0);
}

/* From when a reader has something to take, not from when the loop last looked. */
static void a_stream_waits_from_its_token_on(void **state)
{
    struct fixture *fixture = *state;
    struct core *core = &fixture->core;
    struct request *request = start(fixture, 4, 0, (const char *const[3]){NULL});
    request->params.stream = true;
    core->now_us = 70;
    give(fixture, request, A);
    assert_int_equal(request->progress_us, 70);
    core->now_us = 80;
    give(fixture, request, A); /* The first one waits longer. */
    assert_int_equal(request->progress_us, 70);
    request->sent_tokens = 2;
    core->now_us = 90;
    give(fixture, request, A);
    assert_int_equal(request->progress_us, 90);
    core->now_us = 95;
    answer_cancel(core, request);
    assert_int_equal(request->progress_us, 95); /* So does what its end has to say. */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(stop_strings_end_an_answer_before_them, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_very_end_gives_what_was_held, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_stop_string_may_be_cut_within_a_character, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(min_tokens_come_before_any_stop, set_up, tear_down),
        cmocka_unit_test_setup_teardown(text_waits_while_a_stop_string_may_form, set_up, tear_down),
        cmocka_unit_test_setup_teardown(stop_ids_end_an_answer_without_their_text, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(special_tokens_are_text_unless_skipped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_token_behind_the_end_never_shows, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_logits_fail_one_request, set_up, tear_down),
        cmocka_unit_test_setup_teardown(cancelled_answers_keep_what_has_left, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_ended_answer_is_not_cancelled_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_stream_waits_from_its_token_on, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("answer", tests, NULL, NULL);
}
