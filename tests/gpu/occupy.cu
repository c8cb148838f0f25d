/*
 * occupy.cu - see occupy_cuda.h. Put on lanes by the checks and measurements of tests/gpu; 0 bytes,
 * 0 FLOPs. With 1024 threads a CTA two fit on an SM.
 */
#include "tests/gpu/occupy_cuda.h"

#include "kernels/cuda/gpu.cuh"

enum { OCCUPY_THREADS = 1024 };

static __global__ void __launch_bounds__(OCCUPY_THREADS) occupy(const struct cuda_occupy_args args)
{
    const uint32_t unit = gpu_unit();
    if (threadIdx.x == 0 && args.seen && unit < OCCUPY_UNITS_MAX) {
        atomicAdd(&args.seen[unit], 1u);
    }
    for (const uint64_t start = gpu_now_ns(); gpu_now_ns() - start < args.ns;) {
    }
}

int cuda_occupy(const void *args, struct CUstream_st *stream)
{
    const struct cuda_occupy_args *own = (const struct cuda_occupy_args *)args;
    return GPU_LAUNCH(occupy, dim3(own->ctas), dim3(OCCUPY_THREADS), 0, stream, *own);
}
