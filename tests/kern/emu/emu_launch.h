/*
 * emu_launch.h - grids of blocks, one block after the other, in the order of the schedule.
 * Blocks of one grid must not wait for each other; grids on different host threads may.
 */
#ifndef TESTS_KERN_EMU_EMU_LAUNCH_H
#define TESTS_KERN_EMU_EMU_LAUNCH_H

#include "tests/kern/emu/emu_block.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What stands behind the stream of a launch: a test puts one on its stack. */
struct CUstream_st {
    struct emu_block *block;
    /* NULL: a launch runs before it returns. Else it is handed over, to be run and released later:
     * 0 or -EIO. */
    int (*take)(struct CUstream_st *stream, const struct emu_launch *launch);
};

/* Called by GPU_LAUNCH: 0, or -EIO for a shape that no device takes. Owns launch->closure. */
int emu_launch_submit(struct CUstream_st *stream, const struct emu_launch *launch);

/* Runs all blocks; a launch may run any number of times. */
void emu_launch_run(struct emu_block *block, const struct emu_launch *launch);
void emu_launch_release(const struct emu_launch *launch);

#ifdef __cplusplus
}
#endif

#endif /* TESTS_KERN_EMU_EMU_LAUNCH_H */
