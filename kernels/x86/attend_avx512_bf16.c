/* attend_avx512_bf16.c - paged attention in bf16 through dpbf16. Runs on any worker thread over its
 * items; scratch is the thread's. Weights of a block are rounded to bf16 before they meet V, as the
 * specification does; sums stay float. Invariant: see attend_math_avx512.h. */
#include "kernels/x86/attend_items_avx512.h"
#include "kernels/x86/x86.h"

static inline __m512 attend_madd(__m512 sum, __m512i a, __m512i b)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
}

static inline void attend_pack(float *p)
{
    for (size_t i = 0; i < KERN_ATTEND_BLOCK; i += 32) {
        const __m512bh pairs =
            _mm512_cvtne2ps_pbh(_mm512_loadu_ps(p + i + 16), _mm512_loadu_ps(p + i));
        _mm512_storeu_si512(p + i / 2, (__m512i)pairs);
    }
}

void avx512_bf16_attend(const struct kern_attend_args *args, uint32_t first, uint32_t count)
{
    attend_items(args, first, count, 2);
}
