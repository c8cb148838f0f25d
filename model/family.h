/*
 * family.h - the model families that Sluice runs, one row each: what the files call a family and
 * in what its layer differs from a Llama's. Readers of config.json and GGUF, the tensor table and
 * the forward pass all look here, so that a dense relative is one more row.
 */
#ifndef MODEL_FAMILY_H
#define MODEL_FAMILY_H

#include <stdbool.h>
#include <stddef.h>

/* Mixtures of experts: how config.json and the tensors of a Hugging Face directory name them. */
struct family_experts {
    const char *count;  /* Key of the number of experts. */
    const char *ffn;    /* Key of the width of one of them. */
    const char *router; /* Tensors of a layer: the first %u is the layer, ... */
    const char *gate;   /* ... the second the expert. */
    const char *up;
    const char *down;
    bool normed; /* The weights of a token's experts always sum to 1; else norm_topk_prob says. */
};

struct family {
    const char *hugging_face; /* architectures[0] of config.json */
    const char *gguf;         /* general.architecture, and the prefix of its keys */
    bool qkv_bias;            /* q, k and v have a bias. */
    bool qk_norm;             /* RMS norm of each head of q and k before they turn. */
    bool interleaved;         /* GGUF holds the rows of q and k as pairs (2 i, 2 i + 1). */
    bool window_on_request;   /* sliding_window counts where use_sliding_window is true. */
    const struct family_experts *experts; /* NULL: dense */
};

/* NULL when no row has that name. GGUF gives a mixture the name of its dense relative. */
const struct family *family_by_hugging_face(const char *name);
const struct family *family_by_gguf(const char *name, bool experts);

/* "A, B, C": all names of either kind, for a refusal. */
void family_list_hugging_face(char *out, size_t out_bytes);
void family_list_gguf(char *out, size_t out_bytes);

#endif /* MODEL_FAMILY_H */
