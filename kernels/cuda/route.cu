/*
 * route.cu - a token's choice of experts, and the sum of what they gave. Called through
 * cuda_route() and cuda_combine() by whoever builds a step. The choice is a warp a row and reads 4
 * bytes an expert from L1 for each one that it takes; the sum moves an act a column and expert and
 * 8 bytes a column, 2 FLOPs each. Occupancy aim: 2048 threads an SM. Share of peak: not measured.
 * Invariant: a row's experts and their order depend on its own logits alone; ids are in range and
 * differ from each other even where a logit is not a number.
 */
#include "kernels/cuda/route_cuda.h"

#include "kernels/cuda/rows.cuh"

/* A logit and its expert: the larger logit goes first, of equals the smaller id. */
struct candidate {
    float logit;
    int expert;
};

enum { BEFORE_ALL = -1, AFTER_ALL = 0x7fffffff };

GPU_DEVICE bool before(struct candidate a, struct candidate b)
{
    return a.logit > b.logit || (a.logit == b.logit && a.expert < b.expert);
}

GPU_DEVICE struct candidate candidate_of(const float *logits, uint32_t expert)
{
    const float logit = logits[expert];
    return {isnan(logit) ? -INFINITY : logit, (int)expert};
}

/* The first of the candidates of a row that come after `last`, by a warp. */
GPU_DEVICE struct candidate next_of(const float *logits, uint32_t experts, struct candidate last)
{
    struct candidate best = {-INFINITY, AFTER_ALL};
    for (uint32_t e = threadIdx.x % 32; e < experts; e += 32) {
        const struct candidate mine = candidate_of(logits, e);
        if (before(last, mine) && before(mine, best)) {
            best = mine;
        }
    }
    for (int distance = 16; distance > 0; distance /= 2) {
        const struct candidate other = {__shfl_xor_sync(0xffffffffu, best.logit, distance),
                                        __shfl_xor_sync(0xffffffffu, best.expert, distance)};
        best = before(other, best) ? other : best;
    }
    return best;
}

/* Sum of exp(logit - most) over a row, by a warp. */
GPU_DEVICE float exponentials(const float *logits, uint32_t experts, float most)
{
    float sum = 0;
    for (uint32_t e = threadIdx.x % 32; e < experts; e += 32) {
        sum += expf(logits[e] - most);
    }
    return gpu_warp_sum(sum);
}

static __global__ void __launch_bounds__(ROWS_THREADS) route_rows(const struct cuda_route_args args)
{
    const uint32_t rows = *args.rows;
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t warps = gridDim.x * ROWS_WARPS;
    for (uint32_t row = blockIdx.x * ROWS_WARPS + threadIdx.x / 32; row < rows; row += warps) {
        const float *logits = args.logits + (uint64_t)row * args.experts;
        const struct candidate first = next_of(logits, args.experts, {INFINITY, BEFORE_ALL});
        struct candidate last = first;
        struct candidate mine = first; /* Lane i keeps choice i. */
        for (uint32_t i = 1; i < args.used; i++) {
            last = next_of(logits, args.experts, last);
            mine = lane == i ? last : mine;
        }
        const float weight = lane < args.used ? expf(mine.logit - first.logit) : 0;
        const float sum =
            args.normed ? gpu_warp_sum(weight) : exponentials(logits, args.experts, first.logit);
        if (lane < args.used) {
            args.expert[(uint64_t)row * args.used + lane] = (uint32_t)mine.expert;
            args.weight[(uint64_t)row * args.used + lane] = weight / sum;
        }
    }
}

int cuda_route(const struct cuda_route_args *args, struct CUstream_st *stream)
{
    if (args->rows_max == 0 || args->used == 0 || args->used > 32 || args->used > args->experts) {
        return -EINVAL;
    }
    const unsigned blocks = rows_blocks((args->rows_max + ROWS_WARPS - 1) / ROWS_WARPS, args->ctas);
    return GPU_LAUNCH(route_rows, dim3(blocks), dim3(ROWS_THREADS), 0, stream, *args);
}

template <class Act, int Width>
static __global__ void __launch_bounds__(ROWS_THREADS)
    combine_rows(const struct cuda_combine_args args, uint32_t pieces)
{
    const uint64_t units = (uint64_t)*args.rows * pieces;
    for (uint64_t unit = blockIdx.x; unit < units; unit += gridDim.x) {
        const uint64_t row = unit / pieces;
        const uint32_t col = rows_column<Width>((uint32_t)(unit % pieces));
        float *x = args.x + row * args.cols + col;
        float sum[Width];
        if (col >= args.cols) {
            continue;
        }
        rows_load<Width>(sum, x);
        for (uint32_t e = 0; e < args.used; e++) {
            const float weight = args.weight[row * args.used + e];
            const uint64_t slot = args.slot[row * args.used + e];
            float values[Width];
            rows_load<Width>(values, (const Act *)args.y + slot * args.cols + col);
            for (int i = 0; i < Width; i++) {
                sum[i] += weight * values[i];
            }
        }
        rows_store<Width>(x, sum);
    }
}

template <class Act, int Width>
static int launch_combine(const struct cuda_combine_args *args, struct CUstream_st *stream)
{
    const uint32_t pieces = rows_pieces<Width>(args->cols);
    const unsigned blocks = rows_blocks((uint64_t)args->rows_max * pieces, args->ctas);
    return GPU_LAUNCH(combine_rows<Act, Width>, dim3(blocks), dim3(ROWS_THREADS), 0, stream, *args,
                      pieces);
}

int cuda_combine(const struct cuda_combine_args *args, struct CUstream_st *stream)
{
    if (args->rows_max == 0 || args->cols == 0 || args->used == 0) {
        return -EINVAL;
    }
    if (args->dtype == KERN_F32) {
        return args->cols % 4 == 0 ? launch_combine<float, 4>(args, stream)
                                   : launch_combine<float, 1>(args, stream);
    }
    return args->cols % 4 == 0 ? launch_combine<gpu_bf16, 4>(args, stream)
                               : launch_combine<gpu_bf16, 1>(args, stream);
}
