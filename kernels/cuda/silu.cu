/*
 * silu.cu - silu(gate) * up. Called through cuda_silu() by whoever builds a step. Two acts in and
 * one out an element, 5 FLOPs and an exponential; a block takes 1024 columns of a row at a time, so
 * that few rows fill the device too. Occupancy aim: 2048 threads an SM. Share of peak: not
 * measured. Invariant: an element depends on its own two inputs alone.
 */
#include "kernels/cuda/silu_cuda.h"

#include "kernels/cuda/rows.cuh"

template <class Act, int Width>
static __global__ void __launch_bounds__(ROWS_THREADS)
    silu_rows(const struct cuda_silu_args args, uint32_t pieces)
{
    const uint64_t units = (uint64_t)*args.rows * pieces;
    for (uint64_t unit = blockIdx.x; unit < units; unit += gridDim.x) {
        const uint64_t row = unit / pieces;
        const uint32_t col = rows_column<Width>((uint32_t)(unit % pieces));
        const Act *gate = (const Act *)args.gate_up + row * 2 * args.cols + col;
        float values[Width];
        float up[Width];
        if (col >= args.cols) {
            continue;
        }
        rows_load<Width>(values, gate);
        rows_load<Width>(up, gate + args.cols);
        for (int i = 0; i < Width; i++) {
            values[i] = values[i] / (1.0f + expf(-values[i])) * up[i];
        }
        rows_store<Width>((Act *)args.y + row * args.cols + col, values);
    }
}

template <class Act, int Width>
static int launch(const struct cuda_silu_args *args, struct CUstream_st *stream)
{
    const uint32_t pieces = rows_pieces<Width>(args->cols);
    const unsigned blocks = rows_blocks((uint64_t)args->rows_max * pieces, args->ctas);
    return GPU_LAUNCH(silu_rows<Act, Width>, dim3(blocks), dim3(ROWS_THREADS), 0, stream, *args,
                      pieces);
}

int cuda_silu(const struct cuda_silu_args *args, struct CUstream_st *stream)
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
