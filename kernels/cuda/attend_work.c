/*
 * attend_work.c - see attend_work.h. Called by the engine of a device worker on its main thread,
 * once a step and nano-batch; owns nothing. Each list is walked twice: the first pass counts the
 * work of each length, the second places it, longest first and otherwise in the order of the batch.
 * Invariant: the items of a row cover the positions it sees exactly once.
 */
#include "kernels/cuda/attend_work.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

enum {
    STEPS = 16,                 /* Classes of length from one power of two to the next. */
    CLASSES = STEPS * (32 - 3), /* Of 32-bit lengths; those below STEPS have one each. */
    FAIRNESS = 8,               /* Items of a CTA's share that make the loads even enough. */
};

struct builder {
    struct attend_work *work;
    const struct attend_shape *shape;
    const struct attend_sequence *sequences;
    uint32_t count;
    uint32_t whole;       /* Longest row that is not shared out. */
    uint32_t at[CLASSES]; /* Where the next work of a class goes. */
};

/* The first position that the row at `position` sees. */
static uint32_t seen_from(const struct attend_shape *shape, uint32_t position)
{
    return shape->window > 0 && position >= shape->window ? position - shape->window + 1 : 0;
}

static uint32_t group_of(const struct attend_shape *shape)
{
    return shape->heads / shape->kv_heads;
}

uint32_t attend_block_rows(const struct attend_shape *shape)
{
    if (shape->dtype == KERN_F32) {
        return ATTEND_BLOCK_FLOATS;
    }
    return shape->head_dim <= ATTEND_BLOCK_WIDE ? ATTEND_BLOCK_ROWS : ATTEND_BLOCK_SMALL;
}

size_t attend_blocks_max(const struct attend_shape *shape, uint32_t tokens, uint32_t sequences)
{
    return (size_t)tokens * group_of(shape) / attend_block_rows(shape) + sequences;
}

size_t attend_slot_floats(const struct attend_shape *shape, uint32_t slots)
{
    return (size_t)slots * shape->heads * (shape->head_dim + 2);
}

/* The class of a length: its power of two and the STEPS part above it. Longer is greater. */
static uint32_t class_of(uint32_t length)
{
    uint32_t power = 0;
    while (length >> power >= 2 * STEPS) {
        power++;
    }
    return power * STEPS + (length >> power);
}

/* From counts of each class to where each begins, the longest first. */
static void place_classes(struct builder *builder)
{
    uint32_t sum = 0;
    for (uint32_t i = CLASSES; i-- > 0;) {
        const uint32_t count = builder->at[i];
        builder->at[i] = sum;
        sum += count;
    }
}

/* Splits of the positions [first, end). */
static uint32_t splits_of(uint32_t first, uint32_t end)
{
    return (end - 1) / ATTEND_SPLIT - first / ATTEND_SPLIT + 1;
}

/* Whether it is a row of one token, for items. */
static bool is_single(const struct builder *builder, const struct attend_sequence *sequence)
{
    return sequence->row_count == 1 && !builder->shape->prompts;
}

/* Rows longer than this are shared out: 1/FAIRNESS of what each CTA would have. */
static uint32_t whole_of(const struct builder *builder)
{
    const struct attend_shape *shape = builder->shape;
    uint64_t positions = 0;
    for (uint32_t i = 0; i < builder->count; i++) {
        const struct attend_sequence *sequence = &builder->sequences[i];
        if (is_single(builder, sequence)) {
            positions += sequence->position + 1 - seen_from(shape, sequence->position);
        }
    }
    const uint64_t units =
        (uint64_t)shape->kv_heads * ((group_of(shape) + ATTEND_UNIT_HEADS - 1) / ATTEND_UNIT_HEADS);
    const uint64_t whole = positions * units / shape->ctas / FAIRNESS;
    if (whole < ATTEND_SPLIT) {
        return ATTEND_SPLIT;
    }
    return whole < UINT32_MAX ? (uint32_t)whole : UINT32_MAX;
}

static void put_item(struct builder *builder, const struct attend_item *item, bool place)
{
    uint32_t *at = &builder->at[class_of(item->end - item->first)];
    if (place) {
        builder->work->items[*at] = *item;
    }
    ++*at;
    builder->work->counts.items++;
}

/* One pass over the rows of one token: counts their items, or places them and lists the merges. */
static void list_items(struct builder *builder, bool place)
{
    struct attend_work *work = builder->work;
    uint32_t slots = 0;
    work->counts = (struct attend_counts){0};
    for (uint32_t i = 0; i < builder->count; i++) {
        const struct attend_sequence *sequence = &builder->sequences[i];
        if (!is_single(builder, sequence)) {
            continue;
        }
        struct attend_item item = {i, seen_from(builder->shape, sequence->position),
                                   sequence->position + 1, (uint32_t)ATTEND_SLOT_NONE};
        const uint32_t end = item.end;
        const uint32_t splits = splits_of(item.first, end);
        if (splits == 1 || end - item.first <= builder->whole || splits > work->slots_max - slots) {
            put_item(builder, &item, place);
            continue;
        }
        if (place) {
            work->merges[work->counts.merges] = (struct attend_merge){i, slots, splits, 0};
        }
        work->counts.merges++;
        for (; item.first < end; item.first = item.end) {
            const uint32_t split_end = (item.first / ATTEND_SPLIT + 1) * ATTEND_SPLIT;
            item.end = split_end < end ? split_end : end;
            item.slot = slots++;
            put_item(builder, &item, place);
        }
    }
}

/* Last position of the query rows [row, row + rows) of a sequence, and how many it walks. */
static uint32_t block_length(const struct builder *builder, const struct attend_sequence *sequence,
                             uint32_t row)
{
    const uint32_t group = group_of(builder->shape);
    const uint32_t last = (row + attend_block_rows(builder->shape) - 1) / group;
    const uint32_t token = last < sequence->row_count ? last : sequence->row_count - 1;
    const uint32_t first = sequence->position + row / group;
    return sequence->position + token + 1 - seen_from(builder->shape, first);
}

static void list_blocks(struct builder *builder, bool place)
{
    struct attend_work *work = builder->work;
    work->counts.blocks = 0;
    for (uint32_t i = 0; i < builder->count; i++) {
        const struct attend_sequence *sequence = &builder->sequences[i];
        const uint32_t rows = sequence->row_count * group_of(builder->shape);
        const uint32_t step = attend_block_rows(builder->shape);
        for (uint32_t row = 0; !is_single(builder, sequence) && row < rows; row += step) {
            uint32_t *at = &builder->at[class_of(block_length(builder, sequence, row))];
            if (place) {
                work->blocks[*at] = (struct attend_block){i, row};
            }
            ++*at;
            work->counts.blocks++;
        }
    }
}

int attend_work_build(struct attend_work *work, const struct attend_shape *shape,
                      const struct attend_sequence *sequences, uint32_t count)
{
    struct builder builder = {.work = work, .shape = shape, .sequences = sequences, .count = count};
    must(shape->ctas > 0);
    builder.whole = whole_of(&builder);
    list_items(&builder, false);
    if (work->counts.items > work->items_max || work->counts.merges > work->merges_max) {
        work->counts = (struct attend_counts){0};
        return -ENOSPC;
    }
    place_classes(&builder);
    list_items(&builder, true);

    memset(builder.at, 0, sizeof(builder.at));
    list_blocks(&builder, false);
    if (work->counts.blocks > work->blocks_max) {
        work->counts = (struct attend_counts){0};
        return -ENOSPC;
    }
    place_classes(&builder);
    list_blocks(&builder, true);
    return 0;
}
