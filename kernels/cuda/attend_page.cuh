/*
 * attend_page.cuh - what the attention kernels share: where keys and values lie, how tiles of 16
 * rows come to shared memory, and how the sums of two sets of positions become those of both.
 *
 * The softmax of a query row over some positions is kept as m, the greatest score, l = sum of
 * exp2(score - m) and o = sum of exp2(score - m) V. Scores count powers of two.
 */
#ifndef KERNELS_CUDA_ATTEND_PAGE_CUH
#define KERNELS_CUDA_ATTEND_PAGE_CUH

#include "kernels/cuda/attend_cuda.h"
#include "kernels/cuda/e4m3.cuh"
#include "kernels/cuda/gpu.cuh"

enum {
    TILE = 16,           /* Tokens of one tile of the tensor cores; divides a page. */
    CHUNK_BYTES = 16,    /* Of one copy. */
    CTAS_DEFAULT = 1024, /* More than a device holds at a time; those without work end at once. */
    WARP = 32,
};

/* Arguments, checked, and what follows from them. */
struct attend_launch {
    struct cuda_attend_args args;
    float scale_log2;
    uint32_t page_log2;
    uint32_t group;     /* Query heads of a kv head. */
    size_t head_cells;  /* Of one kv head's keys in a page, */
    size_t value_cells; /* from a key to its value, */
    size_t page_cells;  /* and of a page. */
};

static inline int attend_prepare(const struct cuda_attend_args *args, struct attend_launch *out)
{
    const bool page = args->page_tokens == 16 || args->page_tokens == 32 || args->page_tokens == 64;
    if (!page || args->kv_heads == 0 || args->heads % args->kv_heads != 0 || args->head_dim == 0 ||
        args->head_dim > CUDA_ATTEND_DIM_MAX || !(args->scale > 0)) {
        return -EINVAL;
    }
    out->args = *args;
    out->args.ctas = args->ctas > 0 ? args->ctas : (uint32_t)CTAS_DEFAULT;
    out->scale_log2 = args->scale * 1.44269504f; /* log2(e) */
    out->page_log2 = args->page_tokens == 16 ? 4 : args->page_tokens == 32 ? 5 : 6;
    out->group = args->heads / args->kv_heads;
    out->head_cells = (size_t)args->page_tokens * args->head_dim;
    out->value_cells = out->head_cells * args->kv_heads;
    out->page_cells = 2 * out->value_cells;
    return 0;
}

/* First position that a row at `position` sees. */
GPU_DEVICE uint32_t attend_first(const struct attend_launch &launch, uint32_t position)
{
    const uint32_t window = launch.args.window;
    return window > 0 && position >= window ? position - window + 1 : 0;
}

/* Where the splits after the one of a position begin, but at most `end`. */
GPU_DEVICE uint32_t attend_split_end(uint32_t position, uint32_t end)
{
    return min((position / ATTEND_SPLIT + 1) * ATTEND_SPLIT, end);
}

/* What the product of a query and a cell is worth in powers of two, and a value's in the output. */
template <class Cell>
GPU_DEVICE float attend_key_scale(const struct attend_launch &launch, uint32_t kv_head)
{
    return sizeof(Cell) == 1 ? launch.scale_log2 * launch.args.kv_scale[kv_head]
                             : launch.scale_log2;
}

GPU_DEVICE float attend_value_scale(const struct attend_launch &launch, uint32_t kv_head)
{
    const float *scale = launch.args.kv_scale;
    return scale ? scale[launch.args.kv_heads + kv_head] : 1;
}

/* One kv head of one sequence. */
template <class Cell> struct attend_kv {
    const Cell *pool; /* The head's keys in page 0. */
    const uint32_t *table;
};

template <class Cell>
GPU_DEVICE attend_kv<Cell> attend_open(const struct attend_launch &launch, uint32_t table,
                                       uint32_t kv_head)
{
    attend_kv<Cell> kv;
    kv.pool = (const Cell *)launch.args.pool + kv_head * launch.head_cells;
    kv.table = launch.args.tables + table;
    return kv;
}

template <class Cell>
GPU_DEVICE uint32_t attend_page(const struct attend_launch &launch, const attend_kv<Cell> &kv,
                                uint32_t position)
{
    return kv.table[position >> launch.page_log2];
}

/* The key at a position in its page; those of the tokens behind it in the page follow. */
template <class Cell>
GPU_DEVICE const Cell *attend_key_in(const struct attend_launch &launch, const attend_kv<Cell> &kv,
                                     uint32_t page, uint32_t position)
{
    const uint32_t token = position & (launch.args.page_tokens - 1);
    return kv.pool + page * launch.page_cells + (size_t)token * launch.args.head_dim;
}

template <class Cell>
GPU_DEVICE const Cell *attend_key(const struct attend_launch &launch, const attend_kv<Cell> &kv,
                                  uint32_t position)
{
    return attend_key_in(launch, kv, attend_page(launch, kv, position), position);
}

struct attend_rows { /* Rows [first, end) of a tile. */
    uint32_t first;
    uint32_t end;
};

/* What of [first, end) lies in the tile at a position. */
GPU_DEVICE attend_rows attend_rows_of(uint32_t tile, uint32_t first, uint32_t end)
{
    return {first > tile ? first - tile : 0, end > tile ? end - tile : 0};
}

/* 16 tokens of DIM columns in shared memory. */
template <int DIM, class Cell> struct attend_tile {
    static constexpr uint32_t CHUNK = CHUNK_BYTES / sizeof(Cell); /* Cells of one copy. */
    static constexpr uint32_t PITCH = DIM + CHUNK; /* 16-byte columns of 8 rows share no bank. */
    static constexpr uint32_t CELLS = TILE * PITCH;
};

/* Starts the copy of one chunk of a row of `dim`, from column c; columns past its end become zeros.
 * A row that is not aligned is copied cell by cell, and at once. */
template <class Cell>
GPU_DEVICE void attend_load_chunk(Cell *to, const Cell *row, uint32_t c, uint32_t dim, bool aligned)
{
    if (aligned) {
        gpu_copy_async16(to + c, row + c, c < dim);
        return;
    }
#pragma unroll 1
    for (uint32_t i = c; i < c + CHUNK_BYTES / sizeof(Cell); i++) {
        to[i] = i < dim ? row[i] : gpu_act<Cell>(0);
    }
}

/* Thread `thread` of THREADS starts its part of the copy of a tile's rows, which follow each other
 * from `from` on; the other rows, and the columns [dim, DIM), become zeros. */
template <int DIM, int THREADS, class Cell>
GPU_DEVICE void attend_load_tile(Cell *to, const Cell *from, attend_rows rows, uint32_t dim,
                                 uint32_t thread)
{
    using tile = attend_tile<DIM, Cell>;
    constexpr uint32_t CHUNKS = DIM / tile::CHUNK;
    const bool aligned = dim % tile::CHUNK == 0;
#pragma unroll 4
    for (uint32_t i = thread; i < TILE * CHUNKS; i += THREADS) {
        const uint32_t row = i / CHUNKS;
        const bool valid = rows.first <= row && row < rows.end;
        attend_load_chunk(to + row * tile::PITCH, from + row * dim, i % CHUNKS * tile::CHUNK,
                          valid ? dim : 0, aligned);
    }
}

/* Adds the sums m2, l2 to m, l; o becomes o * *keep + o2 * *add, by attend_fold_value(). */
GPU_DEVICE void attend_fold(float *m, float *l, float m2, float l2, float *keep, float *add)
{
    const float greatest = fmaxf(*m, m2);
    *keep = gpu_exp2(*m - greatest);
    *add = gpu_exp2(m2 - greatest);
    *m = greatest;
    *l = fmaf(l2, *add, *l * *keep);
}

/* The product is written apart, so that every compiler fuses the same multiply-add. */
GPU_DEVICE float attend_fold_value(float o, float keep, float o2, float add)
{
    const float kept = o * keep;
    return fmaf(o2, add, kept);
}

#endif /* KERNELS_CUDA_ATTEND_PAGE_CUH */
