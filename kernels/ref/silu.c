/* silu.c - silu(gate) * up, the specification. Runs on any worker thread over its rows; owns
 * nothing. 8 bytes in, 2 or 4 out an element.
 * Invariant: an element depends on its own two inputs alone. */
#include <math.h>

#include "kernels/bf16.h"
#include "kernels/ref/ref.h"

void ref_silu_mul(const struct kern_silu_mul_args *args, uint32_t first, uint32_t count)
{
    for (size_t r = first; r < (size_t)first + count; r++) {
        const float *gate = args->gate_up + r * 2 * args->cols;
        const float *up = gate + args->cols;
        for (size_t c = 0; c < args->cols; c++) {
            const float y = gate[c] / (1.0f + expf(-gate[c])) * up[c];
            act_store(args->y, r * args->cols + c, y, args->dtype);
        }
    }
}
