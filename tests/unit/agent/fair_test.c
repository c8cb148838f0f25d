/*
 * fair_test.c - the queue: priorities within a tenant and what age makes of them, shares between
 * tenants, returns; and the two bounds on starvation over random loads.
 */
#include "agent/fair.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/prng.h"

enum { REQUESTS = 1024 };

struct bench {
    struct arena arena;
    struct fair fair;
    uint64_t arrivals;
    uint64_t draws;
};

static void open_bench(struct bench *bench)
{
    *bench = (struct bench){0};
    assert_int_equal(arena_open(&bench->arena, fair_bytes(REQUESTS)), 0);
    assert_int_equal(fair_open(&bench->fair, &bench->arena, REQUESTS), 0);
}

static uint32_t draw(struct bench *bench, uint32_t bound)
{
    return (uint32_t)(prng_bits(1, bench->draws++, 0) % bound);
}

static void join(struct bench *bench, uint32_t request, uint64_t tenant, int32_t priority)
{
    fair_join(&bench->fair, request, tenant, fair_order(bench->arrivals++, priority));
    fair_verify(&bench->fair);
}

/* The next one runs, and its tenant pays. */
static uint32_t next(struct bench *bench, uint64_t cost)
{
    const uint32_t request = fair_first(&bench->fair);
    assert_true(request != FAIR_NONE);
    fair_charge(&bench->fair, request, cost);
    fair_take(&bench->fair, request);
    fair_verify(&bench->fair);
    return request;
}

static void first_come_within_a_tenant(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench);
    join(&bench, 7, 0, 0);
    join(&bench, 3, 0, 0);
    join(&bench, 5, 0, 0);
    assert_int_equal(next(&bench, 1), 7);
    assert_int_equal(next(&bench, 1), 3);
    assert_int_equal(next(&bench, 1), 5);
    assert_int_equal(fair_first(&bench.fair), FAIR_NONE);
    arena_close(&bench.arena);
}

/* With every place known, a newcomer gets that of the tenant that was served last. */
static void a_newcomer_saves_nothing_up_either(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench);
    for (uint32_t i = 0; i < LIMIT_TENANTS_MAX; i++) {
        join(&bench, i, 1 + i, 0);
    }
    for (uint32_t i = 0; i < LIMIT_TENANTS_MAX; i++) {
        fair_leave(&bench.fair, next(&bench, 1000000 - i));
    }
    join(&bench, 100, 1000, 0);
    join(&bench, 101, 1000, 0);
    join(&bench, 102, 1, 0);
    assert_int_equal(next(&bench, 100), 100);
    assert_int_equal(next(&bench, 1), 102);
    arena_close(&bench.arena);
}

static void lower_priority_goes_first(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench);
    join(&bench, 0, 0, 0);
    join(&bench, 1, 0, 5);
    join(&bench, 2, 0, -3);
    join(&bench, 3, 0, 0);
    join(&bench, 4, 0, -3);
    const uint32_t expected[] = {2, 4, 0, 3, 1};
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(next(&bench, 1), expected[i]);
    }
    arena_close(&bench.arena);
}

static void order_tells_its_arrival(void **state)
{
    (void)state;
    for (int32_t priority = -LIMIT_PRIORITY_MAX; priority <= LIMIT_PRIORITY_MAX; priority += 25) {
        assert_int_equal(fair_arrival(fair_order(0, priority)), 0);
        assert_int_equal(fair_arrival(fair_order(1ull << 40, priority)), 1ull << 40);
    }
}

/* A level is worth so many arrivals, and not one more. */
static void age_makes_up_for_priority(void **state)
{
    (void)state;
    enum { LEVELS = 3, BOUND = LEVELS * FAIR_LEVEL_ARRIVALS };
    struct bench bench;
    open_bench(&bench);
    join(&bench, 0, 0, LEVELS);
    for (uint32_t i = 0; i < BOUND + 10; i++) {
        join(&bench, 1 + i, 0, 0);
    }
    for (uint32_t i = 0; i < BOUND; i++) {
        assert_int_equal(next(&bench, 1), 1 + i);
    }
    assert_int_equal(next(&bench, 1), 0);
    assert_int_equal(next(&bench, 1), 1 + BOUND);
    arena_close(&bench.arena);
}

static void a_flood_does_not_hold_others_up(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench);
    for (uint32_t i = 0; i < 100; i++) {
        join(&bench, i, 1, -100); /* Its own priorities are nobody else's matter. */
    }
    assert_int_equal(next(&bench, 10), 0);
    assert_int_equal(next(&bench, 10), 1);
    join(&bench, 200, 2, 100);
    join(&bench, 201, 2, 100);
    assert_int_equal(next(&bench, 10), 2); /* Equal charges: the older one. */
    assert_int_equal(next(&bench, 10), 200);
    assert_int_equal(next(&bench, 10), 3);
    assert_int_equal(next(&bench, 10), 201);
    arena_close(&bench.arena);
}

static void who_pays_more_waits_longer(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench);
    for (uint32_t i = 0; i < 40; i++) {
        join(&bench, i, i % 2, 0);
    }
    uint32_t had[2] = {0};
    for (uint32_t i = 0; i < 16; i++) { /* The even ones ask for three times as much. */
        const uint32_t tenant = fair_first(&bench.fair) % 2;
        (void)next(&bench, tenant == 0 ? 30 : 10);
        had[tenant]++;
    }
    assert_int_equal(had[0], 4);
    assert_int_equal(had[1], 12);
    arena_close(&bench.arena);
}

static void idling_saves_nothing_up(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench);
    join(&bench, 0, 2, 0);
    assert_int_equal(next(&bench, 5), 0);
    fair_leave(&bench.fair, 0);
    for (uint32_t i = 1; i < 30; i++) {
        join(&bench, i, 1, 0);
    }
    for (uint32_t i = 1; i < 20; i++) {
        assert_int_equal(next(&bench, 1000), i);
    }
    for (uint32_t i = 30; i < 40; i++) {
        join(&bench, i, 2, 0);
    }
    uint32_t had = 0;
    for (uint32_t i = 0; i < 10; i++) {
        had += next(&bench, 1000) >= 30;
    }
    assert_int_equal(had, 5);
    arena_close(&bench.arena);
}

static void who_has_run_goes_before_all(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench);
    join(&bench, 0, 1, 100);
    join(&bench, 1, 1, 100);
    assert_int_equal(next(&bench, 1000), 0);
    assert_int_equal(next(&bench, 1000), 1);
    join(&bench, 2, 2, -100);
    fair_return(&bench.fair, 1);
    fair_return(&bench.fair, 0);
    fair_verify(&bench.fair);
    assert_int_equal(next(&bench, 0), 0);
    assert_int_equal(next(&bench, 0), 1);
    assert_int_equal(next(&bench, 0), 2);
    arena_close(&bench.arena);
}

static void more_tenants_than_places(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench);
    for (uint32_t round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < 4 * LIMIT_TENANTS_MAX; i++) {
            join(&bench, i, 1000 + i, 0);
        }
        for (uint32_t i = 0; i < 4 * LIMIT_TENANTS_MAX; i++) {
            const uint32_t request = next(&bench, 1);
            fair_leave(&bench.fair, request);
        }
        assert_int_equal(fair_first(&bench.fair), FAIR_NONE);
    }
    arena_close(&bench.arena);
}

struct passed { /* What a waiting request has seen go by. */
    bool waits;
    uint64_t arrival;
    int32_t priority;
    uint32_t overtaken; /* By later ones of its tenant. */
};

/* Nobody is overtaken more often than its level allows, however urgent the others are. */
static void overtaking_is_bounded(void **state)
{
    (void)state;
    enum { TAKES = 20000, LEVELS = 4 };
    static struct passed passed[REQUESTS];
    struct bench bench;
    uint32_t most = 0;
    open_bench(&bench);
    for (uint32_t i = 0; i < REQUESTS; i++) {
        passed[i].waits = false;
    }
    for (uint32_t take = 0; take < TAKES; take++) {
        for (uint32_t i = draw(&bench, 3); i > 0 || bench.fair.waiting_count == 0; i -= i > 0) {
            const uint32_t request = draw(&bench, REQUESTS);
            if (passed[request].waits) {
                continue;
            }
            const bool urgent = draw(&bench, 10) > 0;
            const int32_t priority = urgent ? -LEVELS : (int32_t)draw(&bench, LEVELS + 1);
            passed[request] = (struct passed){true, bench.arrivals, priority, 0};
            join(&bench, request, 9, priority);
        }
        const uint32_t taken = next(&bench, 1);
        fair_leave(&bench.fair, taken);
        passed[taken].waits = false;
        for (uint32_t i = 0; i < REQUESTS; i++) {
            passed[i].overtaken += passed[i].waits && passed[i].arrival < passed[taken].arrival;
            const int32_t levels = passed[i].priority + LEVELS;
            most = passed[i].overtaken > most ? passed[i].overtaken : most;
            assert_true((int32_t)passed[i].overtaken <= levels * FAIR_LEVEL_ARRIVALS);
        }
    }
    assert_true(most > FAIR_LEVEL_ARRIVALS); /* The bound was put to the test. */
    arena_close(&bench.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_come_within_a_tenant),
        cmocka_unit_test(a_newcomer_saves_nothing_up_either),
        cmocka_unit_test(lower_priority_goes_first),
        cmocka_unit_test(order_tells_its_arrival),
        cmocka_unit_test(age_makes_up_for_priority),
        cmocka_unit_test(a_flood_does_not_hold_others_up),
        cmocka_unit_test(who_pays_more_waits_longer),
        cmocka_unit_test(idling_saves_nothing_up),
        cmocka_unit_test(who_has_run_goes_before_all),
        cmocka_unit_test(more_tenants_than_places),
        cmocka_unit_test(overtaking_is_bounded),
    };
    return cmocka_run_group_tests_name("fair", tests, NULL, NULL);
}
