/*
 * sched_bed.c - see sched_bed.h. Runs in the processes of the tests; the bench owns the arena.
 */
#include "tests/unit/agent/sched_bed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

struct sched *bench_open(struct bench *bench, const struct sched_options *wanted)
{
    struct sched_options options = *wanted;
    options.requests_max = REQUESTS;
    options.page_tokens = 4;
    *bench = (struct bench){0};
    const size_t bytes = sched_bytes(&options) + sched_step_bytes(options.slots_max);
    assert_int_equal(arena_open(&bench->arena, bytes), 0);
    assert_int_equal(sched_open(&bench->sched, &bench->arena, &options), 0);
    assert_int_equal(sched_step_open(&bench->step, &bench->arena, options.slots_max), 0);
    return &bench->sched;
}

void step(struct bench *bench)
{
    assert_true(sched_form(&bench->sched, &bench->step));
    sched_verify(&bench->sched);
    sched_commit(&bench->sched, &bench->step);
    sched_verify(&bench->sched);
}

void assert_row(const struct bench *bench, uint32_t index, uint32_t request, uint32_t position,
                uint32_t tokens)
{
    assert_true(index < bench->step.row_count);
    const struct sched_row *row = &bench->step.rows[index];
    assert_int_equal(row->request, request);
    assert_int_equal(row->position, position);
    assert_int_equal(row->tokens, tokens);
}
