/*
 * tiny_model.h - writes a small random Llama, or a relative with experts, as a Hugging Face
 * directory, so that tests of the worker run without test data. The same seed gives the same bytes.
 */
#ifndef TESTS_UNIT_WORKERS_TINY_MODEL_H
#define TESTS_UNIT_WORKERS_TINY_MODEL_H

#include <stdbool.h>
#include <stdint.h>

struct tiny_model {
    uint32_t hidden;
    uint32_t layers;
    uint32_t heads;
    uint32_t kv_heads;
    uint32_t head_dim;
    uint32_t ffn;
    uint32_t vocab;
    uint32_t positions;
    uint32_t sliding_window; /* 0: none */
    uint32_t experts;        /* More than 0: a Qwen3-MoE, with norms of q and k. */
    uint32_t experts_used;
    uint32_t poison_id; /* The embedding of this token is NaN; 0: none. */
    bool tied;
    uint64_t seed;
};

enum { TINY_MODEL_PATH_BYTES = 64 };

/* Creates a directory of its own under /tmp and fills it. Failure is must(). */
void tiny_model_write(const struct tiny_model *model, char path[TINY_MODEL_PATH_BYTES]);

/* Removes the directory and the files in it. */
void tiny_model_remove(const char *path);

#endif /* TESTS_UNIT_WORKERS_TINY_MODEL_H */
