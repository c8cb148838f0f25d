/*
 * reduce_cuda.h - a sum over the ranks of a tensor-parallel group for small messages, in one launch
 * a rank: each reads the inputs of all and adds them up in the order of ranks, so that all get the
 * same bits. Large messages are NCCL's.
 *
 * All ranks launch the same reductions in the same order, with the same count and blocks, and the
 * blocks of a launch run side by side. A failure sticks: that launch and all later ones end at
 * once, and what they should have written is garbage. The only way on is a new group with new
 * flags.
 */
#ifndef KERNELS_CUDA_REDUCE_CUDA_H
#define KERNELS_CUDA_REDUCE_CUDA_H

#include <stdint.h>

#include "kernels/dtype.h"

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st;

enum {
    CUDA_REDUCE_RANKS_MAX = 8,
    CUDA_REDUCE_BLOCKS_MAX = 64,
    CUDA_REDUCE_FLAGS = 2 * CUDA_REDUCE_BLOCKS_MAX * CUDA_REDUCE_RANKS_MAX, /* Words of a rank. */
};

struct cuda_reduce_args {
    const void *input[CUDA_REDUCE_RANKS_MAX]; /* act [count] of each rank: all ranks can read it */
    uint32_t *flags[CUDA_REDUCE_RANKS_MAX];   /* [CUDA_REDUCE_FLAGS] of each; all can write them */
    void *output;                             /* act [count], the rank's own, not its input */
    uint32_t *rounds;      /* [CUDA_REDUCE_BLOCKS_MAX] the rank's own: reductions done */
    uint32_t *fault;       /* The rank's own. Not 0: 1 + a rank that did not come. */
    const uint32_t *abort; /* Not 0, whoever wrote it: no wait goes on. */
    uint32_t rank;
    uint32_t ranks;
    uint32_t count; /* A multiple of 16 bytes; addresses likewise. */
    uint32_t blocks;
    uint32_t polls_max; /* The bound of a wait. */
    enum kern_dtype dtype;
};

/* flags, rounds, fault and abort are zero before the first. 0, -EINVAL, -EIO. */
int cuda_reduce(const struct cuda_reduce_args *args, struct CUstream_st *stream);

#ifdef __cplusplus
}
#endif

#endif /* KERNELS_CUDA_REDUCE_CUDA_H */
