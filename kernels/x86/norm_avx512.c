/* norm_avx512.c - RMS norm, 16 columns at a time. Runs on any worker thread over its rows; owns
 * nothing. 4 bytes in, 2 or 4 out, 4 FLOPs an element: bound by L2.
 * Invariant: the order of the sum depends on the number of columns alone. */
#include <math.h>

#include "kernels/x86/vector_avx512.h"
#include "kernels/x86/x86.h"

static float mean_square(const float *x, uint32_t cols)
{
    __m512 sum = _mm512_setzero_ps();
    for (size_t c = 0; c < cols; c += 16) {
        const __m512 v = _mm512_maskz_loadu_ps(vector_mask(cols - c), x + c);
        sum = _mm512_fmadd_ps(v, v, sum);
    }
    return _mm512_reduce_add_ps(sum) / (float)cols;
}

void avx512_rmsnorm(const struct kern_rmsnorm_args *args, uint32_t first, uint32_t count)
{
    for (size_t r = first; r < (size_t)first + count; r++) {
        const float *x = args->x + r * args->cols;
        const __m512 scale = _mm512_set1_ps(1.0f / sqrtf(mean_square(x, args->cols) + args->eps));
        for (size_t c = 0; c < args->cols; c += 16) {
            const __mmask16 mask = vector_mask(args->cols - c);
            const __m512 y = _mm512_mul_ps(_mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + c), scale),
                                           _mm512_maskz_loadu_ps(mask, args->w + c));
            vector_store_act(args->y, r * args->cols + c, mask, y, args->dtype);
        }
    }
}
