/*
 * emu_launch.c - takes launches from the kernels' host side and runs their grids. Called through
 * GPU_LAUNCH on the thread that launches, and by whoever took a launch from a stream, on its own.
 * Invariant: a launch is released once, by whoever runs it last.
 */
#include "tests/kern/emu/emu_launch.h"

#include <errno.h>
#include <stdlib.h>

#include "base/must.h"
#include "base/prng.h"

enum { GRID_YZ_MAX = 65535 };

static uint64_t count_of(struct emu_dim dim)
{
    return (uint64_t)dim.x * dim.y * dim.z;
}

/* What every device of compute capability 8.0 and later takes. */
static bool fits(const struct emu_launch *launch)
{
    const struct emu_dim grid = launch->grid;
    const struct emu_dim block = launch->block;
    return count_of(grid) > 0 && grid.x <= INT32_MAX && grid.y <= GRID_YZ_MAX &&
           grid.z <= GRID_YZ_MAX && block.x <= EMU_THREADS_MAX && block.y <= EMU_THREADS_MAX &&
           block.z <= 64 && count_of(block) > 0 && count_of(block) <= EMU_THREADS_MAX &&
           launch->shared_bytes <= EMU_SHARED_BYTES_MAX;
}

int emu_launch_submit(struct CUstream_st *stream, const struct emu_launch *launch)
{
    must(stream && launch);
    if (!fits(launch)) {
        emu_launch_release(launch);
        return -EIO;
    }
    if (stream->take) {
        return stream->take(stream, launch);
    }
    emu_launch_run(stream->block, launch);
    emu_launch_release(launch);
    return 0;
}

/* The order of `count` blocks. */
static uint32_t *ordered(const struct emu_schedule *schedule, uint32_t count)
{
    uint32_t *order = malloc(count * sizeof *order);
    must(order);
    for (uint32_t i = 0; i < count; i++) {
        order[i] = schedule->order == EMU_REVERSE ? count - 1 - i : i;
    }
    for (uint32_t i = count - 1; i > 0 && schedule->order == EMU_RANDOM; i--) {
        const uint32_t j = (uint32_t)(prng_bits(schedule->seed, UINT64_MAX, i) % (i + 1));
        const uint32_t moved = order[i];
        order[i] = order[j];
        order[j] = moved;
    }
    return order;
}

void emu_launch_run(struct emu_block *block, const struct emu_launch *launch)
{
    const struct emu_dim grid = launch->grid;
    const uint64_t count = count_of(grid);
    must(count <= UINT32_MAX);
    uint32_t *order = ordered(&block->schedule, (uint32_t)count);
    for (uint32_t i = 0; i < (uint32_t)count; i++) {
        const uint32_t at = order[i];
        emu_block_run(block, launch,
                      (struct emu_dim){at % grid.x, at / grid.x % grid.y, at / grid.x / grid.y});
    }
    free(order);
}

void emu_launch_release(const struct emu_launch *launch)
{
    launch->release(launch->closure);
}
