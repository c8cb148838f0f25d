/* odds_avx512.c - the odds of a row's candidates, 8 at a time: choice_odds() step by step, an
 * integer in each lane of 64 bits. Runs on any worker thread, a row a call; owns nothing. 4 bytes
 * in and 8 out a candidate, about 25 instructions a vector. Invariant: the bits of ref/odds.c. */
#include <immintrin.h>

#include "kernels/choice.h"
#include "kernels/x86/x86.h"

/* The upper halves of products of lanes below 2^32. */
static __m512i scale(__m512i value, __m512i fraction)
{
    return _mm512_srli_epi64(_mm512_mul_epu32(value, fraction), 32);
}

/* 2^up - 1 for up in units of 2^-32, by the polynomial of choice.h. */
static __m512i power_rest(__m512i up)
{
    static const uint32_t steps[] = {617496u,    5763423u,    41293032u,
                                     238392259u, 1031764554u, 2977044488u};
    __m512i rest = _mm512_set1_epi64(92044);
    for (uint32_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        rest = _mm512_add_epi64(_mm512_set1_epi64(steps[i]), scale(rest, up));
    }
    return scale(rest, up);
}

/* As choice_odds(), of each lane. */
static __m512i odds_of(__m256 x)
{
    const __m512i low = _mm512_set1_epi64(0xffffffff);
    const __m512i log2e_rest = _mm512_set1_epi64(0x71547653);
    const __mmask8 counts =
        _mm256_cmp_ps_mask(x, _mm256_set1_ps(-CHOICE_NEGLIGIBLE - 1.0f), _CMP_GT_OQ);
    const __m256 fall_2_32 = _mm256_mul_ps(x, _mm256_set1_ps(-0x1p32f));
    const __m512i fall = _mm512_maskz_cvttps_epu64(counts, fall_2_32);
    const __m512i twos = _mm512_add_epi64(
        _mm512_add_epi64(fall, _mm512_mul_epu32(_mm512_srli_epi64(fall, 32), log2e_rest)),
        scale(fall, log2e_rest));
    const __m512i up = _mm512_and_epi64(_mm512_sub_epi64(_mm512_setzero_si512(), twos), low);
    const __m512i halvings = _mm512_srli_epi64(_mm512_add_epi64(twos, low), 32);
    const __m512i power = _mm512_add_epi64(_mm512_set1_epi64(INT64_C(1) << 32), power_rest(up));
    const __m512i odds =
        _mm512_srlv_epi64(_mm512_slli_epi64(power, CHOICE_UNIT_BITS - 32), halvings);
    return _mm512_maskz_mov_epi64(counts, odds);
}

void avx512_odds(const struct kern_odds_args *args)
{
    const __m256 max = _mm256_set1_ps(args->max);
    const __m256 coldness = _mm256_set1_ps(args->coldness);
    for (uint32_t i = 0; i < args->count; i += 8) {
        const uint32_t left = args->count - i;
        const __mmask8 mask = (__mmask8)(left < 8 ? (1u << left) - 1 : 0xff);
        const __m256 value = _mm256_maskz_loadu_ps(mask, args->values + i);
        const __m512i odds = odds_of(_mm256_mul_ps(_mm256_sub_ps(value, max), coldness));
        _mm512_mask_storeu_epi64(args->odds + i, mask, odds);
    }
}
