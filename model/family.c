/*
 * family.c - the table of families. Called by the readers of model files at start, on any thread;
 * constant. Invariant: a GGUF name stands for one row with experts and one without at most, the
 * first of the table.
 */
#include "model/family.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

static const struct family_experts mixtral_experts = {
    .count = "num_local_experts",
    .ffn = "intermediate_size",
    .router = "model.layers.%u.block_sparse_moe.gate.weight",
    .gate = "model.layers.%u.block_sparse_moe.experts.%u.w1.weight",
    .up = "model.layers.%u.block_sparse_moe.experts.%u.w3.weight",
    .down = "model.layers.%u.block_sparse_moe.experts.%u.w2.weight",
    .normed = true,
};

static const struct family_experts qwen3_experts = {
    .count = "num_experts",
    .ffn = "moe_intermediate_size",
    .router = "model.layers.%u.mlp.gate.weight",
    .gate = "model.layers.%u.mlp.experts.%u.gate_proj.weight",
    .up = "model.layers.%u.mlp.experts.%u.up_proj.weight",
    .down = "model.layers.%u.mlp.experts.%u.down_proj.weight",
};

static const struct family families[] = {
    {.hugging_face = "LlamaForCausalLM", .gguf = "llama", .interleaved = true},
    {.hugging_face = "MistralForCausalLM", .gguf = "llama", .interleaved = true},
    {.hugging_face = "MixtralForCausalLM",
     .gguf = "llama",
     .interleaved = true,
     .experts = &mixtral_experts},
    {.hugging_face = "Qwen2ForCausalLM",
     .gguf = "qwen2",
     .qkv_bias = true,
     .window_on_request = true},
    {.hugging_face = "Qwen3ForCausalLM",
     .gguf = "qwen3",
     .qk_norm = true,
     .window_on_request = true},
    {.hugging_face = "Qwen3MoeForCausalLM",
     .gguf = "qwen3moe",
     .qk_norm = true,
     .window_on_request = true,
     .experts = &qwen3_experts},
};

enum { FAMILY_COUNT = sizeof families / sizeof families[0] };

const struct family *family_by_hugging_face(const char *name)
{
    for (uint32_t i = 0; i < FAMILY_COUNT; i++) {
        if (strcmp(families[i].hugging_face, name) == 0) {
            return &families[i];
        }
    }
    return NULL;
}

const struct family *family_by_gguf(const char *name, bool experts)
{
    for (uint32_t i = 0; i < FAMILY_COUNT; i++) {
        if (strcmp(families[i].gguf, name) == 0 && experts == (families[i].experts != NULL)) {
            return &families[i];
        }
    }
    return NULL;
}

static void append(char *out, size_t out_bytes, const char *name)
{
    const size_t used = strlen(out);
    (void)snprintf(out + used, out_bytes - used, "%s%s", used > 0 ? ", " : "", name);
}

void family_list_hugging_face(char *out, size_t out_bytes)
{
    out[0] = '\0';
    for (uint32_t i = 0; i < FAMILY_COUNT; i++) {
        append(out, out_bytes, families[i].hugging_face);
    }
}

void family_list_gguf(char *out, size_t out_bytes)
{
    out[0] = '\0';
    for (uint32_t i = 0; i < FAMILY_COUNT; i++) {
        if (i == 0 || strcmp(families[i].gguf, families[i - 1].gguf) != 0) {
            append(out, out_bytes, families[i].gguf);
        }
    }
}
