/*
 * gguf_bytes.h - the bytes of a small GGUF file as the format spells them, for tests that write
 * good and bad ones. A value that does not fit fails the test.
 */
#ifndef TESTS_UNIT_MODEL_GGUF_BYTES_H
#define TESTS_UNIT_MODEL_GGUF_BYTES_H

#include <stddef.h>
#include <stdint.h>

enum { GGUF_BYTES_MAX = 8192 };

enum gguf_kind { /* Of a value. */
                 KIND_U32 = 4,
                 KIND_I32 = 5,
                 KIND_F32 = 6,
                 KIND_BOOL = 7,
                 KIND_STRING = 8,
                 KIND_ARRAY = 9,
};

struct gguf_bytes {
    uint8_t bytes[GGUF_BYTES_MAX];
    size_t count;
};

void put(struct gguf_bytes *file, const void *bytes, size_t count);
void put_u32(struct gguf_bytes *file, uint32_t value);
void put_u64(struct gguf_bytes *file, uint64_t value);
void put_text(struct gguf_bytes *file, const char *text); /* Its length first. */

/* A file of version 3 begins. */
void put_head(struct gguf_bytes *file, uint64_t tensors, uint64_t pairs);

/* A key and its value's kind; the value follows. */
void put_key(struct gguf_bytes *file, const char *key, enum gguf_kind kind);

#endif /* TESTS_UNIT_MODEL_GGUF_BYTES_H */
