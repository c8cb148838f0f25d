/*
 * tiny_model.c - see tiny_model.h. Called by tests on their main thread. The header of the
 * safetensors file is built beside the data: one pass lists every tensor with its byte range, and
 * the data follows in the same order.
 */
#include "tests/unit/workers/tiny_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/must.h"
#include "base/prng.h"

struct writer {
    const struct tiny_model *model;
    FILE *header; /* JSON in memory. */
    FILE *data;   /* Tensor bytes in memory. */
    uint64_t bytes;
    uint64_t tensors;
};

static void put_name(struct writer *writer, const char *name, uint32_t rows, uint32_t cols)
{
    const uint64_t count = (uint64_t)(rows > 0 ? rows : 1) * cols;
    const uint64_t end = writer->bytes + count * sizeof(float);
    (void)fprintf(writer->header, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[",
                  writer->tensors > 0 ? "," : "", name);
    if (rows > 0) {
        (void)fprintf(writer->header, "%u,", rows);
    }
    (void)fprintf(writer->header, "%u],\"data_offsets\":[%llu,%llu]}", cols,
                  (unsigned long long)writer->bytes, (unsigned long long)end);
    writer->bytes = end;
    writer->tensors++;
}

/* Rows and columns of uniform numbers with variance near 1 / cols; rows 0: a vector near 1. */
static void put(struct writer *writer, const char *name, uint32_t rows, uint32_t cols)
{
    const uint64_t stream = writer->tensors;
    const float spread = 3.0f / sqrtf((float)cols);
    put_name(writer, name, rows, cols);
    for (uint64_t i = 0; i < (uint64_t)(rows > 0 ? rows : 1) * cols; i++) {
        const float uniform = prng_uniform(writer->model->seed, stream << 32 | i, 0) - 0.5f;
        float value = rows > 0 ? uniform * spread : 1.0f + 0.2f * uniform;
        if (stream == 0 && writer->model->poison_id > 0 && i / cols == writer->model->poison_id) {
            value = NAN;
        }
        must(fwrite(&value, sizeof value, 1, writer->data) == 1);
    }
}

struct part {
    const char *name;
    uint32_t rows;
    uint32_t cols;
};

static void put_parts(struct writer *writer, const char *place, const struct part *parts,
                      size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char name[96];
        (void)snprintf(name, sizeof name, "%s.%s.weight", place, parts[i].name);
        put(writer, name, parts[i].rows, parts[i].cols);
    }
}

static void put_experts(struct writer *writer, const char *layer)
{
    const struct tiny_model *model = writer->model;
    const struct part before[] = {
        {"self_attn.q_norm", 0, model->head_dim},
        {"self_attn.k_norm", 0, model->head_dim},
        {"mlp.gate", model->experts, model->hidden},
    };
    const struct part parts[] = {
        {"gate_proj", model->ffn, model->hidden},
        {"up_proj", model->ffn, model->hidden},
        {"down_proj", model->hidden, model->ffn},
    };
    put_parts(writer, layer, before, sizeof before / sizeof before[0]);
    for (uint32_t i = 0; i < model->experts; i++) {
        char place[64];
        (void)snprintf(place, sizeof place, "%s.mlp.experts.%u", layer, i);
        put_parts(writer, place, parts, sizeof parts / sizeof parts[0]);
    }
}

static void put_layer(struct writer *writer, uint32_t layer)
{
    const struct tiny_model *model = writer->model;
    const struct part parts[] = {
        {"input_layernorm", 0, model->hidden},
        {"self_attn.q_proj", model->heads * model->head_dim, model->hidden},
        {"self_attn.k_proj", model->kv_heads * model->head_dim, model->hidden},
        {"self_attn.v_proj", model->kv_heads * model->head_dim, model->hidden},
        {"self_attn.o_proj", model->hidden, model->heads * model->head_dim},
        {"post_attention_layernorm", 0, model->hidden},
        {"mlp.gate_proj", model->ffn, model->hidden},
        {"mlp.up_proj", model->ffn, model->hidden},
        {"mlp.down_proj", model->hidden, model->ffn},
    };
    const size_t dense_count = 3; /* The last ones: experts are in their place. */
    const size_t count = sizeof parts / sizeof parts[0];
    char place[32];
    (void)snprintf(place, sizeof place, "model.layers.%u", layer);
    put_parts(writer, place, parts, model->experts > 0 ? count - dense_count : count);
    if (model->experts > 0) {
        put_experts(writer, place);
    }
}

static FILE *create(const char *directory, const char *name)
{
    char path[TINY_MODEL_PATH_BYTES + 32];
    (void)snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "w");
    must(file);
    return file;
}

static void write_tensors(const struct tiny_model *model, const char *directory)
{
    char *header = NULL;
    char *data = NULL;
    size_t header_bytes;
    size_t data_bytes;
    struct writer writer = {.model = model,
                            .header = open_memstream(&header, &header_bytes),
                            .data = open_memstream(&data, &data_bytes)};
    must(writer.header && writer.data);
    (void)fputc('{', writer.header);
    put(&writer, "model.embed_tokens.weight", model->vocab, model->hidden);
    for (uint32_t layer = 0; layer < model->layers; layer++) {
        put_layer(&writer, layer);
    }
    put(&writer, "model.norm.weight", 0, model->hidden);
    if (!model->tied) {
        put(&writer, "lm_head.weight", model->vocab, model->hidden);
    }
    (void)fputc('}', writer.header);
    must(fclose(writer.header) == 0 && fclose(writer.data) == 0);
    FILE *file = create(directory, "model.safetensors");
    const uint64_t count = header_bytes;
    must(fwrite(&count, sizeof count, 1, file) == 1);
    must(fwrite(header, 1, header_bytes, file) == header_bytes);
    must(fwrite(data, 1, data_bytes, file) == data_bytes);
    must(fclose(file) == 0);
    free(header);
    free(data);
}

static void write_config(const struct tiny_model *model, const char *directory)
{
    FILE *file = create(directory, "config.json");
    (void)fprintf(file,
                  "{\"architectures\":[\"%s\"],"
                  "\"hidden_size\":%u,\"intermediate_size\":%u,\"num_hidden_layers\":%u,"
                  "\"num_attention_heads\":%u,\"num_key_value_heads\":%u,\"head_dim\":%u,"
                  "\"vocab_size\":%u,\"max_position_embeddings\":%u,\"rms_norm_eps\":1e-5,"
                  "\"rope_theta\":10000.0,\"tie_word_embeddings\":%s",
                  model->experts > 0 ? "Qwen3MoeForCausalLM" : "LlamaForCausalLM", model->hidden,
                  model->ffn, model->layers, model->heads, model->kv_heads, model->head_dim,
                  model->vocab, model->positions, model->tied ? "true" : "false");
    if (model->sliding_window > 0) {
        (void)fprintf(file, ",\"sliding_window\":%u", model->sliding_window);
    }
    if (model->experts > 0) {
        (void)fprintf(file,
                      ",\"num_experts\":%u,\"num_experts_per_tok\":%u,"
                      "\"moe_intermediate_size\":%u",
                      model->experts, model->experts_used, model->ffn);
    }
    (void)fputs("}\n", file);
    must(fclose(file) == 0);
}

void tiny_model_write(const struct tiny_model *model, char path[TINY_MODEL_PATH_BYTES])
{
    (void)snprintf(path, TINY_MODEL_PATH_BYTES, "/tmp/sluice-tiny-XXXXXX");
    must(mkdtemp(path));
    write_tensors(model, path);
    write_config(model, path);
}

void tiny_model_remove(const char *path)
{
    static const char *const names[] = {"model.safetensors", "config.json"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char file[TINY_MODEL_PATH_BYTES + 32];
        (void)snprintf(file, sizeof file, "%s/%s", path, names[i]);
        must(unlink(file) == 0);
    }
    must(rmdir(path) == 0);
}
