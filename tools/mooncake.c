/*
 * mooncake.c - reads one line of a Mooncake trace. Called by workload.c line by line; owns nothing
 * between two calls.
 */
#include "tools/mooncake.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"

static int refuse(char error[WORKLOAD_ERROR_BYTES_MAX], const char *what)
{
    (void)snprintf(error, WORKLOAD_ERROR_BYTES_MAX, "%s", what);
    return -EBADMSG;
}

static bool read_tokens(const struct json *root, const char *key, uint32_t *out)
{
    uint64_t value;

    if (!json_u64(json_get(root, key), &value) || value > UINT32_MAX) {
        return false;
    }
    *out = (uint32_t)value;
    return true;
}

/* The ids of the blocks must cover the prompt exactly. */
static int read_blocks(const struct json *ids, struct workload_line *out,
                       char error[WORKLOAD_ERROR_BYTES_MAX])
{
    const size_t count = json_count(ids);

    if (json_kind(ids) != JSON_KIND_ARRAY || count > WORKLOAD_BLOCKS_MAX) {
        return refuse(error, "hash_ids is not a list, or is too long");
    }
    if (count != ((uint64_t)out->in_tokens + WORKLOAD_BLOCK_TOKENS - 1) / WORKLOAD_BLOCK_TOKENS) {
        return refuse(error, "hash_ids has not one id for each 512 tokens of input_length");
    }
    for (size_t i = 0; i < count; i++) {
        if (!json_u64(json_at(ids, i), &out->blocks[i])) {
            return refuse(error, "an element of hash_ids is not a whole number");
        }
    }
    out->block_count = (uint32_t)count;
    return 0;
}

static int read_object(const struct json *root, struct workload_line *out,
                       char error[WORKLOAD_ERROR_BYTES_MAX])
{
    const struct json *ids = json_get(root, "hash_ids");
    uint64_t timestamp_ms;

    if (!json_u64(json_get(root, "timestamp"), &timestamp_ms) || timestamp_ms > UINT64_MAX / 1000) {
        return refuse(error, "timestamp is missing or not a whole number of ms");
    }
    if (!read_tokens(root, "input_length", &out->in_tokens) ||
        !read_tokens(root, "output_length", &out->out_tokens)) {
        return refuse(error, "input_length or output_length is missing or not a whole number");
    }
    out->arrival_us = 1000 * timestamp_ms;
    out->block_count = 0;
    return ids ? read_blocks(ids, out, error) : 0;
}

int mooncake_read(const char *line, struct workload_line *out, char error[WORKLOAD_ERROR_BYTES_MAX])
{
    struct json_error why;
    struct json *root;
    int status;

    if (json_parse(line, strlen(line), &root, &why) != 0) {
        return refuse(error, "this is not one JSON object");
    }
    status = read_object(root, out, error);
    json_free(root);
    return status;
}
