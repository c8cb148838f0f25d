/*
 * kern.c - fills the kernel table, slowest spelling first, then what the machine has. Called once a
 * process at start; owns nothing. Invariant: the table is complete on return, since ref/ has all.
 */
#include "kernels/kern.h"

#include "base/checked.h"
#include "kernels/kv_layout.h"
#include "kernels/ref/ref.h"
#include "kernels/x86/x86.h"

void kern_ops_init(struct kern_ops *ops, unsigned isa)
{
    ref_fill(ops);
    x86_fill(ops, isa);
}

unsigned kern_isa_detect(void)
{
    return x86_detect();
}

const char *kern_version(void)
{
    return KERN_VERSION;
}

const char *kern_cuda_version(void)
{
    return KERN_CUDA_VERSION;
}

size_t kern_kv_page_bytes(enum kern_dtype dtype, uint32_t page_tokens, uint32_t kv_heads,
                          uint32_t head_dim)
{
    const struct kv_layout layout = kv_layout_of(dtype, page_tokens, kv_heads, head_dim);
    uint64_t elements;
    uint64_t bytes;
    if (!checked_mul(layout.head_k + layout.head_v, kv_heads, &elements) ||
        !checked_mul(elements, kern_dtype_bytes(dtype), &bytes)) {
        return 0;
    }
    return (bytes + 63) & ~(size_t)63;
}

size_t kern_attend_scratch_floats(uint32_t heads, uint32_t kv_heads, uint32_t head_dim)
{
    const size_t vectors = (size_t)KERN_ATTEND_ROWS_MAX * (heads / kv_heads);
    const size_t padded = (head_dim + 15u) & ~(size_t)15;
    /* A vector: its accumulator, its query (as float or pairs), a block of scores, max and sum. */
    return vectors * (2 * padded + KERN_ATTEND_BLOCK + 2) + 64;
}
