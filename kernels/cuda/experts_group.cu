/*
 * experts_group.cu - see experts_cuda.h: a slot for each choice of an expert, sorted by expert and
 * stable, so that the same batch always lies the same way. One block: a step has a few thousand
 * choices.
 *
 * Memory: 12 bytes a choice. Each warp counts the experts of its stretch of the choices; sums over
 * warps and experts then say where it puts each. 34 KB of shared memory; bound by latency, share
 * of peak: not measured.
 */
#include "kernels/cuda/experts_cuda.h"

#include "kernels/cuda/experts.cuh"

enum { GROUP_THREADS = 512, GROUP_WARPS = GROUP_THREADS / 32, EXPERT_BITS = 9 };

static_assert((int)LIMIT_EXPERTS_MAX <= 1 << EXPERT_BITS &&
                  (int)LIMIT_EXPERTS_MAX <= (int)GROUP_THREADS,
              "a thread has an expert");

struct group_shared {
    uint32_t next[GROUP_WARPS][LIMIT_EXPERTS_MAX]; /* Rows, then free slot, of warp and expert. */
    uint32_t slots[GROUP_WARPS];
    uint32_t tiles[GROUP_WARPS];
};

/* Sums over the lanes up to the own one. */
GPU_DEVICE uint32_t scan(uint32_t value)
{
    for (unsigned distance = 1; distance < 32; distance *= 2) {
        const uint32_t before = __shfl_up_sync(0xffffffffu, value, distance);
        value += threadIdx.x % 32 >= distance ? before : 0;
    }
    return value;
}

/* Each thread has an expert: from its rows in each warp's stretch to the slots they begin at. */
GPU_DEVICE void place_experts(const struct cuda_group_args *args, struct group_shared *shared)
{
    const uint32_t expert = threadIdx.x;
    const uint32_t warp = threadIdx.x / 32;
    uint32_t rows = 0;
    for (uint32_t i = 0; i < GROUP_WARPS && expert < args->experts; i++) {
        const uint32_t own = shared->next[i][expert];
        shared->next[i][expert] = rows;
        rows += own;
    }
    const uint32_t tiles = (rows + EXPERTS_ROWS - 1) / EXPERTS_ROWS;
    uint32_t slot = scan(rows);
    uint32_t tile = scan(tiles);
    if (threadIdx.x % 32 == 31) {
        shared->slots[warp] = slot;
        shared->tiles[warp] = tile;
    }
    __syncthreads();
    for (uint32_t i = 0; i < warp; i++) {
        slot += shared->slots[i];
        tile += shared->tiles[i];
    }
    if (expert < args->experts) {
        for (uint32_t i = 0; i < GROUP_WARPS; i++) {
            shared->next[i][expert] += slot - rows;
        }
        args->shares.first[expert + 1] = slot;
        args->shares.tile[expert + 1] = tile;
    }
    if (expert == 0) {
        args->shares.first[0] = 0;
        args->shares.tile[0] = 0;
    }
    __syncthreads();
}

/* The lanes that have the same expert; none for lanes without one. */
GPU_DEVICE uint32_t same_expert(uint32_t expert, bool valid)
{
    uint32_t same = __ballot_sync(0xffffffffu, valid);
    for (uint32_t bit = 0; bit < EXPERT_BITS; bit++) {
        const bool own = (expert >> bit & 1) != 0;
        const uint32_t all = __ballot_sync(0xffffffffu, own);
        same &= own ? all : ~all;
    }
    return same;
}

/* 32 choices at a time, in order: a lane's slot comes after those of lower lanes. */
GPU_DEVICE void fill_slots(const struct cuda_group_args *args, uint32_t begin, uint32_t end,
                           uint32_t *next)
{
    const uint32_t lane = threadIdx.x % 32;
    for (uint32_t first = begin; first < end; first += 32) {
        const uint32_t i = first + lane;
        const bool valid = i < end;
        const uint32_t expert = valid ? args->expert[i] : 0;
        const uint32_t same = same_expert(expert, valid);
        const uint32_t before = (uint32_t)__popc(same & ((1u << lane) - 1));
        const uint32_t slot = valid ? next[expert] + before : 0;
        __syncwarp();
        if (valid) {
            args->slot[i] = slot;
            args->row[slot] = i / args->used;
        }
        if (valid && before == 0) {
            next[expert] += (uint32_t)__popc(same);
        }
        __syncwarp();
    }
}

static __global__ void __launch_bounds__(GROUP_THREADS) group(const struct cuda_group_args args)
{
    GPU_SHARED(bytes);
    struct group_shared *shared = (struct group_shared *)bytes;
    const uint32_t warp = threadIdx.x / 32;
    const uint32_t choices = *args.rows * args.used;
    const uint32_t each = (choices + GROUP_WARPS - 1) / GROUP_WARPS;
    const uint32_t begin = min(warp * each, choices);
    const uint32_t end = min(begin + each, choices);
    for (uint32_t i = threadIdx.x; i < GROUP_WARPS * LIMIT_EXPERTS_MAX; i += GROUP_THREADS) {
        (&shared->next[0][0])[i] = 0;
    }
    __syncthreads();
    for (uint32_t i = begin + threadIdx.x % 32; i < end; i += 32) {
        atomicAdd(&shared->next[warp][args.expert[i]], 1u);
    }
    __syncthreads();
    place_experts(&args, shared);
    fill_slots(&args, begin, end, shared->next[warp]);
}

int cuda_group(const struct cuda_group_args *args, struct CUstream_st *stream)
{
    if (args->experts == 0 || args->experts > LIMIT_EXPERTS_MAX || args->used == 0 ||
        args->used > args->experts) {
        return -EINVAL;
    }
    return GPU_LAUNCH(group, dim3(1), dim3(GROUP_THREADS), sizeof(struct group_shared), stream,
                      *args);
}
