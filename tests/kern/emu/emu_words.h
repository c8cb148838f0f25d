/*
 * emu_words.h - the rest of emu_language.h: atomics, fences, fast arithmetic, and the words of
 * gpu.cuh. C++; included at the end of emu_language.h alone.
 */
#ifndef TESTS_KERN_EMU_EMU_WORDS_H
#define TESTS_KERN_EMU_EMU_WORDS_H

#include <math.h>
#include <sched.h>

#include "tests/kern/emu/emu_language.h"

template <class T> static inline T min(T a, T b)
{
    return b < a ? b : a;
}

template <class T> static inline T atomicAdd(T *word, T value)
{
    return __atomic_fetch_add(word, value, __ATOMIC_SEQ_CST);
}

template <class T> static inline T atomicExch(T *word, T value)
{
    return __atomic_exchange_n(word, value, __ATOMIC_SEQ_CST);
}

template <class T> static inline T atomicOr(T *word, T value)
{
    return __atomic_fetch_or(word, value, __ATOMIC_SEQ_CST);
}

static inline int __popc(unsigned bits)
{
    return __builtin_popcount(bits);
}

static inline int __clz(unsigned bits)
{
    return bits ? __builtin_clz(bits) : 32;
}

static inline int __ffs(unsigned bits)
{
    return __builtin_ffs((int)bits);
}

GPU_DEVICE void gpu_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    emu_tensor_mma(emu_here(), d, a, b);
}

GPU_DEVICE void gpu_ldmatrix_x4(uint32_t r[4], const void *row)
{
    emu_tensor_ldmatrix(emu_here(), r, row, false);
}

GPU_DEVICE void gpu_ldmatrix_x4_trans(uint32_t r[4], const void *row)
{
    emu_tensor_ldmatrix(emu_here(), r, row, true);
}

GPU_DEVICE void gpu_copy_async16(void *shared, const void *global, bool valid)
{
    emu_copies_start(emu_here(), shared, global, valid);
}

GPU_DEVICE void gpu_copy_commit()
{
    emu_copies_commit(emu_here());
}

template <int N> GPU_DEVICE void gpu_copy_wait()
{
    emu_copies_wait(emu_here(), N);
}

/* The product of two bf16 is a float exactly; the sum is rounded twice, which no kernel minds. */
GPU_DEVICE uint32_t gpu_fma_bf16x2(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t sums = 0;
    for (int i = 0; i < 32; i += 16) {
        const float sum = __uint_as_float(a >> i << 16) * __uint_as_float(b >> i << 16) +
                          __uint_as_float(c >> i << 16);
        sums |= (uint32_t)__bfloat16_as_ushort(__float2bfloat16(sum)) << i;
    }
    return sums;
}

GPU_DEVICE float gpu_exp2(float x)
{
    return exp2f(x);
}

GPU_DEVICE float gpu_product(float a, float b)
{
    return a * b;
}

/* Whoever polls gives way: to the block's other threads, and to the other rank's host thread. */
GPU_DEVICE uint32_t gpu_load_acquire(const uint32_t *word)
{
    emu_block_yield(emu_here());
    sched_yield();
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

GPU_DEVICE void gpu_store_release(uint32_t *word, uint32_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

#endif /* TESTS_KERN_EMU_EMU_WORDS_H */
