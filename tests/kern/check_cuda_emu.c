/*
 * check_cuda_emu.c - the rounds of check_cuda.h on the CPU: one emulated block in several orders of
 * its threads. Called by the checks, on the one thread of kern_cuda_check; owns the block.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/kern/check_cuda.h"
#include "tests/kern/emu/emu_launch.h"

struct CUstream_st *check_cuda_stream_open(void)
{
    const struct emu_schedule schedule = {EMU_FORWARD, false, 0};
    struct CUstream_st *stream = calloc(1, sizeof *stream);
    assert_non_null(stream);
    stream->block = emu_block_new(&schedule);
    return stream;
}

void check_cuda_stream_close(struct CUstream_st *stream)
{
    emu_block_free(stream->block);
    free(stream);
}

void check_cuda_schedules(check_cuda_run *run, uint32_t rounds)
{
    static const struct {
        struct emu_schedule schedule;
        uint32_t ctas;
    } ways[] = {
        {{EMU_FORWARD, false, 0}, 0},
        {{EMU_REVERSE, true, 0}, 3},
        {{EMU_RANDOM, false, 1}, 1},
        {{EMU_RANDOM, true, 2}, 0},
    };
    struct emu_block *block = emu_block_new(&ways[0].schedule);
    struct CUstream_st stream = {.block = block};
    for (uint32_t round = 0; round < 2 * rounds; round++) {
        uint64_t first = 0;
        for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
            struct check_cuda check = {.stream = &stream,
                                       .random = {.seed = round},
                                       .dtype = round % 2 ? KERN_BF16 : KERN_F32,
                                       .ctas = ways[i].ctas};
            block->schedule = ways[i].schedule;
            run(&check);
            first = i == 0 ? check.digest : first;
            if (check.digest != first) {
                fail_msg("round %u: other bits with schedule %zu than with 0", round, i);
            }
        }
    }
    emu_block_free(block);
}
