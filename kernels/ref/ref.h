/* ref.h - the specification of every kernel, in plain C. */
#ifndef KERNELS_REF_REF_H
#define KERNELS_REF_REF_H

#include "kernels/kern.h"

void ref_embed(const struct kern_embed_args *args, uint32_t first, uint32_t count);
void ref_rmsnorm(const struct kern_rmsnorm_args *args, uint32_t first, uint32_t count);
void ref_rope_append(const struct kern_rope_append_args *args, uint32_t first, uint32_t count);
void ref_attend(const struct kern_attend_args *args, uint32_t first, uint32_t count);
void ref_silu_mul(const struct kern_silu_mul_args *args, uint32_t first, uint32_t count);
void ref_route(const struct kern_route_args *args, uint32_t first, uint32_t count);
void ref_combine(const struct kern_combine_args *args, uint32_t first, uint32_t count);
void ref_quantise(const struct kern_quantise_args *args, uint32_t first, uint32_t count);
void ref_rescale(const struct kern_rescale_args *args, uint32_t first, uint32_t count);
void ref_logits(const struct kern_logits_args *args);
void ref_odds(const struct kern_odds_args *args);

void ref_fill(struct kern_ops *ops);

#endif /* KERNELS_REF_REF_H */
