/* bf16.h - bfloat16 as the upper half of a float: to nearest even, NaN stays NaN. */
#ifndef KERNELS_BF16_H
#define KERNELS_BF16_H

#include <stdint.h>
#include <string.h>

#include "kernels/kern.h"

static inline float bf16_to_float(uint16_t value)
{
    const uint32_t bits = (uint32_t)value << 16;
    float out;
    memcpy(&out, &bits, sizeof out);
    return out;
}

static inline uint16_t bf16_from_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return (uint16_t)(bits >> 16 | 0x40); /* Quiet, and still NaN when the low bits are cut. */
    }
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

/* Element i of an act array. */
static inline float act_load(const void *array, size_t i, enum kern_dtype dtype)
{
    return dtype == KERN_F32 ? ((const float *)array)[i]
                             : bf16_to_float(((const uint16_t *)array)[i]);
}

static inline void act_store(void *array, size_t i, float value, enum kern_dtype dtype)
{
    if (dtype == KERN_F32) {
        ((float *)array)[i] = value;
    } else {
        ((uint16_t *)array)[i] = bf16_from_float(value);
    }
}

#endif /* KERNELS_BF16_H */
