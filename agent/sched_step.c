/*
 * sched_step.c - see sched_step.h. Called at start by the core and by tests; the memory is the
 * arena's.
 */
#include "agent/sched_step.h"

#include <errno.h>

size_t sched_step_bytes(uint32_t slots_max)
{
    return slots_max * (sizeof(struct sched_row) + 2 * sizeof(struct sched_slot) +
                        sizeof(struct sched_copy)) +
           4 * (size_t)64; /* Alignment. */
}

int sched_step_open(struct sched_step *step, struct arena *arena, uint32_t slots_max)
{
    *step = (struct sched_step){
        .rows = arena_alloc(arena, slots_max, sizeof step->rows[0]),
        .opens = arena_alloc(arena, slots_max, sizeof step->opens[0]),
        .closes = arena_alloc(arena, slots_max, sizeof step->closes[0]),
        .copies = arena_alloc(arena, slots_max, sizeof step->copies[0]),
    };
    return step->rows && step->opens && step->closes && step->copies ? 0 : -ENOMEM;
}
