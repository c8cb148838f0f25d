/*
 * attend_avx2.c - paged attention in float, 8 positions or dimensions at a time; bf16 goes to the
 * specification. Runs on any worker thread over its items; scratch is the thread's. One query head
 * of one row after the other: each streams its K and V, 8 bytes for 4 FLOPs, from L1 or L2 when the
 * heads of a group follow each other.
 * Invariant: a row walks aligned blocks of KERN_ATTEND_BLOCK positions from the one where its
 * window begins to its own position.
 */
#include <math.h>
#include <string.h>

#include "kernels/kv_layout.h"
#include "kernels/ref/ref.h"
#include "kernels/x86/vector_avx2.h"
#include "kernels/x86/x86.h"

struct query { /* One row and head, and where its keys and values are. */
    const struct kern_attend_args *args;
    const struct kern_sequence *sequence;
    struct kv_layout layout;
    size_t page_bytes;
    uint32_t kv_head;
    const float *q; /* [head_dim] */
    float *y;       /* [head_dim] */
    float *out;     /* [head_dim], sums so far */
    float *p;       /* [KERN_ATTEND_BLOCK] */
};

static const float *page_of(const struct query *query, uint32_t position)
{
    const uint32_t page = query->sequence->pages[position / query->args->page_tokens];
    return (const float *)((const uint8_t *)query->args->pool + page * query->page_bytes);
}

struct block { /* Positions from `first` on, of which [begin, end) are seen. */
    uint32_t first;
    uint32_t begin;
    uint32_t end;
};

/* Scores of the positions of a block that are seen into p, -infinity for the others; returns the
 * largest of them and max. */
static float score_block(const struct query *query, const struct block *block, float max)
{
    const __m256 lowest = _mm256_set1_ps(-INFINITY);
    const __m256 scale = _mm256_set1_ps(query->args->scale);
    __m256 most = _mm256_set1_ps(max);
    for (uint32_t t = 0; t < KERN_ATTEND_BLOCK; t += KERN_KV_TILE) {
        __m256 sums[2] = {lowest, lowest};
        if (t < block->end && t + KERN_KV_TILE > block->begin) {
            const uint32_t token = (block->first + t) % query->args->page_tokens;
            const float *k = page_of(query, block->first + t) +
                             kv_layout_k(&query->layout, query->kv_head, token, 0);
            sums[0] = sums[1] = _mm256_setzero_ps();
            for (size_t d = 0; d < query->args->head_dim; d++) {
                const __m256 q = _mm256_set1_ps(query->q[d]);
                sums[0] = _mm256_fmadd_ps(q, _mm256_loadu_ps(k + d * KERN_KV_TILE), sums[0]);
                sums[1] = _mm256_fmadd_ps(q, _mm256_loadu_ps(k + d * KERN_KV_TILE + 8), sums[1]);
            }
        }
        for (uint32_t half = 0; half < 2; half++) {
            const uint32_t at = t + half * 8;
            const __m256i ended = vector2_mask(block->end > at ? block->end - at : 0);
            const __m256i before = vector2_mask(block->begin > at ? block->begin - at : 0);
            const __m256i seen = _mm256_andnot_si256(before, ended);
            sums[half] = _mm256_blendv_ps(lowest, _mm256_mul_ps(sums[half], scale),
                                          _mm256_castsi256_ps(seen));
            most = _mm256_max_ps(most, sums[half]);
            _mm256_storeu_ps(query->p + at, sums[half]);
        }
    }
    return vector2_max(most);
}

/* out = out * shrink + p V over the positions that are seen. */
static void gather_block(const struct query *query, const struct block *block, float shrink)
{
    const uint32_t dim = query->args->head_dim;
    for (size_t d = 0; d < dim; d += 8) {
        const __m256i mask = vector2_mask(dim - d);
        __m256 sum =
            _mm256_mul_ps(_mm256_maskload_ps(query->out + d, mask), _mm256_set1_ps(shrink));
        for (uint32_t i = block->begin; i < block->end;) {
            const uint32_t token = (block->first + i) % query->args->page_tokens;
            const uint32_t in_page = query->args->page_tokens - token;
            const uint32_t run = block->end - i < in_page ? block->end - i : in_page;
            const float *v = page_of(query, block->first + i) +
                             kv_layout_v(&query->layout, query->kv_head, token, 0) + d;
            for (uint32_t j = 0; j < run; j++, i++, v += dim) {
                sum =
                    _mm256_fmadd_ps(_mm256_set1_ps(query->p[i]), _mm256_maskload_ps(v, mask), sum);
            }
        }
        _mm256_maskstore_ps(query->out + d, mask, sum);
    }
}

static void attend_query(const struct query *query, uint32_t last)
{
    const uint32_t dim = query->args->head_dim;
    const uint32_t seen = kern_attend_first(query->args, last);
    uint32_t first = seen / KERN_ATTEND_BLOCK * KERN_ATTEND_BLOCK;
    float max = -INFINITY;
    float sum = 0;
    memset(query->out, 0, dim * sizeof(float));
    for (; first <= last; first += KERN_ATTEND_BLOCK) {
        const uint32_t left = last - first + 1;
        const struct block block = {first, first < seen ? seen - first : 0,
                                    left < KERN_ATTEND_BLOCK ? left : KERN_ATTEND_BLOCK};
        const float block_max = score_block(query, &block, max);
        const float shrink = _mm256_cvtss_f32(vector2_exp(_mm256_set1_ps(max - block_max)));
        __m256 block_sum = _mm256_setzero_ps();
        for (size_t i = 0; i < KERN_ATTEND_BLOCK; i += 8) {
            const __m256 p = vector2_exp(
                _mm256_sub_ps(_mm256_loadu_ps(query->p + i), _mm256_set1_ps(block_max)));
            block_sum = _mm256_add_ps(block_sum, p);
            _mm256_storeu_ps(query->p + i, p);
        }
        sum = sum * shrink + vector2_sum(block_sum);
        max = block_max;
        gather_block(query, &block, shrink);
    }
    for (size_t d = 0; d < dim; d++) {
        query->y[d] = query->out[d] / sum;
    }
}

void avx2_attend(const struct kern_attend_args *args, uint32_t first, uint32_t count)
{
    const uint32_t group = args->heads / args->kv_heads;
    struct query query = {
        .args = args,
        .layout = kv_layout_of(args->dtype, args->page_tokens, args->kv_heads, args->head_dim),
        .page_bytes =
            kern_kv_page_bytes(args->dtype, args->page_tokens, args->kv_heads, args->head_dim),
        .p = args->scratch,
        .out = args->scratch + KERN_ATTEND_BLOCK,
    };
    if (args->dtype != KERN_F32) {
        ref_attend(args, first, count);
        return;
    }
    for (size_t i = first; i < (size_t)first + count; i++) {
        const struct kern_attend_item *item = &args->items[i];
        query.sequence = &args->sequences[item->sequence];
        query.kv_head = item->kv_head;
        for (uint32_t v = 0; v < item->row_count * group; v++) {
            const uint32_t r = item->row_first + v / group;
            const size_t row = query.sequence->row_first + r;
            const size_t head = (size_t)item->kv_head * group + v % group;
            const size_t at = (row * args->heads + head) * args->head_dim;
            query.q = (const float *)args->q + at;
            query.y = (float *)args->out + at;
            attend_query(&query, query.sequence->position + r);
        }
    }
}
