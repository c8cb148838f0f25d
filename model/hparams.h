/*
 * hparams.h - the numbers that define a model, from config.json + generation_config.json or from a
 * GGUF's metadata. Checked: every later size computation may trust these ranges.
 */
#ifndef MODEL_HPARAMS_H
#define MODEL_HPARAMS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"
#include "base/limits.h"
#include "base/must.h"
#include "model/family.h"
#include "model/model_error.h"

enum rope_kind { ROPE_NONE, ROPE_LINEAR, ROPE_LLAMA3, ROPE_YARN, ROPE_FACTORS };

enum { ROPE_PAIRS_MAX = 512 };

struct rope_scaling {
    enum rope_kind kind;
    double factor;
    double low_freq_factor;  /* llama3 */
    double high_freq_factor; /* llama3 */
    double beta_fast;        /* yarn */
    double beta_slow;        /* yarn */
    double attention_factor; /* yarn; already resolved: multiplies cos and sin */
    uint32_t original_positions;
    float factors[ROPE_PAIRS_MAX]; /* ROPE_FACTORS: a divisor a pair, as GGUF files carry them. */
};

struct hparams {
    const struct family *family; /* Never NULL in checked numbers. */
    char architecture[64];       /* As the file says: LlamaForCausalLM, llama, ... */
    char stored_dtype[16];       /* As the file says or as most tensors are: bf16, f32, q4_1, ... */
    uint32_t hidden;
    uint32_t layers;
    uint32_t heads;
    uint32_t kv_heads;
    uint32_t head_dim;
    uint32_t rope_dim;     /* <= head_dim, even */
    uint32_t ffn;          /* Width of the feed-forward part, or of one expert's. */
    uint32_t experts;      /* 0: dense */
    uint32_t experts_used; /* By a token. */
    bool experts_normed;   /* The weights of a token's experts sum to 1. */
    uint32_t vocab;
    uint32_t positions_max;  /* max_position_embeddings */
    uint32_t sliding_window; /* 0: none */
    double rms_eps;
    double rope_theta;
    struct rope_scaling rope;
    bool tied_embeddings;
    uint32_t bos_id; /* UINT32_MAX: none */
    uint32_t eos_ids[LIMIT_EOS_IDS_MAX];
    uint32_t eos_count;
    /* Defaults of generation_config.json; NAN or UINT32_MAX where it says nothing. */
    double temperature;
    double top_p;
    double min_p;
    double repetition_penalty;
    uint32_t top_k;
};

/* -EINVAL: malformed; -ENOTSUP: understood but not supported (error names it). generation may be
 * NULL. */
int hparams_from_config(struct hparams *hparams, const struct json *config,
                        const struct json *generation, struct model_error *error) MUST_CHECK;

/* Relations between the fields. Run by hparams_from_config() and the GGUF reader. */
int hparams_check(const struct hparams *hparams, struct model_error *error) MUST_CHECK;

/* cos and sin of position * frequency for positions [first, first + count): [count][rope_dim/2]
 * each, attention factor included. Frequencies in double. Sources of the formulas at the function.
 */
void hparams_rope_table(const struct hparams *hparams, uint32_t first, uint32_t count,
                        float *cosine, float *sine);

/* Whether so many ranks can share the model: 0, or -ENOTSUP and the line names both numbers. */
int hparams_check_ranks(const struct hparams *hparams, uint32_t ranks,
                        struct model_error *error) MUST_CHECK;

/* Whether the model has so many positions: 0, or -ENOTSUP likewise. */
int hparams_check_context(const struct hparams *hparams, uint32_t tokens,
                          struct model_error *error) MUST_CHECK;

enum { HPARAMS_TEXT_BYTES_MAX = 128 };

/* "llama 30x576, 9/3 heads of 64, ffn 1536, vocab 49152": family and shapes in one line, whichever
 * file they came from. What was measured for one model serves any other of the same line. */
void hparams_text(const struct hparams *hparams, char out[HPARAMS_TEXT_BYTES_MAX]);

/* Trainable parameters, tied ones once. */
uint64_t hparams_parameters(const struct hparams *hparams);

#endif /* MODEL_HPARAMS_H */
