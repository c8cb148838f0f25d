/*
 * search_test.c - problems whose best pipeline is known, what a schedule's check refuses, and what
 * its reader does. All operations of a layer are there, most of them as short as can be.
 */
#include "plan/search.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { UNITS = 4, TRIES = 200000 };

static const double short_us = 1;

/* 4 units, 2 decode and 2 prefill; each operation takes a + b * units. O2 costs too much to take.
 */
static struct problem make_problem(double compute_us, double memory_us, double net_us)
{
    static const struct problem_dep deps[] = {
        {PROBLEM_KQV, PROBLEM_AR_D, 1, false},  {PROBLEM_GEMV, PROBLEM_KQV, 0, false},
        {PROBLEM_PF, PROBLEM_KQV, 0, false},    {PROBLEM_AG_ATT, PROBLEM_GEMV, 0, false},
        {PROBLEM_AG_ATT, PROBLEM_PF, 0, false}, {PROBLEM_O, PROBLEM_AG_ATT, 0, false},
        {PROBLEM_AG_O, PROBLEM_O, 0, false},    {PROBLEM_O2, PROBLEM_GEMV, 0, false},
        {PROBLEM_O2, PROBLEM_PF, 0, false},     {PROBLEM_AR_O, PROBLEM_O2, 0, false},
        {PROBLEM_UG, PROBLEM_AG_O, 0, false},   {PROBLEM_UG, PROBLEM_AR_O, 0, false},
        {PROBLEM_D, PROBLEM_UG, 0, false},      {PROBLEM_AR_D, PROBLEM_D, 0, false},
    };
    static const enum problem_stream streams[PROBLEM_OPERATIONS] = {
        [PROBLEM_GEMV] = PROBLEM_MEMORY, [PROBLEM_PF] = PROBLEM_MEMORY,
        [PROBLEM_AG_ATT] = PROBLEM_NET,  [PROBLEM_AG_O] = PROBLEM_NET,
        [PROBLEM_AR_O] = PROBLEM_NET,    [PROBLEM_AR_D] = PROBLEM_NET,
    };
    struct problem problem = {.grid = 128, .units = UNITS};
    memcpy(problem.dep, deps, sizeof deps);
    problem.dep_count = sizeof deps / sizeof deps[0];
    for (uint32_t i = 0; i < PROBLEM_OPERATIONS; i++) {
        problem.operation[i].end = UNITS;
        problem.operation[i].pieces_max = 2;
        problem.operation[i].stream = streams[i];
        const double unit_us = i == PROBLEM_UG     ? compute_us
                               : i == PROBLEM_GEMV ? memory_us
                               : i == PROBLEM_AR_D ? net_us
                                                   : short_us;
        for (uint32_t units = 1; units <= UNITS; units++) {
            problem.operation[i].duration_us[units] = unit_us * units;
        }
    }
    problem.operation[PROBLEM_GEMV].end = UNITS / 2;
    problem.operation[PROBLEM_PF].first = UNITS / 2;
    return problem;
}

/* The best interval that the search finds, checked by times alone. */
static double search_best(const struct problem *problem)
{
    char error[SCHEDULE_ERROR_BYTES_MAX];
    struct search *search = calloc(1, sizeof *search);
    assert_non_null(search);
    assert_int_equal(search_open(search, problem, 5), 0);
    for (uint32_t i = 0; i < 20; i++) {
        search_run(search, 50 * pow(0.01, i / 20.0), TRIES / 20);
    }
    const double us = schedule_interval(&search->best, problem, &search->graph, (double)INFINITY);
    assert_true(fabs(us - search->best_us) < 1e-6);
    if (schedule_check(&search->best, problem, us, search->graph.start_us, error)) {
        fail_msg("%s", error);
    }
    search_close(search);
    free(search);
    return us;
}

/* 400 of up and gate, 4 each of KQV, O and D on the compute stream, nothing else worth a wait. */
static void work_bounds_the_interval(void **state)
{
    (void)state;
    const struct problem problem = make_problem(100, 1, 1);
    assert_true(fabs(search_best(&problem) - 412) < 1e-6);
    bool by_row;
    assert_true(fabs(schedule_sequential(&problem, &by_row) - (400 + 4 + 2 + 2 + 8 + 4 + 4)) <
                1e-6);
}

/* Decode attention of 2 x 50 hides under up and gate of 4 x 60: compute stays busy. */
static void memory_hides_under_compute(void **state)
{
    (void)state;
    const struct problem problem = make_problem(60, 50, 1);
    const double us = search_best(&problem);
    assert_true(us >= 252 - 1e-6 && us <= 252 * 1.02);
    bool by_row;
    assert_true(schedule_sequential(&problem, &by_row) > 360);
}

/* With one piece an operation nothing of a layer can overlap: each needs the one before. */
static void one_piece_cannot_overlap(void **state)
{
    (void)state;
    struct problem problem = make_problem(50, 100, 20);
    for (uint32_t i = 0; i < PROBLEM_OPERATIONS; i++) {
        problem.operation[i].pieces_max = 1;
    }
    const double us = search_best(&problem);
    const double shorter_us = 2; /* Prefill attention beside decode attention: one stream. */
    bool by_row;
    assert_true(us >= schedule_sequential(&problem, &by_row) - shorter_us - 4 - 1e-6);
}

/* Both forms of O may be in pieces for a moment, while the cuts of one become the other's. */
static void many_pieces_have_room(void **state)
{
    (void)state;
    struct problem problem = make_problem(1, 1, 1);
    problem.units = PROBLEM_UNITS_MAX;
    for (uint32_t i = 0; i < PROBLEM_OPERATIONS; i++) {
        problem.operation[i].end = PROBLEM_UNITS_MAX;
        problem.operation[i].pieces_max = PROBLEM_PIECES_MAX;
        for (uint32_t units = 1; units <= PROBLEM_UNITS_MAX; units++) {
            problem.operation[i].duration_us[units] = 1e-3 * units; /* Any change is as good. */
        }
    }
    problem.operation[PROBLEM_GEMV].end = PROBLEM_UNITS_MAX / 2;
    problem.operation[PROBLEM_PF].first = PROBLEM_UNITS_MAX / 2;
    assert_true(search_best(&problem) > 0);
}

struct fixture {
    struct problem problem;
    struct search search;
    double interval_us;
};

static struct fixture *solved(void)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    fixture->problem = make_problem(60, 100, 10);
    assert_int_equal(search_open(&fixture->search, &fixture->problem, 1), 0);
    search_run(&fixture->search, 5, 20000);
    fixture->interval_us = schedule_interval(&fixture->search.best, &fixture->problem,
                                             &fixture->search.graph, (double)INFINITY);
    return fixture;
}

static int checked(const struct fixture *fixture, const struct schedule *schedule,
                   double interval_us, const double *start_us)
{
    char error[SCHEDULE_ERROR_BYTES_MAX];
    return schedule_check(schedule, &fixture->problem, interval_us, start_us, error);
}

/* Each nano moved, each cut changed, a shorter interval: the check sees it. */
static void check_refuses_what_is_broken(void **state)
{
    (void)state;
    struct fixture *fixture = solved();
    const double *start_us = fixture->search.graph.start_us;
    struct schedule broken = fixture->search.best;
    double moved_us[SCHEDULE_NANO_MAX];
    assert_int_equal(checked(fixture, &broken, fixture->interval_us, start_us), 0);
    assert_int_not_equal(checked(fixture, &broken, fixture->interval_us - 2, start_us), 0);
    for (uint32_t i = 0; i < broken.count; i++) {
        memcpy(moved_us, start_us, sizeof moved_us);
        moved_us[i] -= 10 * fixture->interval_us; /* Before all that it needs. */
        assert_int_not_equal(checked(fixture, &broken, fixture->interval_us, moved_us), 0);
        broken.nano[i].end++;
        assert_int_not_equal(checked(fixture, &broken, fixture->interval_us, start_us), 0);
        broken = fixture->search.best;
    }
    broken.count--;
    assert_int_not_equal(checked(fixture, &broken, fixture->interval_us, start_us), 0);
    search_close(&fixture->search);
    free(fixture);
}

static void one_seed_gives_one_answer(void **state)
{
    (void)state;
    struct fixture *first = solved();
    struct fixture *second = solved();
    assert_memory_equal(&first->search.best, &second->search.best, sizeof first->search.best);
    search_close(&first->search);
    search_close(&second->search);
    free(first);
    free(second);
}

static void sizes_that_tile_nothing_are_refused(void **state)
{
    (void)state;
    struct problem problem = make_problem(1, 1, 1);
    struct search *search = calloc(1, sizeof *search);
    assert_non_null(search);
    for (uint32_t units = 1; units <= UNITS; units++) {
        problem.operation[PROBLEM_UG].duration_us[units] = units == 3 ? 1 : 0;
    }
    assert_int_not_equal(search_open(search, &problem, 1), 0); /* 4 units in pieces of 3. */
    search_close(search);
    free(search);
}

static int read_text(const char *text, bool given_sizes, char error[PROBLEM_ERROR_BYTES_MAX])
{
    struct json_error reason;
    struct json *root = NULL;
    struct problem *problem = calloc(1, sizeof *problem);
    assert_non_null(problem);
    assert_int_equal(json_parse(text, strlen(text), &root, &reason), 0);
    const int code = problem_read(problem, root, given_sizes, error);
    json_free(root);
    free(problem);
    return code;
}

static void reader_names_what_is_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *word;
    } cases[] = {
        {"[]", "not a map"},
        {"{\"grid\":0}", "grid"},
        {"{\"grid\":128,\"batch\":100,\"decode\":[0,0],\"prefill\":[0,0]}", "batch"},
        {"{\"grid\":128,\"batch\":256,\"decode\":[0,512],\"prefill\":[0,0]}", "decode"},
        {"{\"grid\":128,\"batch\":256,\"decode\":[0,128],\"prefill\":[128,256]}", "KQV"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char error[PROBLEM_ERROR_BYTES_MAX] = "";
        assert_int_not_equal(read_text(cases[i].text, false, error), 0);
        if (!strstr(error, cases[i].word)) {
            fail_msg("%s: %s", cases[i].text, error);
        }
    }
    char error[PROBLEM_ERROR_BYTES_MAX] = "";
    assert_int_not_equal(read_text("{\"grid\":128,\"batch\":256}", true, error), 0);
    assert_non_null(strstr(error, "given_us"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(work_bounds_the_interval),
        cmocka_unit_test(memory_hides_under_compute),
        cmocka_unit_test(one_piece_cannot_overlap),
        cmocka_unit_test(many_pieces_have_room),
        cmocka_unit_test(check_refuses_what_is_broken),
        cmocka_unit_test(one_seed_gives_one_answer),
        cmocka_unit_test(sizes_that_tile_nothing_are_refused),
        cmocka_unit_test(reader_names_what_is_wrong),
    };
    return cmocka_run_group_tests_name("search", tests, NULL, NULL);
}
