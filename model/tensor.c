/*
 * tensor.c - finds tensors by name and turns their rows into float. Called by the loaders and by
 * weights.c while a worker starts, on any thread; owns nothing. Invariant: every tensor it is given
 * was bounds-checked by the reader that made the table. Block formats are those of GGUF: 32 values
 * a block behind one fp16 scale (and one fp16 minimum in the _1 forms).
 */
#include "model/tensor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { TENSOR_BLOCK = 32 };

static int table_order(const void *left, const void *right)
{
    return strcmp(((const struct tensor *)left)->name, ((const struct tensor *)right)->name);
}

int tensor_table_sort(struct tensor_table *table, struct model_error *error)
{
    qsort(table->tensor, table->count, sizeof table->tensor[0], table_order);
    for (uint32_t i = 1; i < table->count; i++) {
        if (table_order(&table->tensor[i - 1], &table->tensor[i]) == 0) {
            return model_error_set(error, -EINVAL, "tensor %.64s is there twice",
                                   table->tensor[i].name);
        }
    }
    return 0;
}

static int name_order(const void *key, const void *element)
{
    return strcmp(key, ((const struct tensor *)element)->name);
}

const struct tensor *tensor_find(const struct tensor_table *table, const char *name)
{
    return bsearch(name, table->tensor, table->count, sizeof table->tensor[0], name_order);
}

const char *tensor_dtype_name(enum tensor_dtype dtype)
{
    static const char *const names[] = {
        [TENSOR_F32] = "f32",         [TENSOR_F16] = "f16",         [TENSOR_BF16] = "bf16",
        [TENSOR_F64] = "f64",         [TENSOR_Q8_0] = "q8_0",       [TENSOR_Q4_0] = "q4_0",
        [TENSOR_Q4_1] = "q4_1",       [TENSOR_Q5_0] = "q5_0",       [TENSOR_Q5_1] = "q5_1",
        [TENSOR_I8] = "i8",           [TENSOR_U8] = "u8",           [TENSOR_I16] = "i16",
        [TENSOR_U16] = "u16",         [TENSOR_I32] = "i32",         [TENSOR_U32] = "u32",
        [TENSOR_I64] = "i64",         [TENSOR_U64] = "u64",         [TENSOR_BOOL] = "bool",
        [TENSOR_F8_E4M3] = "f8_e4m3", [TENSOR_F8_E5M2] = "f8_e5m2", [TENSOR_OTHER] = "other",
    };
    return names[dtype];
}

static uint16_t load_u16(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}

static uint32_t load_u32(const uint8_t *bytes)
{
    uint32_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

static float float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* IEEE 754 binary16 to binary32. */
static float half_to_float(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    const uint32_t exponent = (half >> 10) & 0x1f;
    const uint32_t mantissa = half & 0x3ff;
    if (exponent == 0) { /* Zero and subnormals: mantissa * 2^-24. */
        const float value = (float)mantissa * 0x1p-24f;
        return sign ? -value : value;
    }
    const uint32_t wide = exponent == 31 ? 255 : exponent + 112;
    return float_of_bits(sign | wide << 23 | mantissa << 13);
}

static void read_f32(const uint8_t *bytes, uint64_t count, float *out)
{
    memcpy(out, bytes, count * sizeof *out);
}

static void read_f16(const uint8_t *bytes, uint64_t count, float *out)
{
    for (uint64_t i = 0; i < count; i++) {
        out[i] = half_to_float(load_u16(bytes + 2 * i));
    }
}

static void read_bf16(const uint8_t *bytes, uint64_t count, float *out)
{
    for (uint64_t i = 0; i < count; i++) {
        out[i] = float_of_bits((uint32_t)load_u16(bytes + 2 * i) << 16);
    }
}

/* {fp16 d, i8 q[32]}: d * q. */
static void read_q8_0(const uint8_t *block, float *out)
{
    const float d = half_to_float(load_u16(block));
    for (int i = 0; i < TENSOR_BLOCK; i++) {
        out[i] = d * (float)(int8_t)block[2 + i];
    }
}

/* {fp16 d, u8 q[16]}: d * (nibble - 8); low nibbles are values 0 to 15, high ones 16 to 31. */
static void read_q4_0(const uint8_t *block, float *out)
{
    const float d = half_to_float(load_u16(block));
    for (int i = 0; i < TENSOR_BLOCK / 2; i++) {
        out[i] = d * (float)((block[2 + i] & 15) - 8);
        out[i + 16] = d * (float)((block[2 + i] >> 4) - 8);
    }
}

/* {fp16 d, fp16 m, u8 q[16]}: d * nibble + m. */
static void read_q4_1(const uint8_t *block, float *out)
{
    const float d = half_to_float(load_u16(block));
    const float m = half_to_float(load_u16(block + 2));
    for (int i = 0; i < TENSOR_BLOCK / 2; i++) {
        out[i] = d * (float)(block[4 + i] & 15) + m;
        out[i + 16] = d * (float)(block[4 + i] >> 4) + m;
    }
}

/* Value i of a five-bit block: nibble i with bit i of high above it. */
static int five_bits(const uint8_t *nibbles, uint32_t high, int i)
{
    const int nibble = i < 16 ? nibbles[i] & 15 : nibbles[i - 16] >> 4;
    return nibble | (int)((high >> i) & 1) << 4;
}

/* {fp16 d, u32 high, u8 q[16]}: d * (q - 16). */
static void read_q5_0(const uint8_t *block, float *out)
{
    const float d = half_to_float(load_u16(block));
    const uint32_t high = load_u32(block + 2);
    for (int i = 0; i < TENSOR_BLOCK; i++) {
        out[i] = d * (float)(five_bits(block + 6, high, i) - 16);
    }
}

/* {fp16 d, fp16 m, u32 high, u8 q[16]}: d * q + m. */
static void read_q5_1(const uint8_t *block, float *out)
{
    const float d = half_to_float(load_u16(block));
    const float m = half_to_float(load_u16(block + 2));
    const uint32_t high = load_u32(block + 4);
    for (int i = 0; i < TENSOR_BLOCK; i++) {
        out[i] = d * (float)five_bits(block + 8, high, i) + m;
    }
}

struct tensor_format {
    uint32_t block_values;
    uint32_t block_bytes;
    void (*plain)(const uint8_t *bytes, uint64_t count, float *out);
    void (*block)(const uint8_t *block, float *out);
};

static const struct tensor_format formats[] = {
    [TENSOR_F32] = {1, 4, read_f32, NULL},
    [TENSOR_F16] = {1, 2, read_f16, NULL},
    [TENSOR_BF16] = {1, 2, read_bf16, NULL},
    [TENSOR_F64] = {1, 8, NULL, NULL},
    [TENSOR_Q8_0] = {TENSOR_BLOCK, 34, NULL, read_q8_0},
    [TENSOR_Q4_0] = {TENSOR_BLOCK, 18, NULL, read_q4_0},
    [TENSOR_Q4_1] = {TENSOR_BLOCK, 20, NULL, read_q4_1},
    [TENSOR_Q5_0] = {TENSOR_BLOCK, 22, NULL, read_q5_0},
    [TENSOR_Q5_1] = {TENSOR_BLOCK, 24, NULL, read_q5_1},
    [TENSOR_I8] = {1, 1, NULL, NULL},
    [TENSOR_U8] = {1, 1, NULL, NULL},
    [TENSOR_I16] = {1, 2, NULL, NULL},
    [TENSOR_U16] = {1, 2, NULL, NULL},
    [TENSOR_I32] = {1, 4, NULL, NULL},
    [TENSOR_U32] = {1, 4, NULL, NULL},
    [TENSOR_I64] = {1, 8, NULL, NULL},
    [TENSOR_U64] = {1, 8, NULL, NULL},
    [TENSOR_BOOL] = {1, 1, NULL, NULL},
    [TENSOR_F8_E4M3] = {1, 1, NULL, NULL},
    [TENSOR_F8_E5M2] = {1, 1, NULL, NULL},
    [TENSOR_OTHER] = {0, 0, NULL, NULL},
};

uint32_t tensor_block_values(enum tensor_dtype dtype)
{
    return formats[dtype].block_values;
}

uint32_t tensor_block_bytes(enum tensor_dtype dtype)
{
    return formats[dtype].block_bytes;
}

bool tensor_readable(enum tensor_dtype dtype)
{
    return formats[dtype].plain || formats[dtype].block;
}

void tensor_read_row(const struct tensor *tensor, uint64_t row, uint64_t first, uint64_t count,
                     float *out)
{
    const struct tensor_format *format = &formats[tensor->dtype];
    const uint64_t columns = tensor->dims ? tensor->shape[tensor->dims - 1] : 1;
    must(tensor_readable(tensor->dtype));
    must(first <= columns && count <= columns - first);
    must(first % format->block_values == 0 && count % format->block_values == 0);
    const uint64_t block = (row * columns + first) / format->block_values;
    const uint8_t *bytes = tensor->bytes + block * format->block_bytes;
    if (format->plain) {
        format->plain(bytes, count, out);
        return;
    }
    for (uint64_t i = 0; i < count; i += format->block_values) {
        format->block(bytes, out + i);
        bytes += format->block_bytes;
    }
}
