/*
 * attend_work_test.c - the work lists of paged attention: what they cover, what bounds them, and in
 * which order they come. Invariant: whatever the bounds, every row that is listed is listed whole.
 */
#include "kernels/cuda/attend_work.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/prng.h"

enum { SEQUENCES = 40, ITEMS = 600, BLOCKS = 400, SLOTS = 500, ROUNDS = 200 };

struct lists {
    struct attend_work work;
    struct attend_item items[ITEMS];
    struct attend_merge merges[SLOTS / 2];
    struct attend_block blocks[BLOCKS];
};

static const struct attend_shape PLAIN = {
    .heads = 32, .kv_heads = 8, .head_dim = 128, .ctas = 264, .dtype = KERN_BF16};

static struct lists *lists_new(void)
{
    struct lists *lists = calloc(1, sizeof *lists);
    assert_non_null(lists);
    lists->work = (struct attend_work){.items = lists->items,
                                       .merges = lists->merges,
                                       .blocks = lists->blocks,
                                       .items_max = ITEMS,
                                       .merges_max = SLOTS / 2,
                                       .blocks_max = BLOCKS,
                                       .slots_max = SLOTS};
    return lists;
}

static uint32_t between(uint64_t seed, uint64_t *next, uint32_t least, uint32_t most)
{
    return least + (uint32_t)(prng_bits(seed, (*next)++, 0) % (most - least + 1));
}

/* A batch of single rows and of chunks. */
static uint32_t draw(uint64_t seed, struct attend_sequence *sequences, uint32_t *window)
{
    uint64_t next = 0;
    const uint32_t count = between(seed, &next, 0, SEQUENCES);
    const uint32_t longest = between(seed, &next, 1, 3) * 1700;
    *window = between(seed, &next, 0, 1) * between(seed, &next, 1, 3000);
    for (uint32_t i = 0; i < count; i++) {
        sequences[i] = (struct attend_sequence){
            .row_count = between(seed, &next, 0, 2) ? 1 : between(seed, &next, 1, 200),
            .position = between(seed, &next, 0, longest)};
    }
    return count;
}

static uint32_t first_seen(const struct attend_shape *shape, uint32_t position)
{
    return shape->window > 0 && position >= shape->window ? position - shape->window + 1 : 0;
}

/* The items of a row come to the positions it sees; the parts of one are splits in slot order. */
static void expect_row(const struct lists *lists, const struct attend_shape *shape, uint32_t index,
                       uint32_t position)
{
    const struct attend_merge *merge = NULL;
    uint32_t items = 0;
    uint64_t covered = 0;
    for (uint32_t i = 0; i < lists->work.counts.merges; i++) {
        merge = lists->merges[i].sequence == index ? &lists->merges[i] : merge;
    }
    for (uint32_t i = 0; i < lists->work.counts.items; i++) {
        const struct attend_item *item = &lists->items[i];
        if (item->sequence != index) {
            continue;
        }
        const uint32_t first = first_seen(shape, position);
        uint32_t begin = first;
        uint32_t end = position + 1;
        if (merge) {
            const uint32_t split = first / ATTEND_SPLIT + item->slot - merge->slot;
            assert_in_range(item->slot, merge->slot, merge->slot + merge->count - 1);
            begin = begin > split * ATTEND_SPLIT ? begin : split * ATTEND_SPLIT;
            end = end < (split + 1) * ATTEND_SPLIT ? end : (split + 1) * ATTEND_SPLIT;
        } else {
            assert_int_equal(item->slot, (uint32_t)ATTEND_SLOT_NONE);
        }
        assert_int_equal(item->first, begin);
        assert_int_equal(item->end, end);
        items++;
        covered += end - begin;
    }
    assert_int_equal(items, merge ? merge->count : 1);
    assert_int_equal(covered, position + 1 - first_seen(shape, position));
}

static void expect_blocks(const struct lists *lists, const struct attend_shape *shape,
                          uint32_t index, uint32_t rows)
{
    const uint32_t step = attend_block_rows(shape);
    uint32_t found = 0;
    for (uint32_t i = 0; i < lists->work.counts.blocks; i++) {
        if (lists->blocks[i].sequence == index) {
            assert_int_equal(lists->blocks[i].row % step, 0);
            assert_true(lists->blocks[i].row < rows * shape->heads / shape->kv_heads);
            found++;
        }
    }
    assert_int_equal(found, (rows * shape->heads / shape->kv_heads + step - 1) / step);
}

static void test_covers(void **state)
{
    struct lists *lists = lists_new();
    (void)state;
    for (uint64_t seed = 0; seed < ROUNDS; seed++) {
        struct attend_sequence sequences[SEQUENCES];
        struct attend_shape shape = PLAIN;
        shape.heads = 8 * (1 + (uint32_t)seed % 7);
        shape.dtype = seed % 3 ? KERN_BF16 : KERN_F32;
        shape.ctas = 1 + (uint32_t)seed % 300;
        lists->work.slots_max = seed % 4 ? SLOTS : (uint32_t)seed % 11;
        const uint32_t count = draw(seed, sequences, &shape.window);
        lists->work.blocks_max = BLOCKS;
        if (shape.dtype == KERN_F32) { /* Small blocks: keep the chunks within the list. */
            shape.heads = 8;
        }
        const int error = attend_work_build(&lists->work, &shape, sequences, count);
        if (error) {
            assert_int_equal(error, -ENOSPC);
            continue;
        }
        uint32_t items = 0;
        uint32_t blocks = 0;
        for (uint32_t i = 0; i < count; i++) {
            if (sequences[i].row_count == 1) {
                expect_row(lists, &shape, i, sequences[i].position);
                items++;
            } else {
                expect_blocks(lists, &shape, i, sequences[i].row_count);
                blocks++;
            }
        }
        assert_true(lists->work.counts.items >= items && lists->work.counts.blocks >= blocks);
    }
    free(lists);
}

/* No slot has two owners, and none lies past the last. */
static void test_slots(void **state)
{
    struct lists *lists = lists_new();
    struct attend_sequence sequences[SEQUENCES];
    (void)state;
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        sequences[i] = (struct attend_sequence){.row_count = 1, .position = 4000 + i};
    }
    lists->work.slots_max = 21; /* Two rows of eight splits, and not quite a third. */
    assert_int_equal(attend_work_build(&lists->work, &PLAIN, sequences, SEQUENCES), 0);
    assert_int_equal(lists->work.counts.merges, 2);
    assert_int_equal(lists->work.counts.items, SEQUENCES - 2 + 16);
    bool taken[21] = {false};
    for (uint32_t i = 0; i < lists->work.counts.items; i++) {
        const uint32_t slot = lists->items[i].slot;
        if (slot != (uint32_t)ATTEND_SLOT_NONE) {
            assert_true(slot < 21);
            assert_false(taken[slot]);
            taken[slot] = true;
        }
    }
    free(lists);
}

/* A batch that fills the device without it is not shared out; one row alone is. */
static void test_shares_when_it_pays(void **state)
{
    struct lists *lists = lists_new();
    struct attend_sequence sequences[SEQUENCES];
    struct attend_shape shape = PLAIN;
    (void)state;
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        sequences[i] = (struct attend_sequence){.row_count = 1, .position = 2047};
    }
    shape.ctas = 8;
    assert_int_equal(attend_work_build(&lists->work, &shape, sequences, SEQUENCES), 0);
    assert_int_equal(lists->work.counts.items, SEQUENCES);
    assert_int_equal(lists->work.counts.merges, 0);
    shape.ctas = 264;
    assert_int_equal(attend_work_build(&lists->work, &shape, sequences, 1), 0);
    assert_int_equal(lists->work.counts.items, 4);
    assert_int_equal(lists->work.counts.merges, 1);
    assert_int_equal(lists->merges[0].count, 4);
    free(lists);
}

/* Longest first, and so CTAs that take units in turn have like loads. */
static void test_balances(void **state)
{
    struct lists *lists = lists_new();
    (void)state;
    for (uint64_t seed = 0; seed < ROUNDS; seed++) {
        struct attend_sequence sequences[SEQUENCES];
        struct attend_shape shape = PLAIN;
        const uint32_t count = draw(seed, sequences, &shape.window);
        if (attend_work_build(&lists->work, &shape, sequences, count)) {
            continue;
        }
        uint64_t loads[7] = {0};
        uint64_t sum = 0;
        uint64_t longest = 0;
        for (uint32_t i = 0; i < lists->work.counts.items; i++) {
            const uint32_t length = lists->items[i].end - lists->items[i].first;
            loads[i % 7] += length;
            sum += length;
            longest = length > longest ? length : longest;
            /* Within a class the order is the batch's: 1/16 apart at most. */
            assert_true(i == 0 ||
                        length <=
                            (lists->items[i - 1].end - lists->items[i - 1].first) * 17 / 16 + 1);
        }
        for (uint32_t i = 0; i < 7; i++) {
            for (uint32_t j = 0; j < 7; j++) {
                assert_true(loads[i] <= loads[j] + longest + sum / 7 / 16 + 1);
            }
        }
    }
    free(lists);
}

/* A piece of a prompt is a block, be it one token: which kernel takes a row does not depend on
 * where a batch was cut. */
static void test_prompts(void **state)
{
    struct lists *lists = lists_new();
    struct attend_shape shape = PLAIN;
    const struct attend_sequence sequences[] = {{.row_count = 1, .position = 3000},
                                                {.row_count = 9}};
    (void)state;
    shape.prompts = true;
    assert_int_equal(attend_work_build(&lists->work, &shape, sequences, 2), 0);
    assert_int_equal(lists->work.counts.items, 0);
    assert_int_equal(lists->work.counts.merges, 0);
    assert_int_equal(lists->work.counts.blocks, 2);
    assert_int_equal(lists->blocks[0].sequence, 0); /* The longer look back. */
    assert_true(attend_blocks_max(&shape, 10, 2) >= 2);
    free(lists);
}

/* A list that is too short is said, and leaves nothing to walk. */
static void test_bounds(void **state)
{
    struct lists *lists = lists_new();
    const struct attend_sequence sequences[] = {
        {.row_count = 1, .position = 3000}, {.row_count = 100}, {.row_count = 1, .position = 10}};
    (void)state;
    assert_int_equal(attend_work_build(&lists->work, &PLAIN, sequences, 3), 0);
    const struct attend_counts counts = lists->work.counts;
    assert_int_equal(counts.items, 7);
    assert_int_equal(counts.merges, 1);
    assert_int_equal(counts.blocks, 4); /* 100 tokens of 4 heads in blocks of 128. */
    assert_true(counts.blocks <= attend_blocks_max(&PLAIN, 102, 3));
    for (uint32_t i = 0; i < 3; i++) {
        lists->work.items_max = counts.items - (i == 0);
        lists->work.merges_max = counts.merges - (i == 1);
        lists->work.blocks_max = counts.blocks - (i == 2);
        assert_int_equal(attend_work_build(&lists->work, &PLAIN, sequences, 3), -ENOSPC);
        assert_int_equal(lists->work.counts.items, 0);
        assert_int_equal(lists->work.counts.merges, 0);
        assert_int_equal(lists->work.counts.blocks, 0);
    }
    free(lists);
}

/* The bounds that attend_work.h calls enough are: no batch within them fails. */
static void test_bounds_enough(void **state)
{
    struct lists *lists = lists_new();
    (void)state;
    for (uint64_t seed = 0; seed < ROUNDS; seed++) {
        struct attend_sequence sequences[SEQUENCES];
        struct attend_shape shape = PLAIN;
        uint32_t singles = 0;
        uint32_t tokens = 0;
        const uint32_t count = draw(seed, sequences, &shape.window);
        for (uint32_t i = 0; i < count; i++) {
            singles += sequences[i].row_count == 1;
            tokens += sequences[i].row_count;
        }
        lists->work.slots_max = (uint32_t)seed;
        lists->work.items_max = singles + lists->work.slots_max;
        lists->work.merges_max = lists->work.slots_max / 2;
        lists->work.blocks_max = (uint32_t)attend_blocks_max(&shape, tokens, count);
        assert_true(lists->work.blocks_max <= BLOCKS);
        assert_int_equal(attend_work_build(&lists->work, &shape, sequences, count), 0);
    }
    free(lists);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_covers),   cmocka_unit_test(test_slots),
        cmocka_unit_test(test_balances), cmocka_unit_test(test_shares_when_it_pays),
        cmocka_unit_test(test_bounds),   cmocka_unit_test(test_bounds_enough),
        cmocka_unit_test(test_prompts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
