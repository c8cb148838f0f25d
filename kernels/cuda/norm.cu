/*
 * norm.cu - RMS norm (Zhang and Sennrich 2019), with the residual's addition in front where one is
 * given. Called through cuda_norm() by whoever builds a step. A block a row: 4 bytes in and 2 or 4
 * out an element (12 in and out more with `add`), 4 FLOPs; the second look at a row finds it in L1.
 * Occupancy aim: 2048 threads an SM. Share of peak: not measured.
 * Invariant: which thread adds what depends on cols alone, so a row's bits depend on that row.
 */
#include "kernels/cuda/norm_cuda.h"

#include "kernels/cuda/rows.cuh"

/* The sum of squares of this thread's part of a row, after the addition. */
template <int Width>
GPU_DEVICE float squares(const struct cuda_norm_args &args, float *x, const float *add)
{
    float sum = 0;
    for (uint32_t c = threadIdx.x * Width; c < args.cols; c += ROWS_THREADS * Width) {
        float values[Width];
        rows_load<Width>(values, x + c);
        if (add) {
            float more[Width];
            rows_load<Width>(more, add + c);
            for (int i = 0; i < Width; i++) {
                values[i] += more[i];
            }
            rows_store<Width>(x + c, values);
        }
        for (int i = 0; i < Width; i++) {
            sum += values[i] * values[i];
        }
    }
    return sum;
}

template <class Act, int Width>
static __global__ void __launch_bounds__(ROWS_THREADS) norm_rows(const struct cuda_norm_args args)
{
    GPU_SHARED_ARRAY(float, partial, ROWS_WARPS);
    const uint32_t rows = *args.rows;
    for (uint32_t row = blockIdx.x; row < rows; row += gridDim.x) {
        const uint64_t at = (uint64_t)row * args.cols;
        float *x = args.x + at;
        const float sum =
            rows_sum(squares<Width>(args, x, args.add ? args.add + at : nullptr), partial);
        const float scale = 1.0f / sqrtf(sum / (float)args.cols + args.eps);
        for (uint32_t c = threadIdx.x * Width; c < args.cols; c += ROWS_THREADS * Width) {
            float values[Width];
            float weights[Width];
            rows_load<Width>(values, x + c);
            rows_load<Width>(weights, args.w + c);
            for (int i = 0; i < Width; i++) {
                values[i] = values[i] * scale * weights[i];
            }
            rows_store<Width>((Act *)args.y + at + c, values);
        }
    }
}

template <class Act, int Width>
static int launch(const struct cuda_norm_args *args, struct CUstream_st *stream)
{
    return GPU_LAUNCH(norm_rows<Act, Width>, dim3(rows_blocks(args->rows_max, args->ctas)),
                      dim3(ROWS_THREADS), 0, stream, *args);
}

int cuda_norm(const struct cuda_norm_args *args, struct CUstream_st *stream)
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
