/*
 * quantise.cu - rows of acts as e4m3, each by its largest number: what products with weights in
 * e4m3 read. Called through cuda_quantise() by whoever builds a step. A block a row: 2 or 4 bytes
 * in and 1 out an element, 2 FLOPs and a conversion; the second look at a row finds it in L1.
 * Occupancy aim: 2048 threads an SM. Share of peak: not measured.
 * Invariant: the largest of some numbers is the same in any order, so a row's bits depend on it.
 */
#include "kernels/cuda/quantise_cuda.h"

#include "kernels/cuda/e4m3.cuh"
#include "kernels/cuda/rows.cuh"

#define SMALLEST 1e-30f /* 448 divided by it is a float. */

/* The greatest over a block of ROWS_THREADS; partial is shared, [ROWS_WARPS]. Ends with nobody
 * reading partial. */
GPU_DEVICE float greatest_of(float value, float *partial)
{
    const float mine = gpu_warp_max(value);
    if (threadIdx.x % 32 == 0) {
        partial[threadIdx.x / 32] = mine;
    }
    __syncthreads();
    float greatest = 0;
    for (int i = 0; i < ROWS_WARPS; i++) {
        greatest = fmaxf(greatest, partial[i]);
    }
    __syncthreads();
    return greatest;
}

template <int Width> GPU_DEVICE void store(uint8_t *to, const float values[Width], float inverse)
{
    uint32_t bytes = 0;
    for (int i = 0; i < Width; i++) {
        bytes |= (uint32_t)gpu_act<gpu_e4m3>(values[i] * inverse).bits << 8 * i;
    }
    if constexpr (Width == 4) {
        *(uint32_t *)to = bytes;
    } else {
        *to = (uint8_t)bytes;
    }
}

template <class Act, int Width>
static __global__ void __launch_bounds__(ROWS_THREADS)
    quantise_rows(const struct cuda_quantise_args args)
{
    GPU_SHARED_ARRAY(float, partial, ROWS_WARPS);
    const uint32_t rows = *args.rows;
    for (uint32_t row = blockIdx.x; row < rows; row += gridDim.x) {
        const uint64_t at = (uint64_t)row * args.cols;
        const Act *x = (const Act *)args.x + at;
        float values[Width];
        float mine = 0;
        for (uint32_t c = threadIdx.x * Width; c < args.cols; c += ROWS_THREADS * Width) {
            rows_load<Width>(values, x + c);
            for (int i = 0; i < Width; i++) {
                mine = fmaxf(mine, fabsf(values[i]));
            }
        }
        const float greatest = greatest_of(mine, partial);
        const bool counts = greatest > SMALLEST;
        const float inverse = counts ? 448 / greatest : 0;
        for (uint32_t c = threadIdx.x * Width; c < args.cols; c += ROWS_THREADS * Width) {
            rows_load<Width>(values, x + c);
            store<Width>(args.q + at + c, values, inverse);
        }
        if (threadIdx.x == 0) {
            args.scale[row] = counts ? greatest / 448 : 0;
        }
    }
}

template <class Act, int Width>
static int launch(const struct cuda_quantise_args *args, struct CUstream_st *stream)
{
    return GPU_LAUNCH(quantise_rows<Act, Width>, dim3(rows_blocks(args->rows_max, args->ctas)),
                      dim3(ROWS_THREADS), 0, stream, *args);
}

int cuda_quantise(const struct cuda_quantise_args *args, struct CUstream_st *stream)
{
    if (args->rows_max == 0 || args->cols == 0) {
        return -EINVAL;
    }
    if (args->dtype == KERN_F32) {
        return args->cols % 4 == 0 ? launch<float, 4>(args, stream)
                                   : launch<float, 1>(args, stream);
    }
    return args->cols % 4 == 0 ? launch<gpu_bf16, 4>(args, stream)
                               : launch<gpu_bf16, 1>(args, stream);
}
