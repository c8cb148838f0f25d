/*
 * weave.cu - see weave_cuda.h: gathered parts lie rank by rank, products want whole rows. Called
 * through cuda_weave() behind each gather by whoever builds a step. An element in and one out, and
 * one more in where it adds, at most one FLOP; a block takes 1024 columns of a row at a time.
 * Occupancy aim: 2048 threads an SM. Share of peak: not measured.
 * Invariant: an element depends on its own inputs alone.
 */
#include "kernels/cuda/weave_cuda.h"

#include "kernels/cuda/rows.cuh"

struct weave_part {
    uint32_t rank;
    uint32_t first; /* Its columns: [first, end). */
    uint32_t end;
};

GPU_DEVICE uint32_t part_first(const struct cuda_weave_args &args, uint32_t rank)
{
    return (uint32_t)((uint64_t)args.cols * rank / args.ranks);
}

/* The last rank whose columns begin at or before this one. */
GPU_DEVICE struct weave_part find_part(const struct cuda_weave_args &args, uint32_t col)
{
    const uint32_t rank = (uint32_t)((((uint64_t)col + 1) * args.ranks - 1) / args.cols);
    return {rank, part_first(args, rank), part_first(args, rank + 1)};
}

template <class Item, int Width>
static __global__ void __launch_bounds__(ROWS_THREADS)
    weave_rows(const struct cuda_weave_args args, uint32_t pieces)
{
    const uint64_t units = (uint64_t)*args.rows * pieces;
    for (uint64_t unit = blockIdx.x; unit < units; unit += gridDim.x) {
        const uint64_t row = unit / pieces;
        const uint32_t col = rows_column<Width>((uint32_t)(unit % pieces));
        float values[Width];
        if (col >= args.cols) {
            continue;
        }
        const struct weave_part part = find_part(args, col);
        const Item *from = (const Item *)args.parts + part.rank * args.part_items;
        Item *to = (Item *)args.y + row * args.cols + col;
        rows_load<Width>(values, from + row * (part.end - part.first) + (col - part.first));
        if (args.adds) {
            float sums[Width];
            rows_load<Width>(sums, to);
            for (int i = 0; i < Width; i++) {
                values[i] += sums[i];
            }
        }
        rows_store<Width>(to, values);
    }
}

template <class Item, int Width>
static int launch(const struct cuda_weave_args *args, struct CUstream_st *stream)
{
    const uint32_t pieces = rows_pieces<Width>(args->cols);
    const unsigned blocks = rows_blocks((uint64_t)args->rows_max * pieces, args->ctas);
    return GPU_LAUNCH(weave_rows<Item, Width>, dim3(blocks), dim3(ROWS_THREADS), 0, stream, *args,
                      pieces);
}

int cuda_weave(const struct cuda_weave_args *args, struct CUstream_st *stream)
{
    if (args->rows_max == 0 || args->ranks == 0 || args->cols < args->ranks ||
        (args->adds && args->dtype != KERN_F32)) {
        return -EINVAL;
    }
    /* Then every part's rows begin at a multiple of four items. */
    const bool wide = args->cols % (4 * args->ranks) == 0 && args->part_items % 4 == 0;
    if (args->dtype == KERN_F32) {
        return wide ? launch<float, 4>(args, stream) : launch<float, 1>(args, stream);
    }
    return wide ? launch<gpu_bf16, 4>(args, stream) : launch<gpu_bf16, 1>(args, stream);
}
