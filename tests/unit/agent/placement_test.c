/*
 * placement_test.c - requests over two groups: where they go, who takes over from whom, and on a
 * virtual clock with two fake workers of unequal speed, one of which dies again and again, that
 * every request gets each of its tokens once.
 */
#include "agent/placement.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/prng.h"

enum { REQUESTS = 24, SLOTS = 4, GROUPS = 2, CONTEXT = 32, TURNS_MAX = 20000 };

struct bench {
    struct arena arena;
    struct placement placement;
    struct sched_step step[GROUPS];
};

static struct placement *open_bench(struct bench *bench)
{
    const struct sched_options options = {
        .requests_max = REQUESTS,
        .slots_max = SLOTS,
        .tokens_max = 16,
        .page_tokens = 4,
        .page_count = 24,
        .context_max = CONTEXT,
    };
    *bench = (struct bench){0};
    const size_t bytes = placement_bytes(&options, GROUPS) + GROUPS * sched_step_bytes(SLOTS);
    assert_int_equal(arena_open(&bench->arena, bytes), 0);
    assert_int_equal(placement_open(&bench->placement, &bench->arena, &options, GROUPS), 0);
    for (uint32_t i = 0; i < GROUPS; i++) {
        assert_int_equal(sched_step_open(&bench->step[i], &bench->arena, SLOTS), 0);
    }
    return &bench->placement;
}

static void set_all_ready(struct placement *placement)
{
    for (uint32_t i = 0; i < GROUPS; i++) {
        placement_set_ready(placement, i);
    }
}

static void run_step(struct bench *bench, uint32_t group)
{
    assert_true(placement_form(&bench->placement, group, &bench->step[group]));
    sched_commit(&bench->placement.sched[group], &bench->step[group]);
    sched_verify(&bench->placement.sched[group]);
}

static void assert_live(const struct placement *placement, uint32_t group, uint32_t running,
                        uint32_t waiting)
{
    assert_int_equal(placement->sched[group].running_count, running);
    assert_int_equal(placement->sched[group].fair.waiting_count, waiting);
}

static void requests_go_to_the_group_with_fewer(void **state)
{
    (void)state;
    struct bench bench;
    struct placement *placement = open_bench(&bench);
    set_all_ready(placement);
    for (uint32_t i = 0; i < 4; i++) {
        placement_add(placement, i, SCHED_NONE, NULL, 3, NULL);
    }
    assert_live(placement, 0, 0, 2);
    assert_live(placement, 1, 0, 2);
    run_step(&bench, 0);
    placement_remove(placement, 0);
    placement_add(placement, 5, SCHED_NONE, NULL, 3, NULL);
    assert_ptr_equal(placement_sched(placement, 5), &placement->sched[0]);
    const struct placement_total total = placement_total(placement);
    assert_int_equal(total.running, 1);
    assert_int_equal(total.waiting, 3);
    assert_int_equal(total.waiting_tokens, 9);
    arena_close(&bench.arena);
}

static void equal_groups_are_told_apart_by_free_pages(void **state)
{
    (void)state;
    struct bench bench;
    struct placement *placement = open_bench(&bench);
    set_all_ready(placement);
    placement_add(placement, 0, SCHED_NONE, NULL, 15, NULL); /* Four pages of group 0. */
    placement_add(placement, 1, SCHED_NONE, NULL, 2, NULL);  /* One of group 1. */
    run_step(&bench, 0);
    run_step(&bench, 1);
    placement_add(placement, 2, SCHED_NONE, NULL, 2, NULL);
    assert_ptr_equal(placement_sched(placement, 2), &placement->sched[1]);
    arena_close(&bench.arena);
}

static void answers_to_one_prompt_stay_together(void **state)
{
    (void)state;
    struct bench bench;
    struct placement *placement = open_bench(&bench);
    set_all_ready(placement);
    placement_add(placement, 0, SCHED_NONE, NULL, 3, NULL);
    placement_add(placement, 1, 0, NULL, 3, NULL);
    placement_add(placement, 2, 0, NULL, 3, NULL);
    assert_live(placement, 0, 0, 3);
    arena_close(&bench.arena);
}

static void an_idle_group_takes_over_who_waits(void **state)
{
    (void)state;
    struct bench bench;
    struct placement *placement = open_bench(&bench);
    set_all_ready(placement);
    placement_add(placement, 0, SCHED_NONE, NULL, 3, NULL);
    for (uint32_t i = 1; i < 5; i++) {
        placement_add(placement, i, 0, NULL, 3, NULL); /* All in group 0. */
    }
    run_step(&bench, 1); /* 5 to 0, then 4 to 1, then 3 to 2: the two oldest. */
    assert_live(placement, 0, 0, 3);
    assert_live(placement, 1, 2, 0);
    assert_ptr_equal(placement_sched(placement, 0), &placement->sched[1]);
    assert_ptr_equal(placement_sched(placement, 1), &placement->sched[1]);
    assert_ptr_equal(placement_sched(placement, 2), &placement->sched[0]);
    assert_int_equal(placement->moves, 2);
    assert_false(sched_row_current(&placement->sched[0], &bench.step[1].rows[0]));
    arena_close(&bench.arena);
}

static void what_a_dead_group_leaves_goes_on_elsewhere_by_age(void **state)
{
    (void)state;
    struct bench bench;
    struct placement *placement = open_bench(&bench);
    set_all_ready(placement);
    for (uint32_t i = 0; i < 6; i++) { /* Even ones in group 0, odd ones in group 1. */
        placement_add(placement, i, SCHED_NONE, NULL, 3, NULL);
    }
    run_step(&bench, 0);
    run_step(&bench, 1);
    assert_true(placement_form(placement, 0, &bench.step[0]));
    placement_lose(placement, 0); /* With a step in flight. */
    assert_live(placement, 0, 0, 3);
    run_step(&bench, 1); /* One slot is free: the oldest takes it, the others wait there. */
    assert_live(placement, 0, 0, 0);
    assert_live(placement, 1, 4, 2);
    assert_int_equal(placement->sched[1].running[0], 0);
    assert_int_equal(fair_first(&placement->sched[1].fair), 2);
    placement_set_ready(placement, 0);
    run_step(&bench, 0); /* Back, it takes over both: 6 to 0, 5 to 1. */
    assert_live(placement, 0, 2, 0);
    assert_live(placement, 1, 4, 0);
    arena_close(&bench.arena);
}

static void without_a_ready_group_requests_wait_for_the_first(void **state)
{
    (void)state;
    struct bench bench;
    struct placement *placement = open_bench(&bench);
    for (uint32_t i = 0; i < 3; i++) {
        placement_add(placement, i, SCHED_NONE, NULL, 3, NULL);
    }
    placement_set_ready(placement, 1);
    run_step(&bench, 1);
    assert_live(placement, 0, 0, 0);
    assert_live(placement, 1, 3, 0);
    arena_close(&bench.arena);
}

struct job { /* A request and what its token log would hold. */
    uint32_t prompt_tokens;
    uint32_t tokens;
    uint32_t end;
};

struct world {
    struct bench bench;
    struct job job[REQUESTS];
    uint64_t due[GROUPS]; /* Time when the step in flight ends, 0: none. */
    uint64_t back[GROUPS];
    uint64_t seed;
    uint64_t draws;
    uint32_t unfinished;
    uint32_t deaths_in_flight;
};

static uint32_t draw(struct world *world, uint32_t bound)
{
    return (uint32_t)(prng_bits(world->seed, world->draws++, 0) % bound);
}

static void finish_step(struct world *world, uint32_t group)
{
    struct placement *placement = &world->bench.placement;
    const struct sched_step *step = &world->bench.step[group];
    sched_commit(&placement->sched[group], step);
    world->due[group] = 0;
    for (uint32_t i = 0; i < step->row_count; i++) {
        const struct sched_row *row = &step->rows[i];
        struct job *job = &world->job[row->request];
        if (!row->sample || !sched_row_current(&placement->sched[group], row)) {
            continue;
        }
        assert_int_equal(row->position + row->tokens, job->tokens); /* No gap, none twice. */
        job->tokens++;
        if (job->tokens == job->end) {
            placement_remove(placement, row->request);
            world->unfinished--;
        }
    }
}

static void live_on(struct world *world, uint64_t now, uint32_t group, bool faults)
{
    struct placement *placement = &world->bench.placement;
    if (world->back[group] == now) {
        placement_set_ready(placement, group);
    }
    if (world->due[group] == now) {
        finish_step(world, group);
    }
    if (faults && placement->ready[group] && draw(world, 40) == 0) {
        world->deaths_in_flight += world->due[group] != 0;
        placement_lose(placement, group);
        world->due[group] = 0;
        world->back[group] = now + 1 + draw(world, 30);
    }
    if (world->due[group] == 0 && placement->ready[group] &&
        placement_form(placement, group, &world->bench.step[group])) {
        world->due[group] = now + 1 + group * 3 + draw(world, 3); /* Group 1 is the slower one. */
    }
    sched_verify(&placement->sched[group]);
}

static void every_token_once_whoever_dies(void **state)
{
    (void)state;
    uint32_t deaths = 0;
    uint64_t moves = 0;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct world world = {.seed = seed, .unfinished = REQUESTS};
        struct placement *placement = open_bench(&world.bench);
        set_all_ready(placement);
        uint32_t added = 0;
        uint64_t now = 1;
        for (; world.unfinished > 0 && now < TURNS_MAX; now++) {
            if (added < REQUESTS && draw(&world, 3) == 0) {
                struct job *job = &world.job[added];
                job->prompt_tokens = 1 + draw(&world, CONTEXT - 2);
                job->tokens = job->prompt_tokens;
                job->end = job->tokens + 1 + draw(&world, CONTEXT - job->tokens);
                placement_add(placement, added++, SCHED_NONE, NULL, job->tokens, NULL);
            }
            for (uint32_t group = 0; group < GROUPS; group++) {
                live_on(&world, now, group, now < 600);
            }
        }
        assert_int_equal(world.unfinished, 0);
        deaths += world.deaths_in_flight;
        moves += placement->moves;
        arena_close(&world.bench.arena);
    }
    assert_true(deaths > 50 && moves > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_go_to_the_group_with_fewer),
        cmocka_unit_test(equal_groups_are_told_apart_by_free_pages),
        cmocka_unit_test(answers_to_one_prompt_stay_together),
        cmocka_unit_test(an_idle_group_takes_over_who_waits),
        cmocka_unit_test(what_a_dead_group_leaves_goes_on_elsewhere_by_age),
        cmocka_unit_test(without_a_ready_group_requests_wait_for_the_first),
        cmocka_unit_test(every_token_once_whoever_dies),
    };
    return cmocka_run_group_tests_name("placement", tests, NULL, NULL);
}
