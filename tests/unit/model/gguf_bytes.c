/*
 * gguf_bytes.c - see gguf_bytes.h. Runs in the processes of the tests; owns nothing. Numbers are
 * written as they lie in memory: the format is little-endian, and so is every machine we build for.
 */
#include "tests/unit/model/gguf_bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

void put(struct gguf_bytes *file, const void *bytes, size_t count)
{
    assert_true(count <= sizeof file->bytes - file->count);
    memcpy(file->bytes + file->count, bytes, count);
    file->count += count;
}

void put_u32(struct gguf_bytes *file, uint32_t value)
{
    put(file, &value, sizeof value);
}

void put_u64(struct gguf_bytes *file, uint64_t value)
{
    put(file, &value, sizeof value);
}

void put_text(struct gguf_bytes *file, const char *text)
{
    put_u64(file, strlen(text));
    put(file, text, strlen(text));
}

void put_head(struct gguf_bytes *file, uint64_t tensors, uint64_t pairs)
{
    *file = (struct gguf_bytes){.count = 0};
    put(file, "GGUF", 4);
    put_u32(file, 3);
    put_u64(file, tensors);
    put_u64(file, pairs);
}

void put_key(struct gguf_bytes *file, const char *key, enum gguf_kind kind)
{
    put_text(file, key);
    put_u32(file, kind);
}
