/*
 * plans_test.c - which plan files serve in which mode, what is left out, and which plan a step
 * gets.
 */
#include "agent/plans.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "plan/split.h"
#include "plan/verify.h"
#include "wire/codec.h"

enum { FILES_MAX = TABLE_PLANS_MAX + 3, CONTEXT = 100 };

struct fixture {
    struct config config;
    struct plankey key; /* Of the worker. */
    struct graph graph;
    struct planfile file;
    struct plans plans;
    char paths[FILES_MAX][LIMIT_PATH_BYTES_MAX + 32];
    uint32_t files;
};

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    char error[CONFIG_ERROR_BYTES_MAX];
    const char *const model = "model.path=m";
    assert_int_equal(config_load(&fixture->config, NULL, &model, 1, error), 0);
    (void)snprintf(fixture->config.plan.dir, sizeof fixture->config.plan.dir,
                   "/tmp/plans_test.XXXXXX");
    assert_non_null(mkdtemp(fixture->config.plan.dir));
    fixture->key = (struct plankey){.model = "model",
                                    .dtype = "f32",
                                    .weights = "f32",
                                    .kv = "f32",
                                    .device = "device",
                                    .library = "library 1",
                                    .kernels = "kernels 1",
                                    .tp = 1,
                                    .units = 4};
    graph_build(&fixture->graph, false, 1, GRAPH_INSIDE);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    for (uint32_t i = 0; i < fixture->files; i++) {
        (void)unlink(fixture->paths[i]);
    }
    (void)rmdir(fixture->config.plan.dir);
    free(fixture);
    return 0;
}

/* Two nano-batches on two lanes, for steps of so many tokens. */
static void fill_file(struct fixture *fixture, uint32_t tokens)
{
    struct planfile *file = &fixture->file;
    struct split_cuts cuts;
    memset(file, 0, sizeof *file);
    file->key = fixture->key;
    file->regime = (struct regime){.tokens = tokens, .decode = 0, .context = CONTEXT};
    split_even(&cuts, &fixture->graph, 2);
    assert_int_equal(split_plan(&file->plan, &fixture->graph, &cuts), 0);
    for (uint32_t i = 0; i < file->plan.nano_count; i++) {
        file->plan.nano[i].lane = file->plan.nano[i].first > 0;
    }
    file->measured_us = 90;
    file->sequential_us = 100;
}

static void write_file(struct fixture *fixture)
{
    char *path = fixture->paths[fixture->files];
    (void)snprintf(path, sizeof fixture->paths[0], "%s/%02u.json", fixture->config.plan.dir,
                   fixture->files++);
    struct json *root = planfile_json(&fixture->file);
    char *text = json_dump(root);
    FILE *out = fopen(path, "we");
    assert_non_null(out);
    assert_true(fputs(text, out) >= 0);
    assert_int_equal(fclose(out), 0);
    free(text);
    json_free(root);
}

static void open_plans(struct fixture *fixture, enum config_plan_mode mode)
{
    fixture->config.plan.mode = mode;
    plans_open(&fixture->plans, false);
    plans_read(&fixture->plans, &fixture->config, &fixture->key);
}

/* For a step with one row of so many tokens. */
static const struct plan *chosen(const struct fixture *fixture, uint32_t tokens)
{
    struct sched_row row = {.tokens = tokens, .position = CONTEXT - tokens / 2};
    const struct sched_step step = {.rows = &row, .row_count = 1, .token_count = tokens};
    return fixture->plans.row[plans_choose(&fixture->plans, &step)].plan;
}

static void without_files_steps_are_sequential(void **state)
{
    struct fixture *fixture = *state;
    open_plans(fixture, CONFIG_PLAN_AUTO);
    assert_int_equal(chosen(fixture, 64)->id, 0);
    assert_int_equal(chosen(fixture, 64)->nano_count, 10);
}

static void a_step_gets_the_plan_of_its_regime(void **state)
{
    struct fixture *fixture = *state;
    fill_file(fixture, 64);
    write_file(fixture);
    fill_file(fixture, 128);
    write_file(fixture);
    open_plans(fixture, CONFIG_PLAN_OVERLAP);
    assert_int_equal(fixture->plans.table.count, 2);
    assert_int_equal(chosen(fixture, 60)->id, 1);
    assert_int_equal(chosen(fixture, 120)->id, 2);
    assert_ptr_equal(chosen(fixture, 120), &fixture->plans.table.plan[1]);
    assert_int_equal(chosen(fixture, 2)->id, 0); /* Nothing near. */
    assert_int_equal(chosen(fixture, 60)->hash, plan_hash(chosen(fixture, 60)));
}

static void auto_serves_sequentially_where_that_was_faster(void **state)
{
    struct fixture *fixture = *state;
    fill_file(fixture, 64);
    fixture->file.measured_us = 110;
    write_file(fixture);
    fill_file(fixture, 128);
    write_file(fixture);
    open_plans(fixture, CONFIG_PLAN_AUTO);
    assert_int_equal(chosen(fixture, 64)->id, 0);
    assert_int_equal(chosen(fixture, 128)->id, 1);
    open_plans(fixture, CONFIG_PLAN_OVERLAP);
    assert_int_equal(chosen(fixture, 64)->id, 1);
    open_plans(fixture, CONFIG_PLAN_SEQUENTIAL);
    assert_int_equal(chosen(fixture, 128)->id, 0);
}

static void nano_merges_the_lanes(void **state)
{
    struct fixture *fixture = *state;
    char error[VERIFY_ERROR_BYTES_MAX];
    fill_file(fixture, 64);
    write_file(fixture);
    open_plans(fixture, CONFIG_PLAN_NANO);
    const struct plan *plan = chosen(fixture, 64);
    assert_int_equal(plan->id, 1);
    assert_int_equal(plan->nano_count, 20);
    for (uint32_t i = 0; i < plan->nano_count; i++) {
        assert_int_equal(plan->nano[i].lane, 0);
    }
    assert_int_equal(plan->hash, plan_hash(plan));
    assert_int_equal(verify_plan(plan, &fixture->graph, 8, error), 0);
}

/* Of another device; without one of its edges; no plan at all. The rest serves. */
static void wrong_files_are_left_out(void **state)
{
    struct fixture *fixture = *state;
    fill_file(fixture, 64);
    fixture->file.key.device[0] ^= 1;
    write_file(fixture);
    fill_file(fixture, 64);
    fixture->file.plan.edge_count--;
    write_file(fixture);
    fill_file(fixture, 64);
    write_file(fixture);
    FILE *out = fopen(fixture->paths[2], "we");
    assert_non_null(out);
    assert_int_equal(fclose(out), 0);
    fill_file(fixture, 128);
    write_file(fixture);
    open_plans(fixture, CONFIG_PLAN_AUTO);
    assert_int_equal(fixture->plans.table.count, 1);
    assert_int_equal(chosen(fixture, 64)->id, 1); /* Of 128: within twice. */
    fixture->key.tp = 2;
    open_plans(fixture, CONFIG_PLAN_AUTO);
    assert_int_equal(chosen(fixture, 128)->id, 0);
}

/* Ranks have a graph of their own: what meets the others is on one lane. */
static void ranks_get_plans_of_their_own(void **state)
{
    struct fixture *fixture = *state;
    fixture->key.tp = 2;
    graph_build(&fixture->graph, false, 2, GRAPH_INSIDE);
    fill_file(fixture, 64);
    write_file(fixture);
    for (uint32_t i = 0; i < fixture->file.plan.nano_count; i++) {
        struct plan_nano *nano = &fixture->file.plan.nano[i];
        nano->lane = graph_find(&fixture->graph, nano->operation)->meets_ranks ? 0 : nano->lane;
    }
    fixture->file.regime.tokens = 256;
    write_file(fixture);
    open_plans(fixture, CONFIG_PLAN_AUTO);
    assert_int_equal(fixture->plans.table.count, 1);
    assert_int_equal(fixture->plans.refused_count, 1);
    assert_non_null(strstr(fixture->plans.refused[0].reason, "meet the other ranks on two lanes"));
    assert_int_equal(chosen(fixture, 256)->id, 1);
}

/* Workers of one agent may differ: in their threads where the cores do not divide, and in the
 * library where it was replaced before a worker came again. */
static void fits_workers_like_the_first(void **state)
{
    struct fixture *fixture = *state;
    char error[PLANKEY_ERROR_BYTES_MAX] = "";
    open_plans(fixture, CONFIG_PLAN_AUTO);
    struct plankey worker = fixture->key;
    assert_true(plans_fit(&fixture->plans, &worker, error));
    worker.units = 5;
    assert_true(plans_fit(&fixture->plans, &worker, error));
    worker.units = 3;
    assert_false(plans_fit(&fixture->plans, &worker, error));
    assert_non_null(strstr(error, "units 4, this is 3"));
    worker = fixture->key;
    worker.library[8] = '2';
    assert_false(plans_fit(&fixture->plans, &worker, error));
    assert_non_null(strstr(error, "the library \"library 1\", this is \"library 2\""));
}

static void no_more_than_the_table_holds(void **state)
{
    struct fixture *fixture = *state;
    fill_file(fixture, 64);
    while (fixture->files < FILES_MAX) {
        write_file(fixture);
    }
    open_plans(fixture, CONFIG_PLAN_AUTO);
    assert_int_equal(fixture->plans.table.count, TABLE_PLANS_MAX);
    assert_int_equal(fixture->plans.refused_count, FILES_MAX - TABLE_PLANS_MAX);
}

/* As much as there can be: the codec's buffer was reserved for it. */
static void what_is_told_fits_a_reply(void **state)
{
    struct fixture *fixture = *state;
    struct plans *plans = &fixture->plans;
    struct plans_told told;
    struct codec *codec;
    plans_open(plans, false);
    plans->row_count = PLANS_ROWS_MAX;
    plans->refused_count = TABLE_PLANS_MAX;
    for (uint32_t i = 0; i < PLANS_ROWS_MAX; i++) {
        struct plans_row *row = &plans->row[i];
        *row = (struct plans_row){.plan = &plans->sequential, .steps = UINT64_MAX};
        row->compute_us = UINT64_MAX;
        memset(row->file, 'x', sizeof row->file - 1);
    }
    for (uint32_t i = 0; i < TABLE_PLANS_MAX; i++) {
        struct plans_refusal *refusal = &plans->refused[i];
        memset(refusal->file, 'x', sizeof refusal->file - 1);
        memset(refusal->reason, 'x', sizeof refusal->reason - 1);
    }
    plans_tell(plans, &told);
    assert_int_equal(codec_open(&codec), 0);
    const struct wire_bytes body = codec_encode_plans(codec, &told.message);
    assert_true(body.count > 15000 && body.count <= codec_reply_bytes_max(0, 0));
    codec_close(codec);
}

static bool text_is(struct wire_text text, const char *want)
{
    return text.count == strlen(want) && memcmp(text.bytes, want, text.count) == 0;
}

/* Steps by the file that was made for them, or for none; files that do not serve, with reasons. */
static void tells_what_ran_and_what_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct plans_told told;
    fill_file(fixture, 64);
    fixture->file.measured_us = 110;
    write_file(fixture);
    fill_file(fixture, 128);
    write_file(fixture);
    fill_file(fixture, 256);
    fixture->file.key.kernels[0] = '\x7f';
    write_file(fixture);
    open_plans(fixture, CONFIG_PLAN_AUTO);
    plans_count(&fixture->plans, 0, 7);
    plans_count(&fixture->plans, 2, 100);
    plans_count(&fixture->plans, 2, 50);
    plans_tell(&fixture->plans, &told);
    const struct wire_plans *message = &told.message;
    assert_int_equal(message->plan_count, 3);
    assert_true(text_is(message->plans[0].file, "") && text_is(message->plans[2].file, "01.json"));
    assert_true(message->plans[0].steps == 1 && message->plans[0].compute_us == 7);
    assert_true(message->plans[1].plan == 0 && message->plans[1].tokens == 64);
    assert_true(message->plans[2].plan == 1 && message->plans[2].tokens == 128);
    assert_true(message->plans[2].steps == 2 && message->plans[2].compute_us == 150);
    assert_int_equal(message->plans[2].context, CONTEXT);
    assert_int_equal(message->refused_count, 1);
    assert_true(text_is(message->refused[0].file, "02.json"));
    assert_true(text_is(message->refused[0].reason, "it was made for the kernels \"?ernels 1\", "
                                                    "this is \"kernels 1\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(without_files_steps_are_sequential, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_step_gets_the_plan_of_its_regime, set_up, tear_down),
        cmocka_unit_test_setup_teardown(auto_serves_sequentially_where_that_was_faster, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(nano_merges_the_lanes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(wrong_files_are_left_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ranks_get_plans_of_their_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(fits_workers_like_the_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_more_than_the_table_holds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_told_fits_a_reply, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tells_what_ran_and_what_is_refused, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("plans", tests, NULL, NULL);
}
