/* emu_shared.h - the shared memory of a block: filled with ones (NaN in float and bf16) at each
 * start, and of exact sizes, so that a sanitizer sees one byte too far. */
#ifndef TESTS_KERN_EMU_EMU_SHARED_H
#define TESTS_KERN_EMU_EMU_SHARED_H

#include "tests/kern/emu/emu_block.h"

#ifdef __cplusplus
extern "C" {
#endif

void emu_shared_open(struct emu_block *block);
void emu_shared_close(struct emu_block *block);

/* The array of a declaration, which `key` stands for: the block's first thread there makes it. */
void *emu_shared_array(struct emu_block *block, const void *key, size_t bytes);

#ifdef __cplusplus
}
#endif

#endif /* TESTS_KERN_EMU_EMU_SHARED_H */
