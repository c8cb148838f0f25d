/* rope_avx512.c - bias, norm and rotation of q and k, 16 pairs at a time, and the append of k and
 * v. Runs on any worker thread over its rows; owns nothing. The append writes with a stride: scalar
 * stores.
 * Invariant: a row writes its own token's slots only, and in bf16 the odd neighbour's V as zero
 * when it is even and that neighbour is not the batch's next row. */
#include <math.h>

#include "kernels/bf16.h"
#include "kernels/kv_layout.h"
#include "kernels/ref/ref.h"
#include "kernels/x86/vector_avx512.h"
#include "kernels/x86/x86.h"

enum { ROPE_HEAD_DIM_MAX = 256 }; /* Of the vector form. */

/* A head of q, k or v on its way: (x + bias) * scale * norm. */
struct head {
    const float *x;    /* [head_dim] */
    const float *bias; /* [head_dim] or NULL */
    const float *norm; /* [head_dim] or NULL: then scale is 1 */
    float scale;
};

static inline __m512 biased(const struct head *head, size_t d, __mmask16 mask)
{
    const __m512 x = _mm512_maskz_loadu_ps(mask, head->x + d);
    return head->bias ? _mm512_add_ps(x, _mm512_maskz_loadu_ps(mask, head->bias + d)) : x;
}

static inline __m512 value(const struct head *head, size_t d, __mmask16 mask)
{
    const __m512 x = biased(head, d, mask);
    if (!head->norm) {
        return x;
    }
    return _mm512_mul_ps(_mm512_mul_ps(x, _mm512_set1_ps(head->scale)),
                         _mm512_maskz_loadu_ps(mask, head->norm + d));
}

/* Head `index` of a row of qkv, counted over q, k and v. */
static struct head head_of(const struct kern_rope_append_args *args, size_t row, uint32_t index,
                           const float *norm)
{
    const size_t at = (size_t)index * args->head_dim;
    const size_t columns = ((size_t)args->heads + 2 * (size_t)args->kv_heads) * args->head_dim;
    struct head head = {args->qkv + row * columns + at, args->bias ? args->bias + at : NULL, norm,
                        1};
    if (norm) {
        __m512 sum = _mm512_setzero_ps();
        for (size_t d = 0; d < args->head_dim; d += 16) {
            const __m512 x = biased(&head, d, vector_mask(args->head_dim - d));
            sum = _mm512_fmadd_ps(x, x, sum);
        }
        const float mean = _mm512_reduce_add_ps(sum) / (float)args->head_dim;
        head.scale = 1.0f / sqrtf(mean + args->norm_eps);
    }
    return head;
}

/* out = dimensions [first, head_dim) of a head, as they are. */
static void copy(const struct head *head, size_t first, size_t dim, float *out)
{
    for (size_t d = first; d < dim; d += 16) {
        const __mmask16 mask = vector_mask(dim - d);
        _mm512_mask_storeu_ps(out + d, mask, value(head, d, mask));
    }
}

/* out = head rotated by the angles of the row, as float. */
static void rotate(const struct kern_rope_append_args *args, const struct head *head, size_t angles,
                   float *out)
{
    const uint32_t half = args->rope_dim / 2;
    for (size_t i = 0; i < half; i += 16) {
        const __mmask16 mask = vector_mask(half - i);
        const __m512 a = value(head, i, mask);
        const __m512 b = value(head, half + i, mask);
        const __m512 c = _mm512_maskz_loadu_ps(mask, args->cosine + angles + i);
        const __m512 s = _mm512_maskz_loadu_ps(mask, args->sine + angles + i);
        _mm512_mask_storeu_ps(out + i, mask,
                              _mm512_sub_ps(_mm512_mul_ps(a, c), _mm512_mul_ps(b, s)));
        _mm512_mask_storeu_ps(out + half + i, mask,
                              _mm512_add_ps(_mm512_mul_ps(b, c), _mm512_mul_ps(a, s)));
    }
    copy(head, args->rope_dim, args->head_dim, out);
}

static void append_f32(const struct kv_layout *layout, float *page, uint32_t head, uint32_t token,
                       const float *k, const float *v)
{
    for (uint32_t d = 0; d < layout->head_dim; d++) {
        page[kv_layout_k(layout, head, token, d)] = k[d];
    }
    float *v_out = page + kv_layout_v(layout, head, token, 0);
    for (uint32_t d = 0; d < layout->head_dim; d++) {
        v_out[d] = v[d];
    }
}

static void append_bf16(const struct kv_layout *layout, uint16_t *page, uint32_t head,
                        uint32_t token, const float *k, const float *v)
{
    uint16_t *k_out = page + kv_layout_k(layout, head, token, 0);
    uint16_t *v_out = page + kv_layout_v(layout, head, token, 0);
    const uint32_t dim = layout->head_dim;
    for (uint32_t d = 0; d < dim; d++) {
        k_out[(size_t)(d / 2) * 2 * KERN_KV_TILE + d % 2] = bf16_from_float(k[d]);
        v_out[(size_t)d * 2] = bf16_from_float(v[d]);
    }
    if (dim % 2) {
        k_out[(size_t)(dim / 2) * 2 * KERN_KV_TILE + 1] = 0;
    }
}

static void clear_neighbour(const struct kv_layout *layout, uint16_t *page, uint32_t head,
                            uint32_t token)
{
    uint16_t *v_out = page + kv_layout_v(layout, head, token, 0) + 1;
    for (uint32_t d = 0; d < layout->head_dim; d++) {
        v_out[(size_t)d * 2] = 0;
    }
}

static void append(const struct kern_rope_append_args *args, size_t row)
{
    const struct kv_layout layout =
        kv_layout_of(args->dtype, args->page_tokens, args->kv_heads, args->head_dim);
    const size_t page_bytes =
        kern_kv_page_bytes(args->dtype, args->page_tokens, args->kv_heads, args->head_dim);
    void *page = (uint8_t *)args->pool + args->page[row] * page_bytes;
    const uint32_t position = args->position[row];
    const uint32_t token = position % args->page_tokens;
    const bool next_follows = row + 1 < args->rows && args->page[row + 1] == args->page[row] &&
                              args->position[row + 1] == position + 1;
    const size_t angles = (size_t)position * (args->rope_dim / 2);
    float turned[ROPE_HEAD_DIM_MAX] = {0};
    float kept[ROPE_HEAD_DIM_MAX] = {0};
    for (uint32_t h = 0; h < args->kv_heads; h++) {
        const struct head k = head_of(args, row, args->heads + h, args->k_norm);
        const struct head v = head_of(args, row, args->heads + args->kv_heads + h, NULL);
        rotate(args, &k, angles, turned);
        copy(&v, 0, args->head_dim, kept);
        if (args->dtype == KERN_F32) {
            append_f32(&layout, page, h, token, turned, kept);
            continue;
        }
        append_bf16(&layout, page, h, token, turned, kept);
        if (token % 2 == 0 && !next_follows) {
            clear_neighbour(&layout, page, h, token);
        }
    }
}

void avx512_rope_append(const struct kern_rope_append_args *args, uint32_t first, uint32_t count)
{
    float turned[ROPE_HEAD_DIM_MAX] = {0};
    if (args->head_dim > ROPE_HEAD_DIM_MAX) {
        ref_rope_append(args, first, count); /* No model has such heads. */
        return;
    }
    for (size_t r = first; r < (size_t)first + count; r++) {
        const size_t angles = (size_t)args->position[r] * (args->rope_dim / 2);
        for (uint32_t h = 0; h < args->heads; h++) {
            const struct head q = head_of(args, r, h, args->q_norm);
            const size_t at = (r * args->heads + h) * args->head_dim;
            rotate(args, &q, angles, turned);
            for (size_t d = 0; d < args->head_dim; d += 16) {
                const __mmask16 mask = vector_mask(args->head_dim - d);
                vector_store_act(args->q, at + d, mask, _mm512_maskz_loadu_ps(mask, turned + d),
                                 args->dtype);
            }
        }
        append(args, r);
    }
}
