/* rope.c - bias, norm and rotation of q and k, and the append of k and v to the KV page, the
 * specification. Runs on any worker thread over its rows; owns nothing.
 * Invariant: a row writes its own token's slots only, and in bf16 the odd neighbour's V as zero
 * when it is even and that neighbour is not the batch's next row. */
#include <math.h>

#include "kernels/bf16.h"
#include "kernels/kv_layout.h"
#include "kernels/ref/ref.h"

/* A head of q, k or v on its way: (x + bias) * scale * norm. */
struct head {
    const float *x;    /* [head_dim] */
    const float *bias; /* [head_dim] or NULL */
    const float *norm; /* [head_dim] or NULL: then scale is 1 */
    float scale;
};

static float biased(const struct head *head, uint32_t d)
{
    return head->x[d] + (head->bias ? head->bias[d] : 0);
}

/* Head `index` of a row of qkv, counted over q, k and v. */
static struct head head_of(const struct kern_rope_append_args *args, size_t row, uint32_t index,
                           const float *norm)
{
    const size_t at = (size_t)index * args->head_dim;
    const size_t columns = ((size_t)args->heads + 2 * (size_t)args->kv_heads) * args->head_dim;
    struct head head = {args->qkv + row * columns + at, args->bias ? args->bias + at : NULL, norm,
                        1};
    float sum = 0;
    for (uint32_t d = 0; d < args->head_dim && norm; d++) {
        sum += biased(&head, d) * biased(&head, d);
    }
    if (norm) {
        head.scale = 1.0f / sqrtf(sum / (float)args->head_dim + args->norm_eps);
    }
    return head;
}

static float value(const struct head *head, uint32_t d)
{
    return head->norm ? biased(head, d) * head->scale * head->norm[d] : biased(head, d);
}

/* Dimension d of a head after rotation by the angles of its position. */
static float rotated(const struct kern_rope_append_args *args, const struct head *head,
                     uint32_t position, uint32_t d)
{
    const uint32_t half = args->rope_dim / 2;
    if (d >= args->rope_dim) {
        return value(head, d);
    }
    const uint32_t pair = d % half;
    const float cosine = args->cosine[(size_t)position * half + pair];
    const float sine = args->sine[(size_t)position * half + pair];
    return d < half ? value(head, d) * cosine - value(head, d + half) * sine
                    : value(head, d) * cosine + value(head, pair) * sine;
}

static void append(const struct kern_rope_append_args *args, size_t row)
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
        const struct head k = head_of(args, row, args->heads + h, args->k_norm);
        const struct head v = head_of(args, row, args->heads + args->kv_heads + h, NULL);
        for (uint32_t d = 0; d < args->head_dim; d++) {
            act_store(page, kv_layout_k(&layout, h, token, d),
                      rotated(args, &k, args->position[row], d), args->dtype);
            act_store(page, kv_layout_v(&layout, h, token, d), value(&v, d), args->dtype);
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
    must(args->head_dim > 0 && !args->q_norm == !args->k_norm);
    for (size_t r = first; r < (size_t)first + count; r++) {
        for (uint32_t h = 0; h < args->heads; h++) {
            const struct head q = head_of(args, r, h, args->q_norm);
            const size_t at = (r * args->heads + h) * args->head_dim;
            for (uint32_t d = 0; d < args->head_dim; d++) {
                act_store(args->q, at + d, rotated(args, &q, args->position[r], d), args->dtype);
            }
        }
        append(args, r);
    }
}
