/*
 * attend.c - paged causal attention with grouped query heads and a running softmax (Milakov and
 * Gimelshein 2018), the specification. Runs on any worker thread over its items; scratch is the
 * thread's. Invariant: a row walks aligned blocks of KERN_ATTEND_BLOCK positions from the one where
 * its window begins to its own position, whatever else is in the batch.
 */
#include <math.h>

#include "kernels/bf16.h"
#include "kernels/kv_layout.h"
#include "kernels/ref/ref.h"

struct view { /* One row and query head, and where its keys and values are. */
    const struct kern_attend_args *args;
    const struct kern_sequence *sequence;
    struct kv_layout layout;
    size_t page_bytes;
    size_t q; /* Index of q[row][head][0]. */
    uint32_t kv_head;
};

static const void *page_of(const struct view *view, uint32_t position)
{
    const uint32_t page = view->sequence->pages[position / view->args->page_tokens];
    return (const uint8_t *)view->args->pool + page * view->page_bytes;
}

static float score(const struct view *view, uint32_t position)
{
    const enum kern_dtype dtype = view->args->dtype;
    const uint32_t token = position % view->args->page_tokens;
    const void *page = page_of(view, position);
    float sum = 0;
    for (uint32_t d = 0; d < view->args->head_dim; d++) {
        sum += act_load(view->args->q, view->q + d, dtype) *
               act_load(page, kv_layout_k(&view->layout, view->kv_head, token, d), dtype);
    }
    return sum * view->args->scale;
}

/* out[] += p V[position]. In bf16 p is rounded as the vector spellings round it. */
static void accumulate(const struct view *view, uint32_t position, float p, float *out)
{
    const enum kern_dtype dtype = view->args->dtype;
    const uint32_t token = position % view->args->page_tokens;
    const void *page = page_of(view, position);
    const float weight = dtype == KERN_F32 ? p : bf16_to_float(bf16_from_float(p));
    for (uint32_t d = 0; d < view->args->head_dim; d++) {
        out[d] +=
            weight * act_load(page, kv_layout_v(&view->layout, view->kv_head, token, d), dtype);
    }
}

static void attend_row(const struct view *view, uint32_t last)
{
    const uint32_t dim = view->args->head_dim;
    const uint32_t seen = kern_attend_first(view->args, last);
    float *out = view->args->scratch;
    float *p = out + dim;
    float max = -INFINITY;
    float sum = 0;
    for (uint32_t d = 0; d < dim; d++) {
        out[d] = 0;
    }
    uint32_t first = seen / KERN_ATTEND_BLOCK * KERN_ATTEND_BLOCK;
    for (; first <= last; first += KERN_ATTEND_BLOCK) {
        const uint32_t begin = first < seen ? seen - first : 0;
        const uint32_t left = last - first + 1;
        const uint32_t count = left < KERN_ATTEND_BLOCK ? left : KERN_ATTEND_BLOCK;
        float block_max = max;
        for (uint32_t i = begin; i < count; i++) {
            p[i] = score(view, first + i);
            block_max = fmaxf(block_max, p[i]);
        }
        const float shrink = expf(max - block_max);
        sum *= shrink;
        for (uint32_t d = 0; d < dim; d++) {
            out[d] *= shrink;
        }
        for (uint32_t i = begin; i < count; i++) {
            p[i] = expf(p[i] - block_max);
            sum += p[i];
            accumulate(view, first + i, p[i], out);
        }
        max = block_max;
    }
    for (uint32_t d = 0; d < dim; d++) {
        act_store(view->args->out, view->q + d, out[d] / sum, view->args->dtype);
    }
}

void ref_attend(const struct kern_attend_args *args, uint32_t first, uint32_t count)
{
    const uint32_t group = args->heads / args->kv_heads;
    struct view view = {
        .args = args,
        .layout = kv_layout_of(args->dtype, args->page_tokens, args->kv_heads, args->head_dim),
        .page_bytes =
            kern_kv_page_bytes(args->dtype, args->page_tokens, args->kv_heads, args->head_dim),
    };
    for (size_t i = first; i < (size_t)first + count; i++) {
        const struct kern_attend_item *item = &args->items[i];
        view.sequence = &args->sequences[item->sequence];
        view.kv_head = item->kv_head;
        for (uint32_t r = item->row_first; r < item->row_first + item->row_count; r++) {
            const size_t row = view.sequence->row_first + r;
            for (uint32_t h = 0; h < group; h++) {
                view.q = (row * args->heads + (size_t)item->kv_head * group + h) * args->head_dim;
                attend_row(&view, view.sequence->position + r);
            }
        }
    }
}
