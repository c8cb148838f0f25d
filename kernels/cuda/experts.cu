/*
 * experts.cu - see experts_cuda.h: the product of each expert with its own rows in bf16 on tensor
 * cores, and in float without. Called twice a layer, by whoever puts the layer on a lane.
 *
 * Memory, bf16: 2 k n bytes for each expert with rows, 2 k and 2 n bytes a slot; 2 k n FLOPs a
 * slot. Rows are read where they are, through the list of slots: no gathered copy. Tiles of 64 x
 * 128, 32 of k at a time in four stages of asynchronous copies; 8 warps of 32 x 32. Occupancy aim:
 * two blocks a multiprocessor, 63 KB of shared memory each. Share of peak: not measured.
 */
#include "kernels/cuda/experts_cuda.h"

#include "kernels/cuda/experts.cuh"

enum {
    TENSOR_COLUMNS = 128,
    TENSOR_K = 32,
    TENSOR_PITCH = TENSOR_K + 8, /* Of a row in shared memory: eight rows meet different banks. */
    TENSOR_STAGES = 4,
    CHUNK = 8, /* bf16 of one copy. */
    ROW_CHUNKS = TENSOR_K / CHUNK,
};

struct tensor_stage {
    gpu_bf16 x[EXPERTS_ROWS][TENSOR_PITCH];
    gpu_bf16 w[TENSOR_COLUMNS][TENSOR_PITCH];
};

struct tensor_shared {
    struct tensor_stage stage[TENSOR_STAGES];
    struct experts_shares shares;
};

/* What a thread copies of each stage: one chunk of x, two of w, and where they come from. */
struct tensor_source {
    const gpu_bf16 *x;
    const gpu_bf16 *w[2];
    bool x_valid;
    bool w_valid[2];
};

GPU_DEVICE struct tensor_source find_source(const struct cuda_experts_args *args,
                                            const struct experts_tile *tile)
{
    struct tensor_source source;
    const uint32_t line = threadIdx.x / ROW_CHUNKS;
    const uint32_t within = threadIdx.x % ROW_CHUNKS * CHUNK;
    const uint32_t slot = tile->slot + line;
    source.x_valid = slot < tile->end;
    source.x =
        (const gpu_bf16 *)args->x + experts_row(args, slot, source.x_valid) * args->k + within;
    for (uint32_t i = 0; i < 2; i++) {
        const uint32_t column = tile->column + line + i * EXPERTS_ROWS;
        source.w_valid[i] = column < args->n;
        const size_t row = (size_t)tile->expert * args->n + (source.w_valid[i] ? column : 0);
        source.w[i] = (const gpu_bf16 *)args->w + row * args->k + within;
    }
    return source;
}

/* Starts the copies of the stage that begins at k; past the end they give zeros. */
GPU_DEVICE void fetch(const struct cuda_experts_args *args, const struct tensor_source *source,
                      uint32_t k, struct tensor_shared *shared)
{
    struct tensor_stage *stage = &shared->stage[k / TENSOR_K % TENSOR_STAGES];
    const uint32_t line = threadIdx.x / ROW_CHUNKS;
    const uint32_t within = threadIdx.x % ROW_CHUNKS * CHUNK;
    const bool inside = k + within < args->k;
    const uint32_t from = inside ? k : 0;
    gpu_copy_async16(&stage->x[line][within], source->x + from, inside && source->x_valid);
    for (uint32_t i = 0; i < 2; i++) {
        gpu_copy_async16(&stage->w[line + i * EXPERTS_ROWS][within], source->w[i] + from,
                         inside && source->w_valid[i]);
    }
    gpu_copy_commit();
}

/* sums += the stage's part of the warp's 32 x 32. */
GPU_DEVICE void multiply_stage(const struct tensor_stage *stage, float sums[2][4][4])
{
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t first_row = threadIdx.x / 32 % 2 * 32;
    const uint32_t first_column = threadIdx.x / 64 * 32;
#pragma unroll
    for (uint32_t k = 0; k < TENSOR_K; k += 16) {
        uint32_t x[2][4];
        uint32_t w[2][4];
#pragma unroll
        for (uint32_t i = 0; i < 2; i++) {
            const uint32_t row = first_row + 16 * i + lane % 16;
            const uint32_t column = first_column + 16 * i + lane / 16 * 8 + lane % 8;
            gpu_ldmatrix_x4(x[i], &stage->x[row][k + lane / 16 * 8]);
            gpu_ldmatrix_x4(w[i], &stage->w[column][k + lane / 8 % 2 * 8]);
        }
#pragma unroll
        for (uint32_t i = 0; i < 2; i++) {
#pragma unroll
            for (uint32_t j = 0; j < 4; j++) {
                gpu_mma_bf16(sums[i][j], x[i], w[j / 2] + (j % 2 > 0 ? 2 : 0));
            }
        }
    }
}

GPU_DEVICE void store_tile(const struct cuda_experts_args *args, const struct experts_tile *tile,
                           const float sums[2][4][4])
{
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t slot = tile->slot + threadIdx.x / 32 % 2 * 32 + lane / 4;
    const uint32_t column = tile->column + threadIdx.x / 64 * 32 + lane % 4 * 2;
#pragma unroll
    for (uint32_t part = 0; part < 16; part++) {
        const uint32_t i = part / 8;
        const uint32_t j = part / 2 % 4;
        const uint32_t half = part % 2; /* Of 16 rows. */
        const uint32_t at = slot + 16 * i + 8 * half;
        const uint32_t across = column + 8 * j;
        if (at < tile->end && across < args->n) {
            gpu_bf16 *y = (gpu_bf16 *)args->y + (size_t)at * args->n + across;
            *(uint32_t *)y = half > 0 ? gpu_pack_bf16(sums[i][j][2], sums[i][j][3])
                                      : gpu_pack_bf16(sums[i][j][0], sums[i][j][1]);
        }
    }
}

GPU_DEVICE void run_tile(const struct cuda_experts_args *args, const struct experts_tile *tile,
                         struct tensor_shared *shared)
{
    const struct tensor_source source = find_source(args, tile);
    float sums[2][4][4] = {};
    for (uint32_t s = 0; s < TENSOR_STAGES - 1; s++) {
        fetch(args, &source, s * TENSOR_K, shared);
    }
    for (uint32_t k = 0; k < args->k; k += TENSOR_K) {
        gpu_copy_wait<TENSOR_STAGES - 2>();
        __syncthreads(); /* All copies are there, and the stage before is used up. */
        fetch(args, &source, k + (TENSOR_STAGES - 1) * TENSOR_K, shared);
        multiply_stage(&shared->stage[k / TENSOR_K % TENSOR_STAGES], sums);
    }
    gpu_copy_wait<0>();
    __syncthreads();
    store_tile(args, tile, sums);
}

static __global__ void __launch_bounds__(EXPERTS_THREADS, 2)
    experts_bf16(const struct cuda_experts_args args)
{
    GPU_SHARED(bytes);
    struct tensor_shared *shared = (struct tensor_shared *)bytes;
    experts_read(&args, &shared->shares);
    const uint32_t tiles = experts_tiles(&args, &shared->shares, TENSOR_COLUMNS);
    for (uint32_t i = blockIdx.x; i < tiles; i += gridDim.x) {
        const struct experts_tile tile = experts_find(&args, &shared->shares, TENSOR_COLUMNS, i);
        run_tile(&args, &tile, shared);
    }
}

/* The float instance: tiles of 64 x 64, 16 of k at a time, 4 x 4 numbers a thread. */
enum { PLAIN_COLUMNS = 64, PLAIN_K = 16, PLAIN_PITCH = 68 };

struct plain_shared {
    float x[PLAIN_K][PLAIN_PITCH];
    float w[PLAIN_K][PLAIN_PITCH];
    struct experts_shares shares;
};

GPU_DEVICE void load_plain(const struct cuda_experts_args *args, const struct experts_tile *tile,
                           uint32_t first, struct plain_shared *shared)
{
    const uint32_t within = threadIdx.x % PLAIN_K;
    const uint32_t k = first + within;
    for (uint32_t line = threadIdx.x / PLAIN_K; line < EXPERTS_ROWS;
         line += EXPERTS_THREADS / PLAIN_K) {
        const uint32_t slot = tile->slot + line;
        const uint32_t column = tile->column + line;
        const size_t row = experts_row(args, slot, slot < tile->end);
        const size_t weight = (size_t)tile->expert * args->n + column;
        shared->x[within][line] =
            slot < tile->end && k < args->k ? ((const float *)args->x)[row * args->k + k] : 0;
        shared->w[within][line] =
            column < args->n && k < args->k ? ((const float *)args->w)[weight * args->k + k] : 0;
    }
}

GPU_DEVICE void multiply_plain(const struct plain_shared *shared, float sums[4][4])
{
    const uint32_t row = threadIdx.x / 16 * 4;
    const uint32_t column = threadIdx.x % 16 * 4;
#pragma unroll 4
    for (uint32_t k = 0; k < PLAIN_K; k++) {
        const float4 x = *(const float4 *)&shared->x[k][row];
        const float4 w = *(const float4 *)&shared->w[k][column];
        const float xs[4] = {x.x, x.y, x.z, x.w};
        const float ws[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
        for (uint32_t i = 0; i < 16; i++) {
            sums[i / 4][i % 4] = fmaf(xs[i / 4], ws[i % 4], sums[i / 4][i % 4]);
        }
    }
}

static __global__ void __launch_bounds__(EXPERTS_THREADS, 2)
    experts_f32(const struct cuda_experts_args args)
{
    GPU_SHARED(bytes);
    struct plain_shared *shared = (struct plain_shared *)bytes;
    experts_read(&args, &shared->shares);
    const uint32_t tiles = experts_tiles(&args, &shared->shares, PLAIN_COLUMNS);
    for (uint32_t index = blockIdx.x; index < tiles; index += gridDim.x) {
        const struct experts_tile tile = experts_find(&args, &shared->shares, PLAIN_COLUMNS, index);
        float sums[4][4] = {};
        for (uint32_t k = 0; k < args.k; k += PLAIN_K) {
            load_plain(&args, &tile, k, shared);
            __syncthreads();
            multiply_plain(shared, sums);
            __syncthreads();
        }
        const uint32_t slot = tile.slot + threadIdx.x / 16 * 4;
        const uint32_t column = tile.column + threadIdx.x % 16 * 4;
#pragma unroll
        for (uint32_t i = 0; i < 16; i++) {
            if (slot + i / 4 < tile.end && column + i % 4 < args.n) {
                ((float *)args.y)[(size_t)(slot + i / 4) * args.n + column + i % 4] =
                    sums[i / 4][i % 4];
            }
        }
    }
}

/* As many blocks as there can be tiles, within the budget. */
static dim3 grid_of(const struct cuda_experts_args *args, uint32_t columns)
{
    const uint32_t with_rows = args->slots_max < args->experts ? args->slots_max : args->experts;
    const uint64_t tiles = (uint64_t)(args->slots_max / EXPERTS_ROWS + with_rows) *
                           ((args->n + columns - 1) / columns);
    const uint32_t most = args->ctas > 0 ? args->ctas : 65536;
    return dim3(tiles < most ? (uint32_t)tiles : most);
}

int cuda_experts(const struct cuda_experts_args *args, struct CUstream_st *stream)
{
    if (args->experts == 0 || args->experts > LIMIT_EXPERTS_MAX || args->slots_max == 0 ||
        args->n == 0 || args->k == 0) {
        return -EINVAL;
    }
    if (args->dtype == KERN_F32) {
        return GPU_LAUNCH(experts_f32, grid_of(args, PLAIN_COLUMNS), dim3(EXPERTS_THREADS),
                          sizeof(struct plain_shared), stream, *args);
    }
    if (args->k % CHUNK != 0 || args->n % 2 != 0) {
        return -EINVAL;
    }
    return GPU_LAUNCH(experts_bf16, grid_of(args, TENSOR_COLUMNS), dim3(EXPERTS_THREADS),
                      sizeof(struct tensor_shared), stream, *args);
}
