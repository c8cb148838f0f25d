/* logits.c - maximum, its smallest id, and the sum of exponentials of one row of logits, the
 * specification. Runs on any worker thread, a row a call; owns nothing. 4 bytes a logit, two
 * passes. Invariant: stats of a row depend on that row alone; with finite = false only that flag
 * means something. */
#include <math.h>

#include "kernels/ref/ref.h"

void ref_logits(const struct kern_logits_args *args)
{
    struct kern_softmax_stats stats = {.max = args->logits[0], .finite = true};
    for (uint32_t i = 0; i < args->vocab; i++) {
        stats.finite = stats.finite && isfinite(args->logits[i]);
        if (args->logits[i] > stats.max) {
            stats.max = args->logits[i];
            stats.argmax = i;
        }
    }
    for (uint32_t i = 0; i < args->vocab && stats.finite; i++) {
        stats.sum += expf(args->logits[i] - stats.max);
    }
    *args->stats = stats;
}
