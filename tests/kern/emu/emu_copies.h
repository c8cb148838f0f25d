/* emu_copies.h - asynchronous copies of 16 bytes to shared memory. They land when they are waited
 * for, or at once where the schedule is eager: a missing wait reads NaN in the one, a copy into
 * what is still read shows in the other. */
#ifndef TESTS_KERN_EMU_EMU_COPIES_H
#define TESTS_KERN_EMU_EMU_COPIES_H

#include "tests/kern/emu/emu_block.h"

#ifdef __cplusplus
extern "C" {
#endif

void emu_copies_start(struct emu_block *block, void *shared, const void *global, bool valid);
void emu_copies_commit(struct emu_block *block);

/* Lands all groups of the current thread but the last `pending`. */
void emu_copies_wait(struct emu_block *block, uint32_t pending);

#ifdef __cplusplus
}
#endif

#endif /* TESTS_KERN_EMU_EMU_COPIES_H */
