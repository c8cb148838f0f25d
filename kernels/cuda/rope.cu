/*
 * rope.cu - bias, norm and rotation of q and k (Su et al. 2021), and the append of k and v to the
 * KV page. Called through cuda_rope() by whoever builds a step. A block a row, a warp a head: moves
 * a row of qkv in and out once, 6 FLOPs an element; cosines and sines of a position come from L2
 * after its first head. Occupancy aim: 1024 threads an SM. Share of peak: not measured.
 * Invariant: a row writes its own q and its own token's slots only.
 */
#include "kernels/cuda/rope_cuda.h"

#include "kernels/cuda/e4m3.cuh"
#include "kernels/cuda/rows.cuh"

/* A head of q, k or v on its way: (x + bias) * scale * norm. */
template <class Act> struct rope_head {
    const Act *x;
    const float *bias; /* [head_dim] or NULL */
    const float *norm; /* [head_dim] or NULL: then scale is 1 */
    Act *to;           /* Or NULL, and then */
    gpu_e4m3 *cell;    /* here, of numbers that count for unit. */
    float unit;
    float scale;
    uint32_t half;  /* Pairs to rotate. */
    uint32_t value; /* From a key that goes to cells to its value; else 0. */
};

/* Where head `index` of a row, counted over q, k and v, comes from and goes to. */
template <class Act>
GPU_DEVICE rope_head<Act> head_of(const struct cuda_rope_args &args, uint32_t row, uint32_t index)
{
    const uint32_t dim = args.head_dim;
    const uint32_t columns = (args.heads + 2 * args.kv_heads) * dim;
    const bool is_q = index < args.heads;
    const bool is_v = index >= args.heads + args.kv_heads;
    rope_head<Act> head = {};
    head.x = (const Act *)args.qkv + (uint64_t)row * columns + (uint64_t)index * dim;
    head.bias = args.bias ? args.bias + (uint64_t)index * dim : nullptr;
    head.norm = is_v ? nullptr : is_q ? args.q_norm : args.k_norm;
    head.scale = 1;
    head.half = is_v ? 0 : args.rope_dim / 2;
    if (is_q) {
        head.to = (Act *)args.q + ((uint64_t)row * args.heads + index) * dim;
    } else { /* K heads and V heads of a page lie one after the other, as they do in qkv. */
        const uint64_t slot = (uint64_t)args.page[row] * 2 * args.kv_heads + index - args.heads;
        const uint32_t token = args.position[row] % args.page_tokens;
        const uint64_t at = (slot * args.page_tokens + token) * dim;
        head.to = args.kv_scale ? nullptr : (Act *)args.pool + at;
        head.cell = (gpu_e4m3 *)args.pool + at;
        head.value = args.kv_scale && !is_v ? args.kv_heads * dim : 0;
        head.unit = args.kv_scale ? args.kv_scale[index - args.heads] : 1;
    }
    return head;
}

/* x + bias of Width dimensions from d. */
template <class Act, int Width>
GPU_DEVICE void biased(const rope_head<Act> &head, uint32_t d, float values[Width])
{
    rows_load<Width>(values, head.x + d);
    for (int i = 0; i < Width && head.bias; i++) {
        values[i] += head.bias[d + i];
    }
}

template <class Act, int Width>
GPU_DEVICE void store(const rope_head<Act> &head, uint32_t d, const float values[Width])
{
    if (head.to) {
        rows_store<Width>(head.to + d, values);
        return;
    }
    for (int i = 0; i < Width; i++) { /* Attention sees a NaN among keys alone. */
        const float value = head.value > 0 ? gpu_float(head.x[head.value + d + i]) : 0;
        head.cell[d + i] = gpu_act<gpu_e4m3>(isnan(value) ? value : values[i] / head.unit);
    }
}

template <class Act, int Width>
GPU_DEVICE void value_of(const rope_head<Act> &head, uint32_t d, float values[Width])
{
    biased<Act, Width>(head, d, values);
    for (int i = 0; i < Width && head.norm; i++) {
        values[i] = values[i] * head.scale * head.norm[d + i];
    }
}

/* 1 / RMS of a head, by a warp. */
template <class Act, int Width>
GPU_DEVICE float scale_of(const struct cuda_rope_args &args, const rope_head<Act> &head)
{
    float sum = 0;
    for (uint32_t d = threadIdx.x % 32 * Width; d < args.head_dim; d += 32 * Width) {
        float values[Width];
        biased<Act, Width>(head, d, values);
        for (int i = 0; i < Width; i++) {
            sum += values[i] * values[i];
        }
    }
    return 1.0f / sqrtf(gpu_warp_sum(sum) / (float)args.head_dim + args.norm_eps);
}

/* Width pairs (d, d + half) turned by the angles of the row's position. */
template <class Act, int Width>
GPU_DEVICE void rotate(const struct cuda_rope_args &args, const rope_head<Act> &head,
                       uint32_t position, uint32_t d)
{
    float first[Width];
    float second[Width];
    float turned[2][Width];
    const uint64_t angle = (uint64_t)position * head.half + d;
    value_of<Act, Width>(head, d, first);
    value_of<Act, Width>(head, d + head.half, second);
    for (int i = 0; i < Width; i++) {
        const float cosine = args.cosine[angle + i];
        const float sine = args.sine[angle + i];
        turned[0][i] = first[i] * cosine - second[i] * sine;
        turned[1][i] = second[i] * cosine + first[i] * sine;
    }
    store<Act, Width>(head, d, turned[0]);
    store<Act, Width>(head, d + head.half, turned[1]);
}

template <class Act, int Width>
static __global__ void __launch_bounds__(ROWS_THREADS) rope_rows(const struct cuda_rope_args args)
{
    const uint32_t rows = *args.rows;
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t heads = args.heads + 2 * args.kv_heads;
    for (uint32_t row = blockIdx.x; row < rows; row += gridDim.x) {
        for (uint32_t h = threadIdx.x / 32; h < heads; h += ROWS_WARPS) {
            rope_head<Act> head = head_of<Act>(args, row, h);
            if (head.norm) {
                head.scale = scale_of<Act, Width>(args, head);
            }
            for (uint32_t d = lane * Width; d < head.half; d += 32 * Width) {
                rotate<Act, Width>(args, head, args.position[row], d);
            }
            for (uint32_t d = 2 * head.half + lane * Width; d < args.head_dim; d += 32 * Width) {
                float values[Width];
                value_of<Act, Width>(head, d, values);
                store<Act, Width>(head, d, values);
            }
        }
    }
}

template <class Act, int Width>
static int launch(const struct cuda_rope_args *args, struct CUstream_st *stream)
{
    return GPU_LAUNCH(rope_rows<Act, Width>, dim3(rows_blocks(args->rows_max, args->ctas)),
                      dim3(ROWS_THREADS), 0, stream, *args);
}

int cuda_rope(const struct cuda_rope_args *args, struct CUstream_st *stream)
{
    /* Two pairs a lane only where that leaves no lane idle. */
    const bool wide = args->rope_dim % 128 == 0 && args->head_dim % 2 == 0;
    if (args->rows_max == 0 || args->heads == 0 || args->kv_heads == 0 || args->head_dim == 0 ||
        args->rope_dim > args->head_dim || args->rope_dim % 2 != 0 || args->page_tokens == 0 ||
        !args->q_norm != !args->k_norm) {
        return -EINVAL;
    }
    if (args->dtype == KERN_F32) {
        return wide ? launch<float, 2>(args, stream) : launch<float, 1>(args, stream);
    }
    return wide ? launch<gpu_bf16, 2>(args, stream) : launch<gpu_bf16, 1>(args, stream);
}
