/*
 * accel_cuda_product.c - matrix products of a GPU by cuBLASLt: accel_multiply(), accel_tune() and
 * accel_tuned(). Called by the engine on the worker's main thread; owns the library, its handle and
 * the table of algorithms.
 *
 * cuBLASLt counts columns first: row-major y[rows][n] = x W^T is its (n x rows) = op_T(W) x with
 * leading dimensions n, k and k. In bf16 each lane has the algorithm that was fastest on it, for
 * each number of rows. In float all lanes and all numbers of rows of a shape use one algorithm that
 * does not split k, so that a row's bits do not depend on its batch (as far as the library keeps
 * one order of sums within an algorithm; it does not promise it).
 *
 * SLUICE_CUDA_SM_TARGET=off leaves out the hint of how many SMs a lane has, for comparisons.
 */
#include "workers/accel_cuda.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "workers/accel_cuda_algorithms.h"
#include "workers/accel_cuda_blas.h"

enum {
    PROPOSALS_MAX = 16,
    TUNE_REPEATS = 5,
    TUNE_TIMEOUT_US = 5000000, /* For the repeats of one algorithm. */
    TUNE_US = 1000000,         /* Then no other product is begun. */
    EXACT_ROWS = 64,           /* The algorithm for float is the one proposed for so many rows. */
    ALIGN_LOG2_MAX = 8,        /* cuBLASLt's own default is 256 bytes. */
};

struct accel_products {
    struct accel_cuda_blas blas;
    cublasLtHandle_t handle;
    cudaEvent_t start;
    cudaEvent_t end;
    struct accel_cuda_algorithms algorithms;
    bool hinted; /* The library is told how many units a lane has. */
    bool tuning;
    bool left; /* Something was not timed: it came too late. */
    uint64_t tune_until_us;
    bool fresh; /* Algorithms were measured that the file does not have. */
};

/* A product in the library's terms. */
struct call {
    cublasLtMatmulDescOpaque_t desc;
    cublasLtMatrixLayoutOpaque_t w;
    cublasLtMatrixLayoutOpaque_t x;
    cublasLtMatrixLayoutOpaque_t y;
};

int accel_cuda_products_open(struct accel *accel, struct model_error *error)
{
    struct accel_products *products = calloc(1, sizeof *products);
    if (!products) {
        return model_error_set(error, -ENOMEM, "no host memory for the table of products");
    }
    accel->products = products;
    const int status = accel_cuda_blas_open(&products->blas, error);
    if (status) {
        return status;
    }
    const cublasStatus_t created = products->blas.create(&products->handle);
    if (created || cudaEventCreate(&products->start) || cudaEventCreate(&products->end)) {
        return model_error_set(error, -EIO, "cuBLASLt does not start on %s (status %d)",
                               accel->info.name, (int)created);
    }
    const char *target = getenv("SLUICE_CUDA_SM_TARGET");
    char tag[sizeof accel->info.name + sizeof accel->info.libraries + sizeof ";unhinted"];
    (void)snprintf(accel->info.libraries, sizeof accel->info.libraries, "cublaslt%zu",
                   products->blas.version());
    products->hinted = !target || strcmp(target, "off") != 0;
    (void)snprintf(tag, sizeof tag, "%s;%s%s", accel->info.name, accel->info.libraries,
                   products->hinted ? "" : ";unhinted");
    accel_cuda_algorithms_open(&products->algorithms, tag);
    return 0;
}

void accel_cuda_products_close(struct accel_products *products)
{
    if (!products) {
        return;
    }
    if (products->end) {
        (void)cudaEventDestroy(products->end);
    }
    if (products->start) {
        (void)cudaEventDestroy(products->start);
    }
    if (products->handle) {
        (void)products->blas.destroy(products->handle);
    }
    free(products);
}

/* Alignment that all three operands have: pointers, and rows after the first. */
static uint8_t align_of(const struct accel_product *product)
{
    const uint64_t act = kern_dtype_bytes(product->dtype);
    const uint64_t in = product->w_scale ? 1 : act;
    const uint64_t out = product->float_y ? sizeof(float) : act;
    const uint64_t mixed = (uint64_t)(uintptr_t)product->x | (uint64_t)(uintptr_t)product->w |
                           (uint64_t)(uintptr_t)product->y | product->k * in | product->n * out;
    uint8_t log2 = 0;
    while (log2 < ALIGN_LOG2_MAX && (mixed >> log2 & 1) == 0) {
        log2++;
    }
    return log2;
}

/* What of a product the choice of its algorithm hangs on. */
static struct algorithm_key key_of(const struct accel *accel, uint32_t lane,
                                   const struct accel_product *product)
{
    const bool exact = product->dtype == KERN_F32;
    return (struct algorithm_key){
        .rows = exact ? EXACT_ROWS : product->rows,
        .n = product->n,
        .k = product->k,
        .units = exact ? accel->info.units : accel->lane[lane].units,
        .dtype = (uint8_t)product->dtype,
        .float_y = product->float_y || exact,
        .accumulate = product->accumulate,
        .align_log2 = align_of(product),
        .bytes = product->w_scale != NULL,
    };
}

/* Numbers of e4m3 count by a scale of their row. The library has such products for compute
 * capability 9.0 alone (NVIDIA/CUDALibrarySamples, issue 270). */
static cublasStatus_t scale(const struct accel_cuda_blas *blas, const struct accel_product *product,
                            struct call *call)
{
    const int32_t rows = CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
    const struct {
        cublasLtMatmulDescAttributes_t name;
        const void *value;
        size_t bytes;
    } settings[] = {
        {CUBLASLT_MATMUL_DESC_A_SCALE_MODE, &rows, sizeof rows},
        {CUBLASLT_MATMUL_DESC_B_SCALE_MODE, &rows, sizeof rows},
        {CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &product->w_scale, sizeof product->w_scale},
        {CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &product->x_scale, sizeof product->x_scale},
    };
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    for (size_t i = 0; i < sizeof settings / sizeof *settings && product->w_scale && !status; i++) {
        status =
            blas->set_product(&call->desc, settings[i].name, settings[i].value, settings[i].bytes);
    }
    return status;
}

/* The product, or its like with another number of rows. */
static cublasStatus_t describe(const struct accel *accel, const struct algorithm_key *key,
                               const struct accel_product *product, uint32_t rows,
                               struct call *call)
{
    const struct accel_cuda_blas *blas = &accel->products->blas;
    const cudaDataType_t act = key->dtype == KERN_BF16 ? CUDA_R_16BF : CUDA_R_32F;
    const cudaDataType_t in = key->bytes ? CUDA_R_8F_E4M3 : act;
    const cudaDataType_t out = key->float_y ? CUDA_R_32F : act;
    const cublasOperation_t transposed = CUBLAS_OP_T;
    const bool hint = accel->products->hinted && key->units < accel->info.units;
    const int32_t units = hint ? (int32_t)key->units : 0;
    cublasStatus_t status =
        blas->init_product(&call->desc, sizeof call->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (!status) {
        status = blas->set_product(&call->desc, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                   sizeof transposed);
    }
    if (!status) { /* A hint, also where the lane has units of its own: it counts the device's. */
        status = blas->set_product(&call->desc, CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET, &units,
                                   sizeof units);
    }
    if (!status) {
        status = scale(blas, product, call);
    }
    if (!status) {
        status = blas->init_layout(&call->w, sizeof call->w, in, key->k, key->n, key->k);
    }
    if (!status) {
        status = blas->init_layout(&call->x, sizeof call->x, in, key->k, rows, key->k);
    }
    return status ? status : blas->init_layout(&call->y, sizeof call->y, out, key->n, rows, key->n);
}

/* Algorithms that the library proposes, best guess first. */
static cublasStatus_t propose(const struct accel *accel, const struct algorithm_key *key,
                              struct call *call, cublasLtMatmulHeuristicResult_t *proposals,
                              int *count)
{
    const struct accel_cuda_blas *blas = &accel->products->blas;
    cublasLtMatmulPreferenceOpaque_t preference;
    const size_t workspace = ACCEL_WORKSPACE_BYTES;
    const uint32_t align = 1u << key->align_log2;
    const uint32_t unsplit = CUBLASLT_REDUCTION_SCHEME_NONE;
    const struct {
        cublasLtMatmulPreferenceAttributes_t name;
        const void *value;
        size_t bytes;
    } wishes[] = {
        {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &align, sizeof align},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &align, sizeof align},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &align, sizeof align},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &align, sizeof align},
        {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &unsplit, sizeof unsplit},
    };
    const size_t wished = sizeof wishes / sizeof *wishes - (key->dtype == KERN_F32 ? 0 : 1);
    cublasStatus_t status = blas->init_wishes(&preference, sizeof preference);
    for (size_t i = 0; i < wished && !status; i++) {
        status = blas->set_wish(&preference, wishes[i].name, wishes[i].value, wishes[i].bytes);
    }
    if (!status) {
        status = blas->propose(accel->products->handle, &call->desc, &call->w, &call->x, &call->y,
                               &call->y, &preference, PROPOSALS_MAX, proposals, count);
    }
    return status || *count > 0 ? status : CUBLAS_STATUS_NOT_SUPPORTED;
}

static cublasStatus_t multiply(const struct accel *accel, uint32_t lane,
                               const struct accel_product *product, struct call *call,
                               const cublasLtMatmulAlgo_t *algo)
{
    const float one = 1;
    const float kept = product->accumulate ? 1 : 0;
    return accel->products->blas.multiply(
        accel->products->handle, &call->desc, &one, product->w, &call->w, product->x, &call->x,
        &kept, product->y, &call->y, product->y, &call->y, algo, accel->lane[lane].workspace,
        ACCEL_WORKSPACE_BYTES, accel->lane[lane].stream);
}

/* The library does not do the product, or not so: nothing is broken. */
static bool is_refusal(cublasStatus_t status)
{
    return status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE;
}

/* 0; -EIO for what the device or the library broke; -EINVAL for a shape without an algorithm. */
static int judge(struct accel *accel, cublasStatus_t status, const struct accel_product *product)
{
    char why[80];
    if (!status) {
        return 0;
    }
    (void)snprintf(why, sizeof why, "cuBLASLt status %d at %u x %u x %u", (int)status,
                   product->rows, product->n, product->k);
    if (is_refusal(status)) {
        log_error("%s: a product: %s", accel->info.name, why);
        return -EINVAL;
    }
    return accel_cuda_fail(accel, "a product", why);
}

/* The library's own first choice, remembered: asking costs some 50 us (not measured). */
static cublasStatus_t choose(struct accel *accel, const struct algorithm_key *key,
                             const struct accel_product *product, struct algorithm *chosen)
{
    struct call call;
    cublasLtMatmulHeuristicResult_t proposals[PROPOSALS_MAX];
    int count = 0;
    cublasStatus_t status = describe(accel, key, product, key->rows, &call);
    if (!status) {
        status = propose(accel, key, &call, proposals, &count);
    }
    if (!status) {
        *chosen = (struct algorithm){.key = *key, .algo = proposals[0].algo};
        if (accel_cuda_algorithms_put(&accel->products->algorithms, chosen)) {
            log_warning("more than %u products: later ones ask the library each time",
                        accel->products->algorithms.count);
        }
    }
    return status;
}

/* The host waits for products->end, not for ever. */
static int wait_end(struct accel *accel)
{
    const uint64_t end_us = clock_now_us() + TUNE_TIMEOUT_US;
    cudaError_t state = cudaErrorNotReady;
    while (state == cudaErrorNotReady && clock_now_us() < end_us) {
        state = cudaEventQuery(accel->products->end);
    }
    return state == cudaErrorNotReady ? accel_cuda_fail(accel, "a product", "it does not end")
                                      : accel_cuda_check(accel, state, "timing a product");
}

/* Mean time of TUNE_REPEATS runs after one to warm up. */
static int time_algorithm(struct accel *accel, uint32_t lane, const struct accel_product *product,
                          struct call *call, struct algorithm *algorithm)
{
    struct CUstream_st *stream = accel->lane[lane].stream;
    int status = 0;
    float ms = 0;
    for (int i = 0; i <= TUNE_REPEATS && !status; i++) {
        if (i == 1) {
            status = accel_cuda_check(accel, cudaEventRecord(accel->products->start, stream),
                                      "timing a product");
        }
        if (!status) {
            const cublasStatus_t done = multiply(accel, lane, product, call, &algorithm->algo);
            status = done ? -EINVAL : 0; /* A proposal that does not run is no disaster. */
        }
    }
    if (status) {
        return status;
    }
    status =
        accel_cuda_check(accel, cudaEventRecord(accel->products->end, stream), "timing a product");
    if (!status) {
        status = wait_end(accel);
    }
    if (!status) {
        status = accel_cuda_check(
            accel, cudaEventElapsedTime(&ms, accel->products->start, accel->products->end),
            "timing a product");
    }
    algorithm->us = ms * 1000 / TUNE_REPEATS;
    return status;
}

/* Times what the library proposes for the product on this lane, and keeps the fastest. */
static int tune(struct accel *accel, uint32_t lane, const struct accel_product *product)
{
    const struct algorithm_key key = key_of(accel, lane, product);
    struct call call;
    cublasLtMatmulHeuristicResult_t proposals[PROPOSALS_MAX];
    struct algorithm best = {.key = key};
    int count = 0;
    must(!accel->capturing);
    if (!accel_cuda_idle(accel, TUNE_TIMEOUT_US)) { /* What runs beside would be in the times. */
        const int left = accel_cuda_group_check(accel);
        return left ? left
                    : accel_cuda_fail(accel, "a product", "the device does not come to rest");
    }
    cublasStatus_t status = describe(accel, &key, product, product->rows, &call);
    if (!status) {
        status = propose(accel, &key, &call, proposals, &count);
    }
    int error = judge(accel, status, product);
    for (int i = 0; i < count && !error; i++) {
        struct algorithm tried = {.key = key, .algo = proposals[i].algo};
        const int code = time_algorithm(accel, lane, product, &call, &tried);
        if (code == 0 && (best.us <= 0 || tried.us < best.us)) {
            best = tried;
        }
        error = code == -EIO ? code : 0;
    }
    if (!error && best.us > 0) {
        accel->products->fresh = true;
        error = accel_cuda_algorithms_put(&accel->products->algorithms, &best);
    }
    return error == -ENOSPC ? 0 : error;
}

void accel_tune(struct accel *accel)
{
    struct accel_products *products = accel->products;
    products->tuning = true;
    products->left = false;
    products->tune_until_us = clock_now_us() + TUNE_US;
}

bool accel_tuned(struct accel *accel)
{
    struct accel_products *products = accel->products;
    products->tuning = false;
    if (products->fresh && accel_cuda_algorithms_save(&products->algorithms)) {
        log_warning("%s: cannot be written; the next start measures again",
                    products->algorithms.path);
    }
    products->fresh = false;
    return !products->left;
}

/* Whether the product is to be timed first: float ones have one way, whatever it costs. */
static bool wants_tuning(struct accel *accel, const struct accel_product *product,
                         const struct algorithm_key *key)
{
    struct accel_products *products = accel->products;
    if (!products->tuning || product->dtype == KERN_F32) {
        return false;
    }
    const struct algorithm *known = accel_cuda_algorithms_find(&products->algorithms, key);
    const bool wanted = !known || known->us <= 0;
    const bool late = clock_now_us() >= products->tune_until_us;
    products->left = products->left || (wanted && late);
    return wanted && !late;
}

/* By the algorithm that is known for the key, or that the library proposes first. */
static cublasStatus_t multiply_by(struct accel *accel, uint32_t lane,
                                  const struct accel_product *product,
                                  const struct algorithm_key *key)
{
    const struct algorithm *known = accel_cuda_algorithms_find(&accel->products->algorithms, key);
    struct algorithm chosen;
    struct call call;
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    if (!known) {
        status = choose(accel, key, product, &chosen);
        known = &chosen;
    }
    if (!status) {
        status = describe(accel, key, product, product->rows, &call);
    }
    return status ? status : multiply(accel, lane, product, &call, &known->algo);
}

int accel_multiply(struct accel *accel, uint32_t lane, const struct accel_product *product)
{
    must(lane < accel->lane_count && (!product->accumulate || product->float_y));
    must(!product->w_scale == !product->x_scale);
    must(!product->w_scale || (product->n | product->k) % ACCEL_BYTES_STEP == 0);
    struct algorithm_key key = key_of(accel, lane, product);
    if (wants_tuning(accel, product, &key)) {
        const int error = tune(accel, lane, product);
        if (error) {
            return error;
        }
    }
    cublasStatus_t status = multiply_by(accel, lane, product, &key);
    if (is_refusal(status) && key.rows != product->rows) {
        key.rows = product->rows; /* The shape's one algorithm does not do so few or so many. */
        status = multiply_by(accel, lane, product, &key);
    }
    return judge(accel, status, product);
}
