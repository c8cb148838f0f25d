/* odds.c - the odds of a row's candidates, the specification. Runs on any worker thread, a row a
 * call; owns nothing. 4 bytes in and 8 out a candidate. Invariant: the odds of a candidate depend
 * on its own value, the largest one and the temperature alone. */
#include "kernels/choice.h"
#include "kernels/ref/ref.h"

void ref_odds(const struct kern_odds_args *args)
{
    for (uint32_t i = 0; i < args->count; i++) {
        args->odds[i] = choice_odds((args->values[i] - args->max) * args->coldness);
    }
}
