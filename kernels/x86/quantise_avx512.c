/* quantise_avx512.c - rows to eight bits and 32-bit sums back to float, 16 columns at a time. Runs
 * on the thread of a product; owns nothing. Reads a row twice, the second time from L1: 2 or 4
 * bytes in, 1 out; back: 4 in, 4 out. Invariant: the same bits as ref/, whatever the other rows
 * are. */
#include <math.h>

#include "kernels/x86/vector_avx512.h"
#include "kernels/x86/x86.h"

/* Bits of the largest magnitude: as integers, those of infinities and NaN are above all numbers. */
static int32_t largest_bits(const struct kern_quantise_args *args, size_t row)
{
    __m512i most = _mm512_setzero_si512();
    for (size_t c = 0; c < args->cols; c += 16) {
        const __m512 x = vector_load_act(args->x, row * args->cols + c, vector_mask(args->cols - c),
                                         args->dtype);
        most = _mm512_max_epi32(most, _mm512_castps_si512(_mm512_abs_ps(x)));
    }
    return _mm512_reduce_max_epi32(most);
}

void avx512_quantise(const struct kern_quantise_args *args, uint32_t first, uint32_t count)
{
    for (size_t r = first; r < (size_t)first + count; r++) {
        const float most =
            _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(largest_bits(args, r))));
        const bool finite = isfinite(most);
        const bool zero = !finite || most < KERN_QUANTISE_MIN;
        const __m512 inverse = _mm512_set1_ps(zero ? 0 : 127 / most);
        for (size_t c = 0; c < args->cols; c += 16) {
            const __mmask16 mask = vector_mask(args->cols - c);
            const __mmask16 taken = zero ? 0 : mask;
            const __m512 x = vector_load_act(args->x, r * args->cols + c, taken, args->dtype);
            const __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse));
            _mm_mask_storeu_epi8(args->q + r * args->cols + c, mask, _mm512_cvtepi32_epi8(q));
        }
        args->scale[r] = !finite ? NAN : zero ? 0 : most / 127;
    }
}

void avx512_rescale(const struct kern_rescale_args *args, uint32_t first, uint32_t count)
{
    for (size_t r = first; r < (size_t)first + count; r++) {
        const int32_t *sum = args->sum + r * args->cols;
        float *y = args->y + r * args->y_stride;
        const __m512 scale = _mm512_set1_ps(args->row_scale[r]);
        for (size_t c = 0; c < args->cols; c += 16) {
            const __mmask16 mask = vector_mask(args->cols - c);
            const __m512 wide = _mm512_cvtepi32_ps(_mm512_maskz_loadu_epi32(mask, sum + c));
            const __m512 row = _mm512_mul_ps(wide, scale);
            const __m512 column = _mm512_maskz_loadu_ps(mask, args->column_scale + c);
            const __m512 before = _mm512_maskz_loadu_ps(args->accumulate ? mask : 0, y + c);
            const __m512 product = _mm512_mul_ps(row, column);
            _mm512_mask_storeu_ps(y + c, mask,
                                  args->accumulate ? _mm512_add_ps(before, product) : product);
        }
    }
}
