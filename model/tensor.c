/*
 * tensor.c - finds tensors by name and turns their rows into float. Called by the loaders and by
 * weights.c while a worker starts, on any thread; owns nothing but the one table of formats.
 * Invariant: every tensor it is given was bounds-checked by the reader that made its table.
 */
#include "model/tensor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "model/dequant.h"

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

/* Type numbers are those of GGUF; 0 is F32's. */
enum { GGUF_NONE = UINT32_MAX };

struct tensor_format {
    const char *name;
    uint32_t gguf;
    uint32_t block_values; /* 0: known by name alone. */
    uint32_t block_bytes;
    void (*plain)(const uint8_t *bytes, uint64_t count, float *out);
    void (*block)(const uint8_t *block, float *out);
};

static const struct tensor_format formats[] = {
    [TENSOR_F32] = {"f32", 0, 1, 4, dequant_f32, NULL},
    [TENSOR_F16] = {"f16", 1, 1, 2, dequant_f16, NULL},
    [TENSOR_BF16] = {"bf16", 30, 1, 2, dequant_bf16, NULL},
    [TENSOR_F64] = {"f64", 28, 1, 8, NULL, NULL},
    [TENSOR_Q8_0] = {"q8_0", 8, DEQUANT_BLOCK, 34, NULL, dequant_q8_0},
    [TENSOR_Q4_0] = {"q4_0", 2, DEQUANT_BLOCK, 18, NULL, dequant_q4_0},
    [TENSOR_Q4_1] = {"q4_1", 3, DEQUANT_BLOCK, 20, NULL, dequant_q4_1},
    [TENSOR_Q5_0] = {"q5_0", 6, DEQUANT_BLOCK, 22, NULL, dequant_q5_0},
    [TENSOR_Q5_1] = {"q5_1", 7, DEQUANT_BLOCK, 24, NULL, dequant_q5_1},
    [TENSOR_Q4_K] = {"q4_k", 12, DEQUANT_SUPER, 144, NULL, dequant_q4_k},
    [TENSOR_Q5_K] = {"q5_k", 13, DEQUANT_SUPER, 176, NULL, dequant_q5_k},
    [TENSOR_Q6_K] = {"q6_k", 14, DEQUANT_SUPER, 210, NULL, dequant_q6_k},
    [TENSOR_I8] = {"i8", 24, 1, 1, NULL, NULL},
    [TENSOR_U8] = {"u8", GGUF_NONE, 1, 1, NULL, NULL},
    [TENSOR_I16] = {"i16", 25, 1, 2, NULL, NULL},
    [TENSOR_U16] = {"u16", GGUF_NONE, 1, 2, NULL, NULL},
    [TENSOR_I32] = {"i32", 26, 1, 4, NULL, NULL},
    [TENSOR_U32] = {"u32", GGUF_NONE, 1, 4, NULL, NULL},
    [TENSOR_I64] = {"i64", 27, 1, 8, NULL, NULL},
    [TENSOR_U64] = {"u64", GGUF_NONE, 1, 8, NULL, NULL},
    [TENSOR_BOOL] = {"bool", GGUF_NONE, 1, 1, NULL, NULL},
    [TENSOR_F8_E4M3] = {"f8_e4m3", GGUF_NONE, 1, 1, NULL, NULL},
    [TENSOR_F8_E5M2] = {"f8_e5m2", GGUF_NONE, 1, 1, NULL, NULL},
    [TENSOR_Q8_1] = {.name = "q8_1", .gguf = 9},
    [TENSOR_Q2_K] = {.name = "q2_k", .gguf = 10},
    [TENSOR_Q3_K] = {.name = "q3_k", .gguf = 11},
    [TENSOR_Q8_K] = {.name = "q8_k", .gguf = 15},
    [TENSOR_IQ2_XXS] = {.name = "iq2_xxs", .gguf = 16},
    [TENSOR_IQ2_XS] = {.name = "iq2_xs", .gguf = 17},
    [TENSOR_IQ3_XXS] = {.name = "iq3_xxs", .gguf = 18},
    [TENSOR_IQ1_S] = {.name = "iq1_s", .gguf = 19},
    [TENSOR_IQ4_NL] = {.name = "iq4_nl", .gguf = 20},
    [TENSOR_IQ3_S] = {.name = "iq3_s", .gguf = 21},
    [TENSOR_IQ2_S] = {.name = "iq2_s", .gguf = 22},
    [TENSOR_IQ4_XS] = {.name = "iq4_xs", .gguf = 23},
    [TENSOR_IQ1_M] = {.name = "iq1_m", .gguf = 29},
    [TENSOR_TQ1_0] = {.name = "tq1_0", .gguf = 34},
    [TENSOR_TQ2_0] = {.name = "tq2_0", .gguf = 35},
    [TENSOR_MXFP4] = {.name = "mxfp4", .gguf = 39},
    [TENSOR_OTHER] = {.name = "unknown", .gguf = GGUF_NONE},
};

const char *tensor_dtype_name(enum tensor_dtype dtype)
{
    return formats[dtype].name;
}

enum tensor_dtype tensor_dtype_of_gguf(uint32_t type)
{
    for (enum tensor_dtype dtype = 0; dtype < TENSOR_OTHER; dtype++) {
        if (formats[dtype].gguf == type && type != GGUF_NONE) {
            return dtype;
        }
    }
    return TENSOR_OTHER;
}

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
