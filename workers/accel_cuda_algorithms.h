/*
 * accel_cuda_algorithms.h - which of cuBLASLt's algorithms a lane does a product with: a table in
 * memory, and a file that the next start reads. An algorithm is the library's own opaque 64 bytes:
 * good for one version of it on one kind of GPU, which the file's name and head say.
 */
#ifndef WORKERS_ACCEL_CUDA_ALGORITHMS_H
#define WORKERS_ACCEL_CUDA_ALGORITHMS_H

#include <assert.h>
#include <stdint.h>

#include <cublasLt.h>

#include "base/limits.h"
#include "base/must.h"

enum { ALGORITHM_SLOTS = 4096 }; /* Products times buckets times lanes are some hundreds. */

struct algorithm_key {
    uint32_t rows;
    uint32_t n;
    uint32_t k;
    uint32_t units; /* Of the lane. */
    uint8_t dtype;
    uint8_t float_y;
    uint8_t accumulate;
    uint8_t align_log2; /* Of x, w and y, at most 8. */
    uint8_t bytes;      /* x and w are e4m3. */
    uint8_t zeros[3];
};
static_assert(sizeof(struct algorithm_key) == 24, "no padding: keys are compared as bytes");

struct algorithm {
    struct algorithm_key key; /* rows 0: free. */
    float us;                 /* Measured; 0: the library's first proposal, not measured. */
    cublasLtMatmulAlgo_t algo;
};

struct accel_cuda_algorithms {
    struct algorithm slot[ALGORITHM_SLOTS];
    uint32_t count;
    uint64_t tag;                    /* Of GPU and library. */
    char path[LIMIT_PATH_BYTES_MAX]; /* Empty: nowhere to keep them. */
};

/* Empty, then what the file holds, where there is one: CACHE_DIRECTORY of the service manager,
 * XDG_CACHE_HOME or HOME. tag names GPU and library version. A file that is damaged or of another
 * tag counts as none. */
void accel_cuda_algorithms_open(struct accel_cuda_algorithms *algorithms, const char *tag);

/* NULL: not there. */
const struct algorithm *accel_cuda_algorithms_find(const struct accel_cuda_algorithms *algorithms,
                                                   const struct algorithm_key *key);

/* Adds or replaces. A full table takes no more: -ENOSPC. */
int accel_cuda_algorithms_put(struct accel_cuda_algorithms *algorithms,
                              const struct algorithm *algorithm) MUST_CHECK;

/* Writes those that were measured; a file that others read meanwhile is replaced whole. */
int accel_cuda_algorithms_save(const struct accel_cuda_algorithms *algorithms) MUST_CHECK;

#endif /* WORKERS_ACCEL_CUDA_ALGORITHMS_H */
