/*
 * device.c - see device.h. Used by the core's loop thread; owns the link and the death watch. What
 * the worker wrote is copied out of the ring, checked cell by cell, then against the step in
 * flight. Invariant: results are handed out only when the whole step has come and fits what was
 * sent.
 */
#include "agent/device.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

enum {
    DEVICE_PAIRS_A_ROW = 1 + LIMIT_TOP_LOGPROBS_MAX,
    DEVICE_STEP_CELLS_MAX = LIMIT_SLOTS_MAX /* CLOSE */ + SCHED_OPEN_CELLS_MAX +
                            SCHED_PAGE_CELLS_MAX + LIMIT_SLOTS_MAX / RECORD_COPIES_PER_CELL + 1 +
                            1 /* STEP */ + LIMIT_STEP_ROWS_MAX +
                            LIMIT_STEP_TOKENS_MAX / RECORD_IDS_PER_CELL + 1,
};

static_assert(DEVICE_STEP_CELLS_MAX * FLIGHT_STEPS_MAX <= RING_CELLS,
              "all steps in flight fit the ring");

size_t device_bytes(uint32_t slots_max)
{
    const size_t answers = (size_t)slots_max + LIMIT_STEP_SCORES_MAX;
    return answers *
               (sizeof(struct record_result) + DEVICE_PAIRS_A_ROW * sizeof(struct record_logprob)) +
           3 * (size_t)64;
}

int device_open(struct device *device, struct arena *arena, const struct record_bounds *bounds,
                const struct device_options *options)
{
    const uint32_t slots_max = options->slots_max;
    const uint32_t pairs_max = (slots_max + LIMIT_STEP_SCORES_MAX) * DEVICE_PAIRS_A_ROW;
    *device = (struct device){
        .link = {.socket = -1, .bell = -1},
        .offer_fd = -1,
        .watch = options->watch,
        .plans = options->plans,
        .bounds = *bounds,
        .pairs_max = pairs_max,
        .results = arena_alloc(arena, slots_max, sizeof(struct record_result)),
        .scores = arena_alloc(arena, LIMIT_STEP_SCORES_MAX, sizeof(struct record_result)),
        .pairs = arena_alloc(arena, pairs_max, sizeof(struct record_logprob)),
    };
    return device->results && device->scores && device->pairs ? 0 : -ENOMEM;
}

void device_close(struct device *device)
{
    device_fence(device);
}

void device_fence(struct device *device)
{
    if (device->state != DEVICE_ABSENT) {
        death_watch_set(device->watch, device->index, NULL);
        link_core_fence(&device->link);
        link_close(&device->link);
        device->link = (struct link){.socket = -1, .bell = -1};
    }
    if (device->offer_fd >= 0) {
        (void)close(device->offer_fd);
        device->offer_fd = -1;
    }
    device->state = DEVICE_ABSENT;
    device->result_count = 0;
    device->score_count = 0;
    device->pair_count = 0;
}

int device_link(struct device *device, int socket, const struct control_message *message)
{
    device_fence(device);
    device->index = message->index;
    device->bounds.epoch = message->epoch;
    device->bounds.group = message->group;
    const int code =
        link_core_begin(&device->link, socket, message->epoch, message->group, message->rank);
    if (code) {
        device->link = (struct link){.socket = -1, .bell = -1};
        return code;
    }
    device->state = DEVICE_JOINING;
    return 0;
}

int device_join(struct device *device, bool alone)
{
    const int code = link_core_finish(&device->link);
    if (code) {
        return code == -EAGAIN ? 0 : code;
    }
    death_watch_set(device->watch, device->index, device->link.life);
    device->state = alone ? DEVICE_LOADING : DEVICE_PAIRING;
    return 0;
}

int device_take_offer(struct device *device)
{
    must(device->state == DEVICE_PAIRING && device->offer_fd < 0);
    const int code = sibling_recv(device->link.socket, &device->offer, &device->offer_fd);
    return code == -EAGAIN ? 0 : code;
}

uint32_t device_progress(const struct device *device)
{
    return device->state >= DEVICE_PAIRING ? link_peer_progress(&device->link) : 0;
}

bool device_died(const struct device *device)
{
    return device->state >= DEVICE_PAIRING && death_seen(device->link.life);
}

static struct record_head head_of(const struct device *device, enum record_kind kind)
{
    return (struct record_head){.kind = (uint8_t)kind,
                                .group = (uint16_t)device->bounds.group,
                                .epoch = device->bounds.epoch};
}

static uint32_t cells(uint32_t count, uint32_t per_cell)
{
    return (count + per_cell - 1) / per_cell;
}

uint32_t device_open_cells(const struct request *request)
{
    const struct request_params *params = &request->params;
    return 2 + cells(params->stop_id_count, RECORD_IDS_PER_CELL) +
           cells(params->bias_count, RECORD_BIASES_PER_CELL) +
           cells(params->allowed_count, RECORD_IDS_PER_CELL);
}

/* Token ids of a slot, as STOP_IDS or ALLOWED cells. */
static int push_slot_ids(struct device *device, enum record_kind kind, uint32_t slot,
                         const uint32_t *ids, uint32_t count)
{
    int code = 0;
    for (uint32_t i = 0; i < count && !code; i += RECORD_IDS_PER_CELL) {
        union record cell = {.stop_ids = {.head = head_of(device, kind), .slot = slot}};
        for (uint32_t j = i; j < count && j < i + RECORD_IDS_PER_CELL; j++) {
            cell.stop_ids.ids[cell.stop_ids.count++] = ids[j];
        }
        code = ring_push(&device->link.out, &cell);
    }
    return code;
}

static int push_adjust(struct device *device, const struct sched_slot *slot,
                       const struct request *request)
{
    const struct request_params *params = &request->params;
    const union record adjust = {.adjust = {
                                     .head = head_of(device, RECORD_ADJUST),
                                     .slot = slot->slot,
                                     .generation = slot->generation,
                                     .prompt_tokens = request->prompt_tokens,
                                     .repetition = (float)params->repetition_penalty,
                                     .presence = (float)params->presence_penalty,
                                     .frequency = (float)params->frequency_penalty,
                                     .bias_count = params->bias_count,
                                     .allowed_count = params->allowed_count,
                                 }};
    int code = ring_push(&device->link.out, &adjust);
    for (uint32_t i = 0; i < params->bias_count && !code; i += RECORD_BIASES_PER_CELL) {
        union record cell = {
            .biases = {.head = head_of(device, RECORD_BIASES), .slot = slot->slot}};
        struct record_biases *biases = &cell.biases;
        for (uint32_t j = i; j < params->bias_count && biases->count < RECORD_BIASES_PER_CELL;
             j++) {
            biases->pairs[biases->count++] =
                (struct record_bias){request->biases[j].id, request->biases[j].bias};
        }
        code = ring_push(&device->link.out, &cell);
    }
    return code ? code
                : push_slot_ids(device, RECORD_ALLOWED, slot->slot, request->allowed,
                                params->allowed_count);
}

static int push_open(struct device *device, const struct sched_slot *slot,
                     const struct request *request)
{
    const struct request_params *params = &request->params;
    const uint32_t masked = params->min_tokens > 0 ? params->stop_id_count : 0;
    const union record open = {.open = {
                                   .head = head_of(device, RECORD_OPEN),
                                   .slot = slot->slot,
                                   .generation = slot->generation,
                                   .seed = params->seed,
                                   .temperature = (float)params->temperature,
                                   .top_p = (float)params->top_p,
                                   .min_p = (float)params->min_p,
                                   .top_k = params->top_k,
                                   .top_logprobs = params->top_logprobs,
                                   .logprobs = params->logprobs,
                                   .min_position = request->prompt_tokens + params->min_tokens,
                                   .stop_id_count = masked,
                                   .adjusts = request_adjusts(request),
                                   .score_top = params->prompt_logprobs,
                               }};
    int code = ring_push(&device->link.out, &open);
    code =
        code ? code : push_slot_ids(device, RECORD_STOP_IDS, slot->slot, params->stop_ids, masked);
    return code || !request_adjusts(request) ? code : push_adjust(device, slot, request);
}

/* Pages of a row's request that the worker does not know yet. */
static int push_pages(struct device *device, const struct sched_entry *entry,
                      const struct sched_row *row)
{
    uint32_t told = row->pages_told;
    int code = 0;
    while (told < entry->page_count && !code) {
        union record cell = {.pages = {.head = head_of(device, RECORD_PAGES),
                                       .slot = row->slot,
                                       .generation = row->generation,
                                       .index = told}};
        while (told < entry->page_count && cell.pages.count < RECORD_PAGES_PER_CELL) {
            cell.pages.pages[cell.pages.count++] = entry->pages[told++];
        }
        code = ring_push(&device->link.out, &cell);
    }
    return code;
}

static int push_slots(struct device *device, const struct sched *sched,
                      const struct sched_step *step, const struct requests *requests)
{
    int code = 0;
    for (uint32_t i = 0; i < step->close_count && !code; i++) {
        const union record close = {.close = {.head = head_of(device, RECORD_CLOSE),
                                              .slot = step->closes[i].slot,
                                              .generation = step->closes[i].generation}};
        code = ring_push(&device->link.out, &close);
    }
    for (uint32_t i = 0; i < step->open_count && !code; i++) {
        code = push_open(device, &step->opens[i], &requests->request[step->opens[i].request]);
    }
    for (uint32_t i = 0; i < step->row_count && !code; i++) {
        code = push_pages(device, &sched->entry[step->rows[i].request], &step->rows[i]);
    }
    return code;
}

static int push_copies(struct device *device, const struct sched_step *step)
{
    int code = 0;
    for (uint32_t i = 0; i < step->copy_count && !code; i += RECORD_COPIES_PER_CELL) {
        union record cell = {.copy = {.head = head_of(device, RECORD_COPY)}};
        struct record_copy *copy = &cell.copy;
        for (uint32_t j = i; j < step->copy_count && copy->count < RECORD_COPIES_PER_CELL; j++) {
            copy->sources[copy->count] = step->copies[j].source;
            copy->targets[copy->count++] = step->copies[j].target;
        }
        code = ring_push(&device->link.out, &cell);
    }
    return code;
}

static uint32_t listed_ids(const struct sched_step *step)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < step->row_count; i++) {
        count += step->rows[i].from_last ? 0 : step->rows[i].tokens;
    }
    return count;
}

static int push_rows(struct device *device, const struct sched_step *step,
                     const struct requests *requests)
{
    uint32_t ids = 0;
    int code = 0;
    for (uint32_t i = 0; i < step->row_count && !code; i++) {
        const struct sched_row *row = &step->rows[i];
        union record cell = {
            .row = {.head = head_of(device, RECORD_ROW),
                    .slot = row->slot,
                    .generation = row->generation,
                    .position = row->position,
                    .tokens = row->tokens,
                    .source = row->from_last ? RECORD_SOURCE_LAST : RECORD_SOURCE_LISTED,
                    .ids_first = row->from_last ? 0 : ids,
                    .score_first = row->score_first,
                    .score_count = row->score_count}};
        if (row->score_count > 0) { /* A successor within the prompt: there is one. */
            cell.row.next_id = requests->request[row->request]
                                   .ids[row->position + row->score_first + row->score_count];
        }
        cell.head.flags =
            (uint8_t)((row->sample ? RECORD_ROW_SAMPLE : 0) | (row->skips ? RECORD_ROW_SKIPS : 0));
        ids += row->from_last ? 0 : row->tokens;
        code = ring_push(&device->link.out, &cell);
    }
    return code;
}

/* The rows' ids out of the token log, packed across rows. */
static int push_ids(struct device *device, const struct sched_step *step,
                    const struct requests *requests)
{
    union record cell = {.ids = {.head = head_of(device, RECORD_IDS)}};
    int code = 0;
    for (uint32_t i = 0; i < step->row_count; i++) {
        const struct sched_row *row = &step->rows[i];
        const uint32_t *ids = requests->request[row->request].ids + row->position;
        for (uint32_t t = 0; t < row->tokens && !row->from_last && !code; t++) {
            cell.ids.ids[cell.ids.count++] = ids[t];
            if (cell.ids.count == RECORD_IDS_PER_CELL) {
                code = ring_push(&device->link.out, &cell);
                cell = (union record){.ids = {.head = head_of(device, RECORD_IDS)}};
            }
        }
    }
    return cell.ids.count && !code ? ring_push(&device->link.out, &cell) : code;
}

int device_send(struct device *device, const struct device_order *order)
{
    const struct sched_step *step = order->step;
    const struct requests *requests = order->requests;
    const union record head = {.step = {.head = head_of(device, RECORD_STEP),
                                        .step = step->number,
                                        .plan_hash = order->plan->hash,
                                        .plan_id = order->plan->id,
                                        .row_count = step->row_count,
                                        .token_count = step->token_count,
                                        .ids_count = listed_ids(step)}};
    int code = push_slots(device, order->sched, step, requests);
    code = code ? code : push_copies(device, step);
    code = code ? code : ring_push(&device->link.out, &head);
    code = code ? code : push_rows(device, step, requests);
    code = code ? code : push_ids(device, step, requests);
    if (!code) {
        ring_publish(&device->link.out);
    }
    return code;
}

void device_offer_plans(struct device *device)
{
    char why[PLANKEY_ERROR_BYTES_MAX];
    device->planned = plans_fit(device->plans, &device->key, why);
    if (device->planned) {
        memcpy(link_own_board(&device->link), &device->plans->table, sizeof device->plans->table);
    } else if (device->plans->table.count > 0) {
        log_warning("worker %u runs no plan: %s", device->index, why);
    }
}

static int take_ready(struct device *device, const struct record_ready *ready)
{
    memcpy(&device->key, link_peer_board(&device->link), sizeof device->key);
    if (device->state != DEVICE_LOADING || ready->vocab != device->bounds.vocab ||
        ready->device_pages != device->bounds.pages || ready->sharing > 2 ||
        !plankey_sound(&device->key)) {
        return -EBADMSG;
    }
    device->sharing = ready->sharing;
    device_offer_plans(device);
    log_info("worker %u ready on %s: weights %llu MB, KV pool %llu MB, loaded in %llu ms",
             device->index, device->key.device, (unsigned long long)(ready->weight_bytes >> 20),
             (unsigned long long)(ready->kv_bytes >> 20),
             (unsigned long long)(ready->load_us / 1000));
    device->state = DEVICE_READY;
    return 0;
}

static int take_logprobs(struct device *device, const struct record_logprobs *cell)
{
    if (cell->count > device->pairs_max - device->pair_count) {
        return -EBADMSG;
    }
    memcpy(device->pairs + device->pair_count, cell->pairs, cell->count * sizeof cell->pairs[0]);
    device->pair_count += cell->count;
    return 0;
}

/* A result belongs to the next row of the step that samples: rank 0 answers in row order, the
 * others say that they are done. */
static int check_results(const struct device *device, const struct sched_step *step)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < step->row_count && device->link.rank == 0; i++) {
        const struct sched_row *row = &step->rows[i];
        const struct record_result *result = &device->results[at];
        if (!row->sample) {
            continue;
        }
        if (at++ == device->result_count || result->slot != row->slot ||
            result->generation != row->generation ||
            result->position != row->position + row->tokens ||
            result->logprob_first > device->pair_count ||
            result->logprob_count > device->pair_count - result->logprob_first) {
            return -EBADMSG;
        }
    }
    return at == device->result_count ? 0 : -EBADMSG;
}

/* Likewise the tokens that rows want judged. */
static int check_scores(const struct device *device, const struct sched_step *step)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < step->row_count && device->link.rank == 0; i++) {
        const struct sched_row *row = &step->rows[i];
        const uint32_t first = row->position + row->score_first + 1;
        for (uint32_t t = 0; t < row->score_count; t++, at++) {
            const struct record_result *score = &device->scores[at];
            if (at == device->score_count || score->slot != row->slot ||
                score->generation != row->generation || score->position != first + t ||
                score->logprob_first > device->pair_count ||
                score->logprob_count > device->pair_count - score->logprob_first) {
                return -EBADMSG;
            }
        }
    }
    return at == device->score_count ? 0 : -EBADMSG;
}

static void begin_answer(struct device *device, uint64_t number)
{
    device->reading = number;
    device->result_count = 0;
    device->score_count = 0;
    device->pair_count = 0;
}

static int take_done(struct device *device, const struct sched_step *step,
                     const struct record_done *done)
{
    if (done->step == step->number && (done->head.flags & RECORD_DONE_STALLED)) {
        device->late = done->late;
        return -ETIMEDOUT;
    }
    if (done->step != step->number || check_results(device, step) || check_scores(device, step)) {
        return -EBADMSG;
    }
    device->answered = step->number;
    device->compute_us = done->compute_us;
    device->wait_us = done->wait_us;
    return 0;
}

/* One checked cell of the answer to a step. */
static int take_cell(struct device *device, const struct sched_step *step, const union record *cell)
{
    switch ((enum record_kind)cell->head.kind) {
    case RECORD_RESULT:
        if (device->result_count == step->row_count || cell->result.step != step->number) {
            return -EBADMSG;
        }
        device->results[device->result_count++] = cell->result;
        return 0;
    case RECORD_SCORE:
        if (device->score_count == step->score_count || cell->result.step != step->number) {
            return -EBADMSG;
        }
        device->scores[device->score_count++] = cell->result;
        return 0;
    case RECORD_LOGPROBS:
        return take_logprobs(device, &cell->logprobs);
    case RECORD_DONE:
        return take_done(device, step, &cell->done);
    default:
        return -EBADMSG;
    }
}

int device_collect(struct device *device, const struct sched_step *step)
{
    uint64_t rings;
    int code = 0;
    if (device->state < DEVICE_LOADING) {
        return 0;
    }
    ssize_t got = read(device->link.bell, &rings, sizeof rings);
    (void)got; /* EAGAIN: we came for another reason. */
    if (step && device->reading != step->number) {
        begin_answer(device, step->number);
    }
    while (!code && !(step && device->answered == step->number)) {
        union record cell;
        code = ring_take(&device->link.in, &cell);
        code = code ? code : record_check_reply(&cell, &device->bounds);
        if (code == -EAGAIN || code == -ESTALE) {
            return 0;
        }
        if (!code && cell.head.kind == RECORD_READY) {
            code = take_ready(device, &cell.ready);
        } else if (!code) {
            code = step ? take_cell(device, step, &cell) : -EBADMSG;
        }
        ring_release(&device->link.in);
    }
    return code;
}
