/* norm_avx2.c - RMS norm in float, 8 columns at a time; bf16 goes to the specification. Runs on any
 * worker thread over its rows; owns nothing. 4 bytes in, 4 out, 4 FLOPs an element: bound by L2.
 * Invariant: the order of the sum depends on the number of columns alone. */
#include <math.h>

#include "kernels/ref/ref.h"
#include "kernels/x86/vector_avx2.h"
#include "kernels/x86/x86.h"

void avx2_rmsnorm(const struct kern_rmsnorm_args *args, uint32_t first, uint32_t count)
{
    const uint32_t cols = args->cols;
    if (args->dtype != KERN_F32) {
        ref_rmsnorm(args, first, count);
        return;
    }
    for (size_t r = first; r < (size_t)first + count; r++) {
        const float *x = args->x + r * cols;
        float *y = (float *)args->y + r * cols;
        __m256 sum = _mm256_setzero_ps();
        for (size_t c = 0; c < cols; c += 8) {
            const __m256 v = _mm256_maskload_ps(x + c, vector2_mask(cols - c));
            sum = _mm256_fmadd_ps(v, v, sum);
        }
        const __m256 scale =
            _mm256_set1_ps(1.0f / sqrtf(vector2_sum(sum) / (float)cols + args->eps));
        for (size_t c = 0; c < cols; c += 8) {
            const __m256i mask = vector2_mask(cols - c);
            const __m256 v = _mm256_mul_ps(_mm256_maskload_ps(x + c, mask), scale);
            _mm256_maskstore_ps(y + c, mask,
                                _mm256_mul_ps(v, _mm256_maskload_ps(args->w + c, mask)));
        }
    }
}
