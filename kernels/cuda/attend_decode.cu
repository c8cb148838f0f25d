/*
 * attend_decode.cu - attention of rows that are a sequence's only one. A unit is an item of the
 * list x a kv head x 16 query heads of its group, packed into the 16 rows of mma.m16n8k16. Tiles
 * of 16 tokens go to the 4 warps in turn; each warp keeps STAGES tiles of its own in flight, across
 * units too, and no barrier of the CTA but once a split, where the warps' sums are added in order.
 *
 * Bytes: 4 D a position and kv head, 2 D with e4m3; a row that is shared out adds 8 D a head and
 * split of 512. At most 16 FLOP a byte, 32 with e4m3. Aim: two CTAs an SM up to D = 128 and a group
 * of 8 (228 KB of shared memory, at most 168 registers), 64 KB and more on their way. Share of
 * peak: not measured.
 */
#include "kernels/cuda/attend_cuda.h"

#include "kernels/cuda/attend_mma.cuh"
#include "kernels/cuda/attend_page.cuh"
#include "kernels/cuda/attend_row.cuh"
#include "kernels/cuda/gpu.cuh"

enum { WARPS = 4, THREADS = WARPS * WARP, ROWS = ATTEND_UNIT_HEADS, STRIDE = WARPS * TILE };

/* As many tiles as an A100's 163 KB hold, 4 at most. */
template <int DIM, class Cell> struct decode_shape {
    static constexpr int CTAS = DIM <= 128 ? 3 : 1; /* An SM, by registers. */
    static constexpr int STAGES = sizeof(Cell) == 1 || DIM <= 96 ? 4 : DIM <= 192 ? 3 : 2;
    static constexpr int TILE_CELLS = attend_tile<DIM, Cell>::CELLS;
    static constexpr int RING_CELLS = STAGES * 2 * TILE_CELLS; /* Of a warp. */
    static constexpr int RING_BYTES = WARPS * RING_CELLS * (int)sizeof(Cell);
};

struct decode_unit {
    attend_item item;
    uint32_t kv_head;
    uint32_t head; /* First of the query heads, */
    uint32_t rows; /* and how many. */
};

GPU_DEVICE uint32_t decode_units(const struct attend_launch &launch)
{
    return launch.args.counts->items * launch.args.kv_heads * ((launch.group + ROWS - 1) / ROWS);
}

GPU_DEVICE decode_unit decode_open(const struct attend_launch &launch, uint32_t index)
{
    const uint32_t parts = (launch.group + ROWS - 1) / ROWS;
    const uint32_t part = index % parts;
    decode_unit unit;
    unit.kv_head = index / parts % launch.args.kv_heads;
    unit.item = launch.args.items[index / parts / launch.args.kv_heads];
    unit.head = unit.kv_head * launch.group + part * ROWS;
    unit.rows = min(launch.group - part * ROWS, (uint32_t)ROWS);
    return unit;
}

/* The warp's first tile that reaches position `first` or lies behind it. */
GPU_DEVICE uint32_t decode_tile(uint32_t first)
{
    const uint32_t tile = first / TILE;
    return (tile + (threadIdx.x / WARP - tile) % WARPS) * TILE;
}

/* What a warp loads next: it runs ahead of what the warp computes, through the same tiles. */
template <class Cell> struct decode_feed {
    attend_kv<Cell> kv;
    uint32_t unit;
    uint32_t tile; /* Not below `end`: there is no more. */
    uint32_t first;
    uint32_t end;
    uint32_t page; /* Of the tile: looked up a tile early, so that no copy waits for it. */
    uint32_t turn; /* Tiles so far. */
};

/* Goes to the next unit in which this warp has a tile, from feed->unit on. */
template <class Cell>
GPU_DEVICE void decode_feed_open(const struct attend_launch &launch, decode_feed<Cell> *feed)
{
    for (; feed->unit < decode_units(launch); feed->unit += gridDim.x) {
        const decode_unit unit = decode_open(launch, feed->unit);
        feed->first = unit.item.first;
        feed->end = unit.item.end;
        feed->tile = decode_tile(feed->first);
        if (feed->tile < feed->end) {
            const uint32_t table = launch.args.sequences[unit.item.sequence].table;
            feed->kv = attend_open<Cell>(launch, table, unit.kv_head);
            feed->page = attend_page(launch, feed->kv, feed->tile);
            return;
        }
    }
}

/* Starts the copy of the next tile into the warp's ring; an empty group when there is none. */
template <int DIM, class Cell>
GPU_DEVICE void decode_feed_next(const struct attend_launch &launch, decode_feed<Cell> *feed,
                                 Cell *ring)
{
    using shape = decode_shape<DIM, Cell>;
    if (feed->tile < feed->end) {
        Cell *keys = ring + feed->turn % shape::STAGES * 2 * shape::TILE_CELLS;
        const Cell *key = attend_key_in(launch, feed->kv, feed->page, feed->tile);
        const attend_rows rows = attend_rows_of(feed->tile, feed->first, feed->end);
        const uint32_t dim = launch.args.head_dim;
        attend_load_tile<DIM, WARP>(keys, key, rows, dim, threadIdx.x % WARP);
        attend_load_tile<DIM, WARP>(keys + shape::TILE_CELLS, key + launch.value_cells, rows, dim,
                                    threadIdx.x % WARP);
        feed->turn++;
        feed->tile += STRIDE;
        if (feed->tile < feed->end) {
            feed->page = attend_page(launch, feed->kv, feed->tile);
        } else {
            feed->unit += gridDim.x;
            decode_feed_open(launch, feed);
        }
    }
    gpu_copy_commit();
}

/* Shared memory behind the rings: the sums of a split and of a row, and m and l of the warps. */
template <int DIM> struct decode_area {
    static constexpr uint32_t PITCH = DIM + 8; /* Rows of the lanes of a warp share no bank. */
    float *split;                              /* [rows][PITCH] */
    float *row;                                /* [rows][PITCH] */
    float *m;                                  /* [WARPS][ROWS] */
    float *l;                                  /* [WARPS][ROWS] */
};

template <int DIM, class Cell>
static uint32_t decode_shared_bytes(const struct attend_launch &launch)
{
    const uint32_t rows = launch.group < ROWS ? launch.group : (uint32_t)ROWS;
    return decode_shape<DIM, Cell>::RING_BYTES +
           (2 * rows * decode_area<DIM>::PITCH + 2 * WARPS * ROWS) * (uint32_t)sizeof(float);
}

template <int DIM, class Cell>
GPU_DEVICE decode_area<DIM> decode_area_at(const struct attend_launch &launch,
                                           unsigned char *shared)
{
    const uint32_t rows = min(launch.group, (uint32_t)ROWS);
    decode_area<DIM> area;
    area.m = (float *)(shared + decode_shape<DIM, Cell>::RING_BYTES);
    area.l = area.m + WARPS * ROWS;
    area.split = area.l + WARPS * ROWS;
    area.row = area.split + rows * decode_area<DIM>::PITCH;
    return area;
}

/* area.split (+)= what this warp has, rescaled. */
template <int DIM, class Cell>
GPU_DEVICE void decode_add_own(const decode_area<DIM> &area, uint32_t rows,
                               const attend_mma<DIM> &own, const float keep[2])
{
    const bool adds = threadIdx.x >= WARP; /* The first warp sets. */
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const uint32_t row = threadIdx.x % WARP / 4 + 8 * h;
        float *to = area.split + row * area.PITCH;
#pragma unroll
        for (int i = 0; row < rows && i < DIM / 4; i++) {
            const uint32_t c = attend_mma_column<Cell>(i / 2, i);
            to[c] = own.o[i / 2][2 * h + i % 2] * keep[h] + (adds ? to[c] : 0);
        }
    }
}

/* area.split = the sum of what the warps have, in their order. */
template <int DIM, class Cell>
GPU_DEVICE void decode_add_warps(const decode_area<DIM> &area, uint32_t rows,
                                 const attend_mma<DIM> &own)
{
    const uint32_t warp = threadIdx.x / WARP;
    const uint32_t row = threadIdx.x % WARP / 4;
    float keep[2];
    if (threadIdx.x % 4 == 0) {
        for (uint32_t h = 0; h < 2; h++) {
            area.m[warp * ROWS + row + 8 * h] = own.m[h];
            area.l[warp * ROWS + row + 8 * h] = own.l[h];
        }
    }
    __syncthreads();
    for (uint32_t h = 0; h < 2; h++) {
        float greatest = area.m[row + 8 * h];
        for (uint32_t w = 1; w < WARPS; w++) {
            greatest = fmaxf(greatest, area.m[w * ROWS + row + 8 * h]);
        }
        keep[h] = gpu_exp2(own.m[h] - greatest);
    }
    for (uint32_t w = 0; w < WARPS; w++) {
        if (w == warp) {
            decode_add_own<DIM, Cell>(area, rows, own, keep);
        }
        __syncthreads();
    }
}

/* m and l of a split's row, from those of the warps. */
template <int DIM>
GPU_DEVICE void decode_split_ml(const decode_area<DIM> &area, uint32_t row, float *m, float *l)
{
    *m = area.m[row];
    for (uint32_t w = 1; w < WARPS; w++) {
        *m = fmaxf(*m, area.m[w * ROWS + row]);
    }
    *l = 0;
    for (uint32_t w = 0; w < WARPS; w++) {
        *l = fmaf(area.l[w * ROWS + row], gpu_exp2(area.m[w * ROWS + row] - *m), *l);
    }
}

enum { FOLDERS = THREADS / ROWS }; /* Threads that have columns of one row. */

/* A thread's row of the unit, folded from its splits: the thread's columns are in area.row. */
struct decode_fold {
    float m;
    float l;
};

/* Adds area.split to area.row, or puts it into a slot. */
template <int DIM>
GPU_DEVICE void decode_take_split(const struct attend_launch &launch, const decode_unit &unit,
                                  const decode_area<DIM> &area, decode_fold *fold)
{
    const uint32_t row = threadIdx.x / FOLDERS;
    const uint32_t dim = launch.args.head_dim;
    float m;
    float l;
    if (row >= unit.rows) {
        return;
    }
    const float *split = area.split + row * area.PITCH;
    decode_split_ml(area, row, &m, &l);
    if (unit.item.slot != (uint32_t)ATTEND_SLOT_NONE) {
        float *ml = attend_slot_ml(launch, unit.item.slot, unit.head + row);
        float *o = attend_slot(launch, unit.item.slot) + (size_t)(unit.head + row) * dim;
        ml[0] = m;
        ml[1] = l;
        for (uint32_t c = threadIdx.x % FOLDERS; c < dim; c += FOLDERS) {
            o[c] = split[c];
        }
        return;
    }
    float *o = area.row + row * area.PITCH;
    const bool later = fold->l > 0;
    float keep;
    float add;
    attend_fold(&fold->m, &fold->l, m, l, &keep, &add);
    for (uint32_t c = threadIdx.x % FOLDERS; c < dim; c += FOLDERS) {
        o[c] = attend_fold_value(later ? o[c] : 0, keep, split[c], add);
    }
}

/* out = o / l of a whole row. */
template <int DIM>
GPU_DEVICE void decode_store(const struct attend_launch &launch, const decode_unit &unit,
                             const decode_area<DIM> &area, const decode_fold &fold)
{
    const uint32_t row = threadIdx.x / FOLDERS;
    const uint32_t dim = launch.args.head_dim;
    if (row >= unit.rows || unit.item.slot != (uint32_t)ATTEND_SLOT_NONE) {
        return;
    }
    const size_t to = launch.args.sequences[unit.item.sequence].row_first;
    const float scale = attend_value_scale(launch, unit.kv_head);
    gpu_bf16 *out = (gpu_bf16 *)launch.args.out + (to * launch.args.heads + unit.head + row) * dim;
    for (uint32_t c = threadIdx.x % FOLDERS; c < dim; c += FOLDERS) {
        out[c] = gpu_act<gpu_bf16>(area.row[row * area.PITCH + c] / fold.l * scale);
    }
}

/* Columns c and c + apart of a row of q, zeros past its end. */
GPU_DEVICE uint32_t decode_query_pair(const gpu_bf16 *row, uint32_t c, uint32_t apart, uint32_t dim)
{
    if (apart == 1 && dim % 2 == 0) {
        return c < dim ? *(const uint32_t *)(row + c) : 0;
    }
    const float low = c < dim ? gpu_float(row[c]) : 0;
    const float high = c + apart < dim ? gpu_float(row[c + apart]) : 0;
    return gpu_pack_bf16(low, high);
}

/* The unit's rows of q as left factors, with the columns as attend_mma_keys() has them; rows that
 * are not there are zeros. */
template <int DIM, class Cell>
GPU_DEVICE void decode_queries(const struct attend_launch &launch, const decode_unit &unit,
                               uint32_t q[DIM / 16][4])
{
    constexpr bool BYTES = sizeof(Cell) == 1;
    const uint32_t lane = threadIdx.x % WARP;
    const uint32_t dim = launch.args.head_dim;
    const size_t from = launch.args.sequences[unit.item.sequence].row_first;
    const gpu_bf16 *rows =
        (const gpu_bf16 *)launch.args.q + (from * launch.args.heads + unit.head) * dim;
#pragma unroll
    for (int i = 0; i < DIM / 4; i++) {
        const uint32_t row = lane / 4 + i % 2 * 8;
        const uint32_t second = i / 2 % 2;
        const uint32_t c = i / 4 * 16 + (BYTES ? lane % 4 * 4 + second : lane % 4 * 2 + second * 8);
        q[i / 4][i % 4] =
            row < unit.rows ? decode_query_pair(rows + row * dim, c, BYTES ? 2 : 1, dim) : 0;
    }
}

/* Adds the tile at a position, which lies in shared memory. */
template <int DIM, class Cell>
GPU_DEVICE void decode_tile_add(float scale_log2, const uint32_t q[DIM / 16][4], const Cell *keys,
                                uint32_t tile, attend_rows seen, attend_mma<DIM> *rows)
{
    float s[2][4] = {};
#pragma unroll
    for (int k = 0; k < DIM / 16; k++) {
        uint32_t b[4];
        attend_mma_keys<DIM>(b, keys, k);
        gpu_mma_bf16(s[0], q[k], b);
        gpu_mma_bf16(s[1], q[k], b + 2);
    }
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const uint32_t position = tile + i / 4 * 8 + threadIdx.x % 4 * 2 + i % 2;
        s[i / 4][i % 4] = attend_mma_mask(s[i / 4][i % 4], position, seen);
    }
    attend_mma_weigh<DIM, 2>(scale_log2, s, rows);
    uint32_t p[1][4];
    attend_mma_pack(p[0], s[0], s[1]);
    attend_mma_add<DIM, 1>(keys + decode_shape<DIM, Cell>::TILE_CELLS, p, rows);
}

template <int DIM, class Cell>
__global__ void __launch_bounds__(THREADS, decode_shape<DIM, Cell>::CTAS)
    decode_kernel(const struct attend_launch launch)
{
    using shape = decode_shape<DIM, Cell>;
    GPU_SHARED(shared);
    Cell *ring = (Cell *)shared + threadIdx.x / WARP * shape::RING_CELLS;
    const decode_area<DIM> area = decode_area_at<DIM, Cell>(launch, shared);
    decode_feed<Cell> feed = {};
    uint32_t turn = 0;
    feed.unit = blockIdx.x;
    decode_feed_open(launch, &feed);
    for (int i = 0; i < shape::STAGES - 1; i++) {
        decode_feed_next<DIM>(launch, &feed, ring);
    }
    for (uint32_t index = blockIdx.x; index < decode_units(launch); index += gridDim.x) {
        const decode_unit unit = decode_open(launch, index);
        const float scale_log2 = attend_key_scale<Cell>(launch, unit.kv_head);
        uint32_t q[DIM / 16][4];
        decode_queries<DIM, Cell>(launch, unit, q);
        decode_fold fold = {-INFINITY, 0};
        for (uint32_t first = unit.item.first, end; first < unit.item.end; first = end) {
            end = attend_split_end(first, unit.item.end);
            attend_mma<DIM> rows;
            attend_mma_clear(&rows);
            for (uint32_t tile = decode_tile(first); tile < end; tile += STRIDE, turn++) {
                decode_feed_next<DIM>(launch, &feed, ring);
                gpu_copy_wait<shape::STAGES - 1>();
                __syncwarp();
                decode_tile_add<DIM>(scale_log2, q,
                                     ring + turn % shape::STAGES * 2 * shape::TILE_CELLS, tile,
                                     {first, end}, &rows);
                __syncwarp();
            }
            attend_mma_close(scale_log2, &rows);
            decode_add_warps<DIM, Cell>(area, unit.rows, rows);
            decode_take_split(launch, unit, area, &fold);
            __syncthreads();
        }
        decode_store(launch, unit, area, fold);
    }
    gpu_copy_wait<0>();
}

/* The same in float, each head a warp. */
template <class Cell>
__global__ void __launch_bounds__(THREADS, 5) decode_float_kernel(const struct attend_launch launch)
{
    GPU_SHARED_ARRAY(float, weights, THREADS);
    const uint32_t dim = launch.args.head_dim;
    const uint32_t heads = launch.args.heads;
    const uint32_t warps = launch.args.counts->items * heads;
    for (uint32_t i = blockIdx.x * WARPS + threadIdx.x / WARP; i < warps; i += gridDim.x * WARPS) {
        const uint32_t head = i % heads;
        const uint32_t kv_head = head / launch.group;
        const attend_item item = launch.args.items[i / heads];
        const attend_sequence sequence = launch.args.sequences[item.sequence];
        const size_t at = ((size_t)sequence.row_first * heads + head) * dim;
        const attend_row_source<Cell> source = {
            attend_open<Cell>(launch, sequence.table, kv_head), (const float *)launch.args.q + at,
            attend_key_scale<Cell>(launch, kv_head), weights + threadIdx.x / WARP * WARP};
        attend_row row;
        attend_row_whole(launch, source, {item.first, item.end}, &row);
        if (item.slot == (uint32_t)ATTEND_SLOT_NONE) {
            attend_row_store(row, (float *)launch.args.out + at, dim,
                             attend_value_scale(launch, kv_head));
        } else {
            attend_row_keep(launch, row, item.slot, head);
        }
    }
}

/* Folds the splits of a row that lie in slots, in order: a head each warp. */
template <class Act>
__global__ void __launch_bounds__(THREADS) merge_kernel(const struct attend_launch launch)
{
    const uint32_t dim = launch.args.head_dim;
    const uint32_t heads = launch.args.heads;
    const uint32_t warps = launch.args.counts->merges * heads;
    for (uint32_t i = blockIdx.x * WARPS + threadIdx.x / WARP; i < warps; i += gridDim.x * WARPS) {
        const uint32_t head = i % heads;
        const attend_merge merge = launch.args.merges[i / heads];
        const size_t to = launch.args.sequences[merge.sequence].row_first;
        attend_row row;
        attend_row_clear(&row);
        for (uint32_t slot = merge.slot; slot < merge.slot + merge.count; slot++) {
            attend_row_fold_slot(launch, slot, head, &row);
        }
        attend_row_store(row, (Act *)launch.args.out + (to * heads + head) * dim, dim,
                         attend_value_scale(launch, head / launch.group));
    }
}

template <int DIM, class Cell>
static int decode_launch(const struct attend_launch &launch, struct CUstream_st *stream)
{
    return GPU_LAUNCH((decode_kernel<DIM, Cell>), dim3(launch.args.ctas), dim3(THREADS),
                      (decode_shared_bytes<DIM, Cell>(launch)), stream, launch);
}

/* The smallest instance that has room for a head. */
template <class Cell>
static int decode_bf16(const struct attend_launch &launch, struct CUstream_st *stream)
{
    const uint32_t dim = launch.args.head_dim;
    return dim <= 64    ? decode_launch<64, Cell>(launch, stream)
           : dim <= 96  ? decode_launch<96, Cell>(launch, stream)
           : dim <= 128 ? decode_launch<128, Cell>(launch, stream)
           : dim <= 192 ? decode_launch<192, Cell>(launch, stream)
                        : decode_launch<256, Cell>(launch, stream);
}

template <class Cell>
static int decode_float(const struct attend_launch &launch, struct CUstream_st *stream)
{
    return GPU_LAUNCH(decode_float_kernel<Cell>, dim3(launch.args.ctas), dim3(THREADS), 0, stream,
                      launch);
}

int cuda_attend_decode(const struct cuda_attend_args *args, struct CUstream_st *stream)
{
    struct attend_launch launch;
    int error = attend_prepare(args, &launch);
    if (error) {
        return error;
    }
    const dim3 grid(launch.args.ctas);
    if (args->dtype == KERN_F32) {
        error = args->kv_scale ? decode_float<gpu_e4m3>(launch, stream)
                               : decode_float<float>(launch, stream);
        return error ? error
                     : GPU_LAUNCH(merge_kernel<float>, grid, dim3(THREADS), 0, stream, launch);
    }
    error = args->kv_scale ? decode_bf16<gpu_e4m3>(launch, stream)
                           : decode_bf16<gpu_bf16>(launch, stream);
    return error ? error
                 : GPU_LAUNCH(merge_kernel<gpu_bf16>, grid, dim3(THREADS), 0, stream, launch);
}
