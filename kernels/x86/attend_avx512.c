/* attend_avx512.c - paged attention in float. Runs on any worker thread over its items; scratch is
 * the thread's. Decode moves 8 bytes of KV for 4 FLOPs a query head: bound by memory; prefill by
 * the multiply-add units. Invariant: see attend_math_avx512.h. */
#include "kernels/x86/attend_items_avx512.h"
#include "kernels/x86/x86.h"

static inline __m512 attend_madd(__m512 sum, __m512i a, __m512i b)
{
    return _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), sum);
}

static inline void attend_pack(float *p)
{
    (void)p; /* A unit is a float. */
}

void avx512_attend(const struct kern_attend_args *args, uint32_t first, uint32_t count)
{
    attend_items(args, first, count, 1);
}
