/*
 * emu_language.h - CUDA C as the kernels of kernels/cuda/ use it, for g++ and clang++. The build
 * puts this file in front of each .cu source. Only what they use is here: what is missing is added
 * with its first user. C++.
 */
#ifndef TESTS_KERN_EMU_EMU_LANGUAGE_H
#define TESTS_KERN_EMU_EMU_LANGUAGE_H

#define EMU_LANGUAGE 1

#include <math.h>
#include <string.h>

#include "tests/kern/emu/emu_copies.h"
#include "tests/kern/emu/emu_launch.h"
#include "tests/kern/emu/emu_shared.h"
#include "tests/kern/emu/emu_tensor.h"
#include "tests/kern/emu/emu_types.h"
#include "tests/kern/emu/emu_warp.h"

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define GPU_DEVICE [[maybe_unused]] static inline

#define GPU_SHARED(name) unsigned char *const name = (unsigned char *)emu_here()->shared
#define GPU_SHARED_ARRAY(type, name, count)                                                        \
    static const char name##_key = 0;                                                              \
    type *const name = (type *)emu_shared_array(emu_here(), &name##_key, sizeof(type) * (count))
#define GPU_LAUNCH(...) gpu_launch(__VA_ARGS__)

#define threadIdx (emu_here()->threads[emu_here()->current].index)
#define blockIdx  (emu_here()->index)
#define blockDim  (emu_here()->launch->block)
#define gridDim   (emu_here()->launch->grid)

/* The block that runs on this host thread. */
inline emu_block *&emu_here()
{
    static thread_local emu_block *block = nullptr;
    return block;
}

template <class... Takes, class... Given>
static int gpu_launch(void (*kernel)(Takes...), dim3 grid, dim3 block, size_t shared_bytes,
                      CUstream_st *stream, const Given &...given)
{
    auto call = [=] { kernel(given...); };
    emu_launch launch = {};
    launch.grid = {grid.x, grid.y, grid.z};
    launch.block = {block.x, block.y, block.z};
    launch.shared_bytes = shared_bytes;
    launch.closure = new decltype(call)(call);
    launch.body = [](emu_block *here, const void *closure) {
        emu_here() = here;
        (*static_cast<const decltype(call) *>(closure))();
    };
    launch.release = [](void *closure) { delete static_cast<decltype(call) *>(closure); };
    return emu_launch_submit(stream, &launch);
}

static inline void __syncthreads(int line = __builtin_LINE())
{
    (void)emu_block_sync(emu_here(), line, false);
}

static inline int __syncthreads_or(int predicate, int line = __builtin_LINE())
{
    return emu_block_sync(emu_here(), line, predicate != 0) > 0;
}

static inline int __syncthreads_and(int predicate, int line = __builtin_LINE())
{
    return emu_block_sync(emu_here(), line, predicate == 0) == 0;
}

static inline void __syncwarp(uint32_t mask = 0xffffffffu)
{
    emu_warp_meet(emu_here(), EMU_SYNC, mask);
}

template <class T> static inline T emu_shuffle(uint32_t mask, T value, uint32_t source)
{
    static_assert(sizeof(T) <= sizeof(uint64_t), "a shuffle moves a register");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = emu_warp_shuffle(emu_here(), mask, bits, source);
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t emu_lane_id()
{
    return emu_here()->current % EMU_WARP;
}

template <class T> static inline T __shfl_sync(uint32_t mask, T value, int lane, int width = 32)
{
    const uint32_t first = emu_lane_id() & ~(uint32_t)(width - 1);
    return emu_shuffle(mask, value, first + ((uint32_t)lane & (uint32_t)(width - 1)));
}

template <class T> static inline T __shfl_xor_sync(uint32_t mask, T value, int bits)
{
    return emu_shuffle(mask, value, emu_lane_id() ^ (uint32_t)bits);
}

template <class T> static inline T __shfl_down_sync(uint32_t mask, T value, unsigned distance)
{
    const uint32_t lane = emu_lane_id();
    return emu_shuffle(mask, value, lane + distance < EMU_WARP ? lane + distance : lane);
}

template <class T> static inline T __shfl_up_sync(uint32_t mask, T value, unsigned distance)
{
    const uint32_t lane = emu_lane_id();
    return emu_shuffle(mask, value, lane >= distance ? lane - distance : lane);
}

static inline uint32_t __ballot_sync(uint32_t mask, int predicate)
{
    return emu_warp_ballot(emu_here(), mask, predicate != 0);
}

static inline int __all_sync(uint32_t mask, int predicate)
{
    return __ballot_sync(mask, predicate == 0) == 0;
}

#include "tests/kern/emu/emu_words.h"

#endif /* TESTS_KERN_EMU_EMU_LANGUAGE_H */
