/*
 * emu_probe.cu - small kernels for the emulator's own tests, by emu_check.c. They are written
 * against gpu.cuh as the real ones are, and by the PTX manual's layouts.
 */
#include "tests/kern/emu/emu_probe_cuda.h"

#include "kernels/cuda/gpu.cuh"

enum { M = 16, N = 8, K = 16 };

static __global__ void product(const uint16_t *a, const uint16_t *b, float *d)
{
    GPU_SHARED_ARRAY(uint16_t, rows, M * K); /* A, then B with its two halves of k stacked. */
    GPU_SHARED_ARRAY(uint16_t, columns, 4 * 8 * N);
    const unsigned lane = threadIdx.x;
    for (unsigned i = lane; i < M * K; i += 32) {
        rows[i] = a[i];
        columns[i] = b[i % (K * N)];
    }
    __syncwarp();
    uint32_t left[4];
    uint32_t right[4];
    float sum[4] = {0, 0, 0, 0};
    gpu_ldmatrix_x4(left, rows + (lane % 16) * K + lane / 16 * 8);
    gpu_ldmatrix_x4_trans(right, columns + lane * N);
    gpu_mma_bf16(sum, left, right);
    for (unsigned i = 0; i < 4; i++) {
        d[(lane / 4 + i / 2 * 8) * N + lane % 4 * 2 + i % 2] = sum[i];
    }
}

int cuda_emu_probe_product(const uint16_t *a, const uint16_t *b, float *d,
                           struct CUstream_st *stream)
{
    return GPU_LAUNCH(product, dim3(1), dim3(32), 0, stream, a, b, d);
}

static __global__ void copies(const uint32_t *from, uint32_t *seen)
{
    GPU_SHARED(bytes);
    uint32_t *word = (uint32_t *)bytes + threadIdx.x * 8;
    gpu_copy_async16(word, from + threadIdx.x * 4, true);
    gpu_copy_commit();
    gpu_copy_async16(word + 4, from, false);
    gpu_copy_commit();
    seen[threadIdx.x * 4] = word[0];
    gpu_copy_wait<1>();
    seen[threadIdx.x * 4 + 1] = word[0];
    seen[threadIdx.x * 4 + 2] = word[4];
    gpu_copy_wait<0>();
    seen[threadIdx.x * 4 + 3] = word[4];
}

int cuda_emu_probe_copies(const uint32_t *from, uint32_t *seen, struct CUstream_st *stream)
{
    return GPU_LAUNCH(copies, dim3(1), dim3(32), 32 * 32, stream, from, seen);
}

static __global__ void shuffles(uint32_t *seen)
{
    const uint32_t lane = threadIdx.x;
    seen[lane * 4] = __shfl_xor_sync(0xffffffffu, lane, 3);
    seen[lane * 4 + 1] = __shfl_sync(0xffffffffu, lane, 7);
    seen[lane * 4 + 2] = __shfl_down_sync(0xffffffffu, lane, 2);
    seen[lane * 4 + 3] = __ballot_sync(0xffffffffu, lane % 2);
}

int cuda_emu_probe_shuffles(uint32_t *seen, struct CUstream_st *stream)
{
    return GPU_LAUNCH(shuffles, dim3(1), dim3(32), 0, stream, seen);
}

static __global__ void order_of(uint32_t *order, uint32_t *next, uint32_t *fresh)
{
    GPU_SHARED_ARRAY(uint32_t, word, 1);
    const uint32_t place = atomicAdd(next, 1u);
    order[place] = blockIdx.x * 64 + threadIdx.x;
    fresh[place] = *word == 0xffffffffu;
    __syncthreads();
    *word = 0;
}

int cuda_emu_probe_order(uint32_t *order, uint32_t *next, uint32_t *fresh,
                         struct CUstream_st *stream)
{
    return GPU_LAUNCH(order_of, dim3(2), dim3(64), 0, stream, order, next, fresh);
}

static __global__ void nothing()
{
}

int cuda_emu_probe_shape(unsigned grid_y, unsigned threads, unsigned shared_bytes,
                         struct CUstream_st *stream)
{
    return GPU_LAUNCH(nothing, dim3(1, grid_y), dim3(threads), shared_bytes, stream);
}

GPU_DEVICE void barriers_apart(bool first)
{
    if (first) {
        __syncthreads();
    } else {
        __syncthreads();
    }
}

/* Faults of a warp; lane 5 is the odd one. */
GPU_DEVICE void lanes_apart(int fault, bool odd)
{
    if (fault == EMU_PROBE_LANE_LEFT_OUT) {
        __syncwarp(0xffffffdfu);
    } else if (fault == EMU_PROBE_LANES_DISAGREE && odd) {
        (void)__ballot_sync(0xffffffffu, 1);
    } else if (fault == EMU_PROBE_LANES_DISAGREE || !odd) {
        (void)__shfl_sync(0xffffffffu, 1, 0);
    } else {
        __syncthreads();
    }
}

static __global__ void faults(int fault, const void *from)
{
    GPU_SHARED(bytes);
    GPU_SHARED_ARRAY(float, array, 3);
    const bool odd = threadIdx.x == 5;
    uint32_t words[4];
    if (fault == EMU_PROBE_TWO_BARRIERS) {
        barriers_apart(odd);
    } else if (fault == EMU_PROBE_EARLY_END && !odd) {
        __syncthreads();
    } else if (fault == EMU_PROBE_LATE_BARRIER && odd) {
        __syncthreads();
    } else if (fault >= EMU_PROBE_LANE_LEFT_OUT && fault <= EMU_PROBE_LANES_MISSING) {
        lanes_apart(fault, odd);
    } else if (fault == EMU_PROBE_MISALIGNED_COPY) {
        gpu_copy_async16(bytes, (const uint8_t *)from + 8, true);
    } else if (fault == EMU_PROBE_MISALIGNED_ROW) {
        gpu_ldmatrix_x4(words, bytes + 2 * threadIdx.x);
    } else if (fault == EMU_PROBE_HALF_A_WARP && threadIdx.x < 16) {
        gpu_ldmatrix_x4(words, bytes);
    } else if (fault == EMU_PROBE_PAST_AN_ARRAY) {
        array[threadIdx.x % 4] = 0;
    } else if (fault == EMU_PROBE_PAST_SHARED) {
        bytes[64] = 0;
    }
}

int cuda_emu_probe_fault(enum emu_probe_fault fault, const void *from, struct CUstream_st *stream)
{
    const unsigned threads = fault == EMU_PROBE_HALF_A_WARP ? 16 : 32;
    return GPU_LAUNCH(faults, dim3(1), dim3(threads), 64, stream, (int)fault, from);
}
