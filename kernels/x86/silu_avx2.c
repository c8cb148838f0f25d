/* silu_avx2.c - silu(gate) * up in float, 8 columns at a time; bf16 goes to the specification. Runs
 * on any worker thread over its rows; owns nothing. 8 bytes in, 4 out, about 20 FLOPs an element.
 * Invariant: an element depends on its own two inputs alone. */
#include "kernels/ref/ref.h"
#include "kernels/x86/vector_avx2.h"
#include "kernels/x86/x86.h"

void avx2_silu_mul(const struct kern_silu_mul_args *args, uint32_t first, uint32_t count)
{
    const uint32_t cols = args->cols;
    if (args->dtype != KERN_F32) {
        ref_silu_mul(args, first, count);
        return;
    }
    for (size_t r = first; r < (size_t)first + count; r++) {
        const float *gate = args->gate_up + r * 2 * cols;
        float *y = (float *)args->y + r * cols;
        for (size_t c = 0; c < cols; c += 8) {
            const __m256i mask = vector2_mask(cols - c);
            const __m256 x = _mm256_maskload_ps(gate + c, mask);
            const __m256 grown = vector2_exp(_mm256_sub_ps(_mm256_setzero_ps(), x));
            const __m256 weight = _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1.0f), grown));
            _mm256_maskstore_ps(y + c, mask,
                                _mm256_mul_ps(weight, _mm256_maskload_ps(gate + cols + c, mask)));
        }
    }
}
