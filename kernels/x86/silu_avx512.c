/* silu_avx512.c - silu(gate) * up, 16 columns at a time. Runs on any worker thread over its rows;
 * owns nothing. 8 bytes in, 2 or 4 out, about 20 FLOPs an element: bound by L2.
 * Invariant: an element depends on its own two inputs alone. */
#include "kernels/x86/vector_avx512.h"
#include "kernels/x86/x86.h"

void avx512_silu_mul(const struct kern_silu_mul_args *args, uint32_t first, uint32_t count)
{
    const __m512 one = _mm512_set1_ps(1.0f);
    for (size_t r = first; r < (size_t)first + count; r++) {
        const float *gate = args->gate_up + r * 2 * args->cols;
        const float *up = gate + args->cols;
        for (size_t c = 0; c < args->cols; c += 16) {
            const __mmask16 mask = vector_mask(args->cols - c);
            const __m512 x = _mm512_maskz_loadu_ps(mask, gate + c);
            const __m512 grown = vector_exp(_mm512_sub_ps(_mm512_setzero_ps(), x));
            const __m512 y = _mm512_mul_ps(_mm512_div_ps(x, _mm512_add_ps(one, grown)),
                                           _mm512_maskz_loadu_ps(mask, up + c));
            vector_store_act(args->y, r * args->cols + c, mask, y, args->dtype);
        }
    }
}
