/*
 * step_test.c - the worker's side of the record contract, over a real link in one process: answers
 * to steps equal what the engine gives directly, and every relation a core could break ends it.
 */
#include "workers/step.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "tests/unit/workers/probe.h"
#include "tests/unit/workers/tiny_model.h"

/* Calls of our own objects to the allocator: the linker sends them here (--wrap). */
static size_t *calls(void)
{
    static size_t count;
    return &count;
}

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *block, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *block, size_t bytes);

void *__wrap_malloc(size_t bytes)
{
    (*calls())++;
    return __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    (*calls())++;
    return __real_calloc(count, bytes);
}

void *__wrap_realloc(void *block, size_t bytes)
{
    (*calls())++;
    return __real_realloc(block, bytes);
}

enum {
    SLOTS = 4,
    TOKENS_MAX = 24,
    POSITIONS = 64,
    PAGE_TOKENS = 16,
    VOCAB = 67,
    POISON = 66,
    GENERATED = 20,
    EPOCH = 7,
};

struct fixture {
    char path[TINY_MODEL_PATH_BYTES];
    struct probe probe;
    struct record_bounds bounds;
    struct step step;
    struct link core;
    struct link worker;
    uint64_t steps;
};

static const struct tiny_model model = {.hidden = 48,
                                        .layers = 3,
                                        .heads = 6,
                                        .kv_heads = 2,
                                        .head_dim = 8,
                                        .ffn = 100,
                                        .vocab = VOCAB,
                                        .positions = POSITIONS,
                                        .poison_id = POISON,
                                        .seed = 21};

static void join(struct fixture *fixture, uint32_t epoch)
{
    int sockets[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sockets),
                     0);
    assert_int_equal(link_core_begin(&fixture->core, sockets[0], epoch, 3, 0), 0);
    assert_int_equal(link_worker_connect(&fixture->worker, sockets[1], 1000), 0);
    assert_int_equal(link_core_finish(&fixture->core), 0);
    step_attach(&fixture->step, &fixture->worker, NULL);
}

static int set_up(void **state)
{
    static struct fixture fixture;
    fixture = (struct fixture){0};
    tiny_model_write(&model, fixture.path);
    fixture.probe = probe_open(fixture.path, (struct engine_options){.dtype = KERN_F32,
                                                                     .isa = kern_isa_detect(),
                                                                     .threads = 2,
                                                                     .tokens_max = TOKENS_MAX,
                                                                     .rows_max = SLOTS});
    fixture.bounds = (struct record_bounds){.slots = SLOTS,
                                            .pages = fixture.probe.options.device_pages,
                                            .vocab = VOCAB,
                                            .positions = POSITIONS,
                                            .rows = SLOTS,
                                            .tokens = TOKENS_MAX};
    assert_int_equal(
        step_open(&fixture.step, fixture.probe.engine, &fixture.bounds, PAGE_TOKENS, 1), 0);
    join(&fixture, EPOCH);
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    link_close(&fixture->worker);
    link_close(&fixture->core);
    step_close(&fixture->step);
    probe_close(&fixture->probe);
    tiny_model_remove(fixture->path);
    return 0;
}

/* The core's side. */

static void push(struct fixture *fixture, union record record)
{
    record.head.epoch = record.head.epoch ? record.head.epoch : fixture->core.epoch;
    record.head.group = fixture->core.group;
    assert_int_equal(ring_push(&fixture->core.out, &record), 0);
}

static int serve(struct fixture *fixture)
{
    ring_publish(&fixture->core.out);
    return step_serve(&fixture->step);
}

static void push_open(struct fixture *fixture, uint32_t slot, const struct sample_params *params)
{
    union record record = {0};
    record.open = (struct record_open){.head.kind = RECORD_OPEN,
                                       .slot = slot,
                                       .generation = 1,
                                       .seed = params->seed,
                                       .temperature = params->temperature,
                                       .top_p = 1.0f,
                                       .top_logprobs = params->top_logprobs,
                                       .logprobs = params->logprobs,
                                       .min_position = params->min_position,
                                       .stop_id_count = params->stop_id_count,
                                       .adjusts = params->adjust.active,
                                       .score_top = params->score_top};
    push(fixture, record);
    record = (union record){0};
    record.stop_ids = (struct record_stop_ids){
        .head.kind = RECORD_STOP_IDS, .slot = slot, .count = params->stop_id_count};
    memcpy(record.stop_ids.ids, params->stop_ids, params->stop_id_count * sizeof(uint32_t));
    if (params->stop_id_count > 0) {
        push(fixture, record);
    }
}

/* The slot's block table: all pages of a context, apart from those of other slots. */
static void push_pages(struct fixture *fixture, uint32_t slot, uint32_t count)
{
    union record record = {0};
    record.pages = (struct record_pages){
        .head.kind = RECORD_PAGES, .slot = slot, .generation = 1, .count = count};
    for (uint32_t i = 0; i < count; i++) {
        record.pages.pages[i] = SLOTS * i + (SLOTS - 1 - slot);
    }
    push(fixture, record);
}

static union record step_head(struct fixture *fixture, uint32_t rows, uint32_t tokens, uint32_t ids)
{
    struct plan plan;
    plan_sequential(&plan, false);
    union record record = {0};
    record.step = (struct record_step){.head.kind = RECORD_STEP,
                                       .step = fixture->steps++,
                                       .plan_id = plan.id,
                                       .plan_hash = plan.hash,
                                       .row_count = rows,
                                       .token_count = tokens,
                                       .ids_count = ids};
    return record;
}

static union record row_of(uint32_t slot, uint32_t position, uint32_t tokens, uint32_t ids_first)
{
    union record record = {0};
    record.row = (struct record_row){
        .head = {.kind = RECORD_ROW, .flags = RECORD_ROW_SAMPLE},
        .slot = slot,
        .generation = 1,
        .position = position,
        .tokens = tokens,
        .ids_first = ids_first,
    };
    return record;
}

static union record last_row_of(uint32_t slot, uint32_t position)
{
    union record record = row_of(slot, position, 1, 0);
    record.row.source = RECORD_SOURCE_LAST;
    return record;
}

static void push_ids(struct fixture *fixture, const uint32_t *ids, uint32_t count)
{
    for (uint32_t first = 0; first < count; first += RECORD_IDS_PER_CELL) {
        const uint32_t rest = count - first;
        union record record = {0};
        record.ids =
            (struct record_ids){.head.kind = RECORD_IDS,
                                .count = rest < RECORD_IDS_PER_CELL ? rest : RECORD_IDS_PER_CELL};
        memcpy(record.ids.ids, ids + first, record.ids.count * sizeof *ids);
        push(fixture, record);
    }
}

static union record take(struct fixture *fixture, uint8_t kind)
{
    union record record;
    struct record_bounds bounds = fixture->bounds;
    bounds.epoch = fixture->core.epoch;
    bounds.group = fixture->core.group;
    assert_int_equal(ring_take(&fixture->core.in, &record), 0);
    assert_int_equal(record_check_reply(&record, &bounds), 0);
    assert_int_equal(record.head.kind, kind);
    return record;
}

static void expect_silence(struct fixture *fixture)
{
    union record record;
    assert_int_equal(ring_take(&fixture->core.in, &record), -EAGAIN);
    ring_release(&fixture->core.in);
}

static const uint32_t prompt[] = {5, 9, 33, 2, 60, 7, 7, 41, 12, 50, 3, 19, 28, 55, 1, 64, 17, 8};
enum { PROMPT = sizeof prompt / sizeof prompt[0] };

static void greedy_directly(struct fixture *fixture, uint32_t *out)
{
    probe_restart(&fixture->probe);
    const float *logits = probe_feed(&fixture->probe, prompt, PROMPT);
    for (uint32_t i = 0; i < GENERATED; i++) {
        out[i] = probe_best(logits, VOCAB, NULL);
        logits = probe_feed(&fixture->probe, &out[i], 1);
    }
}

/* Two chunks of the prompt, then tokens that never leave the worker. */
static void answers_as_the_engine_does(void **state)
{
    struct fixture *fixture = *state;
    uint32_t expected[GENERATED];
    greedy_directly(fixture, expected);
    push_open(fixture, 2, &(struct sample_params){0});
    push_pages(fixture, 2, 4);
    push(fixture, step_head(fixture, 1, 5, 5));
    union record first_row = row_of(2, 0, 5, 0);
    first_row.head.flags = 0;
    push(fixture, first_row);
    push_ids(fixture, prompt, 5);
    assert_int_equal(serve(fixture), 0);
    assert_int_equal(take(fixture, RECORD_DONE).done.result_count, 0);
    push(fixture, step_head(fixture, 1, PROMPT - 5, PROMPT - 5));
    push(fixture, row_of(2, 5, PROMPT - 5, 0));
    push_ids(fixture, prompt + 5, PROMPT - 5);
    for (uint32_t i = 0; i < GENERATED; i++) {
        const uint32_t progress = link_peer_progress(&fixture->core);
        assert_int_equal(serve(fixture), 0);
        assert_true(link_peer_progress(&fixture->core) - progress > model.layers);
        const struct record_result result = take(fixture, RECORD_RESULT).result;
        assert_int_equal(result.step, fixture->steps - 1);
        assert_int_equal(result.slot, 2);
        assert_int_equal(result.generation, 1);
        assert_int_equal(result.position, PROMPT + i);
        assert_int_equal(result.id, expected[i]);
        assert_int_equal(result.logprob_count, 0);
        const struct record_done done = take(fixture, RECORD_DONE).done;
        assert_int_equal(done.step, fixture->steps - 1);
        assert_int_equal(done.result_count, 1);
        expect_silence(fixture);
        push(fixture, step_head(fixture, 1, 1, 0));
        push(fixture, last_row_of(2, PROMPT + i));
    }
}

/* From the first record to the last, in our code; what libraries do inside is theirs. */
static void steps_take_no_memory(void **state)
{
    struct fixture *fixture = *state;
    assert_true(*calls() > 0); /* The counter counts: opening took some. */
    const size_t before = *calls();
    push_open(fixture, 1, &(struct sample_params){.temperature = 1, .logprobs = true});
    push_pages(fixture, 1, 4);
    push(fixture, step_head(fixture, 1, PROMPT, PROMPT));
    push(fixture, row_of(1, 0, PROMPT, 0));
    push_ids(fixture, prompt, PROMPT);
    for (uint32_t i = 0; i < GENERATED; i++) {
        assert_int_equal(serve(fixture), 0);
        take(fixture, RECORD_RESULT);
        take(fixture, RECORD_LOGPROBS);
        take(fixture, RECORD_DONE);
        push(fixture, step_head(fixture, 1, 1, 0));
        push(fixture, last_row_of(1, PROMPT + i));
    }
    assert_int_equal(*calls(), before);
}

static uint32_t sampled_id(struct fixture *fixture)
{
    assert_int_equal(serve(fixture), 0);
    const uint32_t id = take(fixture, RECORD_RESULT).result.id;
    take(fixture, RECORD_DONE);
    return id;
}

/* Slot 0 computes; slot 1 has its first page, a copy of its second one, and one token to do. */
static void computes_behind_shared_and_copied_pages(void **state)
{
    struct fixture *fixture = *state;
    push_open(fixture, 0, &(struct sample_params){0});
    push_pages(fixture, 0, 2);
    push(fixture, step_head(fixture, 1, PROMPT, PROMPT));
    push(fixture, row_of(0, 0, PROMPT, 0));
    push_ids(fixture, prompt, PROMPT);
    const uint32_t wanted = sampled_id(fixture);
    const uint32_t shared = SLOTS - 1;
    const uint32_t source = SLOTS + SLOTS - 1;
    const uint32_t target = SLOTS;
    push_open(fixture, 1, &(struct sample_params){0});
    push(fixture, (union record){.pages = {.head.kind = RECORD_PAGES,
                                           .slot = 1,
                                           .generation = 1,
                                           .count = 2,
                                           .pages = {shared, target}}});
    push(fixture, (union record){.copy = {.head.kind = RECORD_COPY,
                                          .count = 1,
                                          .sources = {source},
                                          .targets = {target}}});
    push(fixture, step_head(fixture, 1, 1, 1));
    union record row = row_of(1, PROMPT - 1, 1, 0);
    row.head.flags |= RECORD_ROW_SKIPS;
    push(fixture, row);
    push_ids(fixture, prompt + PROMPT - 1, 1);
    assert_int_equal(sampled_id(fixture), wanted);
}

/* Three rows in one step, ids listed out of row order, logprobs for two of them. */
static void lists_logprobs_of_those_who_asked(void **state)
{
    struct fixture *fixture = *state;
    push_open(fixture, 0, &(struct sample_params){.logprobs = true, .top_logprobs = 20});
    push_open(fixture, 1, &(struct sample_params){0});
    push_open(fixture, 3, &(struct sample_params){.logprobs = true});
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        if (slot != 2) {
            push_pages(fixture, slot, 1);
        }
    }
    push(fixture, step_head(fixture, 3, 14, 14));
    push(fixture, row_of(0, 0, 3, 11));
    push(fixture, row_of(1, 0, 1, 10));
    push(fixture, row_of(3, 0, 10, 0));
    push_ids(fixture, prompt, 14);
    assert_int_equal(serve(fixture), 0);

    const struct record_result first = take(fixture, RECORD_RESULT).result;
    assert_int_equal(first.slot, 0);
    assert_int_equal(first.logprob_first, 0);
    assert_int_equal(first.logprob_count, 21);
    float before = 0;
    for (uint32_t taken = 0; taken < 21; taken += RECORD_LOGPROBS_PER_CELL) {
        const struct record_logprobs cell = take(fixture, RECORD_LOGPROBS).logprobs;
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
    const struct record_result second = take(fixture, RECORD_RESULT).result;
    assert_int_equal(second.slot, 1);
    assert_int_equal(second.logprob_count, 0);
    const struct record_result third = take(fixture, RECORD_RESULT).result;
    assert_int_equal(third.slot, 3);
    assert_int_equal(third.logprob_first, 21);
    assert_int_equal(third.logprob_count, 1);
    assert_int_equal(take(fixture, RECORD_LOGPROBS).logprobs.pairs[0].id, third.id);
    const struct record_done done = take(fixture, RECORD_DONE).done;
    assert_int_equal(done.result_count, 3);
    assert_int_equal(done.logprob_count, 22);

    /* Each row got its own ids. */
    probe_restart(&fixture->probe);
    assert_int_equal(first.id,
                     probe_best(probe_feed(&fixture->probe, prompt + 11, 3), VOCAB, NULL));
    probe_restart(&fixture->probe);
    assert_int_equal(third.id, probe_best(probe_feed(&fixture->probe, prompt, 10), VOCAB, NULL));
}

static void masks_stop_ids_of_the_slot(void **state)
{
    struct fixture *fixture = *state;
    probe_restart(&fixture->probe);
    const uint32_t best = probe_best(probe_feed(&fixture->probe, prompt, PROMPT), VOCAB, NULL);
    struct sample_params params = {
        .min_position = PROMPT + 1, .stop_id_count = 1, .stop_ids = {best}};
    push_open(fixture, 0, &params);
    params.min_position = PROMPT;
    push_open(fixture, 1, &params);
    for (uint32_t slot = 0; slot < 2; slot++) {
        push_pages(fixture, slot, 2);
        push(fixture, step_head(fixture, 1, PROMPT, PROMPT));
        push(fixture, row_of(slot, 0, PROMPT, 0));
        push_ids(fixture, prompt, PROMPT);
    }
    assert_int_equal(serve(fixture), 0);
    assert_int_not_equal(take(fixture, RECORD_RESULT).result.id, best);
    (void)take(fixture, RECORD_DONE);
    assert_int_equal(take(fixture, RECORD_RESULT).result.id, best);
    (void)take(fixture, RECORD_DONE);
}

static double log_probability(const float *logits, uint32_t id)
{
    double sum = 0;
    for (uint32_t i = 0; i < VOCAB; i++) {
        sum += exp((double)logits[i]);
    }
    return (double)logits[id] - log(sum);
}

/* A score of the token at position, and its likeliest; then the next. */
static void expect_score(struct fixture *fixture, uint32_t position, uint32_t *logprobs)
{
    const float *logits = probe_feed(&fixture->probe, &prompt[position - 1], 1);
    const struct record_result score = take(fixture, RECORD_SCORE).result;
    assert_int_equal(score.slot, 2);
    assert_int_equal(score.generation, 1);
    assert_int_equal(score.position, position);
    assert_int_equal(score.id, prompt[position]);
    assert_int_equal(score.logprob_first, *logprobs);
    assert_int_equal(score.logprob_count, 3);
    const struct record_logprobs pairs = take(fixture, RECORD_LOGPROBS).logprobs;
    assert_int_equal(pairs.pairs[0].id, prompt[position]);
    assert_true(fabs((double)pairs.pairs[0].logprob - log_probability(logits, prompt[position])) <
                1e-5);
    assert_int_equal(pairs.pairs[1].id, probe_best(logits, VOCAB, NULL));
    assert_true(pairs.pairs[2].logprob <= pairs.pairs[1].logprob);
    *logprobs += 3;
}

/* More tokens than rows of logits, in two steps: the first one's last token is judged by an id of
 * the second. Another slot samples meanwhile. The probe shares the engine: it runs behind. */
static void judges_the_tokens_of_a_prompt(void **state)
{
    struct fixture *fixture = *state;
    push_open(fixture, 2, &(struct sample_params){.score_top = 2});
    push_open(fixture, 0, &(struct sample_params){0});
    push_pages(fixture, 2, 2);
    push_pages(fixture, 0, 1);
    push(fixture, step_head(fixture, 2, 8, 8));
    union record row = row_of(2, 0, 5, 0);
    row.head.flags = 0;
    row.row.score_count = 5;
    row.row.next_id = prompt[5];
    push(fixture, row);
    push(fixture, row_of(0, 0, 3, 5));
    push_ids(fixture, prompt, 8);
    assert_int_equal(serve(fixture), 0);
    push(fixture, step_head(fixture, 1, PROMPT - 5, PROMPT - 5));
    row = row_of(2, 5, PROMPT - 5, 0);
    row.row.score_first = 1; /* As after a replay: one of them is known. */
    row.row.score_count = PROMPT - 5 - 2;
    push(fixture, row);
    push_ids(fixture, prompt + 5, PROMPT - 5);
    assert_int_equal(serve(fixture), 0);

    probe_restart(&fixture->probe);
    uint32_t logprobs = 0;
    assert_int_equal(take(fixture, RECORD_RESULT).result.slot, 0);
    for (uint32_t position = 1; position <= 5; position++) {
        expect_score(fixture, position, &logprobs);
    }
    struct record_done done = take(fixture, RECORD_DONE).done;
    assert_int_equal(done.result_count, 1);
    assert_int_equal(done.score_count, 5);
    assert_int_equal(done.logprob_count, 15);
    (void)probe_feed(&fixture->probe, &prompt[5], 1);
    const uint32_t next = take(fixture, RECORD_RESULT).result.id;
    logprobs = 0;
    for (uint32_t position = 7; position < PROMPT; position++) {
        expect_score(fixture, position, &logprobs);
    }
    assert_int_equal(next, probe_best(probe_feed(&fixture->probe, &prompt[PROMPT - 1], 1), VOCAB,
                                      NULL)); /* Sampled from its own logits. */
    assert_int_equal(take(fixture, RECORD_DONE).done.score_count, PROMPT - 7);
}

/* Greedy, never twice the same: presence alone, then over the prompt too, and after a replay. */
static void penalties_count_what_the_slot_has_seen(void **state)
{
    struct fixture *fixture = *state;
    uint32_t generated[GENERATED];
    const struct sample_params params = {.adjust.active = true};
    for (uint32_t life = 0; life < 2; life++) {
        const uint32_t known = life == 0 ? PROMPT : PROMPT + 6; /* A replay of 6 tokens. */
        union record adjust = {.adjust = {.head.kind = RECORD_ADJUST,
                                          .slot = 1,
                                          .generation = 1,
                                          .prompt_tokens = PROMPT,
                                          .repetition = 1.0f,
                                          .presence = 1e9f}};
        uint32_t ids[PROMPT + 6];
        memcpy(ids, prompt, sizeof prompt);
        memcpy(ids + PROMPT, generated, (known - PROMPT) * sizeof *ids);
        push_open(fixture, 1, &params);
        push(fixture, adjust);
        push_pages(fixture, 1, 4);
        push(fixture, step_head(fixture, 1, known, known));
        push(fixture, row_of(1, 0, known, 0));
        push_ids(fixture, ids, known);
        for (uint32_t i = known - PROMPT; i < GENERATED; i++) {
            assert_int_equal(serve(fixture), 0);
            const uint32_t id = take(fixture, RECORD_RESULT).result.id;
            (void)take(fixture, RECORD_DONE);
            for (uint32_t before = 0; before < i; before++) {
                assert_int_not_equal(generated[before], id);
            }
            assert_true(life == 0 || id == generated[i]);
            generated[i] = id;
            push(fixture, step_head(fixture, 1, 1, 0));
            push(fixture, last_row_of(1, PROMPT + i));
        }
        assert_int_equal(serve(fixture), 0);
        (void)take(fixture, RECORD_RESULT);
        (void)take(fixture, RECORD_DONE);
        union record close = {.close = {.head.kind = RECORD_CLOSE, .slot = 1, .generation = 1}};
        push(fixture, close);
    }
}

static void a_row_of_nan_harms_no_other(void **state)
{
    struct fixture *fixture = *state;
    const uint32_t ids[] = {5, POISON, 5, 9};
    push_open(fixture, 0, &(struct sample_params){.logprobs = true});
    push_open(fixture, 1, &(struct sample_params){0});
    push_pages(fixture, 0, 1);
    push_pages(fixture, 1, 1);
    push(fixture, step_head(fixture, 2, 4, 4));
    push(fixture, row_of(0, 0, 2, 0));
    push(fixture, row_of(1, 0, 2, 2));
    push_ids(fixture, ids, 4);
    assert_int_equal(serve(fixture), 0);
    const struct record_result sick = take(fixture, RECORD_RESULT).result;
    assert_int_equal(sick.head.flags, RECORD_RESULT_INVALID);
    assert_int_equal(sick.logprob_count, 0);
    const struct record_result well = take(fixture, RECORD_RESULT).result;
    assert_int_equal(well.head.flags, 0);
    probe_restart(&fixture->probe);
    assert_int_equal(well.id, probe_best(probe_feed(&fixture->probe, prompt, 2), VOCAB, NULL));
    assert_int_equal(take(fixture, RECORD_DONE).done.result_count, 2);
    /* The next step may be on its way already: it runs, for nobody. */
    push(fixture, step_head(fixture, 1, 1, 0));
    push(fixture, last_row_of(0, 2));
    assert_int_equal(serve(fixture), 0);
}

static void drops_records_of_another_epoch(void **state)
{
    struct fixture *fixture = *state;
    push_open(fixture, 0, &(struct sample_params){0});
    union record stale = {0};
    stale.close = (struct record_close){
        .head = {.kind = RECORD_CLOSE, .epoch = EPOCH - 1}, .slot = 0, .generation = 1};
    push(fixture, stale);
    push_pages(fixture, 0, 1);
    assert_int_equal(serve(fixture), 0);
    assert_true(fixture->step.slots.slot[0].open);
    assert_int_equal(fixture->step.slots.slot[0].page_count, 1);
}

static void a_new_link_starts_afresh(void **state)
{
    struct fixture *fixture = *state;
    push_open(fixture, 0, &(struct sample_params){0});
    push_pages(fixture, 0, 1);
    assert_int_equal(serve(fixture), 0);
    link_close(&fixture->worker);
    link_close(&fixture->core);
    join(fixture, EPOCH + 1);
    fixture->steps = 0;
    push_open(fixture, 0, &(struct sample_params){0});
    push_pages(fixture, 0, 1);
    push(fixture, step_head(fixture, 1, 2, 2));
    push(fixture, row_of(0, 0, 2, 0));
    push_ids(fixture, prompt, 2);
    assert_int_equal(serve(fixture), 0);
    assert_int_equal(take(fixture, RECORD_RESULT).result.head.epoch, EPOCH + 1);
    (void)take(fixture, RECORD_DONE);
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

static void push_broken(struct fixture *fixture, enum broken broken)
{
    const uint32_t pages = broken == BROKEN_PAGES ? 1 : 2;
    const uint32_t rows = broken == BROKEN_TWICE || broken == BROKEN_ROW_MISSING ? 2 : 1;
    const uint32_t tokens = broken == BROKEN_LAST_WITHOUT_ONE ? 1 : 18;
    push_open(fixture, 0, &(struct sample_params){0});
    push_pages(fixture, 0, pages);
    union record head = step_head(fixture, rows, tokens, 18);
    head.step.ids_count = broken == BROKEN_LAST_WITHOUT_ONE ? 0 : 18;
    head.step.plan_hash ^= broken == BROKEN_PLAN;
    head.step.token_count += broken == BROKEN_TOKEN_SUM || rows == 2;
    push(fixture, head);
    union record row = row_of(0, 0, tokens, 0);
    row.row.ids_first = broken == BROKEN_IDS_RANGE;
    row.row.generation += broken == BROKEN_GENERATION;
    row.row.position += broken == BROKEN_GAP;
    row.row.source = broken == BROKEN_LAST_WITHOUT_ONE;
    push(fixture, row);
    if (broken == BROKEN_TWICE) {
        push(fixture, row_of(0, 0, 1, 0));
    }
    if (broken == BROKEN_IDS_SHORT_CELL) {
        push_ids(fixture, prompt, 11);
        push_ids(fixture, prompt, 7);
    } else if (broken != BROKEN_IDS_MISSING && head.step.ids_count > 0) {
        push_ids(fixture, prompt, 18);
    }
}

static void a_broken_step_ends_the_worker(void **state)
{
    struct fixture *fixture = *state;
    for (enum broken broken = BROKEN_NOTHING; broken < BROKEN_COUNT; broken++) {
        link_close(&fixture->worker);
        link_close(&fixture->core);
        join(fixture, EPOCH + 1 + broken);
        push_broken(fixture, broken);
        const int status = serve(fixture);
        if (status != (broken == BROKEN_NOTHING ? 0 : -EBADMSG)) {
            fail_msg("case %d: %d", (int)broken, status);
        }
        if (broken != BROKEN_NOTHING) {
            expect_silence(fixture);
        }
    }
}

/* The sequential plan, moved to two lanes, on the board as number 3. */
static void offer_plan(struct fixture *fixture, struct plan *plan)
{
    struct plan_table *board = link_own_board(&fixture->core);
    plan_sequential(plan, false);
    plan->id = 3;
    plan->nano[4].lane = 1;
    plan->hash = plan_hash(plan);
    board->plan[plan->id - 1] = *plan;
}

static void push_step_by(struct fixture *fixture, const struct plan *plan)
{
    push_open(fixture, 0, &(struct sample_params){0});
    push_pages(fixture, 0, 1);
    union record head = step_head(fixture, 1, 2, 2);
    head.step.plan_id = plan->id;
    head.step.plan_hash = plan->hash;
    push(fixture, head);
    push(fixture, row_of(0, 0, 2, 0));
    push_ids(fixture, prompt, 2);
}

static void runs_a_plan_of_the_board(void **state)
{
    struct fixture *fixture = *state;
    struct plan plan;
    offer_plan(fixture, &plan);
    push_step_by(fixture, &plan);
    assert_int_equal(serve(fixture), 0);
    (void)take(fixture, RECORD_RESULT);
    (void)take(fixture, RECORD_DONE);
}

/* A plan that is not there, of another hash, under another id, or that leaves its bounds. */
static void a_plan_that_cannot_run_ends_the_worker(void **state)
{
    struct fixture *fixture = *state;
    for (uint32_t broken = 0; broken < 5; broken++) {
        link_close(&fixture->worker);
        link_close(&fixture->core);
        join(fixture, EPOCH + 1 + broken);
        struct plan plan;
        offer_plan(fixture, &plan);
        struct plan *offered = &((struct plan_table *)link_own_board(&fixture->core))->plan[2];
        plan.id += broken == 0;
        plan.hash ^= broken == 1;
        offered->id += broken == 2;
        offered->nano_count = broken == 3 ? UINT32_MAX : offered->nano_count;
        offered->nano[0].end -= broken == 4;
        push_step_by(fixture, &plan);
        assert_int_equal(serve(fixture), -EBADMSG);
        expect_silence(fixture);
    }
}

static void refuses_a_sample_past_the_context(void **state)
{
    struct fixture *fixture = *state;
    uint32_t ids[POSITIONS];
    for (uint32_t i = 0; i < POSITIONS; i++) {
        ids[i] = i % 60;
    }
    push_open(fixture, 0, &(struct sample_params){0});
    push_pages(fixture, 0, 4);
    for (uint32_t position = 0; position < POSITIONS - 16; position += 16) {
        push(fixture, step_head(fixture, 1, 16, 16));
        push(fixture, row_of(0, position, 16, 0));
        push_ids(fixture, ids + position, 16);
    }
    assert_int_equal(serve(fixture), 0);
    push(fixture, step_head(fixture, 1, 16, 16));
    push(fixture, row_of(0, POSITIONS - 16, 16, 0));
    push_ids(fixture, ids, 16);
    assert_int_equal(serve(fixture), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(answers_as_the_engine_does, set_up, tear_down),
        cmocka_unit_test_setup_teardown(steps_take_no_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(computes_behind_shared_and_copied_pages, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lists_logprobs_of_those_who_asked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(masks_stop_ids_of_the_slot, set_up, tear_down),
        cmocka_unit_test_setup_teardown(judges_the_tokens_of_a_prompt, set_up, tear_down),
        cmocka_unit_test_setup_teardown(penalties_count_what_the_slot_has_seen, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_row_of_nan_harms_no_other, set_up, tear_down),
        cmocka_unit_test_setup_teardown(drops_records_of_another_epoch, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_new_link_starts_afresh, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_broken_step_ends_the_worker, set_up, tear_down),
        cmocka_unit_test_setup_teardown(runs_a_plan_of_the_board, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_plan_that_cannot_run_ends_the_worker, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refuses_a_sample_past_the_context, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("step", tests, NULL, NULL);
}
