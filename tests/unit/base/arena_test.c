/* arena_test.c - alignment, zeroing, exhaustion and overflow of the start-up arena. */
#include "base/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void allocates_aligned_zeroed_memory(void **state)
{
    (void)state;
    struct arena arena;
    assert_int_equal(arena_open(&arena, 4096), 0);
    uint8_t *first = arena_alloc(&arena, 3, 5);
    uint8_t *second = arena_alloc(&arena, 1, 1);
    assert_non_null(first);
    assert_int_equal((uintptr_t)first % 64, 0);
    assert_ptr_equal(second, first + 64);
    for (int i = 0; i < 15; i++) {
        assert_int_equal(first[i], 0);
    }
    arena_close(&arena);
}

static void refuses_what_does_not_fit(void **state)
{
    (void)state;
    struct arena arena;
    assert_int_equal(arena_open(&arena, 4096), 0);
    assert_null(arena_alloc(&arena, SIZE_MAX, 2));
    assert_null(arena_alloc(&arena, SIZE_MAX, 1));
    assert_null(arena_alloc(&arena, 4097, 1));
    assert_non_null(arena_alloc(&arena, 4096, 1));
    assert_null(arena_alloc(&arena, 1, 1));
    arena_close(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocates_aligned_zeroed_memory),
        cmocka_unit_test(refuses_what_does_not_fit),
    };
    return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
