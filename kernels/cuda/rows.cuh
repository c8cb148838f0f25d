/*
 * rows.cuh - what kernels that work row by row share: loads of several values at once, the sum
 * over a block, and the shape of a launch. Blocks go over the units of a batch (rows, or pieces of
 * rows) until none is left, so any number of blocks gives the same bits.
 */
#ifndef KERNELS_CUDA_ROWS_CUH
#define KERNELS_CUDA_ROWS_CUH

#include "kernels/cuda/gpu.cuh"

enum { ROWS_THREADS = 256, ROWS_WARPS = ROWS_THREADS / 32 };

/* Width values (1, 2 or 4) from an aligned address, as float. */
template <int Width> GPU_DEVICE void rows_load(float values[Width], const float *from)
{
    static_assert(Width == 1 || Width == 2 || Width == 4, "one or a vector");
    if constexpr (Width == 4) {
        const float4 four = *(const float4 *)from;
        values[0] = four.x;
        values[1] = four.y;
        values[2] = four.z;
        values[3] = four.w;
    } else if constexpr (Width == 2) {
        const float2 two = *(const float2 *)from;
        values[0] = two.x;
        values[1] = two.y;
    } else {
        values[0] = *from;
    }
}

template <int Width> GPU_DEVICE void rows_load(float values[Width], const gpu_bf16 *from)
{
    if constexpr (Width == 4) {
        const uint2 four = *(const uint2 *)from;
        values[0] = __uint_as_float(four.x << 16);
        values[1] = __uint_as_float(four.x & 0xffff0000u);
        values[2] = __uint_as_float(four.y << 16);
        values[3] = __uint_as_float(four.y & 0xffff0000u);
    } else if constexpr (Width == 2) {
        const uint32_t two = *(const uint32_t *)from;
        values[0] = __uint_as_float(two << 16);
        values[1] = __uint_as_float(two & 0xffff0000u);
    } else {
        values[0] = gpu_float(*from);
    }
}

template <int Width> GPU_DEVICE void rows_store(float *to, const float values[Width])
{
    if constexpr (Width == 4) {
        *(float4 *)to = make_float4(values[0], values[1], values[2], values[3]);
    } else if constexpr (Width == 2) {
        *(float2 *)to = make_float2(values[0], values[1]);
    } else {
        *to = values[0];
    }
}

template <int Width> GPU_DEVICE void rows_store(gpu_bf16 *to, const float values[Width])
{
    if constexpr (Width == 4) {
        *(uint2 *)to =
            make_uint2(gpu_pack_bf16(values[0], values[1]), gpu_pack_bf16(values[2], values[3]));
    } else if constexpr (Width == 2) {
        *(uint32_t *)to = gpu_pack_bf16(values[0], values[1]);
    } else {
        *to = gpu_act<gpu_bf16>(values[0]);
    }
}

/* Sum over a block of ROWS_THREADS, the same bits for all; partial is shared, [ROWS_WARPS]. Ends
 * with nobody reading partial. */
GPU_DEVICE float rows_sum(float value, float *partial)
{
    const float mine = gpu_warp_sum(value);
    if (threadIdx.x % 32 == 0) {
        partial[threadIdx.x / 32] = mine;
    }
    __syncthreads();
    float sum = 0;
    for (int i = 0; i < ROWS_WARPS; i++) {
        sum += partial[i];
    }
    __syncthreads();
    return sum;
}

/* The pieces of a row that blocks take one at a time, and this thread's first column in one. */
template <int Width> static inline uint32_t rows_pieces(uint32_t cols)
{
    return (cols + ROWS_THREADS * Width - 1) / (ROWS_THREADS * Width);
}

template <int Width> GPU_DEVICE uint32_t rows_column(uint32_t piece)
{
    return (piece * ROWS_THREADS + threadIdx.x) * Width;
}

/* Blocks for a number of units: the budget, where there is one. */
static inline unsigned rows_blocks(uint64_t units, uint32_t ctas)
{
    const uint64_t most = ctas > 0 ? ctas : 1u << 16;
    return (unsigned)(units < most ? units : most);
}

#endif /* KERNELS_CUDA_ROWS_CUH */
