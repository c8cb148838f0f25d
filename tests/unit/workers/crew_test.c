/*
 * crew_test.c - every unit runs exactly once, on a legal thread, whatever the cut; jobs that follow
 * each other at once or after a sleep; lanes that wait for each other and their bounds of threads;
 * more threads than cores.
 */
#include "workers/crew.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

enum { UNITS_MAX = 1000, GRAINS = 4, THREADS_MAX = 5 };

struct marks {
    _Atomic uint32_t runs[UNITS_MAX];
    _Atomic uint32_t bad_threads;
    uint32_t threads;
};

static void mark(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    struct marks *marks = context;
    for (uint32_t i = first; i < first + count; i++) {
        (void)atomic_fetch_add(&marks->runs[i], 1);
    }
    if (thread >= marks->threads) {
        (void)atomic_fetch_add(&marks->bad_threads, 1);
    }
}

static void run_and_check(struct crew *crew, struct marks *marks, uint32_t units, uint32_t grain)
{
    for (uint32_t i = 0; i < UNITS_MAX; i++) {
        atomic_store(&marks->runs[i], 0);
    }
    const struct crew_job job = {.run = mark, .context = marks, .units = units, .grain = grain};
    crew_run(crew, &job);
    for (uint32_t i = 0; i < UNITS_MAX; i++) {
        assert_int_equal(atomic_load(&marks->runs[i]), i < units ? 1 : 0);
    }
    assert_int_equal(atomic_load(&marks->bad_threads), 0);
}

static void every_unit_runs_once(void **state)
{
    (void)state;
    static const uint32_t grains[GRAINS] = {1, 3, 64, 2000};
    for (uint32_t threads = 1; threads <= THREADS_MAX; threads++) {
        struct crew *crew;
        struct marks marks = {.threads = threads};
        assert_int_equal(crew_open(&crew, threads), 0);
        assert_int_equal(crew_threads(crew), threads);
        for (uint32_t i = 0; i < GRAINS; i++) {
            run_and_check(crew, &marks, 0, grains[i]);
            run_and_check(crew, &marks, 1, grains[i]);
            run_and_check(crew, &marks, 65, grains[i]);
            run_and_check(crew, &marks, UNITS_MAX, grains[i]);
        }
        crew_close(crew);
    }
}

/* Writes of one job are read, without atomics, by other threads in the next. */
struct chain {
    uint64_t from[UNITS_MAX];
    uint64_t to[UNITS_MAX];
};

static void add_neighbour(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    (void)thread;
    struct chain *chain = context;
    for (uint32_t i = first; i < first + count; i++) {
        chain->to[i] = chain->from[i] + chain->from[(i + 1) % UNITS_MAX];
    }
}

static void copy_back(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    (void)thread;
    struct chain *chain = context;
    for (uint32_t i = first; i < first + count; i++) {
        chain->from[i] = chain->to[i];
    }
}

static void a_job_sees_the_one_before(void **state)
{
    (void)state;
    static struct chain chain;
    static struct chain alone;
    for (uint32_t i = 0; i < UNITS_MAX; i++) {
        chain.from[i] = alone.from[i] = i;
    }
    struct crew *crew;
    assert_int_equal(crew_open(&crew, 3), 0);
    for (uint32_t round = 0; round < 300; round++) {
        const struct crew_job add = {
            .run = add_neighbour, .context = &chain, .units = UNITS_MAX, .grain = 1 + round % 50};
        const struct crew_job copy = {
            .run = copy_back, .context = &chain, .units = UNITS_MAX, .grain = 1 + round % 7};
        crew_run(crew, &add);
        crew_run(crew, &copy);
        add_neighbour(&alone, 0, UNITS_MAX, 0);
        copy_back(&alone, 0, UNITS_MAX, 0);
    }
    crew_close(crew);
    assert_memory_equal(chain.from, alone.from, sizeof chain.from);
}

static void wakes_after_a_sleep(void **state)
{
    (void)state;
    struct crew *crew;
    struct marks marks = {.threads = 3};
    assert_int_equal(crew_open(&crew, 3), 0);
    for (int i = 0; i < 5; i++) {
        const struct timespec pause = {.tv_nsec = 2000000}; /* Well past the spin. */
        (void)nanosleep(&pause, NULL);
        run_and_check(crew, &marks, 500, 1);
    }
    crew_close(crew);
}

/* Lanes of JOBS jobs each; lane l's job j waits for job j of lane l - 1. */
enum { LANES = 3, JOBS = 200, LANE_UNITS = 7 };

struct lane_marks {
    struct crew *crew;
    struct lane_of {
        struct lane_marks *all;
        uint32_t index;
        _Atomic uint32_t units; /* Of all jobs so far. */
        _Atomic uint32_t inside;
        uint32_t given; /* Jobs. */
        _Atomic uint32_t ended;
    } lane[LANES];
    uint32_t threads; /* At once in a lane; 0: any. */
    _Atomic uint32_t wrong;
};

static void mark_lane(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    (void)first;
    (void)thread;
    struct lane_of *lane = context;
    struct lane_marks *all = lane->all;
    const uint32_t inside = atomic_fetch_add(&lane->inside, 1) + 1;
    const bool too_many = all->threads > 0 && inside > all->threads;
    const bool early = lane->index > 0 &&
                       atomic_load(&all->lane[lane->index - 1].units) < lane->given * LANE_UNITS;
    (void)atomic_fetch_add(&all->wrong, too_many || early);
    (void)atomic_fetch_add(&lane->units, count);
    (void)atomic_fetch_sub(&lane->inside, 1);
}

static enum crew_next next_of_lane(void *context, uint32_t index, struct crew_job *job)
{
    struct lane_marks *all = context;
    struct lane_of *lane = &all->lane[index];
    if (lane->given > atomic_load(&lane->ended)) {
        (void)atomic_fetch_add(&all->wrong, atomic_load(&lane->units) != lane->given * LANE_UNITS);
        atomic_store(&lane->ended, lane->given);
        crew_notice(all->crew);
    }
    if (lane->given == JOBS) {
        return CREW_END;
    }
    if (index > 0 && atomic_load(&all->lane[index - 1].ended) == lane->given) {
        return CREW_WAIT;
    }
    lane->given++;
    *job = (struct crew_job){.run = mark_lane,
                             .context = lane,
                             .units = LANE_UNITS,
                             .grain = 1 + lane->given % LANE_UNITS,
                             .threads = all->threads};
    return CREW_JOB;
}

static void lanes_wait_for_each_other(void **state)
{
    (void)state;
    for (uint32_t threads = 1; threads <= THREADS_MAX; threads++) {
        for (uint32_t most = 0; most < 3; most++) {
            struct lane_marks marks = {.threads = most};
            assert_int_equal(crew_open(&marks.crew, threads), 0);
            for (uint32_t i = 0; i < LANES; i++) {
                marks.lane[i].all = &marks;
                marks.lane[i].index = i;
            }
            crew_run_lanes(marks.crew, &(struct crew_lanes){next_of_lane, &marks, LANES});
            for (uint32_t i = 0; i < LANES; i++) {
                assert_int_equal(atomic_load(&marks.lane[i].units), JOBS * LANE_UNITS);
            }
            assert_int_equal(atomic_load(&marks.wrong), 0);
            crew_close(marks.crew);
        }
    }
}

static void gives_the_affinity_back(void **state)
{
    (void)state;
    cpu_set_t before;
    cpu_set_t after;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    const uint32_t cores = (uint32_t)CPU_COUNT(&before);
    struct crew *crew;
    assert_int_equal(crew_open(&crew, cores), 0);
    assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
    assert_int_equal(CPU_COUNT(&after), 1);
    crew_close(crew);
    assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
    assert_true(CPU_EQUAL(&before, &after));
}

/* One thread on a machine of several cores: another process's one would meet it on the first. */
static void pins_no_part_of_the_cores(void **state)
{
    (void)state;
    cpu_set_t before;
    cpu_set_t during;
    struct crew *crew;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    if (CPU_COUNT(&before) == 1) {
        skip();
    }
    assert_int_equal(crew_open(&crew, 1), 0);
    assert_int_equal(sched_getaffinity(0, sizeof during, &during), 0);
    assert_true(CPU_EQUAL(&before, &during));
    crew_close(crew);
}

static void refuses_senseless_counts(void **state)
{
    (void)state;
    struct crew *crew = NULL;
    assert_int_equal(crew_open(&crew, 0), -EINVAL);
    assert_int_equal(crew_open(&crew, UINT32_MAX), -EINVAL);
    assert_null(crew);
    crew_close(crew);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_unit_runs_once),      cmocka_unit_test(a_job_sees_the_one_before),
        cmocka_unit_test(lanes_wait_for_each_other), cmocka_unit_test(wakes_after_a_sleep),
        cmocka_unit_test(gives_the_affinity_back),   cmocka_unit_test(pins_no_part_of_the_cores),
        cmocka_unit_test(refuses_senseless_counts),
    };
    return cmocka_run_group_tests_name("crew", tests, NULL, NULL);
}
