/* logits_avx512.c - maximum, its smallest id, and the sum of exponentials of one row, 16 logits at
 * a time. Runs on any worker thread, a row a call; owns nothing. 4 bytes a logit, two passes: bound
 * by L2. Invariant: the order of the sum depends on the vocabulary's size alone. */
#include <math.h>

#include "kernels/x86/vector_avx512.h"
#include "kernels/x86/x86.h"

/* Smallest index of a value that is known to be there. */
static uint32_t find_first(const float *logits, uint32_t vocab, float value)
{
    for (uint32_t i = 0; i < vocab; i += 16) {
        const __mmask16 mask = vector_mask(vocab - i);
        const __mmask16 equal = _mm512_mask_cmp_ps_mask(
            mask, _mm512_maskz_loadu_ps(mask, logits + i), _mm512_set1_ps(value), _CMP_EQ_OQ);
        if (equal) {
            return i + (uint32_t)__builtin_ctz(equal);
        }
    }
    return 0;
}

void avx512_logits(const struct kern_logits_args *args)
{
    const float *logits = args->logits;
    const __m512 lowest = _mm512_set1_ps(-INFINITY);
    __m512 max = lowest;
    __m512 sum = _mm512_setzero_ps();
    __mmask16 odd = 0; /* Lanes that met a NaN or an infinity. */
    struct kern_softmax_stats stats = {0};
    for (uint32_t i = 0; i < args->vocab; i += 16) {
        const __mmask16 mask = vector_mask(args->vocab - i);
        const __m512 x = _mm512_mask_loadu_ps(lowest, mask, logits + i);
        odd |= _mm512_mask_fpclass_ps_mask(mask, x, 0x99); /* QNaN, +-infinity, SNaN. */
        max = _mm512_max_ps(max, x);
    }
    stats.finite = odd == 0;
    if (stats.finite) {
        stats.max = _mm512_reduce_max_ps(max);
        stats.argmax = find_first(logits, args->vocab, stats.max);
        for (uint32_t i = 0; i < args->vocab; i += 16) {
            const __m512 x = _mm512_mask_loadu_ps(lowest, vector_mask(args->vocab - i), logits + i);
            sum = _mm512_add_ps(sum, vector_exp(_mm512_sub_ps(x, _mm512_set1_ps(stats.max))));
        }
        stats.sum = _mm512_reduce_add_ps(sum);
    }
    *args->stats = stats;
}
