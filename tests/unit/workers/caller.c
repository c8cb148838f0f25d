/*
 * caller.c - see caller.h. Called by test programs on their main thread; owns a model directory, an
 * engine, a step and both ends of a link.
 */
#include "tests/unit/workers/caller.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

static const struct tiny_model model = {.hidden = 48,
                                        .layers = CALLER_LAYERS,
                                        .heads = 6,
                                        .kv_heads = 2,
                                        .head_dim = 8,
                                        .ffn = 100,
                                        .vocab = CALLER_VOCAB,
                                        .positions = CALLER_POSITIONS,
                                        .poison_id = CALLER_POISON,
                                        .seed = 21};

const uint32_t caller_prompt[] = {5, 9, 33, 2, 60, 7, 7, 41, 12, 50, 3, 19, 28, 55, 1, 64, 17, 8};

void caller_join(struct caller *caller, uint32_t epoch)
{
    int sockets[2];
    if (caller->core.epoch != 0) {
        link_close(&caller->worker);
        link_close(&caller->core);
    }
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sockets),
                     0);
    assert_int_equal(link_core_begin(&caller->core, sockets[0], epoch, 3, 0), 0);
    assert_int_equal(link_worker_connect(&caller->worker, sockets[1], 1000), 0);
    assert_int_equal(link_core_finish(&caller->core), 0);
    assert_int_equal(step_attach(&caller->step, &caller->worker, NULL), 0);
}

int caller_set_up(void **state)
{
    static struct caller caller;
    caller = (struct caller){0};
    tiny_model_write(&model, caller.path);
    caller.probe = probe_open(caller.path, (struct engine_options){.dtype = KERN_F32,
                                                                   .isa = kern_isa_detect(),
                                                                   .threads = 2,
                                                                   .tokens_max = CALLER_TOKENS_MAX,
                                                                   .rows_max = CALLER_SLOTS});
    caller.bounds = (struct record_bounds){.slots = CALLER_SLOTS,
                                           .pages = caller.probe.options.device_pages,
                                           .vocab = CALLER_VOCAB,
                                           .positions = CALLER_POSITIONS,
                                           .rows = CALLER_SLOTS,
                                           .tokens = CALLER_TOKENS_MAX};
    assert_int_equal(
        step_open(&caller.step, caller.probe.engine, &caller.bounds, CALLER_PAGE_TOKENS, 1), 0);
    caller_join(&caller, CALLER_EPOCH);
    *state = &caller;
    return 0;
}

int caller_tear_down(void **state)
{
    struct caller *caller = *state;
    link_close(&caller->worker);
    link_close(&caller->core);
    step_close(&caller->step);
    probe_close(&caller->probe);
    tiny_model_remove(caller->path);
    return 0;
}

void caller_push(struct caller *caller, union record record)
{
    record.head.epoch = record.head.epoch ? record.head.epoch : caller->core.epoch;
    record.head.group = caller->core.group;
    assert_int_equal(ring_push(&caller->core.out, &record), 0);
}

int caller_serve(struct caller *caller)
{
    ring_publish(&caller->core.out);
    return step_serve(&caller->step);
}

void caller_push_open(struct caller *caller, uint32_t slot, const struct sample_params *params)
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
    caller_push(caller, record);
    record = (union record){0};
    record.stop_ids = (struct record_stop_ids){
        .head.kind = RECORD_STOP_IDS, .slot = slot, .count = params->stop_id_count};
    memcpy(record.stop_ids.ids, params->stop_ids, params->stop_id_count * sizeof(uint32_t));
    if (params->stop_id_count > 0) {
        caller_push(caller, record);
    }
}

void caller_push_pages(struct caller *caller, uint32_t slot, uint32_t count)
{
    union record record = {0};
    record.pages = (struct record_pages){
        .head.kind = RECORD_PAGES, .slot = slot, .generation = 1, .count = count};
    for (uint32_t i = 0; i < count; i++) {
        record.pages.pages[i] = CALLER_SLOTS * i + (CALLER_SLOTS - 1 - slot);
    }
    caller_push(caller, record);
}

union record caller_step(struct caller *caller, uint32_t rows, uint32_t tokens, uint32_t ids)
{
    struct plan plan;
    plan_sequential(&plan, false);
    union record record = {0};
    record.step = (struct record_step){.head.kind = RECORD_STEP,
                                       .step = caller->steps++,
                                       .plan_id = plan.id,
                                       .plan_hash = plan.hash,
                                       .row_count = rows,
                                       .token_count = tokens,
                                       .ids_count = ids};
    return record;
}

union record caller_row(uint32_t slot, uint32_t position, uint32_t tokens, uint32_t ids_first)
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

union record caller_last_row(uint32_t slot, uint32_t position)
{
    union record record = caller_row(slot, position, 1, 0);
    record.row.source = RECORD_SOURCE_LAST;
    return record;
}

void caller_push_ids(struct caller *caller, const uint32_t *ids, uint32_t count)
{
    for (uint32_t first = 0; first < count; first += RECORD_IDS_PER_CELL) {
        const uint32_t rest = count - first;
        union record record = {0};
        record.ids =
            (struct record_ids){.head.kind = RECORD_IDS,
                                .count = rest < RECORD_IDS_PER_CELL ? rest : RECORD_IDS_PER_CELL};
        memcpy(record.ids.ids, ids + first, record.ids.count * sizeof *ids);
        caller_push(caller, record);
    }
}

union record caller_take(struct caller *caller, uint8_t kind)
{
    union record record;
    struct record_bounds bounds = caller->bounds;
    bounds.epoch = caller->core.epoch;
    bounds.group = caller->core.group;
    assert_int_equal(ring_take(&caller->core.in, &record), 0);
    assert_int_equal(record_check_reply(&record, &bounds), 0);
    assert_int_equal(record.head.kind, kind);
    return record;
}

void caller_expect_silence(struct caller *caller)
{
    union record record;
    assert_int_equal(ring_take(&caller->core.in, &record), -EAGAIN);
    ring_release(&caller->core.in);
}
