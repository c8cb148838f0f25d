/* prefix_test.c - the index of pages by what stands before them and what is in them. */
#include "kv/prefix.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { PAGES = 8, PAGE_TOKENS = 4 };

static const uint32_t text[] = {7, 8, 9, 10, 11, 12, 13, 14};

struct bench {
    struct arena arena;
    struct prefix prefix;
};

static struct prefix *open_bench(struct bench *bench)
{
    const struct hash_key salt = {{1, 2}};
    assert_int_equal(arena_open(&bench->arena, prefix_bytes(PAGES, PAGE_TOKENS)), 0);
    assert_int_equal(prefix_open(&bench->prefix, &bench->arena, PAGES, PAGE_TOKENS, &salt), 0);
    return &bench->prefix;
}

static void finds_by_parent_and_ids(void **state)
{
    (void)state;
    struct bench bench;
    struct prefix *prefix = open_bench(&bench);
    const struct hash_key second = prefix_key(prefix, &prefix->salt, text);
    uint32_t common;
    prefix_add(prefix, &prefix->salt, 3, text, 4, 0);
    prefix_add(prefix, &second, 5, text + 4, 4, 0);
    assert_int_equal(prefix_find(prefix, &prefix->salt, text, 4, &common), 3);
    assert_int_equal(common, 4);
    assert_int_equal(prefix_find(prefix, &second, text + 4, 4, &common), 5);
    assert_int_equal(common, 4);
    assert_int_equal(prefix_find(prefix, &prefix->salt, text + 4, 4, &common), PREFIX_NONE);
    assert_int_equal(common, 0);
    arena_close(&bench.arena);
}

static void finds_the_longest_beginning(void **state)
{
    (void)state;
    struct bench bench;
    struct prefix *prefix = open_bench(&bench);
    const uint32_t other[] = {7, 8, 1, 1};
    const uint32_t wanted[] = {7, 8, 9, 99};
    uint32_t common;
    prefix_add(prefix, &prefix->salt, 0, text, 4, 0);
    prefix_add(prefix, &prefix->salt, 1, other, 4, 0);
    prefix_add(prefix, &prefix->salt, 2, text, 2, 0); /* Known in part. */
    assert_int_equal(prefix_find(prefix, &prefix->salt, wanted, 4, &common), 0);
    assert_int_equal(common, 3);
    assert_int_equal(prefix_find(prefix, &prefix->salt, wanted, 2, &common), 0);
    assert_int_equal(common, 2); /* Among equals the one listed first. */
    arena_close(&bench.arena);
}

static void another_salt_is_another_world(void **state)
{
    (void)state;
    struct bench bench;
    struct prefix *prefix = open_bench(&bench);
    const struct hash_key salt = {{1, 3}};
    const struct hash_key mine = prefix_key(prefix, &prefix->salt, text);
    const struct hash_key other = prefix_key(prefix, &salt, text);
    assert_memory_not_equal(&mine, &other, sizeof mine);
    arena_close(&bench.arena);
}

static void written_stops_at_what_is_known(void **state)
{
    (void)state;
    struct bench bench;
    struct prefix *prefix = open_bench(&bench);
    prefix_add(prefix, &prefix->salt, 6, text, 3, 9);
    prefix_written(prefix, 6, 2);
    assert_int_equal(prefix->node[6].written, 2);
    prefix_written(prefix, 6, 4);
    assert_int_equal(prefix->node[6].written, 3);
    prefix_written(prefix, 6, 1);
    assert_int_equal(prefix->node[6].written, 3);
    assert_int_equal(prefix->node[6].writer, 9);
    arena_close(&bench.arena);
}

/* All in one bucket chain at one time or another: PAGES buckets, twice as many additions. */
static void removed_pages_are_not_found(void **state)
{
    (void)state;
    struct bench bench;
    struct prefix *prefix = open_bench(&bench);
    uint32_t ids[PAGE_TOKENS] = {0};
    uint32_t common;
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t page = 0; page < PAGES; page++) {
            ids[0] = page + 1;
            prefix_add(prefix, &prefix->salt, page, ids, PAGE_TOKENS, 0);
        }
        for (uint32_t i = 0; i < PAGES; i++) {
            const uint32_t page = (i * 3 + round) % PAGES;
            ids[0] = page + 1;
            assert_int_equal(prefix_find(prefix, &prefix->salt, ids, 1, &common), page);
            prefix_remove(prefix, page);
            assert_int_equal(prefix_find(prefix, &prefix->salt, ids, 1, &common), PREFIX_NONE);
            prefix_remove(prefix, page); /* Not listed: nothing happens. */
        }
    }
    arena_close(&bench.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_by_parent_and_ids),
        cmocka_unit_test(finds_the_longest_beginning),
        cmocka_unit_test(another_salt_is_another_world),
        cmocka_unit_test(written_stops_at_what_is_known),
        cmocka_unit_test(removed_pages_are_not_found),
    };
    return cmocka_run_group_tests_name("prefix", tests, NULL, NULL);
}
