/*
 * slots.c - see slots.h. Called by the step on the worker's main thread; the tables live in the
 * worker's arena. Invariant: an open slot's page_count never exceeds pages_max, and computed never
 * exceeds the tokens those pages hold.
 */
#include "workers/slots.h"

#include <errno.h>
#include <string.h>

size_t slots_bytes(uint32_t count, uint32_t pages_max)
{
    const size_t slack = 256; /* Alignment of the arrays. */
    const size_t adjust =
        RECORD_BIASES_MAX * sizeof(struct record_bias) + LIMIT_ALLOWED_IDS_MAX * sizeof(uint32_t);
    return count * (sizeof(struct slot) + sizeof(uint32_t) * (size_t)pages_max + adjust) + slack;
}

int slots_open(struct slots *slots, struct arena *arena, uint32_t count, uint32_t pages_max,
               uint32_t page_tokens)
{
    struct slot *slot = arena_alloc(arena, count, sizeof *slot);
    uint32_t *pages = arena_alloc(arena, (size_t)count * pages_max, sizeof *pages);
    struct record_bias *biases =
        arena_alloc(arena, (size_t)count * RECORD_BIASES_MAX, sizeof *biases);
    uint32_t *allowed = arena_alloc(arena, (size_t)count * LIMIT_ALLOWED_IDS_MAX, sizeof *allowed);
    if (!slot || !pages || !biases || !allowed) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < count; i++) {
        slot[i].pages = pages + (size_t)i * pages_max;
        slot[i].sampling.adjust.biases = biases + (size_t)i * RECORD_BIASES_MAX;
        slot[i].sampling.adjust.allowed = allowed + (size_t)i * LIMIT_ALLOWED_IDS_MAX;
    }
    *slots = (struct slots){
        .slot = slot, .count = count, .pages_max = pages_max, .page_tokens = page_tokens};
    return 0;
}

/* A slot of which nothing is left but its memory. */
static struct slot empty_slot(const struct slot *slot)
{
    const struct adjust *adjust = &slot->sampling.adjust;
    return (struct slot){
        .pages = slot->pages,
        .sampling.adjust = {.biases = adjust->biases, .allowed = adjust->allowed},
    };
}

void slots_reset(struct slots *slots)
{
    for (uint32_t i = 0; i < slots->count; i++) {
        slots->slot[i] = empty_slot(&slots->slot[i]);
    }
}

static int open_slot(struct slots *slots, const struct record_open *open)
{
    struct slot *slot = &slots->slot[open->slot];
    if (slot->open) {
        return -EBADMSG;
    }
    *slot = empty_slot(slot);
    slot->open = true;
    slot->generation = open->generation;
    slot->stop_ids_due = open->stop_id_count;
    slot->adjust_due = open->adjusts != 0;
    slot->step = UINT64_MAX;
    struct sample_params *sampling = &slot->sampling;
    sampling->seed = open->seed;
    sampling->temperature = open->temperature;
    sampling->top_p = open->top_p;
    sampling->min_p = open->min_p;
    sampling->top_k = open->top_k;
    sampling->top_logprobs = open->top_logprobs;
    sampling->logprobs = open->logprobs != 0;
    sampling->min_position = open->min_position;
    sampling->score_top = open->score_top;
    return 0;
}

static int add_stop_ids(struct slots *slots, const struct record_stop_ids *record)
{
    struct slot *slot = &slots->slot[record->slot];
    struct sample_params *sampling = &slot->sampling;
    if (!slot->open || record->count > slot->stop_ids_due ||
        record->count > SAMPLE_STOP_IDS_MAX - sampling->stop_id_count) {
        return -EBADMSG;
    }
    memcpy(sampling->stop_ids + sampling->stop_id_count, record->ids,
           record->count * sizeof record->ids[0]);
    sampling->stop_id_count += record->count;
    slot->stop_ids_due -= record->count;
    return 0;
}

static int set_adjust(struct slots *slots, const struct record_adjust *record)
{
    struct slot *slot = &slots->slot[record->slot];
    struct adjust *adjust = &slot->sampling.adjust;
    if (!slot->open || slot->generation != record->generation || !slot->adjust_due) {
        return -EBADMSG;
    }
    slot->adjust_due = false;
    slot->biases_due = record->bias_count;
    slot->allowed_due = record->allowed_count;
    adjust->active = true;
    adjust->prompt_tokens = record->prompt_tokens;
    adjust->repetition = record->repetition;
    adjust->presence = record->presence;
    adjust->frequency = record->frequency;
    return 0;
}

/* What is due was bounded by record_check_request(). */
static int add_biases(struct slots *slots, const struct record_biases *record)
{
    struct slot *slot = &slots->slot[record->slot];
    struct adjust *adjust = &slot->sampling.adjust;
    if (!slot->open || record->count > slot->biases_due) {
        return -EBADMSG;
    }
    memcpy(adjust->biases + adjust->bias_count, record->pairs,
           record->count * sizeof record->pairs[0]);
    adjust->bias_count += record->count;
    slot->biases_due -= record->count;
    return 0;
}

static int add_allowed(struct slots *slots, const struct record_stop_ids *record)
{
    struct slot *slot = &slots->slot[record->slot];
    struct adjust *adjust = &slot->sampling.adjust;
    if (!slot->open || record->count > slot->allowed_due) {
        return -EBADMSG;
    }
    memcpy(adjust->allowed + adjust->allowed_count, record->ids,
           record->count * sizeof record->ids[0]);
    adjust->allowed_count += record->count;
    slot->allowed_due -= record->count;
    return 0;
}

static int add_pages(struct slots *slots, const struct record_pages *record)
{
    struct slot *slot = &slots->slot[record->slot];
    if (!slot->open || slot->generation != record->generation ||
        record->index != slot->page_count || record->count > slots->pages_max - slot->page_count) {
        return -EBADMSG;
    }
    memcpy(slot->pages + slot->page_count, record->pages, record->count * sizeof record->pages[0]);
    slot->page_count += record->count;
    return 0;
}

static int close_slot(struct slots *slots, const struct record_close *record)
{
    struct slot *slot = &slots->slot[record->slot];
    if (!slot->open || slot->generation != record->generation) {
        return -EBADMSG;
    }
    slot->open = false;
    return 0;
}

int slots_apply(struct slots *slots, const union record *record)
{
    switch (record->head.kind) {
    case RECORD_OPEN:
        return open_slot(slots, &record->open);
    case RECORD_STOP_IDS:
        return add_stop_ids(slots, &record->stop_ids);
    case RECORD_ADJUST:
        return set_adjust(slots, &record->adjust);
    case RECORD_BIASES:
        return add_biases(slots, &record->biases);
    case RECORD_ALLOWED:
        return add_allowed(slots, &record->stop_ids);
    case RECORD_PAGES:
        return add_pages(slots, &record->pages);
    case RECORD_CLOSE:
        return close_slot(slots, &record->close);
    default:
        return -EBADMSG;
    }
}

struct slot *slots_row(struct slots *slots, const struct record_row *row, uint64_t step)
{
    struct slot *slot = &slots->slot[row->slot];
    const uint64_t end = (uint64_t)row->position + row->tokens;
    const bool skips = (row->head.flags & RECORD_ROW_SKIPS) != 0;
    const bool follows =
        skips ? row->position > slot->computed && !slot->sampled : row->position == slot->computed;
    const bool continues =
        slot->open && slot->generation == row->generation && follows && slot->step != step;
    const bool complete = slot->stop_ids_due == 0 && !slot->adjust_due && slot->biases_due == 0 &&
                          slot->allowed_due == 0 &&
                          end <= (uint64_t)slot->page_count * slots->page_tokens;
    const bool has_token = row->source == RECORD_SOURCE_LISTED || slot->sampled;
    return continues && complete && has_token ? slot : NULL;
}
