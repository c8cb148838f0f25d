/*
 * attend_prefill.cu - attention of rows that are several of their sequence: chunks of prompts over
 * their own past, after FlashAttention-2 (Dao 2023). A unit is a block of the list x a kv head: 128
 * or 64 query rows, (token, head of the group) by (token, head), against tiles of 64 positions,
 * aligned. While a tile's scores are computed its values are on their way, then the next one's
 * keys. A warp has 16 or 32 of the rows for all of the tiles, so no sums are exchanged.
 *
 * FLOPs: 4 D a query row and position. Bytes: 4 D a position and unit, most from the L2. Aim: two
 * CTAs an SM (at most 255 registers, 102 KB of shared memory). Share of peak: not measured.
 */
#include "kernels/cuda/attend_cuda.h"

#include "kernels/cuda/attend_mma.cuh"
#include "kernels/cuda/attend_page.cuh"
#include "kernels/cuda/attend_row.cuh"
#include "kernels/cuda/gpu.cuh"

enum { WARPS = 4, THREADS = WARPS * WARP, KEYS = 64 };

template <int DIM, class Cell> struct prefill_shape {
    static constexpr int BLOCK = DIM <= ATTEND_BLOCK_WIDE ? ATTEND_BLOCK_ROWS : ATTEND_BLOCK_SMALL;
    static constexpr int TILES = BLOCK / WARPS / TILE; /* Of query rows that a warp has. */
    static constexpr int PITCH = attend_tile<DIM, gpu_bf16>::PITCH;
    static constexpr int CELL_PITCH = attend_tile<DIM, Cell>::PITCH;
    static constexpr int SHARED_BYTES =
        BLOCK * PITCH * (int)sizeof(gpu_bf16) + 2 * KEYS * CELL_PITCH * (int)sizeof(Cell);
};

struct prefill_unit {
    attend_sequence sequence;
    uint32_t kv_head;
    uint32_t row;   /* First query row, */
    uint32_t rows;  /* how many, */
    uint32_t first; /* and the positions [first, end) that they see. */
    uint32_t end;
};

/* Position of a query row; those behind the last stand where it stands. */
GPU_DEVICE uint32_t prefill_position(const struct attend_launch &launch, const prefill_unit &unit,
                                     uint32_t row)
{
    const uint32_t last = unit.sequence.row_count - 1;
    return unit.sequence.position + min((unit.row + row) / launch.group, last);
}

/* Where a query row of the unit is in q and out. */
GPU_DEVICE size_t prefill_at(const struct attend_launch &launch, const prefill_unit &unit,
                             uint32_t row)
{
    const uint32_t token = (unit.row + row) / launch.group;
    const uint32_t head = unit.kv_head * launch.group + (unit.row + row) % launch.group;
    return ((size_t)(unit.sequence.row_first + token) * launch.args.heads + head) *
           launch.args.head_dim;
}

GPU_DEVICE prefill_unit prefill_open(const struct attend_launch &launch, uint32_t index,
                                     uint32_t rows_max)
{
    const attend_block block = launch.args.blocks[index / launch.args.kv_heads];
    prefill_unit unit;
    unit.sequence = launch.args.sequences[block.sequence];
    unit.kv_head = index % launch.args.kv_heads;
    unit.row = block.row;
    unit.rows = min(unit.sequence.row_count * launch.group - block.row, rows_max);
    unit.first = attend_first(launch, prefill_position(launch, unit, 0));
    unit.end = prefill_position(launch, unit, unit.rows - 1) + 1;
    return unit;
}

/* Starts the copy of the unit's query rows; those behind the last, and columns past D, are zeros.
 */
template <int DIM>
GPU_DEVICE void prefill_load_queries(const struct attend_launch &launch, const prefill_unit &unit,
                                     gpu_bf16 *to)
{
    using shape = prefill_shape<DIM, gpu_bf16>;
    constexpr uint32_t CHUNK = attend_tile<DIM, gpu_bf16>::CHUNK;
    constexpr uint32_t CHUNKS = DIM / CHUNK;
    const uint32_t dim = launch.args.head_dim;
#pragma unroll 1
    for (uint32_t i = threadIdx.x; i < shape::BLOCK * CHUNKS; i += THREADS) {
        const uint32_t row = i / CHUNKS;
        const bool valid = row < unit.rows;
        const gpu_bf16 *from =
            (const gpu_bf16 *)launch.args.q + prefill_at(launch, unit, valid ? row : 0);
        attend_load_chunk(to + row * shape::PITCH, from, i % CHUNKS * CHUNK, valid ? dim : 0,
                          dim % CHUNK == 0);
    }
}

/* Starts the copy of the tile at a position: keys, or `value_cells` behind them. */
template <int DIM, class Cell>
GPU_DEVICE void prefill_load_tile(const struct attend_launch &launch, const prefill_unit &unit,
                                  uint32_t tile, size_t behind, Cell *to)
{
    const attend_kv<Cell> kv = attend_open<Cell>(launch, unit.sequence.table, unit.kv_head);
#pragma unroll 1
    for (uint32_t at = 0; at < KEYS; at += TILE) {
        const uint32_t position = tile + at;
        const Cell *from =
            position < unit.end ? attend_key(launch, kv, position) + behind : kv.pool;
        attend_load_tile<DIM, THREADS>(to + at * prefill_shape<DIM, Cell>::CELL_PITCH, from,
                                       attend_rows_of(position, unit.first, unit.end),
                                       launch.args.head_dim, threadIdx.x);
    }
}

/* Scores of the warp's query rows against the keys of a tile. */
template <int DIM, int TILES, class Cell>
GPU_DEVICE void prefill_scores(const gpu_bf16 *queries, const Cell *keys,
                               float s[TILES][KEYS / 8][4])
{
    using shape = prefill_shape<DIM, Cell>;
#pragma unroll
    for (int i = 0; i < TILES * KEYS / 8; i++) {
        float *zero = s[i / (KEYS / 8)][i % (KEYS / 8)];
        zero[0] = zero[1] = zero[2] = zero[3] = 0;
    }
#pragma unroll
    for (int k = 0; k < DIM / 16; k++) {
        uint32_t a[TILES][4];
#pragma unroll
        for (int i = 0; i < TILES; i++) {
            attend_mma_queries<DIM, Cell>(a[i], queries + i * TILE * shape::PITCH, k);
        }
#pragma unroll
        for (int n = 0; n < KEYS / 8; n += 2) {
            uint32_t b[4];
            attend_mma_keys<DIM>(b, keys + n * 8 * shape::CELL_PITCH, k);
#pragma unroll
            for (int i = 0; i < TILES; i++) {
                gpu_mma_bf16(s[i][n], a[i], b);
                gpu_mma_bf16(s[i][n + 1], a[i], b + 2);
            }
        }
    }
}

/* Adds the values of a tile with the weights in s. */
template <int DIM, int TILES, class Cell>
GPU_DEVICE void prefill_add_values(const Cell *values, const float s[TILES][KEYS / 8][4],
                                   attend_mma<DIM> rows[TILES])
{
#pragma unroll
    for (int t = 0; t < KEYS / TILE; t++) {
        uint32_t a[TILES][4];
#pragma unroll
        for (int i = 0; i < TILES; i++) {
            attend_mma_pack(a[i], s[i][2 * t], s[i][2 * t + 1]);
        }
        attend_mma_add<DIM, TILES>(values + t * TILE * prefill_shape<DIM, Cell>::CELL_PITCH, a,
                                   rows);
    }
}

/* out = o / l of the warp's rows, by way of their place in the shared queries. */
template <int DIM, int TILES, class Cell>
GPU_DEVICE void prefill_store(const struct attend_launch &launch, const prefill_unit &unit,
                              gpu_bf16 *queries, attend_mma<DIM> rows[TILES])
{
    constexpr uint32_t PITCH = prefill_shape<DIM, Cell>::PITCH;
    const uint32_t lane = threadIdx.x % WARP;
    const uint32_t dim = launch.args.head_dim;
    const uint32_t first = threadIdx.x / WARP * TILES * TILE;
    const float scale = attend_value_scale(launch, unit.kv_head);
#pragma unroll
    for (int i = 0; i < TILES; i++) {
        attend_mma_close(launch.scale_log2, &rows[i]);
#pragma unroll
        for (int n = 0; n < DIM / 2; n++) {
            const uint32_t h = n / 2 % 2;
            gpu_bf16 *to = queries + (i * TILE + lane / 4 + 8 * h) * PITCH;
            to[attend_mma_column<Cell>(n / 4, n)] =
                gpu_act<gpu_bf16>(rows[i].o[n / 4][n % 4] / rows[i].l[h] * scale);
        }
    }
    __syncwarp();
    for (uint32_t row = 0; row < TILES * TILE && first + row < unit.rows; row++) {
        gpu_bf16 *out = (gpu_bf16 *)launch.args.out + prefill_at(launch, unit, first + row);
        for (uint32_t c = lane; c < dim; c += WARP) {
            out[c] = queries[row * PITCH + c];
        }
    }
}

/* Whether some of the query rows [row, row + rows) see some of the tile. */
GPU_DEVICE bool prefill_sees(const struct attend_launch &launch, const prefill_unit &unit,
                             attend_rows rows, uint32_t tile)
{
    return tile <= prefill_position(launch, unit, rows.end - 1) &&
           tile + KEYS > attend_first(launch, prefill_position(launch, unit, rows.first));
}

/* Hides what query rows [row, row + 16) do not see of a tile. */
GPU_DEVICE void prefill_mask(const struct attend_launch &launch, const prefill_unit &unit,
                             uint32_t row, uint32_t tile, float s[KEYS / 8][4])
{
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const uint32_t position =
            prefill_position(launch, unit, row + threadIdx.x % WARP / 4 + 8 * h);
        const attend_rows seen = {attend_first(launch, position), position + 1};
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++) {
            const uint32_t c = tile + n * 8 + threadIdx.x % 4 * 2;
            s[n][2 * h] = attend_mma_mask(s[n][2 * h], c, seen);
            s[n][2 * h + 1] = attend_mma_mask(s[n][2 * h + 1], c + 1, seen);
        }
    }
}

/* Hides what the warp's rows do not see of a tile; most tiles are seen by all. */
template <int TILES>
GPU_DEVICE void prefill_mask_rows(const struct attend_launch &launch, const prefill_unit &unit,
                                  attend_rows rows, uint32_t tile, float s[TILES][KEYS / 8][4])
{
    if (tile + KEYS - 1 <= prefill_position(launch, unit, rows.first) &&
        tile >= attend_first(launch, prefill_position(launch, unit, rows.end - 1))) {
        return;
    }
#pragma unroll
    for (int i = 0; i < TILES; i++) {
        prefill_mask(launch, unit, rows.first + i * TILE, tile, s[i]);
    }
}

template <int DIM, class Cell>
__global__ void __launch_bounds__(THREADS, 2) prefill_kernel(const struct attend_launch launch)
{
    using shape = prefill_shape<DIM, Cell>;
    constexpr int TILES = shape::TILES;
    GPU_SHARED(shared);
    gpu_bf16 *queries = (gpu_bf16 *)shared;
    Cell *keys = (Cell *)(queries + shape::BLOCK * shape::PITCH);
    Cell *values = keys + KEYS * shape::CELL_PITCH;
    const uint32_t first = threadIdx.x / WARP * TILES * TILE;
    gpu_bf16 *own = queries + first * shape::PITCH;
    const attend_rows warp = {first, first + TILES * TILE}; /* Its query rows. */
    const uint32_t units = launch.args.counts->blocks * launch.args.kv_heads;
    for (uint32_t index = blockIdx.x; index < units; index += gridDim.x) {
        const prefill_unit unit = prefill_open(launch, index, shape::BLOCK);
        const float scale_log2 = attend_key_scale<Cell>(launch, unit.kv_head);
        attend_mma<DIM> rows[TILES];
#pragma unroll
        for (int i = 0; i < TILES; i++) {
            attend_mma_clear(&rows[i]);
        }
        uint32_t tile = unit.first / KEYS * KEYS;
        prefill_load_queries<DIM>(launch, unit, queries);
        prefill_load_tile<DIM>(launch, unit, tile, 0, keys);
        gpu_copy_commit();
        for (; tile < unit.end; tile += KEYS) {
            const bool sees = prefill_sees(launch, unit, warp, tile);
            float s[TILES][KEYS / 8][4];
            gpu_copy_wait<0>();
            __syncthreads(); /* The keys are there, and the values before them no longer needed. */
            prefill_load_tile<DIM>(launch, unit, tile, launch.value_cells, values);
            gpu_copy_commit();
            if (sees) {
                prefill_scores<DIM, TILES>(own, keys, s);
                prefill_mask_rows<TILES>(launch, unit, warp, tile, s);
#pragma unroll
                for (int i = 0; i < TILES; i++) {
                    attend_mma_weigh<DIM, KEYS / 8>(scale_log2, s[i], &rows[i]);
                }
            }
            gpu_copy_wait<0>();
            __syncthreads(); /* The values are there, and the keys no longer needed. */
            if (tile + KEYS < unit.end) {
                prefill_load_tile<DIM>(launch, unit, tile + KEYS, 0, keys);
            }
            gpu_copy_commit();
            if (sees) {
                prefill_add_values<DIM, TILES>(values, s, rows);
            }
        }
        prefill_store<DIM, TILES, Cell>(launch, unit, own, rows);
        __syncthreads();
    }
}

/* The same in float: each warp takes query rows in turn, each as decode takes it. */
template <class Cell>
__global__ void __launch_bounds__(THREADS, 5)
    prefill_float_kernel(const struct attend_launch launch)
{
    GPU_SHARED_ARRAY(float, weights, THREADS);
    const uint32_t units = launch.args.counts->blocks * launch.args.kv_heads;
    for (uint32_t index = blockIdx.x; index < units; index += gridDim.x) {
        const prefill_unit unit = prefill_open(launch, index, ATTEND_BLOCK_FLOATS);
        const float scale = attend_value_scale(launch, unit.kv_head);
        for (uint32_t i = threadIdx.x / WARP; i < unit.rows; i += WARPS) {
            const uint32_t position = prefill_position(launch, unit, i);
            const size_t at = prefill_at(launch, unit, i);
            const attend_row_source<Cell> source = {
                attend_open<Cell>(launch, unit.sequence.table, unit.kv_head),
                (const float *)launch.args.q + at, attend_key_scale<Cell>(launch, unit.kv_head),
                weights + threadIdx.x / WARP * WARP};
            attend_row row;
            attend_row_whole(launch, source, {attend_first(launch, position), position + 1}, &row);
            attend_row_store(row, (float *)launch.args.out + at, launch.args.head_dim, scale);
        }
    }
}

template <int DIM, class Cell>
static int prefill_launch(const struct attend_launch &launch, struct CUstream_st *stream)
{
    return GPU_LAUNCH((prefill_kernel<DIM, Cell>), dim3(launch.args.ctas), dim3(THREADS),
                      (prefill_shape<DIM, Cell>::SHARED_BYTES), stream, launch);
}

/* The smallest instance that has room for a head. */
template <class Cell>
static int prefill_bf16(const struct attend_launch &launch, struct CUstream_st *stream)
{
    const uint32_t dim = launch.args.head_dim;
    return dim <= 64    ? prefill_launch<64, Cell>(launch, stream)
           : dim <= 96  ? prefill_launch<96, Cell>(launch, stream)
           : dim <= 128 ? prefill_launch<128, Cell>(launch, stream)
           : dim <= 192 ? prefill_launch<192, Cell>(launch, stream)
                        : prefill_launch<256, Cell>(launch, stream);
}

template <class Cell>
static int prefill_float(const struct attend_launch &launch, struct CUstream_st *stream)
{
    return GPU_LAUNCH(prefill_float_kernel<Cell>, dim3(launch.args.ctas), dim3(THREADS), 0, stream,
                      launch);
}

int cuda_attend_prefill(const struct cuda_attend_args *args, struct CUstream_st *stream)
{
    struct attend_launch launch;
    const int error = attend_prepare(args, &launch);
    if (error) {
        return error;
    }
    if (args->dtype == KERN_F32) {
        return args->kv_scale ? prefill_float<gpu_e4m3>(launch, stream)
                              : prefill_float<float>(launch, stream);
    }
    return args->kv_scale ? prefill_bf16<gpu_e4m3>(launch, stream)
                          : prefill_bf16<gpu_bf16>(launch, stream);
}
