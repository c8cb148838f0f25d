/* route_avx512.c - the sum of what a token's experts gave, 16 columns at a time. Runs on any worker
 * thread over its rows; owns nothing. 4 bytes in a column and expert: bound by memory.
 * Invariant: a column adds its experts in the order of the row's list. */
#include "kernels/x86/vector_avx512.h"
#include "kernels/x86/x86.h"

void avx512_combine(const struct kern_combine_args *args, uint32_t first, uint32_t count)
{
    for (size_t r = first; r < (size_t)first + count; r++) {
        float *x = args->x + r * args->cols;
        const uint32_t *slot = args->slot + r * args->used;
        const float *weight = args->weight + r * args->used;
        for (size_t c = 0; c < args->cols; c += 16) {
            const __mmask16 mask = vector_mask(args->cols - c);
            __m512 sum = _mm512_maskz_loadu_ps(mask, x + c);
            for (uint32_t i = 0; i < args->used; i++) {
                const float *y = args->y + (size_t)slot[i] * args->cols + c;
                sum =
                    _mm512_fmadd_ps(_mm512_set1_ps(weight[i]), _mm512_maskz_loadu_ps(mask, y), sum);
            }
            _mm512_mask_storeu_ps(x + c, mask, sum);
        }
    }
}
