/*
 * check_cuda_emu.c - the streams of check_cuda.h on the CPU: an emulated block each, in an order of
 * its threads that a GPU may choose. Called by the checks, on their threads; owns the blocks.
 */
#include <stdlib.h>

#include "base/must.h"
#include "tests/kern/check_cuda.h"
#include "tests/kern/emu/emu_launch.h"

struct CUstream_st *check_cuda_open(uint32_t schedule)
{
    static const struct emu_schedule schedules[CHECK_CUDA_SCHEDULES] = {
        {EMU_FORWARD, false, 0},
        {EMU_REVERSE, true, 0},
        {EMU_RANDOM, false, 1},
        {EMU_RANDOM, true, 2},
    };
    struct CUstream_st *stream = calloc(1, sizeof *stream);
    must(stream && schedule < CHECK_CUDA_SCHEDULES);
    stream->block = emu_block_new(&schedules[schedule]);
    return stream;
}

void check_cuda_close(struct CUstream_st *stream)
{
    emu_block_free(stream->block);
    free(stream);
}
