/* vector_avx512.h - what the AVX-512 spellings share: exp, bf16 conversion, 16 act values at a
 * time. */
#ifndef KERNELS_X86_VECTOR_AVX512_H
#define KERNELS_X86_VECTOR_AVX512_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kern.h"

static inline __mmask16 vector_mask(size_t left)
{
    const uint32_t lanes = left >= 16 ? 0xffffu : (1u << left) - 1u;
    return (__mmask16)lanes;
}

/* exp(x) to about 1e-7 relative: 2^n e^r with |r| <= ln(2) / 2 and e^r by its Taylor series to the
 * 7th power. Below -104 it is 0, NaN stays NaN. */
static inline __m512 vector_exp(__m512 x)
{
    const __m512 ln2_high = _mm512_set1_ps(0.693359375f);
    const __m512 ln2_low = _mm512_set1_ps(-2.12194440e-4f);
    x = _mm512_max_ps(_mm512_set1_ps(-110.0f), x); /* This order keeps a NaN. */
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)),
                                          _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fnmadd_ps(n, ln2_high, x);
    r = _mm512_fnmadd_ps(n, ln2_low, r);
    __m512 y = _mm512_set1_ps(1.0f / 5040);
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f / 720));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f / 120));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f / 24));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f / 6));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(0.5f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(y, n);
}

/* Values [i, i + 16) of an act array, as far as mask goes, else 0. */
static inline __m512 vector_load_act(const void *array, size_t i, __mmask16 mask,
                                     enum kern_dtype dtype)
{
    if (dtype == KERN_F32) {
        return _mm512_maskz_loadu_ps(mask, (const float *)array + i);
    }
    const __m256i half = _mm256_maskz_loadu_epi16(mask, (const uint16_t *)array + i);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

/* To nearest even; a NaN becomes quiet. */
static inline __m256i vector_to_bf16(__m512 x)
{
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i round = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    __m512i rounded = _mm512_add_epi32(bits, round);
    rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
}

/* Values [i, i + 16) of an act array, as far as mask goes. */
static inline void vector_store_act(void *array, size_t i, __mmask16 mask, __m512 x,
                                    enum kern_dtype dtype)
{
    if (dtype == KERN_F32) {
        _mm512_mask_storeu_ps((float *)array + i, mask, x);
    } else {
        _mm256_mask_storeu_epi16((uint16_t *)array + i, mask, vector_to_bf16(x));
    }
}

#endif /* KERNELS_X86_VECTOR_AVX512_H */
