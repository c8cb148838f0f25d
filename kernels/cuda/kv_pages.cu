/*
 * kv_pages.cu - moves whole pages of KV: from the pool to staging and back, and within the pool.
 * The engine copies pages before a step; to staging and back nothing goes yet: that is for tiers of
 * KV outside the device. Each byte is read and written once, 16 a thread, nothing is computed.
 * Occupancy aim: 2048 threads an SM. Share of peak: not measured. Invariant: a word of a page is
 * moved by one thread, so copies of one pair after the other need no barrier between the pairs.
 */
#include "kernels/cuda/kv_pages_cuda.h"

#include "kernels/cuda/rows.cuh"

enum { WORD_BYTES = 16 };

template <bool ToStaging>
static __global__ void __launch_bounds__(ROWS_THREADS)
    kv_pages_move(const struct cuda_kv_pages_args args)
{
    const uint64_t words = args.page_bytes / WORD_BYTES;
    const uint64_t all = (uint64_t)*args.count * args.layers * words;
    const uint64_t stride = (uint64_t)gridDim.x * ROWS_THREADS;
    uint4 *staging = (uint4 *)args.staging;
    for (uint64_t i = (uint64_t)blockIdx.x * ROWS_THREADS + threadIdx.x; i < all; i += stride) {
        const uint64_t piece = i / words; /* Page of one layer. */
        const uint64_t page = args.pages[piece / args.layers];
        const uint64_t layer = piece % args.layers;
        uint4 *pool =
            (uint4 *)((uint8_t *)args.pool + layer * args.layer_bytes) + page * words + i % words;
        if (ToStaging) {
            staging[i] = *pool;
        } else {
            *pool = staging[i];
        }
    }
}

static __global__ void __launch_bounds__(ROWS_THREADS)
    kv_pages_copy(const struct cuda_kv_pages_copy_args args)
{
    const uint64_t words = args.page_bytes / WORD_BYTES;
    const uint64_t stride = (uint64_t)gridDim.x * ROWS_THREADS;
    const uint64_t all = args.layers * words;
    for (uint64_t i = (uint64_t)blockIdx.x * ROWS_THREADS + threadIdx.x; i < all; i += stride) {
        uint4 *word = (uint4 *)((uint8_t *)args.pool + i / words * args.layer_bytes) + i % words;
        for (uint32_t pair = 0; pair < args.count; pair++) {
            word[args.target[pair] * words] = word[args.source[pair] * words];
        }
    }
}

static dim3 blocks_for(uint64_t words, uint32_t ctas)
{
    return dim3(rows_blocks((words + ROWS_THREADS - 1) / ROWS_THREADS, ctas));
}

/* Whether pages are whole words at whole words. */
static bool fits(const void *pool, uint64_t layer_bytes, uint64_t page_bytes)
{
    return ((uintptr_t)pool | layer_bytes | page_bytes) % WORD_BYTES == 0 && page_bytes > 0;
}

template <bool ToStaging>
static int move(const struct cuda_kv_pages_args *args, struct CUstream_st *stream)
{
    const uint64_t words = (uint64_t)args->count_max * args->layers * args->page_bytes / WORD_BYTES;
    if (words == 0 || (uintptr_t)args->staging % WORD_BYTES != 0 ||
        !fits(args->pool, args->layer_bytes, args->page_bytes)) {
        return -EINVAL;
    }
    return GPU_LAUNCH(kv_pages_move<ToStaging>, blocks_for(words, args->ctas), dim3(ROWS_THREADS),
                      0, stream, *args);
}

int cuda_kv_pages_gather(const struct cuda_kv_pages_args *args, struct CUstream_st *stream)
{
    return move<true>(args, stream);
}

int cuda_kv_pages_scatter(const struct cuda_kv_pages_args *args, struct CUstream_st *stream)
{
    return move<false>(args, stream);
}

int cuda_kv_pages_copy(const struct cuda_kv_pages_copy_args *args, struct CUstream_st *stream)
{
    const uint64_t words = args->layers * args->page_bytes / WORD_BYTES;
    if (words == 0 || args->count > CUDA_KV_PAGES_PAIRS_MAX ||
        !fits(args->pool, args->layer_bytes, args->page_bytes)) {
        return -EINVAL;
    }
    return GPU_LAUNCH(kv_pages_copy, blocks_for(words, args->ctas), dim3(ROWS_THREADS), 0, stream,
                      *args);
}
