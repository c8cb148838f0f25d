/* dtype.h - the type of activations that feed a matrix product and of the KV cache; see kern.h. */
#ifndef KERNELS_DTYPE_H
#define KERNELS_DTYPE_H

#include <stddef.h>

enum kern_dtype { KERN_F32 = 0, KERN_BF16 = 1 };

static inline size_t kern_dtype_bytes(enum kern_dtype dtype)
{
    return dtype == KERN_F32 ? 4 : 2;
}

#endif /* KERNELS_DTYPE_H */
