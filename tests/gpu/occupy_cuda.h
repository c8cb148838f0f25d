/* occupy_cuda.h - a kernel that does nothing for a while, and says on which SMs. */
#ifndef TESTS_GPU_OCCUPY_CUDA_H
#define TESTS_GPU_OCCUPY_CUDA_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st;

enum { OCCUPY_UNITS_MAX = 1024 };

struct cuda_occupy_args {
    uint32_t *seen; /* [OCCUPY_UNITS_MAX] CTAs that ran on each SM are added; NULL: nobody asks. */
    uint64_t ns;    /* Each CTA's time. */
    uint32_t ctas;
};

/* args: struct cuda_occupy_args. 0 or -EIO. */
int cuda_occupy(const void *args, struct CUstream_st *stream);

#ifdef __cplusplus
}
#endif

#endif /* TESTS_GPU_OCCUPY_CUDA_H */
