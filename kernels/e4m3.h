/*
 * e4m3.h - numbers of one byte on the host: a sign, 4 bits of exponent, 3 of mantissa, up to 448,
 * no infinity (Micikevicius et al. 2022). To nearest even; what is larger becomes 448, NaN stays
 * NaN. The device's are in kernels/cuda/e4m3.cuh.
 */
#ifndef KERNELS_E4M3_H
#define KERNELS_E4M3_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define E4M3_MAX 448.0f

static inline float e4m3_to_float(uint8_t value)
{
    const int exponent = value >> 3 & 15;
    const int mantissa = value & 7;
    const float size = (value & 0x7f) == 0x7f ? NAN
                       : exponent == 0        ? ldexpf((float)mantissa, -9)
                                              : ldexpf((float)(mantissa + 8), exponent - 10);
    return value & 0x80 ? -size : size;
}

/* Below 2^-6 the numbers are multiples of 2^-9; above, a float cut to 3 bits of mantissa. */
static inline uint8_t e4m3_from_float(float value)
{
    const float size = fminf(fabsf(value), E4M3_MAX);
    const uint8_t sign = signbit(value) ? 0x80 : 0;
    uint32_t bits;
    if (isnan(value)) {
        return 0x7f;
    }
    if (size < 0x1p-6f) {
        return (uint8_t)(sign | (uint8_t)lrintf(size * 0x1p9f));
    }
    memcpy(&bits, &size, sizeof bits);
    bits = (bits + 0x7ffff + (bits >> 20 & 1)) >> 20;
    return (uint8_t)(sign | (bits - (120 << 3)));
}

/* What a row is worth in steps of e4m3: its largest number becomes 448. A row whose numbers are
 * too small for the inverse to be a float counts as zeros. */
static inline float e4m3_scale(float largest)
{
    return largest > 1e-30f ? largest / E4M3_MAX : 0;
}

static inline float e4m3_inverse(float largest)
{
    return largest > 1e-30f ? E4M3_MAX / largest : 0;
}

#endif /* KERNELS_E4M3_H */
