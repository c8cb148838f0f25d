/*
 * check_cuda_gpu.c - the streams of check_cuda.h on a GPU, with the same checks as on the emulator.
 * They hand the kernels addresses of their heap blocks and of their own variables: here both lie in
 * pinned host memory, which the GPU reads and writes over the bus. So every block is an allocation
 * of its own for compute-sanitizer, and main() runs on a pinned stack. Slow, and meant to be: this
 * is about right and wrong.
 *
 * The build renames malloc() and free() of the checks to check_gpu_*() and main() is reached
 * through the linker's --wrap. Launches wait for their kernel (CUDA_LAUNCH_BLOCKING): the checks
 * look at once. Exit status 3: no GPU.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cuda_runtime_api.h>

#include "base/must.h"
#include "tests/kern/check_cuda.h"

enum { STACK_BYTES = 8 << 20, EXIT_NO_GPU = 3 };

void *check_gpu_malloc(size_t bytes);
void *check_gpu_aligned(size_t alignment, size_t bytes);
void *check_gpu_calloc(size_t count, size_t bytes);
void check_gpu_free(void *block);
int __real_main(int argc, char **argv);
int __wrap_main(int argc, char **argv);

void *check_gpu_malloc(size_t bytes)
{
    void *block = NULL;
    must(cudaHostAlloc(&block, bytes > 0 ? bytes : 1, cudaHostAllocMapped) == cudaSuccess);
    return block;
}

void *check_gpu_aligned(size_t alignment, size_t bytes)
{
    must(alignment <= 256); /* What the runtime aligns to. */
    return check_gpu_malloc(bytes);
}

void *check_gpu_calloc(size_t count, size_t bytes)
{
    return memset(check_gpu_malloc(count * bytes), 0, count * bytes);
}

void check_gpu_free(void *block)
{
    must(cudaFreeHost(block) == cudaSuccess);
}

struct CUstream_st *check_cuda_open(uint32_t schedule)
{
    struct CUstream_st *stream = NULL;
    must(schedule < CHECK_CUDA_SCHEDULES);
    must(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
    return stream;
}

void check_cuda_close(struct CUstream_st *stream)
{
    must(cudaStreamSynchronize(stream) == cudaSuccess);
    must(cudaStreamDestroy(stream) == cudaSuccess);
}

struct call {
    int argc;
    char **argv;
    int status;
};

static void *run_main(void *data)
{
    struct call *call = data;
    call->status = __real_main(call->argc, call->argv);
    return NULL;
}

int __wrap_main(int argc, char **argv)
{
    struct call call = {argc, argv, EXIT_FAILURE};
    int count = 0;
    pthread_attr_t attributes;
    pthread_t thread;
    must(setenv("CUDA_LAUNCH_BLOCKING", "1", 1) == 0);
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error || count == 0) {
        (void)fprintf(stderr, "no CUDA device: %s\n", cudaGetErrorString(error));
        return EXIT_NO_GPU;
    }
    must(pthread_attr_init(&attributes) == 0);
    must(pthread_attr_setstack(&attributes, check_gpu_malloc(STACK_BYTES), STACK_BYTES) == 0);
    must(pthread_create(&thread, &attributes, run_main, &call) == 0);
    must(pthread_join(thread, NULL) == 0);
    return call.status;
}
