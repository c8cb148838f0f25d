/*
 * reduce.cu - see reduce_cuda.h. Called where a plan reduces at most some 512 KB; the ranks are
 * GPUs that see each other's memory, or lanes of one.
 *
 *   block b of a rank   | tells all "my input is there" | reads its part | tells all "I have read"
 * | | waits for block b of each     | of all inputs  | waits for b of each     |
 *
 * Blocks only meet their own kind, so no barrier spans a grid. The second meeting makes the input
 * free when the launch ends. The number of the round comes from memory: a captured launch counts
 * on. Memory: ranks * count values read, most of them over the link, one count written. Bound by
 * two crossings of the link; share of its peak: not measured.
 */
#include "kernels/cuda/reduce_cuda.h"

#include "kernels/cuda/gpu.cuh"

enum { REDUCE_THREADS = 256, POLLS_PER_LOOK = 64 };

enum meeting { MEETING_READY, MEETING_READ };

/* Where rank `from` tells rank `to` how far it is. Parameters are indexed by constants alone: an
 * index known at run time would put them on the stack. */
GPU_DEVICE uint32_t *flag_of(const struct cuda_reduce_args *args, enum meeting meeting, uint32_t to,
                             uint32_t from)
{
    uint32_t *flags = args->flags[0];
#pragma unroll
    for (uint32_t r = 1; r < CUDA_REDUCE_RANKS_MAX; r++) {
        flags = r == to ? args->flags[r] : flags;
    }
    const uint32_t block = meeting * CUDA_REDUCE_BLOCKS_MAX + blockIdx.x;
    return flags + (size_t)block * CUDA_REDUCE_RANKS_MAX + from;
}

GPU_DEVICE bool wait_for(const struct cuda_reduce_args *args, const uint32_t *flag, uint32_t round)
{
    for (uint32_t poll = 0; poll < args->polls_max; poll++) {
        if ((int32_t)(gpu_load_acquire(flag) - round) >= 0) {
            return true;
        }
        if (poll % POLLS_PER_LOOK == 0 && gpu_load_acquire(args->abort) != 0) {
            return false;
        }
    }
    return false;
}

/* All threads have come, and the same block of every rank. False: one has not. */
GPU_DEVICE bool meet(const struct cuda_reduce_args *args, enum meeting meeting, uint32_t round)
{
    bool late = false;
    __syncthreads();
    if (threadIdx.x < args->ranks) {
        gpu_store_release(flag_of(args, meeting, threadIdx.x, args->rank), round);
        late = !wait_for(args, flag_of(args, meeting, args->rank, threadIdx.x), round);
        if (late) {
            *args->fault = 1 + threadIdx.x;
        }
    }
    return __syncthreads_or(late) == 0;
}

/* 16 bytes of values. */
template <class Act> struct alignas(16) values {
    Act value[16 / sizeof(Act)];
};

template <class Act> GPU_DEVICE void add_up(const struct cuda_reduce_args *args, uint32_t index)
{
    constexpr uint32_t each = 16 / sizeof(Act);
    float sums[each] = {};
#pragma unroll
    for (uint32_t r = 0; r < CUDA_REDUCE_RANKS_MAX; r++) {
        if (r < args->ranks) {
            const values<Act> in = ((const values<Act> *)args->input[r])[index];
#pragma unroll
            for (uint32_t i = 0; i < each; i++) {
                sums[i] += gpu_float(in.value[i]);
            }
        }
    }
    values<Act> out;
#pragma unroll
    for (uint32_t i = 0; i < each; i++) {
        out.value[i] = gpu_act<Act>(sums[i]);
    }
    ((values<Act> *)args->output)[index] = out;
}

template <class Act>
static __global__ void __launch_bounds__(REDUCE_THREADS) reduce(const struct cuda_reduce_args args)
{
    const uint32_t round = args.rounds[blockIdx.x] + 1;
    const uint32_t units = args.count / (16 / sizeof(Act));
    if (__syncthreads_or(*args.fault != 0) || !meet(&args, MEETING_READY, round)) {
        return;
    }
    for (uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < units;
         i += gridDim.x * blockDim.x) {
        add_up<Act>(&args, i);
    }
    if (meet(&args, MEETING_READ, round) && threadIdx.x == 0) {
        args.rounds[blockIdx.x] = round;
    }
}

int cuda_reduce(const struct cuda_reduce_args *args, struct CUstream_st *stream)
{
    if (args->ranks == 0 || args->ranks > CUDA_REDUCE_RANKS_MAX || args->rank >= args->ranks ||
        args->blocks == 0 || args->blocks > CUDA_REDUCE_BLOCKS_MAX ||
        args->count * kern_dtype_bytes(args->dtype) % 16 != 0) {
        return -EINVAL;
    }
    const dim3 grid(args->blocks);
    const dim3 block(REDUCE_THREADS);
    return args->dtype == KERN_F32 ? GPU_LAUNCH(reduce<float>, grid, block, 0, stream, *args)
                                   : GPU_LAUNCH(reduce<gpu_bf16>, grid, block, 0, stream, *args);
}
