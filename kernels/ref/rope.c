/* rope.c - rotates q and k by position and appends k and v to the KV page, the specification. Runs
 * on any worker thread over its rows; owns nothing.
 * Invariant: a row writes its own token's slots only, and in bf16 the odd neighbour's V as zero
 * when it is even and that neighbour is not the batch's next row. */
#include "kernels/bf16.h"
#include "kernels/kv_layout.h"
#include "kernels/ref/ref.h"

/* Dimension d of a head after rotation by the angles of row `at` of the tables. */
static float rotated(const struct kern_rope_append_args *args, const float *head, uint32_t position,
                     uint32_t d)
{
    const uint32_t half = args->rope_dim / 2;
    if (d >= args->rope_dim) {
        return head[d];
    }
    const uint32_t pair = d % half;
    const float cosine = args->cosine[(size_t)position * half + pair];
    const float sine = args->sine[(size_t)position * half + pair];
    return d < half ? head[d] * cosine - head[d + half] * sine
                    : head[d] * cosine + head[pair] * sine;
}

static void append(const struct kern_rope_append_args *args, size_t row, const float *k,
                   const float *v)
{
    const struct kv_layout layout =
        kv_layout_of(args->dtype, args->page_tokens, args->kv_heads, args->head_dim);
    const size_t page_bytes =
        kern_kv_page_bytes(args->dtype, args->page_tokens, args->kv_heads, args->head_dim);
    void *page = (uint8_t *)args->pool + args->page[row] * page_bytes;
    const uint32_t token = args->position[row] % args->page_tokens;
    const bool next_follows = row + 1 < args->rows && args->page[row + 1] == args->page[row] &&
                              args->position[row + 1] == args->position[row] + 1;
    const bool clear_next = args->dtype == KERN_BF16 && token % 2 == 0 && !next_follows;
    for (uint32_t h = 0; h < args->kv_heads; h++) {
        const float *head = k + (size_t)h * args->head_dim;
        for (uint32_t d = 0; d < args->head_dim; d++) {
            act_store(page, kv_layout_k(&layout, h, token, d),
                      rotated(args, head, args->position[row], d), args->dtype);
            act_store(page, kv_layout_v(&layout, h, token, d), v[(size_t)h * args->head_dim + d],
                      args->dtype);
            if (clear_next) {
                act_store(page, kv_layout_v(&layout, h, token + 1, d), 0, args->dtype);
            }
        }
        if (args->dtype == KERN_BF16 && args->head_dim % 2) {
            act_store(page, kv_layout_k(&layout, h, token, args->head_dim), 0, args->dtype);
        }
    }
}

void ref_rope_append(const struct kern_rope_append_args *args, uint32_t first, uint32_t count)
{
    const size_t q_cols = (size_t)args->heads * args->head_dim;
    const size_t kv_cols = (size_t)args->kv_heads * args->head_dim;
    must(args->head_dim > 0);
    for (size_t r = first; r < (size_t)first + count; r++) {
        const float *q = args->qkv + r * (q_cols + 2 * kv_cols);
        for (size_t c = 0; c < q_cols; c++) {
            const uint32_t d = (uint32_t)(c % args->head_dim);
            act_store(args->q, r * q_cols + c, rotated(args, q + (c - d), args->position[r], d),
                      args->dtype);
        }
        append(args, r, q + q_cols, q + q_cols + kv_cols);
    }
}
