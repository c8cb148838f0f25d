/* fill.c - puts ref/ into the kernel table. Called first of all spellings, at start, by kern.c on
 * the main thread of a process; owns nothing.
 * Invariant: every entry is set here, so that later spellings may leave any of them alone. */
#include "kernels/ref/ref.h"

void ref_fill(struct kern_ops *ops)
{
    *ops = (struct kern_ops){
        .embed = ref_embed,
        .rmsnorm = ref_rmsnorm,
        .rope_append = ref_rope_append,
        .attend = ref_attend,
        .silu_mul = ref_silu_mul,
        .route = ref_route,
        .combine = ref_combine,
        .quantise = ref_quantise,
        .rescale = ref_rescale,
        .logits = ref_logits,
        .odds = ref_odds,
    };
}
