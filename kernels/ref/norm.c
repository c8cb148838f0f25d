/* norm.c - RMS norm (Zhang and Sennrich 2019), the specification. Runs on any worker thread over
 * its rows; owns nothing. 4 bytes in, 2 or 4 out, 4 FLOPs an element.
 * Invariant: the sum runs over the row in order, whatever the other rows are. */
#include <math.h>

#include "kernels/bf16.h"
#include "kernels/ref/ref.h"

void ref_rmsnorm(const struct kern_rmsnorm_args *args, uint32_t first, uint32_t count)
{
    for (size_t r = first; r < (size_t)first + count; r++) {
        const float *x = args->x + r * args->cols;
        float sum = 0;
        for (size_t c = 0; c < args->cols; c++) {
            sum += x[c] * x[c];
        }
        const float scale = 1.0f / sqrtf(sum / (float)args->cols + args->eps);
        for (size_t c = 0; c < args->cols; c++) {
            act_store(args->y, r * args->cols + c, x[c] * scale * args->w[c], args->dtype);
        }
    }
}
