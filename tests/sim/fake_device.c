/*
 * fake_device.c - see fake_device.h. Called by fleet.c; owns its pages and tables. Invariant: a
 * place of a page holds the tag of all tokens up to it, written by the rows of one slot in order,
 * or copied from such a place.
 */
#include "tests/sim/fake_device.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "tests/sim/oracle.h"

enum { PAIRS_MAX = 1 + LIMIT_TOP_LOGPROBS_MAX };

void fake_device_open(struct fake_device *device, const struct config *config, uint32_t context)
{
    const uint32_t page_tokens = config->kv.page_tokens;
    const uint32_t slots = config->batch.slots_max;
    const uint32_t pages = config->kv.device_pages;
    const uint32_t pages_max = (context + page_tokens - 1) / page_tokens;
    const uint32_t answers = slots + LIMIT_STEP_SCORES_MAX;
    *device = (struct fake_device){
        .page_tokens = page_tokens,
        .answer_max = answers * (2 + PAIRS_MAX / RECORD_LOGPROBS_PER_CELL) + 1,
        .bounds = {.slots = slots,
                   .pages = pages,
                   .vocab = ORACLE_VOCAB,
                   .positions = context,
                   .rows = slots,
                   .tokens = config->batch.tokens_max},
    };
    const size_t places = (size_t)pages * page_tokens;
    must(arena_open(&device->arena, slots_bytes(slots, pages_max) + places * sizeof *device->kv +
                                        pages + slots * sizeof *device->rows +
                                        config->batch.tokens_max * sizeof *device->ids +
                                        device->answer_max * sizeof *device->answer + 4096) == 0);
    must(slots_open(&device->slots, &device->arena, slots, pages_max, page_tokens) == 0);
    device->kv = arena_alloc(&device->arena, places, sizeof *device->kv);
    device->used = arena_alloc(&device->arena, pages, sizeof *device->used);
    device->rows = arena_alloc(&device->arena, slots, sizeof *device->rows);
    device->ids = arena_alloc(&device->arena, config->batch.tokens_max, sizeof *device->ids);
    device->answer = arena_alloc(&device->arena, device->answer_max, sizeof *device->answer);
    must(device->kv && device->used && device->rows && device->ids && device->answer);
}

void fake_device_close(struct fake_device *device)
{
    arena_close(&device->arena);
}

static void forget_step(struct fake_device *device)
{
    memset(device->used, 0, device->bounds.pages * sizeof *device->used);
    device->answer_count = 0;
    device->pair_count = 0;
    device->result_count = 0;
    device->score_count = 0;
    device->copy_count = 0;
}

void fake_device_attach(struct fake_device *device, uint32_t epoch, uint32_t group, uint32_t rank)
{
    const size_t places = (size_t)device->bounds.pages * device->page_tokens;
    device->bounds.epoch = epoch;
    device->bounds.group = group;
    device->rank = rank;
    device->step = 0;
    memset(device->kv, 0, places * sizeof *device->kv);
    slots_reset(&device->slots);
    forget_step(device);
}

static struct fake_place *place(const struct fake_device *device, const struct slot *slot,
                                uint32_t position)
{
    const uint32_t page = slot->pages[position / device->page_tokens];
    return &device->kv[(size_t)page * device->page_tokens + position % device->page_tokens];
}

static void copy_pages(struct fake_device *device, const struct record_copy *copy)
{
    const uint32_t tokens = device->page_tokens;
    for (uint32_t i = 0; i < copy->count; i++) {
        struct fake_place *target = device->kv + (size_t)copy->targets[i] * tokens;
        memcpy(target, device->kv + (size_t)copy->sources[i] * tokens, tokens * sizeof *target);
        for (uint32_t t = 0; t < tokens; t++) {
            target[t].step = 0;
        }
        device->used[copy->sources[i]] = true;
        device->used[copy->targets[i]] = true;
        device->copy_count++;
    }
}

static struct record_head head_of(const struct fake_device *device, enum record_kind kind)
{
    return (struct record_head){.kind = (uint8_t)kind,
                                .group = (uint16_t)device->bounds.group,
                                .epoch = device->bounds.epoch};
}

static union record *add_cell(struct fake_device *device, enum record_kind kind)
{
    must(device->answer_count < device->answer_max);
    union record *cell = &device->answer[device->answer_count++];
    *cell = (union record){.head = head_of(device, kind)};
    return cell;
}

/* The pairs of a result: the chosen id, then the top ones. */
static void add_pairs(struct fake_device *device, uint64_t tag, uint32_t id, uint32_t count)
{
    union record *cell = NULL;
    for (uint32_t i = 0; i < count; i++) {
        if (i % RECORD_LOGPROBS_PER_CELL == 0) {
            cell = add_cell(device, RECORD_LOGPROBS);
        }
        const uint32_t told = i == 0 ? id : oracle_top(tag, i - 1);
        cell->logprobs.pairs[cell->logprobs.count++] =
            (struct record_logprob){told, oracle_logprob(tag, told)};
    }
    device->pair_count += count;
}

struct judged { /* A token that a RESULT or SCORE tells of. */
    enum record_kind kind;
    uint32_t position;
    uint32_t id;
    uint64_t tag; /* Of all before it. */
    uint32_t pairs;
};

static void add_result(struct fake_device *device, const struct record_row *row,
                       const struct judged *judged)
{
    add_cell(device, judged->kind)->result = (struct record_result){
        .head = head_of(device, judged->kind),
        .step = device->step,
        .slot = row->slot,
        .generation = row->generation,
        .position = judged->position,
        .id = judged->id,
        .logprob_first = device->pair_count,
        .logprob_count = judged->pairs,
    };
    add_pairs(device, judged->tag, judged->id, judged->pairs);
}

/* Writes the row's tokens behind what its slot's pages hold. */
static void write_row(struct fake_device *device, const struct record_row *row)
{
    struct slot *slot = slots_row(&device->slots, row, device->step);
    must(slot); /* Open, complete, its pages are long enough, and it begins where it should. */
    slot->step = device->step;
    for (uint32_t t = 0; t < row->tokens; t++) {
        const uint32_t position = row->position + t;
        const uint64_t before = position > 0 ? place(device, slot, position - 1)->tag : 0;
        const bool listed = row->source == RECORD_SOURCE_LISTED;
        const uint32_t id = listed ? device->ids[row->ids_first + t] : slot->last_id;
        must(position == 0 || before != 0);
        *place(device, slot, position) = (struct fake_place){
            .tag = oracle_extend(before, id), .step = device->step, .id = id, .slot = row->slot};
    }
}

/* All that attention reads: an unbroken history, and nothing that another row of this very step
 * has written: rows of a step do not wait for each other. */
static void read_row(struct fake_device *device, const struct record_row *row)
{
    const struct slot *slot = &device->slots.slot[row->slot];
    const uint32_t end = row->position + row->tokens;
    uint64_t tag = 0;
    for (uint32_t i = 0; i < end; i++) {
        const struct fake_place *here = place(device, slot, i);
        tag = oracle_extend(tag, here->id);
        must(here->tag == tag);
        must(here->step != device->step || here->slot == row->slot);
        device->used[slot->pages[i / device->page_tokens]] = true;
    }
}

static void sample_row(struct fake_device *device, const struct record_row *row)
{
    struct slot *slot = &device->slots.slot[row->slot];
    const struct sample_params *params = &slot->sampling;
    const uint32_t end = row->position + row->tokens;
    const uint64_t tag = place(device, slot, end - 1)->tag;
    uint32_t barred[LIMIT_BAD_IDS_MAX];
    struct oracle_rules rules = {
        .salt = oracle_salt(params->seed, params->temperature, params->top_p, params->top_k),
        .masked = params->stop_ids,
        .masked_count = params->stop_id_count,
        .masked_below = params->min_position,
        .allowed = params->adjust.allowed,
        .allowed_count = params->adjust.allowed_count,
        .barred = barred,
    };
    for (uint32_t i = 0; i < params->adjust.bias_count; i++) {
        if (isinf(params->adjust.biases[i].bias)) {
            must(rules.barred_count < LIMIT_BAD_IDS_MAX);
            barred[rules.barred_count++] = params->adjust.biases[i].id;
        }
    }
    slot->computed = end;
    slot->sampled = (row->head.flags & RECORD_ROW_SAMPLE) != 0;
    if (!slot->sampled) {
        return;
    }
    slot->last_id = oracle_next(tag, end, &rules);
    if (device->rank == 0) {
        const struct judged judged = {.kind = RECORD_RESULT,
                                      .position = end,
                                      .id = slot->last_id,
                                      .tag = tag,
                                      .pairs = params->logprobs ? 1 + params->top_logprobs : 0};
        add_result(device, row, &judged);
        device->result_count++;
    }
}

static void score_row(struct fake_device *device, const struct record_row *row)
{
    const struct slot *slot = &device->slots.slot[row->slot];
    for (uint32_t i = 0; i < row->score_count && device->rank == 0; i++) {
        const uint32_t t = row->score_first + i;
        const uint32_t position = row->position + t;
        const bool last = t + 1 == row->tokens;
        const uint32_t id = last ? row->next_id : place(device, slot, position + 1)->id;
        const struct judged judged = {.kind = RECORD_SCORE,
                                      .position = position + 1,
                                      .id = id,
                                      .tag = place(device, slot, position)->tag,
                                      .pairs = 1 + slot->sampling.score_top};
        add_result(device, row, &judged);
        device->score_count++;
    }
}

/* Cells of a step come together. */
static void take_kind(struct fake_device *device, struct ring_reader *in, uint8_t kind,
                      union record *out)
{
    must(ring_take(in, out) == 0 && record_check_request(out, &device->bounds) == 0);
    must(out->head.kind == kind);
}

static void take_rows(struct fake_device *device, struct ring_reader *in,
                      const struct record_step *head)
{
    uint32_t tokens = 0;
    for (uint32_t i = 0; i < head->row_count; i++) {
        union record cell;
        take_kind(device, in, RECORD_ROW, &cell);
        device->rows[i] = cell.row;
        tokens += cell.row.tokens;
        must(cell.row.source == RECORD_SOURCE_LAST ||
             cell.row.ids_first + cell.row.tokens <= head->ids_count);
    }
    must(tokens == head->token_count);
    for (uint32_t first = 0; first < head->ids_count; first += RECORD_IDS_PER_CELL) {
        union record cell;
        take_kind(device, in, RECORD_IDS, &cell);
        must(cell.ids.count <= head->ids_count - first);
        memcpy(device->ids + first, cell.ids.ids, cell.ids.count * sizeof device->ids[0]);
    }
}

static void run_step(struct fake_device *device, struct ring_reader *in,
                     const struct record_step *head)
{
    must(head->step > device->step);
    device->step = head->step;
    device->row_count = head->row_count;
    device->token_count = head->token_count;
    take_rows(device, in, head);
    for (uint32_t i = 0; i < head->row_count; i++) {
        write_row(device, &device->rows[i]);
    }
    for (uint32_t i = 0; i < head->row_count; i++) {
        read_row(device, &device->rows[i]);
        sample_row(device, &device->rows[i]);
    }
    for (uint32_t i = 0; i < head->row_count; i++) {
        score_row(device, &device->rows[i]);
    }
    add_cell(device, RECORD_DONE)->done = (struct record_done){.head = head_of(device, RECORD_DONE),
                                                               .step = device->step,
                                                               .result_count = device->result_count,
                                                               .logprob_count = device->pair_count,
                                                               .score_count = device->score_count};
}

int fake_device_take(struct fake_device *device, struct ring_reader *in)
{
    union record cell;
    forget_step(device);
    for (;;) {
        const int code = ring_take(in, &cell);
        if (code) {
            must(code == -EAGAIN);
            ring_release(in);
            return code;
        }
        must(record_check_request(&cell, &device->bounds) == 0);
        if (cell.head.kind == RECORD_STEP) {
            run_step(device, in, &cell.step);
            ring_release(in);
            return 0;
        }
        if (cell.head.kind == RECORD_COPY) {
            copy_pages(device, &cell.copy);
        } else {
            must(slots_apply(&device->slots, &cell) == 0);
        }
    }
}

void fake_device_answer(struct fake_device *device, uint64_t compute_us, struct ring_writer *out)
{
    union record *last = &device->answer[device->answer_count - 1];
    if (last->head.kind == RECORD_DONE) { /* Or it was spoiled. */
        last->done.compute_us = compute_us;
    }
    for (uint32_t i = 0; i < device->answer_count; i++) {
        must(ring_push(out, &device->answer[i]) == 0);
    }
    ring_publish(out);
    forget_step(device);
}

void fake_device_spoil(struct fake_device *device, uint64_t bits)
{
    union record *cell = &device->answer[bits % device->answer_count];
    if (cell->head.kind == RECORD_RESULT || cell->head.kind == RECORD_SCORE) {
        uint32_t *const wrong[] = {&cell->result.slot, &cell->result.generation,
                                   &cell->result.position, &cell->result.logprob_first};
        const uint32_t more = 1 + (uint32_t)(bits >> 32) % 3;
        *wrong[bits / 65536 % 4] += device->pair_count + more;
    } else if (cell->head.kind == RECORD_DONE) {
        cell->done.step += 1 + (bits >> 32) % 3;
    } else {
        cell->head.kind = 0;
    }
}

void fake_device_stall(struct fake_device *device, uint32_t late, struct ring_writer *out)
{
    const union record cell = {
        .done = {.head = head_of(device, RECORD_DONE), .step = device->step, .late = late}};
    union record stalled = cell;
    stalled.head.flags = RECORD_DONE_STALLED;
    must(ring_push(out, &stalled) == 0);
    ring_publish(out);
    forget_step(device);
}
