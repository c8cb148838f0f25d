/* x86.h - the x86 spellings: each file holds one operation for one instruction set. */
#ifndef KERNELS_X86_X86_H
#define KERNELS_X86_X86_H

#include "kernels/kern.h"

unsigned x86_detect(void);

/* Overrides entries of ops for which isa has something faster. */
void x86_fill(struct kern_ops *ops, unsigned isa);

#endif /* KERNELS_X86_X86_H */
