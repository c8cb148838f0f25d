/*
 * accel_cuda_blas.c - see accel_cuda_blas.h. Called once at start, on the worker's main thread; the
 * library stays loaded until the process ends. Invariant: all functions are there, or none is used.
 */
#include "workers/accel_cuda_blas.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

int accel_cuda_blas_open(struct accel_cuda_blas *blas, struct model_error *error)
{
    char name[64];
    (void)snprintf(name, sizeof name, "libcublasLt.so.%d", CUBLAS_VER_MAJOR);
    void *const library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        return model_error_set(error, -ENOENT, "cuBLASLt of CUDA %d is needed: %s",
                               CUBLAS_VER_MAJOR, dlerror());
    }
    const struct {
        const char *name;
        void *slot;
    } wanted[] = {
        {"cublasLtCreate", &blas->create},
        {"cublasLtDestroy", &blas->destroy},
        {"cublasLtGetVersion", &blas->version},
        {"cublasLtMatmul", &blas->multiply},
        {"cublasLtMatmulAlgoGetHeuristic", &blas->propose},
        {"cublasLtMatmulDescInit_internal", &blas->init_product},
        {"cublasLtMatmulDescSetAttribute", &blas->set_product},
        {"cublasLtMatmulPreferenceInit_internal", &blas->init_wishes},
        {"cublasLtMatmulPreferenceSetAttribute", &blas->set_wish},
        {"cublasLtMatrixLayoutInit_internal", &blas->init_layout},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        void *const found = dlsym(library, wanted[i].name);
        if (!found) {
            return model_error_set(error, -ENOENT, "%s has no %s", name, wanted[i].name);
        }
        memcpy(wanted[i].slot, &found, sizeof found);
    }
    return 0;
}
