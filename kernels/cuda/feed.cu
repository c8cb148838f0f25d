/*
 * feed.cu - the first kernel of a step: completes its token ids and notes them beside the pages.
 * Called through cuda_feed() by whoever builds a step. A row moves 20 bytes in and 8 out, no FLOPs:
 * bound by latency. Occupancy aim: 2048 threads an SM. Share of peak: not measured.
 * Invariant: a row depends on its own numbers alone.
 */
#include "kernels/cuda/feed_cuda.h"

#include "kernels/cuda/rows.cuh"

static __global__ void __launch_bounds__(ROWS_THREADS) feed_rows(const struct cuda_feed_args args)
{
    const uint32_t rows = *args.rows;
    const uint32_t step = gridDim.x * ROWS_THREADS;
    for (uint32_t row = blockIdx.x * ROWS_THREADS + threadIdx.x; row < rows; row += step) {
        const uint32_t source = args.source[row];
        const uint32_t id = source > 0 ? args.last_ids[source - 1] : args.ids[row];
        args.ids[row] = id;
        args.history[(uint64_t)args.page[row] * args.page_tokens +
                     args.position[row] % args.page_tokens] = id;
    }
}

int cuda_feed(const struct cuda_feed_args *args, struct CUstream_st *stream)
{
    if (args->rows_max == 0 || args->page_tokens == 0) {
        return -EINVAL;
    }
    const uint32_t wanted = (args->rows_max - 1) / ROWS_THREADS + 1;
    const unsigned blocks = rows_blocks(wanted, args->ctas);
    return GPU_LAUNCH(feed_rows, dim3(blocks), dim3(ROWS_THREADS), 0, stream, *args);
}
