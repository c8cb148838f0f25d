/*
 * tokens.cu - see tokens_cuda.h. Called once a step, first of all on the head's lane, so that a
 * step may be put on the device before the host knows what the one before sampled.
 *
 * Memory: 24 bytes a token, a few of them scattered. Bound by latency; share of peak: not measured.
 */
#include "kernels/cuda/tokens_cuda.h"

#include "kernels/cuda/gpu.cuh"

enum { TOKENS_THREADS = 256 };

__global__ void __launch_bounds__(TOKENS_THREADS) tokens(const struct cuda_tokens_args args)
{
    const uint32_t t = blockIdx.x * blockDim.x + threadIdx.x;
    if (t >= *args.tokens) {
        return;
    }
    const uint32_t given = args.given[t];
    const uint32_t id = given & CUDA_TOKENS_LAST ? args.last_ids[given & ~CUDA_TOKENS_LAST] : given;
    const size_t page = args.page[t];
    args.ids[t] = id;
    args.history[page * args.page_tokens + args.position[t] % args.page_tokens] = id;
}

int cuda_tokens(const struct cuda_tokens_args *args, struct CUstream_st *stream)
{
    if (args->tokens_max == 0 || args->page_tokens == 0) {
        return -EINVAL;
    }
    const uint32_t blocks = (args->tokens_max + TOKENS_THREADS - 1) / TOKENS_THREADS;
    return GPU_LAUNCH(tokens, dim3(blocks), dim3(TOKENS_THREADS), 0, stream, *args);
}
