/*
 * prng.c - Philox4x32-10 (Salmon et al., SC 2011; the multipliers and Weyl constants are theirs).
 * Called by the sampler in a worker and by seeded tests and tools, on any thread; no state at all.
 */
#include "base/prng.h"

enum { PRNG_ROUNDS = 10 };

struct prng_block {
    uint32_t word[4];
};

static struct prng_block prng_philox(uint64_t key, struct prng_block block)
{
    uint32_t key_low = (uint32_t)key;
    uint32_t key_high = (uint32_t)(key >> 32);
    for (int round = 0; round < PRNG_ROUNDS; round++) {
        const uint64_t a = (uint64_t)0xD2511F53u * block.word[0];
        const uint64_t b = (uint64_t)0xCD9E8D57u * block.word[2];
        block = (struct prng_block){{
            (uint32_t)(b >> 32) ^ block.word[1] ^ key_low,
            (uint32_t)b,
            (uint32_t)(a >> 32) ^ block.word[3] ^ key_high,
            (uint32_t)a,
        }};
        key_low += 0x9E3779B9u;
        key_high += 0xBB67AE85u;
    }
    return block;
}

uint64_t prng_bits(uint64_t seed, uint64_t position, uint32_t draw)
{
    const struct prng_block counter = {{(uint32_t)position, (uint32_t)(position >> 32), draw, 0}};
    const struct prng_block out = prng_philox(seed, counter);
    return (uint64_t)out.word[1] << 32 | out.word[0];
}

float prng_uniform(uint64_t seed, uint64_t position, uint32_t draw)
{
    return (float)(prng_bits(seed, position, draw) >> 40) * 0x1p-24f;
}
