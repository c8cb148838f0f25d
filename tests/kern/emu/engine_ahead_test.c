/*
 * engine_ahead_test.c - steps put on the emulated device one behind the other, each before anybody
 * waits for the one ahead of it: every token is the one that the same steps give one by one, with
 * ids that only the device has, batches that change, forks and a sequence that falls sick.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/workers/probe.h"
#include "tests/unit/workers/tiny_model.h"

enum {
    SEQUENCES = 6,
    CONTEXT = 128,
    PAGE_TOKENS = 16,
    PAGES = CONTEXT / PAGE_TOKENS,
    TOKENS = 48,
    STEPS = 40,
    VOCAB = 61,
    POISON = 60,
    SICK = 4, /* The sequence that gets it, in this step. */
    SICK_STEP = 23,
    FORK = 5, /* The one that goes on from the first, beginning with this step. */
    FORK_STEP = 9,
};

static const struct tiny_model model = {.hidden = 32,
                                        .layers = 2,
                                        .heads = 4,
                                        .kv_heads = 2,
                                        .head_dim = 16,
                                        .ffn = 40,
                                        .vocab = VOCAB,
                                        .positions = CONTEXT,
                                        .poison_id = POISON,
                                        .seed = 9};

struct sequence {
    uint32_t pages[PAGES];
    uint32_t position;
    uint32_t next_id; /* Sampled last. */
    struct sample_params params;
};

struct said { /* Of a row of a step. */
    uint32_t sequence;
    uint32_t id;
    uint32_t invalid;
};

struct talk {
    struct probe probe;
    struct plan lanes;
    bool ahead;
    uint32_t copies; /* Steps that a page was copied before. */
    uint32_t overlaps;
    struct sequence sequences[SEQUENCES];
    uint32_t ids[TOKENS];
    struct engine_row rows[SEQUENCES];
    struct engine_choice choices[SEQUENCES];
    struct sample_result results[ENGINE_AHEAD_MAX][SEQUENCES];
    uint32_t counts[STEPS];
    struct said said[STEPS][SEQUENCES];
};

static void open_talk(struct talk *talk, const char *path, bool ahead, uint32_t timeout_ms)
{
    talk->ahead = ahead;
    talk->probe = probe_open(path, (struct engine_options){.dtype = KERN_F32,
                                                           .threads = 1,
                                                           .tokens_max = TOKENS,
                                                           .rows_max = SEQUENCES,
                                                           .context_max = CONTEXT,
                                                           .page_tokens = PAGE_TOKENS,
                                                           .timeout_ms = timeout_ms,
                                                           .device_pages = SEQUENCES * PAGES});
    plan_sequential(&talk->lanes, false);
    for (uint32_t i = 0; i < talk->lanes.nano_count; i++) {
        talk->lanes.nano[i].lane = (uint16_t)(i % 2);
    }
    talk->lanes.hash = plan_hash(&talk->lanes);
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        struct sequence *sequence = &talk->sequences[i];
        for (uint32_t j = 0; j < PAGES; j++) {
            sequence->pages[j] = j * SEQUENCES + i;
        }
        sequence->params = (struct sample_params){
            .seed = 70 + i, .temperature = i % 2 ? 0.9f : 0, .top_p = 1, .logprobs = i == 3};
        sequence->params.min_position = CONTEXT; /* Nobody is given the poison. */
        sequence->params.stop_id_count = 1;
        sequence->params.stop_ids[0] = POISON;
        sequence->params.adjust.active = i == 0 || i == FORK; /* Its past counts. */
        sequence->params.adjust.repetition = 1;
        sequence->params.adjust.presence = 0.7f;
    }
}

/* The first always does; the others come one by one and pause now and then. */
static bool takes_part(uint32_t sequence, uint32_t step)
{
    if (sequence == FORK) {
        return step >= FORK_STEP;
    }
    return sequence == 0 || (step >= 2 * sequence && step % (sequence + 2) != 1);
}

/* All that the first has, behind whatever still writes there. */
static void fork_first(struct talk *talk)
{
    const struct sequence *first = &talk->sequences[0];
    struct sequence *fork = &talk->sequences[FORK];
    const uint32_t pages = (first->position - 1) / PAGE_TOKENS + 1;
    engine_copy_pages(talk->probe.engine, first->pages, fork->pages, pages);
    fork->position = first->position;
    talk->copies++;
}

/* Its tokens of this step: a prompt, one that is listed, or the one that it was given. */
static void add_row(struct talk *talk, uint32_t step, uint32_t index, uint32_t first, uint32_t row)
{
    struct sequence *sequence = &talk->sequences[index];
    const bool listed = (index == SICK && step == SICK_STEP) ||
                        (index == FORK && step == FORK_STEP) || sequence->position == 0;
    const uint32_t tokens = sequence->position == 0 ? 5 + 3 * index : 1;
    for (uint32_t i = 0; i < tokens; i++) {
        talk->ids[first + i] = (11 * index + 7 * i + 3) % POISON;
    }
    if (index == SICK && step == SICK_STEP) {
        talk->ids[first] = POISON;
    } else if (!listed) {
        talk->ids[first] = talk->ahead ? 0 : sequence->next_id;
    }
    talk->rows[row] = (struct engine_row){.pages = sequence->pages,
                                          .first = first,
                                          .tokens = tokens,
                                          .position = sequence->position,
                                          .wants_logits = true,
                                          .fed = talk->ahead && !listed ? 1 + index : 0};
    sequence->position += tokens;
    talk->choices[row] = (struct engine_choice){.params = &sequence->params,
                                                .pages = sequence->pages,
                                                .position = sequence->position,
                                                .slot = index};
}

static void put(struct talk *talk, uint32_t step)
{
    uint32_t rows = 0;
    uint32_t tokens = 0;
    if (step == FORK_STEP) {
        fork_first(talk);
    }
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        if (takes_part(i, step)) {
            add_row(talk, step, i, tokens, rows);
            tokens += talk->rows[rows].tokens;
            talk->said[step][rows++].sequence = i;
        }
    }
    const struct engine_batch batch = {.ids = talk->ids,
                                       .rows = talk->rows,
                                       .row_count = rows,
                                       .plan = step % 3 == 2 ? &talk->lanes : &talk->probe.plan};
    engine_run(talk->probe.engine, &batch);
    engine_choose(talk->probe.engine, talk->choices, rows, talk->results[step % ENGINE_AHEAD_MAX]);
    memset(talk->ids, 0xff, sizeof talk->ids); /* Used up, as these are. */
    memset(talk->rows, 0xff, sizeof talk->rows);
    memset(talk->choices, 0xff, sizeof talk->choices);
    talk->counts[step] = rows;
}

static void take(struct talk *talk, uint32_t step)
{
    const struct sample_result *results = talk->results[step % ENGINE_AHEAD_MAX];
    engine_take(talk->probe.engine);
    assert_null(engine_failure(talk->probe.engine));
    for (uint32_t i = 0; i < talk->counts[step]; i++) {
        struct said *said = &talk->said[step][i];
        said->id = results[i].invalid ? 0 : results[i].id;
        said->invalid = results[i].invalid;
        talk->sequences[said->sequence].next_id = said->id;
    }
}

/* All steps; ahead: with the next one put before each is taken. */
static void speak(struct talk *talk)
{
    for (uint32_t step = 0; step < STEPS; step++) {
        put(talk, step);
        if (!talk->ahead) {
            take(talk, step);
        } else if (step > 0) {
            talk->overlaps += engine_busy(talk->probe.engine);
            take(talk, step - 1);
        }
    }
    if (talk->ahead) {
        take(talk, STEPS - 1);
    }
    assert_false(engine_busy(talk->probe.engine));
}

static struct talk *new_talk(const char *path, bool ahead)
{
    struct talk *talk = calloc(1, sizeof *talk);
    must(talk);
    open_talk(talk, path, ahead, 0);
    speak(talk);
    probe_close(&talk->probe);
    return talk;
}

/* What is compared was said: rows of every kind, and of the sick one no token after the poison. */
static void check_said(const struct talk *talk)
{
    uint32_t sick = 0;
    uint32_t ids = 0;
    bool seen[VOCAB] = {0};
    assert_int_equal(talk->copies, 1);
    for (uint32_t step = 0; step < STEPS; step++) {
        for (uint32_t i = 0; i < talk->counts[step]; i++) {
            const struct said *said = &talk->said[step][i];
            assert_int_equal(said->invalid, said->sequence == SICK && step >= SICK_STEP);
            sick += said->invalid;
            ids += !seen[said->id];
            seen[said->id] = true;
        }
    }
    assert_true(sick > 5 && ids > 10);
}

/* On a device that runs at once, and on one that runs nothing before somebody waits. */
static void tokens_are_those_of_steps_one_by_one(void **state)
{
    (void)state;
    static const char *const seeds[] = {"0", "3", "4"};
    char path[TINY_MODEL_PATH_BYTES];
    tiny_model_write(&model, path);
    must(setenv("SLUICE_EMU_SEED", "0", 1) == 0);
    struct talk *one_by_one = new_talk(path, false);
    check_said(one_by_one);
    for (uint32_t i = 0; i < sizeof seeds / sizeof seeds[0]; i++) {
        must(setenv("SLUICE_EMU_SEED", seeds[i], 1) == 0);
        struct talk *ahead = new_talk(path, true);
        assert_memory_equal(ahead->said, one_by_one->said, sizeof ahead->said);
        assert_int_equal(ahead->overlaps, i > 0 ? STEPS - 1 : 0);
        free(ahead);
    }
    free(one_by_one);
    tiny_model_remove(path);
}

/* The device is dead, for what stands behind the step too. */
static void a_step_past_its_time_is_a_failure(void **state)
{
    (void)state;
    char path[TINY_MODEL_PATH_BYTES];
    struct talk *talk = calloc(1, sizeof *talk);
    must(talk && setenv("SLUICE_EMU_SEED", "5", 1) == 0);
    tiny_model_write(&model, path);
    open_talk(talk, path, true, 1);
    put(talk, 0);
    put(talk, 1);
    assert_null(engine_failure(talk->probe.engine));
    while (engine_busy(talk->probe.engine)) {
    }
    for (uint32_t i = 0; i < 2; i++) {
        engine_take(talk->probe.engine);
        assert_non_null(strstr(engine_failure(talk->probe.engine), "workers.step_timeout_ms"));
    }
    probe_close(&talk->probe);
    free(talk);
    tiny_model_remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_are_those_of_steps_one_by_one),
        cmocka_unit_test(a_step_past_its_time_is_a_failure),
    };
    return cmocka_run_group_tests_name("engine_ahead", tests, NULL, NULL);
}
