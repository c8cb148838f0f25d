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
    const size_t slack = 128; /* Alignment of the two arrays. */
    return count * (sizeof(struct slot) + sizeof(uint32_t) * (size_t)pages_max) + slack;
}

int slots_open(struct slots *slots, struct arena *arena, uint32_t count, uint32_t pages_max,
               uint32_t page_tokens)
{
    struct slot *slot = arena_alloc(arena, count, sizeof *slot);
    uint32_t *pages = arena_alloc(arena, (size_t)count * pages_max, sizeof *pages);
    if (!slot || !pages) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < count; i++) {
        slot[i].pages = pages + (size_t)i * pages_max;
    }
    *slots = (struct slots){
        .slot = slot, .count = count, .pages_max = pages_max, .page_tokens = page_tokens};
    return 0;
}

void slots_reset(struct slots *slots)
{
    for (uint32_t i = 0; i < slots->count; i++) {
        slots->slot[i] = (struct slot){.pages = slots->slot[i].pages};
    }
}

static int open_slot(struct slots *slots, const struct record_open *open)
{
    struct slot *slot = &slots->slot[open->slot];
    if (slot->open) {
        return -EBADMSG;
    }
    *slot = (struct slot){
        .open = true,
        .generation = open->generation,
        .pages = slot->pages,
        .stop_ids_due = open->stop_id_count,
        .step = UINT64_MAX,
        .sampling = {.seed = open->seed,
                     .temperature = open->temperature,
                     .top_p = open->top_p,
                     .min_p = open->min_p,
                     .top_k = open->top_k,
                     .top_logprobs = open->top_logprobs,
                     .logprobs = open->logprobs != 0,
                     .min_position = open->min_position},
    };
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
    const bool complete =
        slot->stop_ids_due == 0 && end <= (uint64_t)slot->page_count * slots->page_tokens;
    const bool has_token = row->source == RECORD_SOURCE_LISTED || slot->sampled;
    return continues && complete && has_token ? slot : NULL;
}
