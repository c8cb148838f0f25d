/*
 * attend_row.cuh - attention of one query row by one warp in float, without tensor cores: for
 * models in float and for checks, not for speed. Keys and values come straight from their pages.
 * A lane has a token when scores are computed, and columns lane, lane + 32, ... of o.
 */
#ifndef KERNELS_CUDA_ATTEND_ROW_CUH
#define KERNELS_CUDA_ATTEND_ROW_CUH

#include "kernels/cuda/attend_page.cuh"

enum { ROW_COLUMNS = CUDA_ATTEND_DIM_MAX / WARP };

/* Sums over some positions, m and l the same in all lanes. */
struct attend_row {
    float m;
    float l;
    float o[ROW_COLUMNS];
};

GPU_DEVICE void attend_row_clear(attend_row *row)
{
    row->m = -INFINITY;
    row->l = 0;
#pragma unroll
    for (int i = 0; i < ROW_COLUMNS; i++) {
        row->o[i] = 0;
    }
}

/* What a row attends to, and with what. */
template <class Cell> struct attend_row_source {
    attend_kv<Cell> kv;
    const float *q;
    float scale_log2;
    float *weights; /* [32] of this warp */
};

template <class Cell>
GPU_DEVICE float attend_row_score(const float *q, const Cell *key, uint32_t dim)
{
    float sum = 0;
    for (uint32_t d = 0; d < dim; d++) {
        sum += q[d] * gpu_float(key[d]);
    }
    return sum;
}

/* Adds the positions [first, end) of one tile of 32. */
template <class Cell>
GPU_DEVICE void attend_row_tile(const struct attend_launch &launch,
                                const attend_row_source<Cell> &source, attend_rows seen,
                                attend_row *row)
{
    const uint32_t lane = threadIdx.x % WARP;
    const uint32_t dim = launch.args.head_dim;
    const uint32_t position = seen.first / WARP * WARP + lane;
    const bool visible = seen.first <= position && position < seen.end;
    const float score =
        visible ? attend_row_score(source.q, attend_key(launch, source.kv, position), dim) *
                      source.scale_log2
                : -INFINITY;
    const float greatest = fmaxf(row->m, gpu_warp_max(score));
    const float keep = gpu_exp2(row->m - greatest);
    const float weight = gpu_exp2(score - greatest);
    row->m = greatest;
    row->l = row->l * keep + gpu_warp_sum(weight);
    source.weights[lane] = weight;
    __syncwarp();
#pragma unroll
    for (int i = 0; i < ROW_COLUMNS; i++) {
        row->o[i] *= keep;
    }
    for (uint32_t t = seen.first; t < seen.end; t++) {
        const Cell *value = attend_key(launch, source.kv, t) + launch.value_cells;
#pragma unroll
        for (int i = 0; i < ROW_COLUMNS; i++) {
            const uint32_t c = lane + i * WARP;
            row->o[i] += c < dim ? source.weights[t % WARP] * gpu_float(value[c]) : 0;
        }
    }
    __syncwarp();
}

/* Sums over [first, end), which lie in one split. */
template <class Cell>
GPU_DEVICE void attend_row_split(const struct attend_launch &launch,
                                 const attend_row_source<Cell> &source, attend_rows seen,
                                 attend_row *row)
{
    attend_row_clear(row);
    for (uint32_t first = seen.first; first < seen.end;) {
        const uint32_t end = min((first / WARP + 1) * WARP, seen.end);
        attend_row_tile(launch, source, {first, end}, row);
        first = end;
    }
}

/* Sums over [first, end), split by split. */
template <class Cell>
GPU_DEVICE void attend_row_whole(const struct attend_launch &launch,
                                 const attend_row_source<Cell> &source, attend_rows seen,
                                 attend_row *row)
{
    attend_row_clear(row);
    for (uint32_t first = seen.first; first < seen.end;) {
        const uint32_t end = attend_split_end(first, seen.end);
        attend_row split;
        attend_row_split(launch, source, {first, end}, &split);
        float keep;
        float add;
        attend_fold(&row->m, &row->l, split.m, split.l, &keep, &add);
#pragma unroll
        for (int i = 0; i < ROW_COLUMNS; i++) {
            row->o[i] = attend_fold_value(row->o[i], keep, split.o[i], add);
        }
        first = end;
    }
}

/* A slot: o [heads][D], then m and l [heads][2]. */
GPU_DEVICE float *attend_slot(const struct attend_launch &launch, uint32_t slot)
{
    return launch.args.slots +
           (size_t)slot * launch.args.heads * ((size_t)launch.args.head_dim + 2);
}

GPU_DEVICE float *attend_slot_ml(const struct attend_launch &launch, uint32_t slot, uint32_t head)
{
    return attend_slot(launch, slot) + (size_t)launch.args.heads * launch.args.head_dim +
           (size_t)head * 2;
}

/* Sums of a split as a slot holds them, and the other way: row += those of a slot. */
GPU_DEVICE void attend_row_keep(const struct attend_launch &launch, const attend_row &row,
                                uint32_t slot, uint32_t head)
{
    const uint32_t dim = launch.args.head_dim;
    float *o = attend_slot(launch, slot) + (size_t)head * dim;
    float *ml = attend_slot_ml(launch, slot, head);
    ml[0] = row.m;
    ml[1] = row.l;
#pragma unroll
    for (int i = 0; i < ROW_COLUMNS; i++) {
        const uint32_t c = threadIdx.x % WARP + i * WARP;
        if (c < dim) {
            o[c] = row.o[i];
        }
    }
}

GPU_DEVICE void attend_row_fold_slot(const struct attend_launch &launch, uint32_t slot,
                                     uint32_t head, attend_row *row)
{
    const uint32_t dim = launch.args.head_dim;
    const float *o = attend_slot(launch, slot) + (size_t)head * dim;
    const float *ml = attend_slot_ml(launch, slot, head);
    float keep;
    float add;
    attend_fold(&row->m, &row->l, ml[0], ml[1], &keep, &add);
#pragma unroll
    for (int i = 0; i < ROW_COLUMNS; i++) {
        const uint32_t c = threadIdx.x % WARP + i * WARP;
        row->o[i] = c < dim ? attend_fold_value(row->o[i], keep, o[c], add) : 0;
    }
}

/* out[c] = o / l * scale */
template <class Act>
GPU_DEVICE void attend_row_store(const attend_row &row, Act *out, uint32_t dim, float scale)
{
#pragma unroll
    for (int i = 0; i < ROW_COLUMNS; i++) {
        const uint32_t c = threadIdx.x % WARP + i * WARP;
        if (c < dim) {
            out[c] = gpu_act<Act>(row.o[i] / row.l * scale);
        }
    }
}

#endif /* KERNELS_CUDA_ATTEND_ROW_CUH */
