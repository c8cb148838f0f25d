/*
 * safetensors.c - see safetensors.h. Called by weights.c at start and by `sluicectl inspect`; owns
 * the mapping and the parsed header, whose strings are the tensors' names. Invariant: a table is
 * handed out only when its extents tile the data section exactly.
 */
#include "model/safetensors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/json.h"
#include "model/mapping.h"

enum { SAFETENSORS_LENGTH_BYTES = 8 };

struct safetensors {
    struct mapping mapping;
    struct json *header;
    struct tensor_table table;
};

static bool dtype_of(const struct json *value, enum tensor_dtype *out)
{
    static const struct {
        const char *name;
        enum tensor_dtype dtype;
    } rows[] = {
        {"F32", TENSOR_F32},   {"F16", TENSOR_F16},         {"BF16", TENSOR_BF16},
        {"F64", TENSOR_F64},   {"I8", TENSOR_I8},           {"U8", TENSOR_U8},
        {"I16", TENSOR_I16},   {"U16", TENSOR_U16},         {"I32", TENSOR_I32},
        {"U32", TENSOR_U32},   {"I64", TENSOR_I64},         {"U64", TENSOR_U64},
        {"BOOL", TENSOR_BOOL}, {"F8_E4M3", TENSOR_F8_E4M3}, {"F8_E5M2", TENSOR_F8_E5M2},
    };
    const char *name;
    size_t count;
    if (!json_text(value, &name, &count)) {
        return false;
    }
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (count == strlen(rows[i].name) && memcmp(name, rows[i].name, count) == 0) {
            *out = rows[i].dtype;
            return true;
        }
    }
    return false;
}

static int read_shape(const struct json *shape, struct tensor *tensor, uint64_t *elements,
                      struct model_error *error)
{
    if (json_kind(shape) != JSON_KIND_ARRAY || json_count(shape) > LIMIT_TENSOR_DIMS_MAX) {
        return model_error_set(error, -EINVAL, "tensor %.64s: shape is not a list of at most %d",
                               tensor->name, (int)LIMIT_TENSOR_DIMS_MAX);
    }
    tensor->dims = (uint32_t)json_count(shape);
    *elements = 1;
    for (uint32_t i = 0; i < tensor->dims; i++) {
        if (!json_u64(json_at(shape, i), &tensor->shape[i]) ||
            !checked_mul(*elements, tensor->shape[i], elements)) {
            return model_error_set(error, -EINVAL, "tensor %.64s: shape overflows or is no shape",
                                   tensor->name);
        }
    }
    return 0;
}

static int read_tensor(struct tensor *tensor, const struct json *entry, const uint8_t *data,
                       uint64_t data_bytes, struct model_error *error)
{
    uint64_t elements = 0;
    uint64_t wanted = 0;
    uint64_t first = 0;
    uint64_t end = 0;
    const struct json *offsets = json_get(entry, "data_offsets");
    if (json_kind(entry) != JSON_KIND_OBJECT ||
        !dtype_of(json_get(entry, "dtype"), &tensor->dtype)) {
        return model_error_set(error, -EINVAL, "tensor %.64s: unknown dtype", tensor->name);
    }
    const int code = read_shape(json_get(entry, "shape"), tensor, &elements, error);
    if (code) {
        return code;
    }
    if (json_kind(offsets) != JSON_KIND_ARRAY || json_count(offsets) != 2 ||
        !json_u64(json_at(offsets, 0), &first) || !json_u64(json_at(offsets, 1), &end) ||
        first > end || end > data_bytes) {
        return model_error_set(error, -EINVAL,
                               "tensor %.64s: data_offsets are not inside the %llu data bytes",
                               tensor->name, (unsigned long long)data_bytes);
    }
    if (!checked_mul(elements, tensor_block_bytes(tensor->dtype), &wanted) ||
        wanted != end - first) {
        return model_error_set(
            error, -EINVAL, "tensor %.64s: shape wants %llu bytes, data_offsets give %llu",
            tensor->name, (unsigned long long)wanted, (unsigned long long)(end - first));
    }
    tensor->bytes = data + first;
    tensor->byte_count = wanted;
    return 0;
}

static int check_metadata(const struct json *metadata, struct model_error *error)
{
    if (json_kind(metadata) != JSON_KIND_OBJECT) {
        return model_error_set(error, -EINVAL, "__metadata__ is not a map");
    }
    for (struct json_member *at = json_first(metadata); at; at = json_next(metadata, at)) {
        if (json_kind(json_member_value(at)) != JSON_KIND_STRING) {
            return model_error_set(error, -EINVAL, "__metadata__ %.64s is not a string",
                                   json_member_key(at));
        }
    }
    return 0;
}

static int place_order(const void *left, const void *right)
{
    const struct tensor *a = left;
    const struct tensor *b = right;
    const int order = (a->bytes > b->bytes) - (a->bytes < b->bytes);
    return order ? order : (a->byte_count > b->byte_count) - (a->byte_count < b->byte_count);
}

/* Extents in order of place follow each other from the first data byte to the last. */
static int check_tiling(struct tensor_table *table, const uint8_t *data, uint64_t data_bytes,
                        struct model_error *error)
{
    qsort(table->tensor, table->count, sizeof table->tensor[0], place_order);
    const uint8_t *next = data;
    for (uint32_t i = 0; i < table->count; i++) {
        if (table->tensor[i].bytes != next) {
            return model_error_set(error, -EINVAL, "tensor %.64s leaves a gap or overlaps",
                                   table->tensor[i].name);
        }
        next += table->tensor[i].byte_count;
    }
    if (next != data + data_bytes) {
        return model_error_set(error, -EINVAL, "the tensors cover %llu of %llu data bytes",
                               (unsigned long long)(next - data), (unsigned long long)data_bytes);
    }
    return tensor_table_sort(table, error);
}

static int read_header(struct safetensors *file, const uint8_t *data, uint64_t data_bytes,
                       struct model_error *error)
{
    const size_t members = json_count(file->header);
    if (json_kind(file->header) != JSON_KIND_OBJECT || members > LIMIT_TENSORS_MAX) {
        return model_error_set(error, -EINVAL, "the header is not a map of at most %d tensors",
                               (int)LIMIT_TENSORS_MAX);
    }
    file->table.tensor = calloc(members + 1, sizeof file->table.tensor[0]);
    if (!file->table.tensor) {
        return model_error_set(error, -ENOMEM, "out of memory");
    }
    for (struct json_member *at = json_first(file->header); at; at = json_next(file->header, at)) {
        int code;
        if (strcmp(json_member_key(at), "__metadata__") == 0) {
            code = check_metadata(json_member_value(at), error);
        } else {
            struct tensor *tensor = &file->table.tensor[file->table.count++];
            tensor->name = json_member_key(at);
            code = read_tensor(tensor, json_member_value(at), data, data_bytes, error);
        }
        if (code) {
            return code;
        }
    }
    return check_tiling(&file->table, data, data_bytes, error);
}

static int read_all(struct safetensors *file, struct model_error *error)
{
    uint64_t header_bytes;
    const size_t count = file->mapping.count;
    if (count < SAFETENSORS_LENGTH_BYTES) {
        return model_error_set(error, -EINVAL, "%zu bytes are too few for a safetensors file",
                               count);
    }
    memcpy(&header_bytes, file->mapping.bytes, sizeof header_bytes);
    if (header_bytes > count - SAFETENSORS_LENGTH_BYTES || header_bytes > LIMIT_JSON_BYTES_MAX) {
        return model_error_set(error, -EINVAL, "claims a header of %llu bytes in a file of %zu",
                               (unsigned long long)header_bytes, count);
    }
    struct json_error json_error = {{0}};
    const char *header = (const char *)file->mapping.bytes + SAFETENSORS_LENGTH_BYTES;
    const int code = json_parse(header, header_bytes, &file->header, &json_error);
    if (code) {
        return model_error_set(error, code, "header: %s", json_error.text);
    }
    return read_header(file, (const uint8_t *)header + header_bytes,
                       count - SAFETENSORS_LENGTH_BYTES - header_bytes, error);
}

static int open_mapping(struct safetensors **out, struct mapping mapping, struct model_error *error)
{
    struct safetensors *file = calloc(1, sizeof *file);
    if (!file) {
        return model_error_set(error, -ENOMEM, "out of memory");
    }
    file->mapping = mapping;
    const int code = read_all(file, error);
    if (code) {
        safetensors_close(file);
        return code;
    }
    *out = file;
    return 0;
}

int safetensors_open(struct safetensors **out, const char *path, struct model_error *error)
{
    struct mapping mapping;
    int code = mapping_open(&mapping, path);
    if (code) {
        return model_error_set(error, code, "%.300s: %s", path, strerror(-code));
    }
    code = open_mapping(out, mapping, error);
    return code ? model_error_prefix(error, code, path) : 0;
}

int safetensors_open_bytes(struct safetensors **out, const uint8_t *bytes, size_t count,
                           struct model_error *error)
{
    const struct mapping mapping = {.bytes = bytes, .count = count, .borrowed = true};
    return open_mapping(out, mapping, error);
}

void safetensors_close(struct safetensors *file)
{
    if (!file) {
        return;
    }
    mapping_close(&file->mapping);
    json_free(file->header);
    free(file->table.tensor);
    free(file);
}

const struct tensor_table *safetensors_tensors(const struct safetensors *file)
{
    return &file->table;
}
