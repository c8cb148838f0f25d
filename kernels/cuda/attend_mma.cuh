/*
 * attend_mma.cuh - attention of 16 query rows by one warp on the tensor cores, in bf16 with sums in
 * float. A lane has rows lane / 4 and lane / 4 + 8 of 16 and two columns of each 8, as
 * mma.m16n8k16 lays them out: value i of four is of row i / 2 and column i % 2 of those.
 */
#ifndef KERNELS_CUDA_ATTEND_MMA_CUH
#define KERNELS_CUDA_ATTEND_MMA_CUH

#include "kernels/cuda/attend_page.cuh"
#include "kernels/cuda/gpu.cuh"

/* Sums over some positions. Until attend_mma_close() m is not scaled and l the lane's part. */
template <int DIM> struct attend_mma {
    float m[2];
    float l[2];
    float o[DIM / 8][4];
};

template <int DIM> GPU_DEVICE void attend_mma_clear(attend_mma<DIM> *rows)
{
    rows->m[0] = rows->m[1] = -INFINITY;
    rows->l[0] = rows->l[1] = 0;
#pragma unroll
    for (int n = 0; n < DIM / 8; n++) {
        rows->o[n][0] = rows->o[n][1] = rows->o[n][2] = rows->o[n][3] = 0;
    }
}

/*
 * Which columns of a tile a lane has, with j = lane % 4. Of bf16: 2 j, 2 j + 1, 2 j + 8 and 2 j + 9
 * of 16, as the product wants them. Bytes come in words of four, columns 4 j to 4 j + 3, the even
 * ones first: in keys and queries alike, so it is the same sum; in values, so o has them there.
 */

/* The left factor of 16 rows, columns [16 k, 16 k + 16) of a tile, for keys of a type of cell. */
template <int DIM, class Cell>
GPU_DEVICE void attend_mma_queries(uint32_t a[4], const gpu_bf16 *tile, uint32_t k)
{
    const uint32_t lane = threadIdx.x % WARP;
    if constexpr (sizeof(Cell) == sizeof(gpu_bf16)) {
        gpu_ldmatrix_x4(a, tile + lane % 16 * attend_tile<DIM, gpu_bf16>::PITCH + k * 16 +
                               lane / 16 * 8);
    } else {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const uint32_t *row =
                (const uint32_t *)(tile + (lane / 4 + 8 * h) * attend_tile<DIM, gpu_bf16>::PITCH +
                                   k * 16 + lane % 4 * 4);
            a[h] = (row[0] & 0xffff) | row[1] << 16;
            a[h + 2] = row[0] >> 16 | (row[1] & 0xffff0000u);
        }
    }
}

/* The right factors of the scores of keys 0 to 7, then 8 to 15, of a tile. */
template <int DIM> GPU_DEVICE void attend_mma_keys(uint32_t b[4], const gpu_bf16 *tile, uint32_t k)
{
    const uint32_t lane = threadIdx.x % WARP;
    gpu_ldmatrix_x4(b, tile + (lane / 16 * 8 + lane % 8) * attend_tile<DIM, gpu_bf16>::PITCH +
                           k * 16 + lane / 8 % 2 * 8);
}

template <int DIM> GPU_DEVICE void attend_mma_keys(uint32_t b[4], const gpu_e4m3 *tile, uint32_t k)
{
    const uint32_t lane = threadIdx.x % WARP;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const uint32_t word =
            *(const uint32_t *)(tile + (lane / 4 + 8 * h) * attend_tile<DIM, gpu_e4m3>::PITCH +
                                k * 16 + lane % 4 * 4);
        b[2 * h] = gpu_widen_e4m3_nan(word << 8);
        b[2 * h + 1] = gpu_widen_e4m3_nan(word);
    }
}

/* Column of value i % 2 of o[n]. */
template <class Cell> GPU_DEVICE uint32_t attend_mma_column(uint32_t n, uint32_t i)
{
    const uint32_t j = threadIdx.x % 4;
    return sizeof(Cell) == sizeof(gpu_bf16) ? n * 8 + j * 2 + i % 2
                                            : n / 2 * 16 + j * 4 + i % 2 * 2 + n % 2;
}

/* The score of a position, if the row sees it. */
GPU_DEVICE float attend_mma_mask(float score, uint32_t position, attend_rows seen)
{
    return seen.first <= position && position < seen.end ? score : -INFINITY;
}

/* Scores of 8 N positions become weights, and the sums are rescaled to the greatest so far. Where
 * a row sees none of them, its sums stay as they are, bit for bit. */
template <int DIM, int N>
GPU_DEVICE void attend_mma_weigh(float scale_log2, float s[N][4], attend_mma<DIM> *rows)
{
    float keep[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float greatest = rows->m[h];
#pragma unroll
        for (int n = 0; n < N; n++) {
            greatest = fmaxf(greatest, fmaxf(s[n][2 * h], s[n][2 * h + 1]));
        }
        greatest = fmaxf(greatest, __shfl_xor_sync(0xffffffffu, greatest, 1));
        greatest = fmaxf(greatest, __shfl_xor_sync(0xffffffffu, greatest, 2));
        const float base = greatest == -INFINITY ? 0 : -greatest * scale_log2;
        keep[h] = gpu_exp2(fmaf(rows->m[h], scale_log2, base));
        rows->m[h] = greatest;
        rows->l[h] *= keep[h];
#pragma unroll
        for (int n = 0; n < N; n++) {
            s[n][2 * h] = gpu_exp2(fmaf(s[n][2 * h], scale_log2, base));
            s[n][2 * h + 1] = gpu_exp2(fmaf(s[n][2 * h + 1], scale_log2, base));
            rows->l[h] += s[n][2 * h] + s[n][2 * h + 1];
        }
    }
#pragma unroll
    for (int n = 0; n < DIM / 8; n++) {
        rows->o[n][0] *= keep[0];
        rows->o[n][1] *= keep[0];
        rows->o[n][2] *= keep[1];
        rows->o[n][3] *= keep[1];
    }
}

/* Weights of 16 positions as the left factor of a product with their values. */
GPU_DEVICE void attend_mma_pack(uint32_t a[4], const float low[4], const float high[4])
{
    a[0] = gpu_pack_bf16(low[0], low[1]);
    a[1] = gpu_pack_bf16(low[2], low[3]);
    a[2] = gpu_pack_bf16(high[0], high[1]);
    a[3] = gpu_pack_bf16(high[2], high[3]);
}

/* o += weights a of 16 positions times a tile of their values, for TILES tiles of query rows. */
template <int DIM, int TILES>
GPU_DEVICE void attend_mma_add(const gpu_bf16 *tile, const uint32_t a[TILES][4],
                               attend_mma<DIM> rows[TILES])
{
    const uint32_t lane = threadIdx.x % WARP;
#pragma unroll
    for (int n = 0; n < DIM / 8; n += 2) {
        uint32_t b[4];
        gpu_ldmatrix_x4_trans(b, tile + lane % 16 * attend_tile<DIM, gpu_bf16>::PITCH + n * 8 +
                                     lane / 16 * 8);
#pragma unroll
        for (int i = 0; i < TILES; i++) {
            gpu_mma_bf16(rows[i].o[n], a[i], b);
            gpu_mma_bf16(rows[i].o[n + 1], a[i], b + 2);
        }
    }
}

/* Turned as pairs of cells: a register has two columns of two tokens. */
template <int DIM, int TILES>
GPU_DEVICE void attend_mma_add(const gpu_e4m3 *tile, const uint32_t a[TILES][4],
                               attend_mma<DIM> rows[TILES])
{
    const uint32_t lane = threadIdx.x % WARP;
#pragma unroll
    for (int n = 0; n < DIM / 8; n += 4) {
        uint32_t pairs[4];
        gpu_ldmatrix_x4_trans(pairs, tile + lane % 16 * attend_tile<DIM, gpu_e4m3>::PITCH + n * 8 +
                                         lane / 16 * 16);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const uint32_t even = i % 2 ? 0 : 8; /* Its columns are the low bytes. */
            const uint32_t b[2] = {gpu_widen_e4m3(pairs[i / 2 * 2] << even),
                                   gpu_widen_e4m3(pairs[i / 2 * 2 + 1] << even)};
#pragma unroll
            for (int t = 0; t < TILES; t++) {
                gpu_mma_bf16(rows[t].o[n + i], a[t], b);
            }
        }
    }
}

/* m and l become those of the row, in all its lanes. */
template <int DIM> GPU_DEVICE void attend_mma_close(float scale_log2, attend_mma<DIM> *rows)
{
#pragma unroll
    for (int h = 0; h < 2; h++) {
        rows->m[h] *= scale_log2;
        rows->l[h] += __shfl_xor_sync(0xffffffffu, rows->l[h], 1);
        rows->l[h] += __shfl_xor_sync(0xffffffffu, rows->l[h], 2);
    }
}

#endif /* KERNELS_CUDA_ATTEND_MMA_CUH */
