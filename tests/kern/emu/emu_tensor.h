/* emu_tensor.h - the tensor core's instructions on a full warp, in the register layouts that the
 * PTX manual gives for mma.m16n8k16 and ldmatrix. */
#ifndef TESTS_KERN_EMU_EMU_TENSOR_H
#define TESTS_KERN_EMU_EMU_TENSOR_H

#include "tests/kern/emu/emu_block.h"

#ifdef __cplusplus
extern "C" {
#endif

/* For a lane: d += A B, and four tiles from shared memory. */
void emu_tensor_mma(struct emu_block *block, float d[4], const uint32_t a[4], const uint32_t b[2]);
void emu_tensor_ldmatrix(struct emu_block *block, uint32_t r[4], const void *row, bool transposed);

/* For the warp, once all lanes are there. */
void emu_tensor_multiply(struct emu_warp *warp);
void emu_tensor_load(struct emu_warp *warp, bool transposed);

#ifdef __cplusplus
}
#endif

#endif /* TESTS_KERN_EMU_EMU_TENSOR_H */
