/*
 * safetensors.h - one .safetensors file: u64 header bytes, a JSON header, data. Checked before use:
 * header within the file, known dtypes, shape x dtype = extent, extents cover the data without gap
 * or overlap and end with the file.
 */
#ifndef MODEL_SAFETENSORS_H
#define MODEL_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/must.h"
#include "model/tensor.h"

struct safetensors; /* A mapping, its header and the table into it. */

int safetensors_open(struct safetensors **out, const char *path,
                     struct model_error *error) MUST_CHECK;

/* The same over bytes in memory, which outlive it. */
int safetensors_open_bytes(struct safetensors **out, const uint8_t *bytes, size_t count,
                           struct model_error *error) MUST_CHECK;
void safetensors_close(struct safetensors *file);

const struct tensor_table *safetensors_tensors(const struct safetensors *file);

#endif /* MODEL_SAFETENSORS_H */
