/*
 * logits.cu - maximum, its smallest id, and the sum of exponentials of rows of logits. Called
 * through cuda_logits() by whoever builds a step. Reads 4 bytes a logit once: a block keeps 8192 of
 * a row in registers, a second launch puts the parts of a row together. Occupancy aim: 1024 threads
 * an SM. Share of peak: not measured.
 * Invariant: parts, and who adds what in them, depend on the vocabulary alone, so the stats of a
 * row depend on that row; with finite = 0 only that flag means something.
 */
#include "kernels/cuda/logits_cuda.h"

#include "kernels/cuda/rows.cuh"

enum { PART_VALUES = CUDA_LOGITS_PART / ROWS_THREADS, NO_ID = 0x7fffffff };

/* The least id over a full warp. */
GPU_DEVICE uint32_t least_id(uint32_t id)
{
    for (int distance = 16; distance > 0; distance /= 2) {
        id = min(id, __shfl_xor_sync(0xffffffffu, id, distance));
    }
    return id;
}

/* Maximum and its least id over a block, the same for all. */
GPU_DEVICE void block_best(float *max, uint32_t *id, float *maxima, uint32_t *ids)
{
    const float warp_max = gpu_warp_max(*max);
    const uint32_t warp_id = least_id(*max == warp_max ? *id : (uint32_t)NO_ID);
    if (threadIdx.x % 32 == 0) {
        maxima[threadIdx.x / 32] = warp_max;
        ids[threadIdx.x / 32] = warp_id;
    }
    __syncthreads();
    *max = maxima[0];
    *id = ids[0];
    for (int i = 1; i < ROWS_WARPS; i++) {
        const bool better = maxima[i] > *max || (maxima[i] == *max && ids[i] < *id);
        *max = better ? maxima[i] : *max;
        *id = better ? ids[i] : *id;
    }
    __syncthreads();
}

/* Loads this thread's values of a part, -INFINITY past the row's end; false: one is not finite. */
template <int Width>
GPU_DEVICE bool load_part(const float *logits, uint32_t vocab, uint32_t first,
                          float values[PART_VALUES])
{
    bool finite = true;
#pragma unroll
    for (int k = 0; k < PART_VALUES; k += Width) {
        const uint32_t c = first + ((uint32_t)k * ROWS_THREADS + threadIdx.x * Width);
        if (c < vocab) {
            rows_load<Width>(values + k, logits + c);
        }
        for (int i = 0; i < Width; i++) {
            finite = finite && (c >= vocab || isfinite(values[k + i]));
            values[k + i] = c < vocab ? values[k + i] : -INFINITY;
        }
    }
    return finite;
}

template <int Width>
static __global__ void __launch_bounds__(ROWS_THREADS)
    logits_parts(const struct cuda_logits_args args, uint32_t parts)
{
    GPU_SHARED_ARRAY(float, partial, ROWS_WARPS);
    GPU_SHARED_ARRAY(uint32_t, ids, ROWS_WARPS);
    const uint64_t units = (uint64_t)*args.rows * parts;
    for (uint64_t unit = blockIdx.x; unit < units; unit += gridDim.x) {
        const uint32_t first = (uint32_t)(unit % parts) * CUDA_LOGITS_PART;
        const float *logits = args.logits + unit / parts * args.vocab;
        float values[PART_VALUES];
        const int finite = __syncthreads_and(load_part<Width>(logits, args.vocab, first, values));
        float max = -INFINITY;
        float sum = 0;
        uint32_t id = NO_ID;
#pragma unroll
        for (int k = 0; k < PART_VALUES; k++) { /* Ids ascend, so the first of equals stays. */
            if (values[k] > max) {
                max = values[k];
                id = first + (uint32_t)(k / Width) * Width * ROWS_THREADS + threadIdx.x * Width +
                     (uint32_t)(k % Width);
            }
        }
        block_best(&max, &id, partial, ids);
#pragma unroll
        for (int k = 0; k < PART_VALUES; k++) {
            sum += expf(values[k] - max);
        }
        sum = rows_sum(sum, partial);
        if (threadIdx.x == 0) {
            args.scratch[unit] = {max, sum, id, (uint32_t)finite};
        }
    }
}

/* A warp puts the parts of a row together. */
static __global__ void __launch_bounds__(ROWS_THREADS)
    logits_rows(const struct cuda_logits_args args, uint32_t parts)
{
    const uint32_t rows = *args.rows;
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t warps = gridDim.x * ROWS_WARPS;
    for (uint32_t row = blockIdx.x * ROWS_WARPS + threadIdx.x / 32; row < rows; row += warps) {
        const struct cuda_logits_stats *part = args.scratch + (uint64_t)row * parts;
        float max = -INFINITY;
        float sum = 0;
        uint32_t id = NO_ID;
        bool finite = true;
        for (uint32_t i = lane; i < parts; i += 32) {
            id = part[i].max > max ? part[i].argmax : id;
            max = fmaxf(max, part[i].max);
            finite = finite && part[i].finite;
        }
        const float best = gpu_warp_max(max);
        const uint32_t argmax = least_id(max == best ? id : (uint32_t)NO_ID);
        const bool all_finite = __all_sync(0xffffffffu, finite);
        for (uint32_t i = lane; i < parts; i += 32) {
            sum += part[i].sum * expf(part[i].max - best);
        }
        sum = gpu_warp_sum(sum);
        if (lane == 0) {
            args.stats[row] = {best, sum, argmax, all_finite};
        }
    }
}

int cuda_logits(const struct cuda_logits_args *args, struct CUstream_st *stream)
{
    if (args->rows_max == 0 || args->vocab == 0 || args->vocab >= (uint32_t)NO_ID) {
        return -EINVAL;
    }
    const uint32_t parts = cuda_logits_parts(args->vocab);
    const unsigned blocks = rows_blocks((uint64_t)args->rows_max * parts, args->ctas);
    const unsigned warps = rows_blocks((args->rows_max + ROWS_WARPS - 1) / ROWS_WARPS, args->ctas);
    const dim3 threads(ROWS_THREADS);
    const int code =
        args->vocab % 4 == 0
            ? GPU_LAUNCH(logits_parts<4>, dim3(blocks), threads, 0, stream, *args, parts)
            : GPU_LAUNCH(logits_parts<1>, dim3(blocks), threads, 0, stream, *args, parts);
    return code ? code : GPU_LAUNCH(logits_rows, dim3(warps), threads, 0, stream, *args, parts);
}
