/*
 * route.c - a token's choice of experts, and the sum of what they gave, the specification. Runs on
 * any worker thread over its rows; owns nothing. The choice reads 4 bytes an expert, the sum moves
 * 4 bytes a column and expert: both small beside the experts' products.
 * Invariant: a row's experts and their order depend on its own logits alone; ids are in range and
 * differ from each other even where a logit is not a number.
 */
#include <math.h>

#include "base/limits.h"
#include "kernels/ref/ref.h"

/* The `used` best of a row, best first: an expert moves up past smaller ones, not past equals. */
static void choose(const struct kern_route_args *args, const float *logits, uint32_t *expert,
                   float *best)
{
    uint32_t count = 0;
    for (uint32_t e = 0; e < args->experts; e++) {
        uint32_t at = count;
        if (count == args->used && !(logits[e] > best[count - 1])) {
            continue;
        }
        at -= count == args->used; /* The last one falls out. */
        count += count < args->used;
        for (; at > 0 && logits[e] > best[at - 1]; at--) {
            best[at] = best[at - 1];
            expert[at] = expert[at - 1];
        }
        best[at] = logits[e];
        expert[at] = e;
    }
}

void ref_route(const struct kern_route_args *args, uint32_t first, uint32_t count)
{
    must(args->used >= 1 && args->used <= LIMIT_EXPERTS_USED_MAX && args->used <= args->experts);
    for (size_t r = first; r < (size_t)first + count; r++) {
        const float *logits = args->logits + r * args->experts;
        float *weight = args->weight + r * args->used;
        float best[LIMIT_EXPERTS_USED_MAX] = {0};
        float sum = 0;
        choose(args, logits, args->expert + r * args->used, best);
        for (uint32_t i = 0; i < args->used; i++) {
            weight[i] = expf(best[i] - best[0]);
            sum += args->normed ? weight[i] : 0;
        }
        for (uint32_t e = 0; e < args->experts && !args->normed; e++) {
            sum += expf(logits[e] - best[0]);
        }
        for (uint32_t i = 0; i < args->used; i++) {
            weight[i] /= sum;
        }
    }
}

void ref_combine(const struct kern_combine_args *args, uint32_t first, uint32_t count)
{
    for (size_t r = first; r < (size_t)first + count; r++) {
        float *x = args->x + r * args->cols;
        for (uint32_t i = 0; i < args->used; i++) {
            const float weight = args->weight[r * args->used + i];
            const float *y = args->y + (size_t)args->slot[r * args->used + i] * args->cols;
            for (size_t c = 0; c < args->cols; c++) {
                x[c] += weight * y[c];
            }
        }
    }
}
