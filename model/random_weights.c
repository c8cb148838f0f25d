/*
 * random_weights.c - see random_weights.h. Called by weights.c on any of a worker's loading
 * threads; owns nothing. Four numbers of 16 bits from one draw: eight billion of them are drawn at
 * a start.
 */
#include "model/random_weights.h"

#include <math.h>

#include "base/prng.h"

enum { PER_DRAW = 4, LEVELS = 1 << 16, LEVELS_HALF = LEVELS / 2 };

void random_weights_row(uint64_t seed, uint32_t tensor, uint32_t row, uint32_t cols, float *out)
{
    const float reach = sqrtf(3.0f / (float)cols);
    const uint64_t draws = (cols - 1) / PER_DRAW + 1;
    for (uint32_t i = 0; i < cols; i += PER_DRAW) {
        uint64_t bits = prng_bits(seed, row * draws + i / PER_DRAW, tensor);
        for (uint32_t j = i; j < cols && j < i + PER_DRAW; j++) {
            const float level = (float)(bits % LEVELS) + 0.5f;
            out[j] = reach * (level / LEVELS_HALF - 1.0f);
            bits /= LEVELS;
        }
    }
}
