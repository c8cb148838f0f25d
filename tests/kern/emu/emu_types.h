/*
 * emu_types.h - the types of CUDA that our kernels name, so that the tests need no CUDA toolkit:
 * dim3, vectors, bfloat16. C++; part of emu_language.h.
 */
#ifndef TESTS_KERN_EMU_EMU_TYPES_H
#define TESTS_KERN_EMU_EMU_TYPES_H

#include <stdint.h>
#include <string.h>

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
};

struct alignas(8) float2 {
    float x, y;
};

struct alignas(16) float4 {
    float x, y, z, w;
};

struct alignas(8) uint2 {
    unsigned x, y;
};

struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

static inline float2 make_float2(float x, float y)
{
    return {x, y};
}

static inline float4 make_float4(float x, float y, float z, float w)
{
    return {x, y, z, w};
}

static inline uint2 make_uint2(unsigned x, unsigned y)
{
    return {x, y};
}

static inline unsigned __float_as_uint(float value)
{
    unsigned bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float __uint_as_float(unsigned bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

struct __nv_bfloat16 {
    unsigned short bits;
};

static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 value)
{
    return value.bits;
}

static inline float __bfloat162float(__nv_bfloat16 value)
{
    return __uint_as_float((unsigned)value.bits << 16);
}

/* To nearest even; a NaN becomes the one that the device gives. */
static inline __nv_bfloat16 __float2bfloat16(float value)
{
    const unsigned bits = __float_as_uint(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return {0x7fff};
    }
    return {(unsigned short)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16)};
}

#endif /* TESTS_KERN_EMU_EMU_TYPES_H */
