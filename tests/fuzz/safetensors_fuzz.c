/*
 * safetensors_fuzz.c - files of any bytes: a table that is handed out lies within the file.
 * The corpus runs as a normal test in every build.
 */
#include "model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    struct model_error error = {{0}};
    struct safetensors *file = NULL;
    if (safetensors_open_bytes(&file, bytes, count, &error)) {
        must(error.text[0]);
        return 0;
    }
    const struct tensor_table *table = safetensors_tensors(file);
    for (uint32_t i = 0; i < table->count; i++) {
        const struct tensor *tensor = &table->tensor[i];
        must(tensor->bytes >= bytes && tensor->byte_count <= count);
        must(tensor->bytes + tensor->byte_count <= bytes + count);
        must(tensor_find(table, tensor->name) == tensor);
    }
    safetensors_close(file);
    return 0;
}
