/*
 * emu_block.c - the turns of a block's threads and the barrier of all of them. Called by
 * emu_launch.c on the host thread that launches, and by the kernels through emu_language.h.
 * Invariant: whoever waits has left its state, so that a block where nobody runs and not everybody
 * is done cannot go on, which is said at once.
 */
#include "tests/kern/emu/emu_block.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "base/prng.h"
#include "tests/kern/emu/emu_shared.h"

enum { NOBODY = EMU_THREADS_MAX };

struct emu_block *emu_block_new(const struct emu_schedule *schedule)
{
    struct emu_block *block = calloc(1, sizeof *block);
    must(block);
    fiber_map(block->fibers, EMU_THREADS_MAX);
    block->schedule = *schedule;
    return block;
}

void emu_block_free(struct emu_block *block)
{
    for (uint32_t i = 0; i < EMU_THREADS_MAX; i++) {
        free(block->threads[i].copies.list);
    }
    fiber_unmap(block->fibers, EMU_THREADS_MAX);
    free(block);
}

void emu_block_fail(const struct emu_block *block, const char *format, ...)
{
    va_list arguments;
    fprintf(stderr, "emu: block (%u,%u,%u) thread %u: ", block->index.x, block->index.y,
            block->index.z, block->current);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    abort();
}

static void set_state(struct emu_block *block, uint32_t thread, enum emu_state state)
{
    const uint32_t place = block->place[thread];
    block->threads[thread].state = state;
    block->running[place / 64] &= ~(UINT64_C(1) << place % 64);
    block->running[place / 64] |= (uint64_t)(state == EMU_RUNS) << place % 64;
}

/* The first thread that can run, in order from a place on, or before it; NOBODY when all wait. */
static uint32_t first_running(const struct emu_block *block, uint32_t place)
{
    const uint32_t words = EMU_THREADS_MAX / 64;
    uint64_t word = block->running[place / 64] >> place % 64 << place % 64;
    for (uint32_t i = 0; i <= words; i++) {
        const uint32_t at = (place / 64 + i) % words;
        word = i > 0 ? block->running[at] : word;
        if (word) {
            return block->order[at * 64 + (uint32_t)__builtin_ctzll(word)];
        }
    }
    return NOBODY;
}

static _Noreturn void fail_stuck(struct emu_block *block)
{
    uint32_t barrier = NOBODY;
    uint32_t warp = NOBODY;
    for (uint32_t i = 0; i < block->count; i++) {
        barrier = block->threads[i].state == EMU_AT_BARRIER ? i : barrier;
        warp = block->threads[i].state == EMU_AT_WARP ? i : warp;
    }
    if (warp != NOBODY) {
        block->current = warp;
        emu_block_fail(block, "stuck: waits for lanes of its warp that never come");
    }
    block->current = barrier;
    emu_block_fail(block, "stuck: waits at the barrier of line %d, and not all threads come",
                   block->threads[barrier].line);
}

static void run_next(struct emu_block *block, uint32_t place, bool last)
{
    const uint32_t from = block->current;
    const uint32_t next = first_running(block, place);
    if (next == NOBODY) {
        fail_stuck(block);
    }
    block->current = next;
    if (next != from) {
        fiber_switch(&block->fibers[from], &block->fibers[next], last);
    }
}

void emu_block_wait(struct emu_block *block, enum emu_state state)
{
    set_state(block, block->current, state);
    run_next(block, 0, false);
}

void emu_block_wake(struct emu_block *block, uint32_t thread)
{
    set_state(block, thread, EMU_RUNS);
}

void emu_block_yield(struct emu_block *block)
{
    run_next(block, (block->place[block->current] + 1u) % EMU_THREADS_MAX, false);
}

uint32_t emu_block_sync(struct emu_block *block, int line, bool vote)
{
    struct emu_thread *thread = &block->threads[block->current];
    if (block->done > 0) {
        emu_block_fail(block, "barrier of line %d after another thread has ended", line);
    }
    thread->line = line;
    block->votes += vote;
    if (++block->arrived < block->count) {
        emu_block_wait(block, EMU_AT_BARRIER);
        return block->votes_counted;
    }
    for (uint32_t i = 0; i < block->count; i++) {
        if (block->threads[i].line != line) {
            emu_block_fail(block, "barrier of line %d while thread %u is at that of line %d", line,
                           i, block->threads[i].line);
        }
        set_state(block, i, EMU_RUNS);
    }
    block->votes_counted = block->votes;
    block->arrived = block->votes = 0;
    return block->votes_counted;
}

/* The thread whose fiber this is, from its first to its last instruction. */
static void run_thread(void *argument)
{
    struct emu_block *block = argument;
    fiber_entered();
    block->launch->body(block, block->launch->closure);
    const uint32_t me = block->current;
    set_state(block, me, EMU_DONE);
    block->warps[me / EMU_WARP].live &= ~(1u << me % EMU_WARP);
    if (block->arrived > 0) {
        emu_block_fail(block, "ends while others wait at a barrier");
    }
    if (++block->done == block->count) {
        fiber_switch(&block->fibers[me], &block->host, true);
    }
    run_next(block, 0, true);
    emu_block_fail(block, "was woken after its end");
}

static void shuffle(struct emu_block *block)
{
    const uint64_t stream =
        ((uint64_t)block->index.z << 48) + ((uint64_t)block->index.y << 32) + block->index.x;
    for (uint32_t i = block->count - 1; i > 0; i--) {
        const uint32_t j = (uint32_t)(prng_bits(block->schedule.seed, stream, i) % (i + 1));
        const uint16_t moved = block->order[i];
        block->order[i] = block->order[j];
        block->order[j] = moved;
    }
}

static void prepare(struct emu_block *block)
{
    const struct emu_dim size = block->launch->block;
    memset(block->warps, 0, sizeof block->warps);
    memset(block->running, 0, sizeof block->running);
    for (uint32_t i = 0; i < block->count; i++) {
        struct emu_thread *thread = &block->threads[i];
        thread->index = (struct emu_dim){i % size.x, i / size.x % size.y, i / (size.x * size.y)};
        thread->copies.count = thread->copies.group_count = 0;
        fiber_reset(&block->fibers[i], run_thread, block);
        block->warps[i / EMU_WARP].live |= 1u << i % EMU_WARP;
        block->order[i] =
            (uint16_t)(block->schedule.order == EMU_REVERSE ? block->count - 1 - i : i);
    }
    if (block->schedule.order == EMU_RANDOM) {
        shuffle(block);
    }
    for (uint32_t i = 0; i < block->count; i++) {
        block->place[block->order[i]] = (uint16_t)i;
        set_state(block, block->order[i], EMU_RUNS);
    }
}

void emu_block_run(struct emu_block *block, const struct emu_launch *launch, struct emu_dim index)
{
    block->launch = launch;
    block->index = index;
    must(launch->block.x > 0 && launch->block.y > 0 && launch->block.z > 0);
    block->count = launch->block.x * launch->block.y * launch->block.z;
    block->done = block->arrived = block->votes = 0;
    must(block->count > 0 && block->count <= EMU_THREADS_MAX);
    prepare(block);
    emu_shared_open(block);
    fiber_adopt(&block->host);
    block->current = block->order[0];
    fiber_switch(&block->host, &block->fibers[block->current], false);
    emu_shared_close(block);
}
