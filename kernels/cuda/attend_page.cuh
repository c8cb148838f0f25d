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
#include "kernels/cuda/gpu.cuh"

enum {
    TILE = 16,           /* Tokens of one tile of the tensor cores; divides a page. */
    TILE_PADDING = 8,    /* Of a row in shared memory: 16-byte columns of 8 rows share no bank. */
    CHUNK = 8,           /* bf16 of one 16-byte copy. */
    CTAS_DEFAULT = 1024, /* More than a device holds at a time; those without work end at once. */
    WARP = 32,
};

/* Arguments, checked, and what follows from them. */
struct attend_launch {
    struct cuda_attend_args args;
    float scale_log2;
    uint32_t page_log2;
    uint32_t group;    /* Query heads of a kv head. */
    size_t head_acts;  /* Of one kv head's keys in a page, */
    size_t value_acts; /* from a key to its value, */
    size_t page_acts;  /* and of a page. */
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
    out->head_acts = (size_t)args->page_tokens * args->head_dim;
    out->value_acts = out->head_acts * args->kv_heads;
    out->page_acts = 2 * out->value_acts;
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

/* One kv head of one sequence. */
template <class Act> struct attend_kv {
    const Act *pool; /* The head's keys in page 0. */
    const uint32_t *table;
};

template <class Act>
GPU_DEVICE attend_kv<Act> attend_open(const struct attend_launch &launch, uint32_t table,
                                      uint32_t kv_head)
{
    attend_kv<Act> kv;
    kv.pool = (const Act *)launch.args.pool + kv_head * launch.head_acts;
    kv.table = launch.args.tables + table;
    return kv;
}

template <class Act>
GPU_DEVICE uint32_t attend_page(const struct attend_launch &launch, const attend_kv<Act> &kv,
                                uint32_t position)
{
    return kv.table[position >> launch.page_log2];
}

/* The key at a position in its page; those of the tokens behind it in the page follow. */
template <class Act>
GPU_DEVICE const Act *attend_key_in(const struct attend_launch &launch, const attend_kv<Act> &kv,
                                    uint32_t page, uint32_t position)
{
    const uint32_t token = position & (launch.args.page_tokens - 1);
    return kv.pool + page * launch.page_acts + (size_t)token * launch.args.head_dim;
}

template <class Act>
GPU_DEVICE const Act *attend_key(const struct attend_launch &launch, const attend_kv<Act> &kv,
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

/* Starts the copy of columns [c, c + 8) of a row of `dim`; those past its end become zeros. A row
 * that is not aligned is copied value by value, and at once. */
GPU_DEVICE void attend_load_chunk(gpu_bf16 *to, const gpu_bf16 *row, uint32_t c, uint32_t dim,
                                  bool aligned)
{
    if (aligned) {
        gpu_copy_async16(to + c, row + c, c < dim);
        return;
    }
#pragma unroll 1
    for (uint32_t i = c; i < c + CHUNK; i++) {
        to[i] = i < dim ? row[i] : gpu_act<gpu_bf16>(0);
    }
}

/* Thread `thread` of THREADS starts its part of the copy of a tile's rows, which follow each other
 * from `from` on; the other rows, and the columns [dim, DIM), become zeros. */
template <int DIM, int THREADS>
GPU_DEVICE void attend_load_tile(gpu_bf16 *to, const gpu_bf16 *from, attend_rows rows, uint32_t dim,
                                 uint32_t thread)
{
    constexpr uint32_t CHUNKS = DIM / CHUNK;
    const bool aligned = dim % CHUNK == 0;
#pragma unroll 4
    for (uint32_t i = thread; i < TILE * CHUNKS; i += THREADS) {
        const uint32_t row = i / CHUNKS;
        const bool valid = rows.first <= row && row < rows.end;
        attend_load_chunk(to + row * (DIM + TILE_PADDING), from + row * dim, i % CHUNKS * CHUNK,
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

#endif /* KERNELS_CUDA_ATTEND_PAGE_CUH */
