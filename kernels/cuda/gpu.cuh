/*
 * gpu.cuh - the words that the kernels of this folder use beside plain C. The only file with
 * machine instructions and with a look at the compiler: nvcc gets them from here; g++ and clang++,
 * which build the same sources for the tests, from tests/kern/emu/emu_language.h, which the build
 * puts in front of each source.
 *
 *   GPU_DEVICE                             a function for the device
 *   GPU_SHARED(name)                       the dynamic shared memory of a launch, as bytes
 *   GPU_SHARED_ARRAY(type, name, count)    instead of __shared__, whose ends the tests cannot see
 *   GPU_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)   0 or -EIO
 */
#ifndef KERNELS_CUDA_GPU_CUH
#define KERNELS_CUDA_GPU_CUH

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __CUDACC__

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#define GPU_DEVICE                          static __device__ __forceinline__
#define GPU_SHARED(name)                    extern __shared__ __align__(128) unsigned char name[]
#define GPU_SHARED_ARRAY(type, name, count) __shared__ type name[count]
#define GPU_LAUNCH(...)                     gpu_launch(__VA_ARGS__)

enum { GPU_SHARED_PLAIN_BYTES = 48 << 10 }; /* Beyond it a kernel has to ask. */

template <class... Takes, class... Given>
static int gpu_launch(void (*kernel)(Takes...), dim3 grid, dim3 block, size_t shared_bytes,
                      struct CUstream_st *stream, const Given &...given)
{
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    if (shared_bytes > GPU_SHARED_PLAIN_BYTES &&
        cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             (int)shared_bytes) != cudaSuccess) {
        return -EIO;
    }
    return cudaLaunchKernelEx(&config, kernel, Takes(given)...) == cudaSuccess ? 0 : -EIO;
}

/* d += A B for tiles 16 x 16 and 16 x 8, in the register layout of mma.m16n8k16. */
GPU_DEVICE void gpu_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* Four 8 x 8 tiles of 16-bit values: lane i gives the address of row i % 8 of tile i / 8. */
GPU_DEVICE void gpu_ldmatrix_x4(uint32_t r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
}

/* The same, each tile transposed. */
GPU_DEVICE void gpu_ldmatrix_x4_trans(uint32_t r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
}

/* Starts a copy of 16 aligned bytes; zeros are written where not valid, and nothing is read. */
GPU_DEVICE void gpu_copy_async16(void *shared, const void *global, bool valid)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                     (uint32_t)__cvta_generic_to_shared(shared)),
                 "l"(global), "r"(valid ? 16 : 0)
                 : "memory");
}

/* Ends a group of copies. */
GPU_DEVICE void gpu_copy_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Waits until at most N of this thread's groups are under way; a barrier tells other threads. */
template <int N> GPU_DEVICE void gpu_copy_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* 2^x; the last two bits may differ from exp2f. */
GPU_DEVICE float gpu_exp2(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* a * b + c of two bf16 each, rounded once. */
GPU_DEVICE uint32_t gpu_fma_bf16x2(uint32_t a, uint32_t b, uint32_t c)
{
    asm("fma.rn.bf16x2 %0, %0, %1, %2;" : "+r"(a) : "r"(b), "r"(c));
    return a;
}

/* A product that is rounded, whatever is added to it next. */
GPU_DEVICE float gpu_product(float a, float b)
{
    return __fmul_rn(a, b);
}

/* A word that another device or lane writes; the store shows all stores before it. */
GPU_DEVICE uint32_t gpu_load_acquire(const uint32_t *word)
{
    uint32_t value;
    asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(word) : "memory");
    return value;
}

GPU_DEVICE void gpu_store_release(uint32_t *word, uint32_t value)
{
    asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(word), "r"(value) : "memory");
}

/* Where and when a thread runs: its SM, and nanoseconds of the device's clock. For measurements:
 * the tests on the CPU have neither. */
GPU_DEVICE uint32_t gpu_unit()
{
    uint32_t unit;
    asm volatile("mov.u32 %0, %%smid;" : "=r"(unit));
    return unit;
}

GPU_DEVICE uint64_t gpu_now_ns()
{
    uint64_t ns;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
    return ns;
}

#elif !defined(EMU_LANGUAGE)
#error "nvcc, or a build with the emulator's language (tests/kern/emu) in front"
#endif

typedef __nv_bfloat16 gpu_bf16;

/* An act (float or bf16) as float, and back, to nearest even. */
GPU_DEVICE float gpu_float(float act)
{
    return act;
}

GPU_DEVICE float gpu_float(gpu_bf16 act)
{
    return __bfloat162float(act);
}

template <class Act> GPU_DEVICE Act gpu_act(float value);

template <> __device__ __forceinline__ float gpu_act<float>(float value)
{
    return value;
}

template <> __device__ __forceinline__ gpu_bf16 gpu_act<gpu_bf16>(float value)
{
    return __float2bfloat16(value);
}

/* Two bf16 in a register, the first in the low half. */
GPU_DEVICE uint32_t gpu_pack_bf16(float low, float high)
{
    return (uint32_t)__bfloat16_as_ushort(__float2bfloat16(high)) << 16 |
           __bfloat16_as_ushort(__float2bfloat16(low));
}

/* Sum and maximum over the 32 lanes of a full warp, in one order for all; every lane gets them. */
GPU_DEVICE float gpu_warp_sum(float value)
{
    for (int distance = 16; distance > 0; distance /= 2) {
        value += __shfl_xor_sync(0xffffffffu, value, distance);
    }
    return value;
}

GPU_DEVICE float gpu_warp_max(float value)
{
    for (int distance = 16; distance > 0; distance /= 2) {
        value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, distance));
    }
    return value;
}

#endif /* KERNELS_CUDA_GPU_CUH */
