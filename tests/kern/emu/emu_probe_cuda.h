/* emu_probe_cuda.h - small kernels that show what the emulator does, right and wrong ones. */
#ifndef TESTS_KERN_EMU_EMU_PROBE_CUDA_H
#define TESTS_KERN_EMU_EMU_PROBE_CUDA_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st;

/* d[16][8] = a[16][16] b[16][8] in bf16, by ldmatrix and mma. */
int cuda_emu_probe_product(const uint16_t *a, const uint16_t *b, float *d,
                           struct CUstream_st *stream);

/* Lane r of seen is what it read: [0] before any wait, [1] after a wait that leaves the second of
 * its two copies out, [2] of that copy, [3] of it at the end. */
int cuda_emu_probe_copies(const uint32_t *from, uint32_t *seen, struct CUstream_st *stream);

/* seen[0..3] of each lane: xor by 3, lane 7, 2 lanes down, ballot of odd lanes. */
int cuda_emu_probe_shuffles(uint32_t *seen, struct CUstream_st *stream);

/* order[i] = thread that came i-th, of two blocks of 64; fresh: shared memory was all ones. */
int cuda_emu_probe_order(uint32_t *order, uint32_t *next, uint32_t *fresh,
                         struct CUstream_st *stream);

/* Nothing, in any shape. */
int cuda_emu_probe_shape(unsigned grid_y, unsigned threads, unsigned shared_bytes,
                         struct CUstream_st *stream);

/* What no kernel may do: each ends the process. */
enum emu_probe_fault {
    EMU_PROBE_TWO_BARRIERS,
    EMU_PROBE_EARLY_END,
    EMU_PROBE_LATE_BARRIER,
    EMU_PROBE_LANE_LEFT_OUT,
    EMU_PROBE_LANES_DISAGREE,
    EMU_PROBE_LANES_MISSING,
    EMU_PROBE_MISALIGNED_COPY,
    EMU_PROBE_MISALIGNED_ROW,
    EMU_PROBE_HALF_A_WARP,
    EMU_PROBE_PAST_AN_ARRAY, /* Only where a sanitizer looks. */
    EMU_PROBE_PAST_SHARED,   /* The same. */
    EMU_PROBE_FAULTS,
};

int cuda_emu_probe_fault(enum emu_probe_fault fault, const void *from, struct CUstream_st *stream);

#ifdef __cplusplus
}
#endif

#endif /* TESTS_KERN_EMU_EMU_PROBE_CUDA_H */
