/*
 * gguf.h - GGUF files (v2, v3), checked before use: counts against the remaining bytes, alignment a
 * power of two, offsets aligned and inside the file, no overlap, element counts in whole blocks.
 */
#ifndef MODEL_GGUF_H
#define MODEL_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/must.h"
#include "model/hparams.h"
#include "model/tensor.h"

struct gguf; /* A read-only mapping with an index of keys and tensors. */

int gguf_open(struct gguf **out, const char *path, struct model_error *error) MUST_CHECK;

/* The same over bytes in memory, which outlive it; for fuzzing. */
int gguf_open_bytes(struct gguf **out, const uint8_t *bytes, size_t count,
                    struct model_error *error) MUST_CHECK;
void gguf_close(struct gguf *gguf);

const struct tensor_table *gguf_tensors(const struct gguf *gguf);

bool gguf_has(const struct gguf *gguf, const char *key);

/* Scalars by key. False when absent or of another kind. Integers of any width that fit. */
bool gguf_u64(const struct gguf *gguf, const char *key, uint64_t *out);
bool gguf_f64(const struct gguf *gguf, const char *key, double *out);
bool gguf_bool(const struct gguf *gguf, const char *key, bool *out);
bool gguf_string(const struct gguf *gguf, const char *key, const char **bytes, size_t *count);

/* Arrays: strings are walked in order, since they have no index. */
bool gguf_array_count(const struct gguf *gguf, const char *key, uint64_t *count);
bool gguf_array_f32(const struct gguf *gguf, const char *key,
                    const uint8_t **items); /* LE, unaligned */
bool gguf_array_i32(const struct gguf *gguf, const char *key,
                    const uint8_t **items); /* LE, unaligned */
struct gguf_strings {
    const uint8_t *next;
    uint64_t left;
};
bool gguf_array_strings(const struct gguf *gguf, const char *key, struct gguf_strings *walk);
bool gguf_strings_next(struct gguf_strings *walk, const char **bytes, size_t *count);

#endif /* MODEL_GGUF_H */
