/*
 * kern.h - every numeric operation the model needs, as one table of functions.
 *
 * ref/ is the specification: plain C, one obvious loop per formula. x86/ holds faster spellings of
 * the same functions. All share the argument structs below, so a test can call any two of them and
 * compare (tests/kern/). A function works on units [first, first + count) of its arguments, so that
 * a caller may cut one operation over threads; the result of a unit does not depend on the cut.
 *
 * "act" is the type of activations that feed a matrix product and of the KV cache: float or bf16
 * (uint16_t holding the upper half of a float, rounded to nearest even). The residual stream,
 * products and logits are float.
 *
 * KV page of one layer (dtype size S, T = page_tokens, D = head_dim, P = D rounded up to even):
 *
 *   f32    K  [kv head][T/16][D][16 tokens]          V  [kv head][T][D]
 *   bf16   K  [kv head][T/16][P/2][16 tokens][2]     V  [kv head][T/2][D][2 tokens]
 *
 * so that 16 scores are one vector, and the bf16 forms are pairs as dpbf16 wants them. Appending an
 * even token writes zero to its odd neighbour in V; slots past the last token are never read as
 * numbers.
 */
#ifndef KERNELS_KERN_H
#define KERNELS_KERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/must.h"
#include "kernels/dtype.h"
#include "kernels/experts.h"
#include "kernels/odds.h"
#include "kernels/quantise.h"

enum { KERN_KV_TILE = 16 }; /* Tokens of one K tile; divides every page size. */

/* x[r][c] = table[id[r]][c] for rows r. Units: rows. */
struct kern_embed_args {
    const void *table; /* act [vocab][cols] */
    const uint32_t *ids;
    float *x; /* [rows][cols] */
    uint32_t cols;
    enum kern_dtype dtype;
};

/* y[r][c] = x[r][c] * w[c] / sqrt(mean(x[r]^2) + eps). Units: rows. x and y do not overlap. */
struct kern_rmsnorm_args {
    const float *x; /* [rows][cols] */
    const float *w; /* [cols] */
    void *y;        /* act [rows][cols] */
    uint32_t cols;
    float eps;
    enum kern_dtype dtype; /* Of y. */
};

/*
 * Splits a row of qkv, adds the bias, norms each head of q and k (RMS, as above), rotates q and k
 * by the row's position (half-split pairs (i, i + R/2), with R = rope_dim <= D; dimensions past R
 * pass through), writes q and appends k and v to the page. A NULL bias or norm leaves its step out.
 * Units: rows. Two rows never name the same (page, token).
 */
struct kern_rope_append_args {
    const float *qkv;         /* [rows][(heads + 2 * kv_heads) * D]: q heads, k heads, v heads */
    const float *bias;        /* [(heads + 2 * kv_heads) * D] or NULL */
    const float *q_norm;      /* [D] or NULL, both or neither */
    const float *k_norm;      /* [D] */
    void *q;                  /* act [rows][heads][D] */
    void *pool;               /* Pages of this layer: page p at p * kern_kv_page_bytes(). */
    const uint32_t *page;     /* [rows] page that holds the row's token */
    const uint32_t *position; /* [rows] position in the sequence; the token in page is % T */
    uint32_t rows;       /* Of the batch: an even row looks whether its odd neighbour follows. */
    const float *cosine; /* [positions][R/2], attention factor included */
    const float *sine;
    uint32_t heads;
    uint32_t kv_heads;
    uint32_t head_dim;
    uint32_t rope_dim;
    uint32_t page_tokens;
    float norm_eps;
    enum kern_dtype dtype;
};

/* Rows of one sequence in the batch: consecutive positions, KV already appended. */
struct kern_sequence {
    const uint32_t *pages; /* Block table, from position 0. */
    uint32_t row_first;
    uint32_t row_count;
    uint32_t position; /* Of row_first. */
    uint32_t reserved;
};

/* One unit of attention work: rows x the query heads of one kv head. */
struct kern_attend_item {
    uint32_t sequence;
    uint32_t row_first; /* Within the sequence. */
    uint32_t row_count; /* At most KERN_ATTEND_ROWS_MAX. */
    uint32_t kv_head;
};

enum {
    KERN_ATTEND_ROWS_MAX = 32,
    KERN_ATTEND_BLOCK = 64, /* Positions between two rescalings of the running softmax. */
};

/*
 * out[r][h] = softmax(scale * q[r][h] . K[first..pos]) V[first..pos], pos = the row's position,
 * first = kern_attend_first(), h in the group of heads / kv_heads query heads of kv_head. Softmax
 * runs online over blocks of positions, aligned to their size wherever a window begins, so that a
 * row's bits depend on its own sequence alone. Positions of a block below `first` have weight 0;
 * their keys and values may be read, so their pages stay. Units: items.
 */
struct kern_attend_args {
    const void *q;    /* act [rows][heads][D] */
    const void *pool; /* Pages of this layer. */
    void *out;        /* act [rows][heads][D] */
    const struct kern_sequence *sequences;
    const struct kern_attend_item *items;
    uint32_t heads;
    uint32_t kv_heads; /* Divides heads. */
    uint32_t head_dim;
    uint32_t page_tokens;
    uint32_t window; /* Positions that a row sees, its own included; 0: all. */
    float scale;
    enum kern_dtype dtype;
    float *scratch; /* kern_attend_scratch_floats() of the calling thread. */
};

/* First position that a row at `position` sees. */
static inline uint32_t kern_attend_first(const struct kern_attend_args *args, uint32_t position)
{
    return args->window > 0 && position >= args->window ? position - args->window + 1 : 0;
}

/* y[r][c] = silu(gate[r][c]) * up[r][c], silu(x) = x / (1 + exp(-x)). Units: rows. */
struct kern_silu_mul_args {
    const float *gate_up; /* [rows][2 * cols]: gate then up */
    void *y;              /* act [rows][cols] */
    uint32_t cols;
    enum kern_dtype dtype;
};

/* max(logits), sum(exp(logit - max)) of a row, in a fixed order; for logprobs and sampling. */
struct kern_softmax_stats {
    float max;
    float sum;
    uint32_t argmax; /* Smallest id among equals. */
    bool finite;     /* No NaN, no infinity in the row. */
};

struct kern_logits_args {
    const float *logits; /* [vocab] */
    uint32_t vocab;
    struct kern_softmax_stats *stats;
};

struct kern_ops {
    void (*embed)(const struct kern_embed_args *args, uint32_t first, uint32_t count);
    void (*rmsnorm)(const struct kern_rmsnorm_args *args, uint32_t first, uint32_t count);
    void (*rope_append)(const struct kern_rope_append_args *args, uint32_t first, uint32_t count);
    void (*attend)(const struct kern_attend_args *args, uint32_t first, uint32_t count);
    void (*silu_mul)(const struct kern_silu_mul_args *args, uint32_t first, uint32_t count);
    void (*route)(const struct kern_route_args *args, uint32_t first, uint32_t count);
    void (*combine)(const struct kern_combine_args *args, uint32_t first, uint32_t count);
    void (*quantise)(const struct kern_quantise_args *args, uint32_t first, uint32_t count);
    void (*rescale)(const struct kern_rescale_args *args, uint32_t first, uint32_t count);
    void (*logits)(const struct kern_logits_args *args);
    void (*odds)(const struct kern_odds_args *args);
};

enum kern_isa {
    KERN_ISA_REF = 0,
    KERN_ISA_AVX2 = 1 << 0,   /* with FMA and F16C */
    KERN_ISA_AVX512 = 1 << 1, /* F, BW, DQ, VL */
    KERN_ISA_AVX512_BF16 = 1 << 2,
    KERN_ISA_AMX_BF16 = 1 << 3, /* and the kernel granted tile state */
    KERN_ISA_AVX512_VNNI = 1 << 4,
};

/* What this CPU and kernel allow; asks for AMX tile state once a process. */
unsigned kern_isa_detect(void);

/* Fills ops with the best function for the bits of isa. ops is complete on return. */
void kern_ops_init(struct kern_ops *ops, unsigned isa);

/* Of the CPU's kernels and of those for GPUs: each changes with every change of their sources, so
 * that what was measured of others is not taken for theirs. */
const char *kern_version(void);
const char *kern_cuda_version(void);

/* Bytes of one page of one layer, K and V. 0 when a shape is 0 or the product overflows. */
size_t kern_kv_page_bytes(enum kern_dtype dtype, uint32_t page_tokens, uint32_t kv_heads,
                          uint32_t head_dim);

/* Floats of scratch one thread needs for attend(). */
size_t kern_attend_scratch_floats(uint32_t heads, uint32_t kv_heads, uint32_t head_dim);

#endif /* KERNELS_KERN_H */
