/*
 * experts.cuh - how the products of experts are cut into tiles: EXPERTS_ROWS slots of one expert by
 * a kernel's own number of columns. Tiles of the same columns follow each other, so that blocks
 * that run side by side read the same weights. Which block does a tile changes nothing in it.
 */
#ifndef KERNELS_CUDA_EXPERTS_CUH
#define KERNELS_CUDA_EXPERTS_CUH

#include "base/limits.h"
#include "kernels/cuda/experts_cuda.h"
#include "kernels/cuda/gpu.cuh"

enum { EXPERTS_ROWS = 64, EXPERTS_THREADS = 256 };

struct experts_shares { /* In shared memory. */
    uint32_t first[LIMIT_EXPERTS_MAX + 1];
    uint32_t tile[LIMIT_EXPERTS_MAX + 1];
};

struct experts_tile {
    uint32_t expert;
    uint32_t slot; /* Its rows are the slots [slot, end), at most EXPERTS_ROWS. */
    uint32_t end;
    uint32_t column;
};

GPU_DEVICE void experts_read(const struct cuda_experts_args *args, struct experts_shares *shares)
{
    for (uint32_t e = threadIdx.x; e <= args->experts; e += blockDim.x) {
        shares->first[e] = args->shares.first[e];
        shares->tile[e] = args->shares.tile[e];
    }
    __syncthreads();
}

/* How many tiles there are, with so many columns each. */
GPU_DEVICE uint32_t experts_tiles(const struct cuda_experts_args *args,
                                  const struct experts_shares *shares, uint32_t columns)
{
    return shares->tile[args->experts] * ((args->n + columns - 1) / columns);
}

GPU_DEVICE struct experts_tile experts_find(const struct cuda_experts_args *args,
                                            const struct experts_shares *shares, uint32_t columns,
                                            uint32_t index)
{
    const uint32_t down = index % shares->tile[args->experts];
    const uint32_t across = index / shares->tile[args->experts];
    uint32_t least = 0; /* The last expert whose first tile is not behind it. */
    uint32_t most = args->experts;
    while (most - least > 1) {
        const uint32_t middle = (least + most) / 2;
        least = shares->tile[middle] <= down ? middle : least;
        most = shares->tile[middle] <= down ? most : middle;
    }
    const uint32_t slot = shares->first[least] + (down - shares->tile[least]) * EXPERTS_ROWS;
    return {least, slot, shares->first[least + 1], across * columns};
}

/* The row of x of a tile's slot; any row where it has none. */
GPU_DEVICE size_t experts_row(const struct cuda_experts_args *args, uint32_t slot, bool valid)
{
    return !valid ? 0 : args->row ? args->row[slot] : slot;
}

#endif /* KERNELS_CUDA_EXPERTS_CUH */
