/*
 * choice.h - the arithmetic of a random choice among logits, the same to the last bit on every
 * device. Odds are integers, so their sums are exact and any number of threads may add them up in
 * any order: a draw depends on the logits and the random number alone.
 *
 * Shared by the CPU's sampler (workers/sample.c) and the GPU's (kernels/cuda/choice.cuh), which
 * says beforehand what CHOICE_INLINE is on its device.
 */
#ifndef KERNELS_CHOICE_H
#define KERNELS_CHOICE_H

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#ifndef CHOICE_INLINE
#define CHOICE_INLINE static inline
#endif

/* Odds of 1 are 2^43: those of a million ids add up to less than 2^63. */
enum { CHOICE_UNIT_BITS = 43 };

/* A candidate this many temperatures below the best has odds of a few units or none, so that it is
 * left out: most ids are below it. */
#define CHOICE_NEGLIGIBLE 30.0f

/* Unsigned order of the key is falling order of the value; the zeros have one key. */
CHOICE_INLINE uint32_t choice_key(float value)
{
    const float one_zero = value + 0.0f;
    uint32_t bits;
    memcpy(&bits, &one_zero, sizeof bits);
    return bits & 0x80000000u ? bits : ~bits & 0x7fffffffu;
}

/* 1 / temperature, finite: what odds take a logit's distance from the best one times. */
CHOICE_INLINE float choice_coldness(float temperature)
{
    return fminf(1.0f / temperature, FLT_MAX);
}

/* The upper half of a product. */
CHOICE_INLINE uint32_t choice_scale(uint32_t value, uint32_t fraction)
{
    return (uint32_t)((uint64_t)value * fraction >> 32);
}

/*
 * exp(x) for x <= 0 in units of 2^-43, within 2^-28 of itself and one unit: 2^up * 2^-halvings with
 * up in [0, 1), both from x in units of 2^-32. The polynomial is a minimax fit of 2^up - 1 of our
 * own (error 2^-34); a step of it is one upper product, and none overflows.
 */
CHOICE_INLINE uint64_t choice_odds(float x)
{
    if (!(x > -CHOICE_NEGLIGIBLE - 1.0f)) {
        return 0;
    }
    const uint32_t log2e_rest = 0x71547653u; /* log2(e) - 1 */
    const uint64_t fall = (uint64_t)(-x * 0x1p32f);
    const uint64_t twos =
        fall + (fall >> 32) * log2e_rest + choice_scale((uint32_t)fall, log2e_rest);
    const uint32_t up = 0u - (uint32_t)twos;
    const uint32_t halvings = (uint32_t)((twos + 0xffffffffu) >> 32);
    uint32_t rest = 92044u;
    rest = 617496u + choice_scale(rest, up);
    rest = 5763423u + choice_scale(rest, up);
    rest = 41293032u + choice_scale(rest, up);
    rest = 238392259u + choice_scale(rest, up);
    rest = 1031764554u + choice_scale(rest, up);
    rest = 2977044488u + choice_scale(rest, up);
    const uint64_t power = (UINT64_C(1) << 32) + choice_scale(rest, up);
    return power << (CHOICE_UNIT_BITS - 32) >> halvings;
}

/* floor(sum * share / 2^32), for a sum below 2^63: a share of 1 - 2^-32 at most. */
CHOICE_INLINE uint64_t choice_share(uint64_t sum, uint32_t share)
{
    return (sum >> 32) * share + ((sum & 0xffffffffu) * share >> 32);
}

#endif /* KERNELS_CHOICE_H */
