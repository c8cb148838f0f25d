/*
 * gguf.c - reads GGUF v2 and v3: header, metadata, tensor table. Called by weights.c and the
 * tokenizer at start and by the tools; owns the mapping and the index. Invariant: after gguf_open()
 * every offset in the index was checked against the file's size, so accessors only copy.
 *
 *   "GGUF" u32 version, u64 tensors, u64 pairs | pairs: key, type, value | tensors: name, dims,
 *   shape (fastest first), type, offset | padding to alignment | data
 */
#include "model/gguf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "model/mapping.h"

enum {
    GGUF_PAIRS_MAX = 65536,
    GGUF_KEY_BYTES_MAX = 65535,
    GGUF_NAME_BYTES_MAX = 127, /* Of a tensor; the format allows 64. */
    GGUF_ALIGNMENT_DEFAULT = 32,
    GGUF_ALIGNMENT_MAX = 1 << 20,
};

enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_TYPE_COUNT,
};

/* Bytes of a scalar; 0 for the two that have no fixed size. */
static const uint8_t type_bytes[GGUF_TYPE_COUNT] = {
    [GGUF_U8] = 1,  [GGUF_I8] = 1,   [GGUF_U16] = 2, [GGUF_I16] = 2, [GGUF_U32] = 4, [GGUF_I32] = 4,
    [GGUF_F32] = 4, [GGUF_BOOL] = 1, [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
};

struct gguf_pair {
    const uint8_t *key;
    uint64_t key_bytes;
    uint32_t type;
    uint32_t item_type; /* Of an array. */
    uint64_t count;     /* Items of an array, bytes of a string. */
    const uint8_t *value;
};

struct gguf {
    struct mapping mapping;
    struct gguf_pair *pairs;
    uint64_t pair_count;
    struct tensor_table tensors;
    char *names; /* NUL-terminated copies, one after the other. */
};

struct cursor {
    const uint8_t *at;
    uint64_t left;
};

static bool take(struct cursor *cursor, uint64_t bytes, const uint8_t **out)
{
    if (bytes > cursor->left) {
        return false;
    }
    *out = cursor->at;
    cursor->at += bytes;
    cursor->left -= bytes;
    return true;
}

static bool take_u32(struct cursor *cursor, uint32_t *out)
{
    const uint8_t *bytes;
    if (!take(cursor, sizeof *out, &bytes)) {
        return false;
    }
    memcpy(out, bytes, sizeof *out);
    return true;
}

static bool take_u64(struct cursor *cursor, uint64_t *out)
{
    const uint8_t *bytes;
    if (!take(cursor, sizeof *out, &bytes)) {
        return false;
    }
    memcpy(out, bytes, sizeof *out);
    return true;
}

static bool take_string(struct cursor *cursor, const uint8_t **bytes, uint64_t *count)
{
    return take_u64(cursor, count) && take(cursor, *count, bytes);
}

/* Steps over count items of an array's type. Arrays of arrays are not used by any model: refused.
 */
static bool take_items(struct cursor *cursor, uint32_t type, uint64_t count)
{
    const uint8_t *bytes;
    uint64_t total;
    if (type == GGUF_STRING) {
        for (uint64_t i = 0; i < count; i++) {
            uint64_t string_bytes;
            if (!take_string(cursor, &bytes, &string_bytes)) {
                return false;
            }
        }
        return true;
    }
    return type < GGUF_TYPE_COUNT && type_bytes[type] &&
           checked_mul(count, type_bytes[type], &total) && take(cursor, total, &bytes);
}

static int read_pair(struct cursor *cursor, struct gguf_pair *pair, struct model_error *error)
{
    if (!take_string(cursor, &pair->key, &pair->key_bytes) ||
        pair->key_bytes > GGUF_KEY_BYTES_MAX || !take_u32(cursor, &pair->type)) {
        return model_error_set(error, -EINVAL, "metadata key runs past the end of the file");
    }
    bool whole = false;
    if (pair->type == GGUF_STRING) {
        whole = take_string(cursor, &pair->value, &pair->count);
    } else if (pair->type == GGUF_ARRAY) {
        whole = take_u32(cursor, &pair->item_type) && take_u64(cursor, &pair->count);
        pair->value = cursor->at;
        whole = whole && take_items(cursor, pair->item_type, pair->count);
    } else if (pair->type < GGUF_TYPE_COUNT) {
        whole = take(cursor, type_bytes[pair->type], &pair->value);
    }
    if (!whole) {
        return model_error_set(error, -EINVAL, "metadata value of %.*s is malformed",
                               (int)(pair->key_bytes > 64 ? 64 : pair->key_bytes),
                               (const char *)pair->key);
    }
    return 0;
}

static int pair_order(const void *left, const void *right)
{
    const struct gguf_pair *a = left;
    const struct gguf_pair *b = right;
    const uint64_t bytes = a->key_bytes < b->key_bytes ? a->key_bytes : b->key_bytes;
    const int order = memcmp(a->key, b->key, bytes);
    return order ? order : (a->key_bytes > b->key_bytes) - (a->key_bytes < b->key_bytes);
}

static int read_pairs(struct gguf *gguf, struct cursor *cursor, uint64_t count,
                      struct model_error *error)
{
    enum { PAIR_BYTES_MIN = 8 + 4 + 1 };
    if (count > GGUF_PAIRS_MAX || count > cursor->left / PAIR_BYTES_MIN) {
        return model_error_set(error, -EINVAL, "claims %llu metadata pairs",
                               (unsigned long long)count);
    }
    gguf->pairs = calloc(count + 1, sizeof gguf->pairs[0]);
    if (!gguf->pairs) {
        return -ENOMEM;
    }
    gguf->pair_count = count;
    for (uint64_t i = 0; i < count; i++) {
        const int code = read_pair(cursor, &gguf->pairs[i], error);
        if (code) {
            return code;
        }
    }
    qsort(gguf->pairs, count, sizeof gguf->pairs[0], pair_order);
    for (uint64_t i = 1; i < count; i++) {
        if (pair_order(&gguf->pairs[i - 1], &gguf->pairs[i]) == 0) {
            return model_error_set(error, -EINVAL, "duplicate metadata key");
        }
    }
    return 0;
}

/* One entry of the tensor table; its offset stays in byte_count until the data section is known. */
static int read_tensor(struct cursor *cursor, struct tensor *tensor, char **names,
                       struct model_error *error)
{
    const uint8_t *name;
    uint64_t name_bytes;
    uint32_t dims;
    uint32_t type;
    if (!take_string(cursor, &name, &name_bytes) || name_bytes > GGUF_NAME_BYTES_MAX ||
        memchr(name, 0, name_bytes) || !take_u32(cursor, &dims)) {
        return model_error_set(error, -EINVAL, "tensor table is malformed");
    }
    memcpy(*names, name, name_bytes);
    tensor->name = *names;
    *names += GGUF_NAME_BYTES_MAX + 1;
    if (dims > 4) {
        return model_error_set(error, -EINVAL, "tensor %.64s has %u dimensions, limit 4",
                               tensor->name, dims);
    }
    tensor->dims = dims;
    for (uint32_t i = 0; i < dims; i++) { /* The file lists the fastest first. */
        if (!take_u64(cursor, &tensor->shape[dims - 1 - i])) {
            return model_error_set(error, -EINVAL, "tensor %.64s: shape is cut off", tensor->name);
        }
    }
    if (!take_u32(cursor, &type) || !take_u64(cursor, &tensor->byte_count)) {
        return model_error_set(error, -EINVAL, "tensor %.64s: entry is cut off", tensor->name);
    }
    tensor->dtype = tensor_dtype_of_gguf(type);
    return 0;
}

/* Bytes that shape and type ask for; 0 for a type that is known by name alone. */
static bool tensor_extent(const struct tensor *tensor, uint64_t *bytes)
{
    const uint32_t values = tensor_block_values(tensor->dtype);
    uint64_t elements = 1;
    for (uint32_t i = 0; i < tensor->dims; i++) {
        if (!checked_mul(elements, tensor->shape[i], &elements)) {
            return false;
        }
    }
    *bytes = 0;
    return values == 0 || checked_mul(elements / values, tensor_block_bytes(tensor->dtype), bytes);
}

/* A block never crosses the end of a row. */
static int check_blocks(const struct tensor *tensor, struct model_error *error)
{
    const uint32_t values = tensor_block_values(tensor->dtype);
    const uint64_t row = tensor->dims ? tensor->shape[tensor->dims - 1] : 1;
    if (values > 0 && row % values) {
        return model_error_set(
            error, -EINVAL, "tensor %.64s: rows of %llu are not in blocks of %u as %s wants",
            tensor->name, (unsigned long long)row, values, tensor_dtype_name(tensor->dtype));
    }
    return 0;
}

static int place_tensor(struct tensor *tensor, const struct mapping *mapping, uint64_t data_first,
                        uint64_t alignment, struct model_error *error)
{
    const uint64_t offset = tensor->byte_count;
    uint64_t bytes;
    uint64_t first;
    uint64_t end;
    const int code = check_blocks(tensor, error);
    if (code) {
        return code;
    }
    if (!tensor_extent(tensor, &bytes)) {
        return model_error_set(error, -EINVAL, "tensor %.64s: shape overflows", tensor->name);
    }
    if (offset % alignment) {
        return model_error_set(error, -EINVAL, "tensor %.64s: offset %llu is not aligned to %llu",
                               tensor->name, (unsigned long long)offset,
                               (unsigned long long)alignment);
    }
    if (!checked_add(data_first, offset, &first) || !checked_add(first, bytes, &end) ||
        end > mapping->count) {
        return model_error_set(
            error, -EINVAL, "tensor %.64s: %llu bytes at %llu do not fit a file of %zu",
            tensor->name, (unsigned long long)bytes, (unsigned long long)offset, mapping->count);
    }
    tensor->bytes = mapping->bytes + first;
    tensor->byte_count = bytes;
    return 0;
}

static int place_order(const void *left, const void *right)
{
    const struct tensor *a = left;
    const struct tensor *b = right;
    return (a->bytes > b->bytes) - (a->bytes < b->bytes);
}

/* Sorted by place, neighbours must not overlap. */
static int check_table(struct tensor_table *table, struct model_error *error)
{
    qsort(table->tensor, table->count, sizeof table->tensor[0], place_order);
    for (uint32_t i = 1; i < table->count; i++) {
        const struct tensor *before = &table->tensor[i - 1];
        if (before->bytes + before->byte_count > table->tensor[i].bytes) {
            return model_error_set(error, -EINVAL, "tensors %.64s and %.64s overlap", before->name,
                                   table->tensor[i].name);
        }
    }
    return tensor_table_sort(table, error);
}

static int read_tensors(struct gguf *gguf, struct cursor *cursor, uint64_t count,
                        struct model_error *error)
{
    enum { TENSOR_BYTES_MIN = 8 + 4 + 4 + 8 };
    if (count > LIMIT_TENSORS_MAX || count > cursor->left / TENSOR_BYTES_MIN) {
        return model_error_set(error, -EINVAL, "claims %llu tensors", (unsigned long long)count);
    }
    uint64_t alignment = GGUF_ALIGNMENT_DEFAULT;
    (void)gguf_u64(gguf, "general.alignment", &alignment);
    if (alignment == 0 || (alignment & (alignment - 1)) || alignment > GGUF_ALIGNMENT_MAX) {
        return model_error_set(error, -EINVAL,
                               "general.alignment %llu is not a power of two up to "
                               "1048576",
                               (unsigned long long)alignment);
    }
    gguf->tensors.tensor = calloc(count + 1, sizeof gguf->tensors.tensor[0]);
    gguf->names = calloc(count + 1, GGUF_NAME_BYTES_MAX + 1);
    if (!gguf->tensors.tensor || !gguf->names) {
        return -ENOMEM;
    }
    gguf->tensors.count = (uint32_t)count;
    char *names = gguf->names;
    for (uint32_t i = 0; i < count; i++) {
        const int code = read_tensor(cursor, &gguf->tensors.tensor[i], &names, error);
        if (code) {
            return code;
        }
    }
    const uint64_t header = (uint64_t)(cursor->at - gguf->mapping.bytes);
    const uint64_t data_first = (header + alignment - 1) & ~(alignment - 1);
    for (uint32_t i = 0; i < count; i++) {
        const int code =
            place_tensor(&gguf->tensors.tensor[i], &gguf->mapping, data_first, alignment, error);
        if (code) {
            return code;
        }
    }
    return check_table(&gguf->tensors, error);
}

static int read_all(struct gguf *gguf, struct model_error *error)
{
    struct cursor cursor = {gguf->mapping.bytes, gguf->mapping.count};
    const uint8_t *magic;
    uint32_t version;
    uint64_t tensors;
    uint64_t pairs;
    if (!take(&cursor, 4, &magic) || memcmp(magic, "GGUF", 4) != 0) {
        return model_error_set(error, -EINVAL, "not a GGUF file");
    }
    if (!take_u32(&cursor, &version) || version < 2 || version > 3) {
        return model_error_set(error, -ENOTSUP, "GGUF version is not 2 or 3");
    }
    if (!take_u64(&cursor, &tensors) || !take_u64(&cursor, &pairs)) {
        return model_error_set(error, -EINVAL, "header is cut off");
    }
    const int code = read_pairs(gguf, &cursor, pairs, error);
    return code ? code : read_tensors(gguf, &cursor, tensors, error);
}

static int open_mapping(struct gguf **out, struct mapping mapping, struct model_error *error)
{
    struct gguf *gguf = calloc(1, sizeof *gguf);
    if (!gguf) {
        return model_error_set(error, -ENOMEM, "out of memory");
    }
    gguf->mapping = mapping;
    int code = read_all(gguf, error);
    if (code) {
        if (code == -ENOMEM) {
            (void)model_error_set(error, code, "out of memory");
        }
        gguf_close(gguf);
        return code;
    }
    *out = gguf;
    return 0;
}

int gguf_open(struct gguf **out, const char *path, struct model_error *error)
{
    struct mapping mapping;
    int code = mapping_open(&mapping, path);
    if (code) {
        return model_error_set(error, code, "%.300s: %s", path, strerror(-code));
    }
    code = open_mapping(out, mapping, error);
    return code ? model_error_prefix(error, code, path) : 0;
}

int gguf_open_bytes(struct gguf **out, const uint8_t *bytes, size_t count,
                    struct model_error *error)
{
    const struct mapping mapping = {.bytes = bytes, .count = count, .borrowed = true};
    return open_mapping(out, mapping, error);
}

void gguf_close(struct gguf *gguf)
{
    if (!gguf) {
        return;
    }
    mapping_close(&gguf->mapping);
    free(gguf->pairs);
    free(gguf->tensors.tensor);
    free(gguf->names);
    free(gguf);
}

const struct tensor_table *gguf_tensors(const struct gguf *gguf)
{
    return &gguf->tensors;
}

static const struct gguf_pair *find(const struct gguf *gguf, const char *key)
{
    if (gguf->pair_count == 0) {
        return NULL;
    }
    const struct gguf_pair wanted = {.key = (const uint8_t *)key, .key_bytes = strlen(key)};
    return bsearch(&wanted, gguf->pairs, gguf->pair_count, sizeof wanted, pair_order);
}

bool gguf_has(const struct gguf *gguf, const char *key)
{
    return find(gguf, key) != NULL;
}

/* Little-endian integer of type at value, sign-extended. False for types that are not integers. */
static bool integer_of(uint32_t type, const uint8_t *value, int64_t *out)
{
    uint64_t bits = 0;
    if (type >= GGUF_TYPE_COUNT || type == GGUF_F32 || type == GGUF_F64 || type == GGUF_BOOL ||
        !type_bytes[type]) {
        return false;
    }
    memcpy(&bits, value, type_bytes[type]);
    const uint32_t unused = 64 - 8u * type_bytes[type];
    const bool is_signed =
        type == GGUF_I8 || type == GGUF_I16 || type == GGUF_I32 || type == GGUF_I64;
    if (type == GGUF_U64 && bits > INT64_MAX) {
        return false;
    }
    *out = is_signed ? (int64_t)(bits << unused) >> unused : (int64_t)bits;
    return true;
}

bool gguf_u64(const struct gguf *gguf, const char *key, uint64_t *out)
{
    const struct gguf_pair *pair = find(gguf, key);
    int64_t value;
    if (!pair || !integer_of(pair->type, pair->value, &value) || value < 0) {
        return false;
    }
    *out = (uint64_t)value;
    return true;
}

bool gguf_f64(const struct gguf *gguf, const char *key, double *out)
{
    const struct gguf_pair *pair = find(gguf, key);
    if (!pair) {
        return false;
    }
    if (pair->type == GGUF_F32) {
        float value;
        memcpy(&value, pair->value, sizeof value);
        *out = (double)value;
        return true;
    }
    if (pair->type == GGUF_F64) {
        memcpy(out, pair->value, sizeof *out);
        return true;
    }
    return false;
}

bool gguf_bool(const struct gguf *gguf, const char *key, bool *out)
{
    const struct gguf_pair *pair = find(gguf, key);
    if (!pair || pair->type != GGUF_BOOL) {
        return false;
    }
    *out = *pair->value != 0;
    return true;
}

bool gguf_string(const struct gguf *gguf, const char *key, const char **bytes, size_t *count)
{
    const struct gguf_pair *pair = find(gguf, key);
    if (!pair || pair->type != GGUF_STRING) {
        return false;
    }
    *bytes = (const char *)pair->value;
    *count = pair->count;
    return true;
}

static const struct gguf_pair *find_array(const struct gguf *gguf, const char *key)
{
    const struct gguf_pair *pair = find(gguf, key);
    return pair && pair->type == GGUF_ARRAY ? pair : NULL;
}

bool gguf_array_count(const struct gguf *gguf, const char *key, uint64_t *count)
{
    const struct gguf_pair *pair = find_array(gguf, key);
    if (!pair) {
        return false;
    }
    *count = pair->count;
    return true;
}

static bool array_of(const struct gguf *gguf, const char *key, uint32_t type, const uint8_t **items)
{
    const struct gguf_pair *pair = find_array(gguf, key);
    if (!pair || pair->item_type != type) {
        return false;
    }
    *items = pair->value;
    return true;
}

bool gguf_array_f32(const struct gguf *gguf, const char *key, const uint8_t **items)
{
    return array_of(gguf, key, GGUF_F32, items);
}

bool gguf_array_i32(const struct gguf *gguf, const char *key, const uint8_t **items)
{
    return array_of(gguf, key, GGUF_I32, items);
}

bool gguf_array_strings(const struct gguf *gguf, const char *key, struct gguf_strings *walk)
{
    const struct gguf_pair *pair = find_array(gguf, key);
    if (!pair || pair->item_type != GGUF_STRING) {
        return false;
    }
    *walk = (struct gguf_strings){pair->value, pair->count};
    return true;
}

bool gguf_strings_next(struct gguf_strings *walk, const char **bytes, size_t *count)
{
    uint64_t string_bytes;
    if (walk->left == 0) {
        return false;
    }
    memcpy(&string_bytes, walk->next, sizeof string_bytes);
    *bytes = (const char *)walk->next + sizeof string_bytes;
    *count = string_bytes;
    walk->next += sizeof string_bytes + string_bytes;
    walk->left--;
    return true;
}
