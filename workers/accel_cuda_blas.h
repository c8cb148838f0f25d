/*
 * accel_cuda_blas.h - the functions of cuBLASLt, loaded when there is a device for them: linked in,
 * the library would cost every start half a second and 200 MB, the refusals of a machine without a
 * GPU included (docs/adr/0010).
 */
#ifndef WORKERS_ACCEL_CUDA_BLAS_H
#define WORKERS_ACCEL_CUDA_BLAS_H

#include <cublasLt.h>

#include "base/must.h"
#include "model/model_error.h"

/* Those that end in _internal fill in descriptors that the caller holds: no heap. */
struct accel_cuda_blas {
    __typeof__(&cublasLtCreate) create;
    __typeof__(&cublasLtDestroy) destroy;
    __typeof__(&cublasLtGetVersion) version;
    __typeof__(&cublasLtMatmul) multiply;
    __typeof__(&cublasLtMatmulAlgoGetHeuristic) propose;
    __typeof__(&cublasLtMatmulDescInit_internal) init_product;
    __typeof__(&cublasLtMatmulDescSetAttribute) set_product;
    __typeof__(&cublasLtMatmulPreferenceInit_internal) init_wishes;
    __typeof__(&cublasLtMatmulPreferenceSetAttribute) set_wish;
    __typeof__(&cublasLtMatrixLayoutInit_internal) init_layout;
};

/* From where the loader looks (LD_LIBRARY_PATH, its cache) or the toolkit of the build. 0; -ENOENT
 * with what is missing in *error. */
int accel_cuda_blas_open(struct accel_cuda_blas *blas, struct model_error *error) MUST_CHECK;

#endif /* WORKERS_ACCEL_CUDA_BLAS_H */
