/* quantise.c - rows to eight bits and 32-bit sums back to float, the specification. Runs on the
 * thread of a product; owns nothing. Symmetric scaling as in Jacob et al. (2018), without a zero
 * point. Invariant: a row's bytes and scale depend on that row alone. */
#include <math.h>

#include "kernels/bf16.h"
#include "kernels/ref/ref.h"

void ref_quantise(const struct kern_quantise_args *args, uint32_t first, uint32_t count)
{
    for (size_t r = first; r < (size_t)first + count; r++) {
        int8_t *q = args->q + r * args->cols;
        float most = 0;
        bool finite = true;
        for (size_t c = 0; c < args->cols; c++) {
            const float x = act_load(args->x, r * args->cols + c, args->dtype);
            most = fmaxf(most, fabsf(x));
            finite = finite && isfinite(x);
        }
        const bool zero = !finite || most < KERN_QUANTISE_MIN;
        const float inverse = zero ? 0 : 127 / most;
        for (size_t c = 0; c < args->cols; c++) {
            const float x = act_load(args->x, r * args->cols + c, args->dtype);
            q[c] = zero ? 0 : (int8_t)lrintf(x * inverse);
        }
        args->scale[r] = !finite ? NAN : zero ? 0 : most / 127;
    }
}

void ref_rescale(const struct kern_rescale_args *args, uint32_t first, uint32_t count)
{
    for (size_t r = first; r < (size_t)first + count; r++) {
        const int32_t *sum = args->sum + r * args->cols;
        float *y = args->y + r * args->y_stride;
        for (size_t c = 0; c < args->cols; c++) {
            const float row = (float)sum[c] * args->row_scale[r];
            const float product = row * args->column_scale[c];
            y[c] = args->accumulate ? y[c] + product : product;
        }
    }
}
