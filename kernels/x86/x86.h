/* x86.h - the x86 spellings: each file holds one operation for one instruction set. */
#ifndef KERNELS_X86_X86_H
#define KERNELS_X86_X86_H

#include "kernels/kern.h"

unsigned x86_detect(void);

/* Overrides entries of ops for which isa has something faster. */
void x86_fill(struct kern_ops *ops, unsigned isa);

void avx2_rmsnorm(const struct kern_rmsnorm_args *args, uint32_t first, uint32_t count);
void avx2_silu_mul(const struct kern_silu_mul_args *args, uint32_t first, uint32_t count);
void avx2_attend(const struct kern_attend_args *args, uint32_t first, uint32_t count);

void avx512_rmsnorm(const struct kern_rmsnorm_args *args, uint32_t first, uint32_t count);
void avx512_silu_mul(const struct kern_silu_mul_args *args, uint32_t first, uint32_t count);
void avx512_rope_append(const struct kern_rope_append_args *args, uint32_t first, uint32_t count);
void avx512_attend(const struct kern_attend_args *args, uint32_t first, uint32_t count);
void avx512_bf16_attend(const struct kern_attend_args *args, uint32_t first, uint32_t count);
void avx512_combine(const struct kern_combine_args *args, uint32_t first, uint32_t count);
void avx512_quantise(const struct kern_quantise_args *args, uint32_t first, uint32_t count);
void avx512_rescale(const struct kern_rescale_args *args, uint32_t first, uint32_t count);
void avx512_logits(const struct kern_logits_args *args);
void avx512_odds(const struct kern_odds_args *args);

#endif /* KERNELS_X86_X86_H */
