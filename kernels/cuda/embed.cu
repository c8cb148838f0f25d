/*
 * embed.cu - gathers rows of the embedding table as float. Called through cuda_embed() by whoever
 * builds a step. A row moves cols values in and cols floats out, no FLOPs; a block takes 1024
 * columns at a time, so that few rows fill the device too. Occupancy aim: 2048 threads an SM. Share
 * of peak: not measured.
 * Invariant: a row depends on its id alone.
 */
#include "kernels/cuda/embed_cuda.h"

#include "kernels/cuda/rows.cuh"

template <class Act, int Width>
static __global__ void __launch_bounds__(ROWS_THREADS)
    embed_rows(const struct cuda_embed_args args, uint32_t pieces)
{
    const uint64_t units = (uint64_t)*args.rows * pieces;
    const Act *table = (const Act *)args.table;
    for (uint64_t unit = blockIdx.x; unit < units; unit += gridDim.x) {
        const uint64_t row = unit / pieces;
        const uint32_t col = rows_column<Width>((uint32_t)(unit % pieces));
        const uint32_t id = args.ids[row];
        float values[Width];
        if (col >= args.cols) {
            continue;
        }
        if (id < args.vocab) {
            rows_load<Width>(values, table + (uint64_t)id * args.cols + col);
        } else {
            for (int i = 0; i < Width; i++) {
                values[i] = NAN;
            }
        }
        rows_store<Width>(args.x + row * args.cols + col, values);
    }
}

template <class Act, int Width>
static int launch(const struct cuda_embed_args *args, struct CUstream_st *stream)
{
    const uint32_t pieces = rows_pieces<Width>(args->cols);
    const unsigned blocks = rows_blocks((uint64_t)args->rows_max * pieces, args->ctas);
    return GPU_LAUNCH(embed_rows<Act, Width>, dim3(blocks), dim3(ROWS_THREADS), 0, stream, *args,
                      pieces);
}

int cuda_embed(const struct cuda_embed_args *args, struct CUstream_st *stream)
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
