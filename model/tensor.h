/* tensor.h - a checked table of tensors in mapped files, filled by safetensors.c and gguf.c. */
#ifndef MODEL_TENSOR_H
#define MODEL_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/must.h"
#include "model/model_error.h"

enum tensor_dtype {
    TENSOR_F32,
    TENSOR_F16,
    TENSOR_BF16,
    TENSOR_F64,
    TENSOR_Q8_0,
    TENSOR_Q4_0,
    TENSOR_Q4_1,
    TENSOR_Q5_0,
    TENSOR_Q5_1,
    TENSOR_Q4_K,
    TENSOR_Q5_K,
    TENSOR_Q6_K,
    TENSOR_I8,
    TENSOR_U8,
    TENSOR_I16,
    TENSOR_U16,
    TENSOR_I32,
    TENSOR_U32,
    TENSOR_I64,
    TENSOR_U64,
    TENSOR_BOOL,
    TENSOR_F8_E4M3,
    TENSOR_F8_E5M2,
    /* Block formats that are known by name, for the refusal, and not read. */
    TENSOR_Q8_1,
    TENSOR_Q2_K,
    TENSOR_Q3_K,
    TENSOR_Q8_K,
    TENSOR_IQ2_XXS,
    TENSOR_IQ2_XS,
    TENSOR_IQ3_XXS,
    TENSOR_IQ1_S,
    TENSOR_IQ4_NL,
    TENSOR_IQ3_S,
    TENSOR_IQ2_S,
    TENSOR_IQ4_XS,
    TENSOR_IQ1_M,
    TENSOR_TQ1_0,
    TENSOR_TQ2_0,
    TENSOR_MXFP4,
    TENSOR_OTHER, /* A number that this version has no name for. */
};

struct tensor {
    const char *name; /* Owned by the table; NUL-terminated. */
    enum tensor_dtype dtype;
    uint32_t dims;
    uint64_t shape[LIMIT_TENSOR_DIMS_MAX]; /* Row-major: the last one is contiguous. */
    const uint8_t *bytes;                  /* In the mapping. */
    uint64_t byte_count;
};

struct tensor_table {
    struct tensor *tensor; /* [count], sorted by name. */
    uint32_t count;
};

/* Puts the table in name order. -EINVAL when two tensors have one name. */
int tensor_table_sort(struct tensor_table *table, struct model_error *error) MUST_CHECK;

/* Binary search; NULL when absent. */
const struct tensor *tensor_find(const struct tensor_table *table, const char *name);

const char *tensor_dtype_name(enum tensor_dtype dtype);

/* TENSOR_OTHER for a type number of GGUF that has no row in the table. */
enum tensor_dtype tensor_dtype_of_gguf(uint32_t type);

/* Values and bytes of one block; 1 value for plain types, 0 and 0 for those known by name alone. */
uint32_t tensor_block_values(enum tensor_dtype dtype);
uint32_t tensor_block_bytes(enum tensor_dtype dtype);

/* True for the types tensor_read_row() turns into float. */
bool tensor_readable(enum tensor_dtype dtype);

/* Elements [first, first + count) of row `row` (all leading dimensions flattened) to float. F32,
 * F16, BF16 and the eight block formats, where first and count are multiples of the block. */
void tensor_read_row(const struct tensor *tensor, uint64_t row, uint64_t first, uint64_t count,
                     float *out);

#endif /* MODEL_TENSOR_H */
