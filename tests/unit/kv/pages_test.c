/*
 * pages_test.c - the two lifetimes of a page: its owners and the steps in flight. What misuse must
 * stop is run in a child process.
 */
#include "kv/pages.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { COUNT = 4 };

struct pool {
    struct arena arena;
    struct pages pages;
};

static int open_pool(void **state)
{
    static struct pool pool;
    if (arena_open(&pool.arena, 4096) || pages_open(&pool.pages, &pool.arena, COUNT)) {
        return -1;
    }
    *state = &pool;
    return 0;
}

static int close_pool(void **state)
{
    struct pool *pool = *state;
    arena_close(&pool->arena);
    return 0;
}

/* True when the call ends its process by must(). */
static bool dies(void (*call)(struct pages *pages), struct pages *pages)
{
    int status = 0;
    (void)fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        (void)signal(SIGABRT, SIG_DFL); /* cmocka's own handler would go on. */
        (void)close(STDERR_FILENO);
        call(pages);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

static void takes_all_or_nothing(void **state)
{
    struct pages *pages = &((struct pool *)*state)->pages;
    uint32_t taken[COUNT + 1] = {0};
    assert_int_equal(pages_take(pages, 3, taken), 0);
    assert_int_equal(pages_take(pages, 2, taken + 3), -EAGAIN);
    assert_int_equal(pages->free_count, 1);
    assert_int_equal(pages_take(pages, 1, taken + 3), 0);
    assert_int_equal(pages->free_count, 0);
    assert_int_equal(pages_take(pages, 1, taken + 4), -EAGAIN);
    assert_int_equal(pages_take(pages, 0, taken + 4), 0);
    uint32_t seen = 0;
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_true(taken[i] < COUNT);
        seen |= 1u << taken[i];
    }
    assert_int_equal(seen, (1u << COUNT) - 1);
    pages_verify(pages);
    for (uint32_t i = 0; i < COUNT; i++) {
        pages_drop(pages, taken[i]);
        pages_verify(pages);
    }
    assert_int_equal(pages->free_count, COUNT);
}

static void last_owner_frees(void **state)
{
    struct pages *pages = &((struct pool *)*state)->pages;
    uint32_t page;
    assert_int_equal(pages_take(pages, 1, &page), 0);
    pages_share(pages, page);
    pages_drop(pages, page);
    assert_int_equal(pages->free_count, COUNT - 1);
    assert_int_equal(pages->page[page].generation, 0);
    pages_verify(pages);
    pages_drop(pages, page);
    assert_int_equal(pages->free_count, COUNT);
    assert_int_equal(pages->page[page].generation, 1);
    pages_verify(pages);
}

static void step_in_flight_keeps_page(void **state)
{
    struct pages *pages = &((struct pool *)*state)->pages;
    uint32_t page[COUNT];
    assert_int_equal(pages_take(pages, COUNT, page), 0);
    pages_pin(pages, page[1]);
    pages_pin(pages, page[1]);
    pages_drop(pages, page[1]);
    pages_verify(pages);
    pages_unpin(pages, page[1]);
    assert_int_equal(pages_take(pages, 1, page), -EAGAIN);
    pages_unpin(pages, page[1]);
    assert_int_equal(pages->page[page[1]].generation, 1);
    pages_verify(pages);
    uint32_t again;
    assert_int_equal(pages_take(pages, 1, &again), 0);
    assert_int_equal(again, page[1]);
    pages_pin(pages, again);
    pages_unpin(pages, again); /* Its owner keeps it. */
    assert_int_equal(pages->free_count, 0);
    assert_int_equal(pages->page[again].generation, 1);
    pages_verify(pages);
}

static void empty_pool_has_nothing(void **state)
{
    (void)state;
    struct arena arena;
    struct pages pages;
    uint32_t page;
    assert_int_equal(arena_open(&arena, 4096), 0);
    assert_int_equal(pages_open(&pages, &arena, 0), 0);
    assert_int_equal(pages_take(&pages, 1, &page), -EAGAIN);
    pages_verify(&pages);
    assert_int_equal(pages_open(&pages, &arena, 4096), -ENOMEM);
    arena_close(&arena);
}

static void drop_twice(struct pages *pages)
{
    pages_drop(pages, 0);
    pages_drop(pages, 0);
}

static void drop_past_end(struct pages *pages)
{
    pages_drop(pages, COUNT);
}

static void share_free(struct pages *pages)
{
    pages_share(pages, 1);
}

static void pin_free(struct pages *pages)
{
    pages_pin(pages, 1);
}

static void unpin_unpinned(struct pages *pages)
{
    pages_unpin(pages, 0);
}

static void drop_once(struct pages *pages)
{
    pages_drop(pages, 0);
}

static void misuse_ends_the_process(void **state)
{
    struct pages *pages = &((struct pool *)*state)->pages;
    uint32_t page;
    assert_int_equal(pages_take(pages, 1, &page), 0);
    assert_int_equal(page, 0);
    assert_false(dies(drop_once, pages));
    assert_true(dies(drop_twice, pages));
    assert_true(dies(drop_past_end, pages));
    assert_true(dies(share_free, pages));
    assert_true(dies(pin_free, pages));
    assert_true(dies(unpin_unpinned, pages));
}

static void verify(struct pages *pages)
{
    pages_verify(pages);
}

static void verify_sees_damage(void **state)
{
    struct pages *pages = &((struct pool *)*state)->pages;
    uint32_t page;
    assert_int_equal(pages_take(pages, 1, &page), 0);
    assert_false(dies(verify, pages));
    struct page *free_page = &pages->page[pages->free_first];
    free_page->owners = 1;
    assert_true(dies(verify, pages));
    free_page->owners = 0;
    pages->page[page].owners = 0; /* Lost: neither owned nor listed. */
    assert_true(dies(verify, pages));
    pages->page[page].owners = 1;
    pages->free_count--;
    assert_true(dies(verify, pages));
    pages->free_count++;
    const uint32_t next = free_page->next_free;
    free_page->next_free = pages->free_first; /* A cycle. */
    assert_true(dies(verify, pages));
    free_page->next_free = next;
    assert_false(dies(verify, pages));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(takes_all_or_nothing, open_pool, close_pool),
        cmocka_unit_test_setup_teardown(last_owner_frees, open_pool, close_pool),
        cmocka_unit_test_setup_teardown(step_in_flight_keeps_page, open_pool, close_pool),
        cmocka_unit_test(empty_pool_has_nothing),
        cmocka_unit_test_setup_teardown(misuse_ends_the_process, open_pool, close_pool),
        cmocka_unit_test_setup_teardown(verify_sees_damage, open_pool, close_pool),
    };
    return cmocka_run_group_tests_name("pages", tests, NULL, NULL);
}
