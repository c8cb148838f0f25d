/*
 * prng.h - counter-based random numbers: a pure function of (seed, position, draw).
 *
 * Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). The
 * same request seed and token position give the same number alone, in a batch and in a replay.
 */
#ifndef BASE_PRNG_H
#define BASE_PRNG_H

#include <stdint.h>

/* 64 uniform bits. */
uint64_t prng_bits(uint64_t seed, uint64_t position, uint32_t draw);

/* Uniform in [0, 1) with 24 bits: exact in float. */
float prng_uniform(uint64_t seed, uint64_t position, uint32_t draw);

#endif /* BASE_PRNG_H */
