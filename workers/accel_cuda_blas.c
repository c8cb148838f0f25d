/*
 * accel_cuda_blas.c - see accel_cuda_blas.h. Called once at start, on the worker's main thread; the
 * library stays loaded until the process ends. Invariant: all functions are there, or none is used.
 */
#include "workers/accel_cuda_blas.h"

#include "workers/library.h"

int accel_cuda_blas_open(struct accel_cuda_blas *blas, struct model_error *error)
{
    const struct library_function functions[] = {
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
    const struct library library = {
        .file = "libcublasLt.so." LIBRARY_TEXT(CUBLAS_VER_MAJOR),
        .need = "cuBLASLt of CUDA " LIBRARY_TEXT(CUBLAS_VER_MAJOR) " is needed",
        .functions = functions,
        .function_count = sizeof functions / sizeof *functions};
    return library_open(&library, error);
}
