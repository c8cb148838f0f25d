/*
 * e4m3.cuh - numbers of one byte: a sign, 4 bits of exponent, 3 of mantissa, up to 448, no infinity
 * (Micikevicius et al. 2022). What a KV page may hold instead of acts; each is a bf16 exactly.
 */
#ifndef KERNELS_CUDA_E4M3_CUH
#define KERNELS_CUDA_E4M3_CUH

#include "kernels/cuda/gpu.cuh"

struct gpu_e4m3 {
    uint8_t bits;
};

/* Exponent and mantissa, put where a float has them, are 120 powers of two too low. */
GPU_DEVICE float gpu_float(gpu_e4m3 value)
{
    const uint32_t bits = value.bits & 0x7f;
    const float size = bits == 0x7f ? NAN : __uint_as_float(bits << 20) * 0x1p120f;
    return value.bits & 0x80 ? -size : size;
}

/* To nearest even. What is larger than 448 becomes 448, and NaN the format's own. */
template <> __device__ __forceinline__ gpu_e4m3 gpu_act<gpu_e4m3>(float value)
{
    const uint32_t sign = __float_as_uint(value) >> 24 & 0x80;
    const float size = fminf(fabsf(value), 448);
    const uint32_t bits = __float_as_uint(size);
    const uint32_t small = (uint32_t)rintf(size * 0x1p9f); /* Below 2^-6: multiples of 2^-9. */
    const uint32_t large = (bits + 0x7ffff + (bits >> 20 & 1)) >> 20;
    if (isnan(value)) {
        return {0x7f};
    }
    return {(uint8_t)(sign | (size < 0x1p-6f ? small : large - (120 << 3)))};
}

/* Two e4m3, in bytes 1 and 3 of a register, as two bf16. NaN becomes 480, */
GPU_DEVICE uint32_t gpu_widen_e4m3(uint32_t bytes)
{
    const uint32_t low = (bytes >> 4 & 0x07f007f0u) | (bytes & 0x80008000u);
    return gpu_fma_bf16x2(low, 0x7b807b80u, 0x80008000u); /* low * 2^120 - 0 */
}

/* ... or NaN: of 480 alone the first product is infinite, and infinity times 0 is NaN. */
GPU_DEVICE uint32_t gpu_widen_e4m3_nan(uint32_t bytes)
{
    const uint32_t wide = gpu_widen_e4m3(bytes);
    const uint32_t beyond = gpu_fma_bf16x2(wide, 0x7b097b09u, 0x80008000u); /* * 1.07 * 2^119 */
    return gpu_fma_bf16x2(beyond, 0, wide);
}

#endif /* KERNELS_CUDA_E4M3_CUH */
