/*
 * dataset.c - the prompts of a benchmark. Called by sluice-bench; owns the ids or the file's text.
 * Every line of a file is one prompt; empty lines are left out.
 */
#include "tools/dataset.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/prng.h"

static int refuse(char error[DATASET_ERROR_BYTES_MAX], int status, const char *what)
{
    (void)snprintf(error, DATASET_ERROR_BYTES_MAX, "%s", what);
    return status;
}

/* A count of tokens above 0 and the character behind it. */
static bool read_count(const char **at, uint32_t *count, char behind)
{
    char *end;
    const unsigned long value = isdigit((unsigned char)**at) ? strtoul(*at, &end, 10) : 0;

    if (value == 0 || value > LIMIT_CONTEXT_MAX || *end != behind) {
        return false;
    }
    *count = (uint32_t)value;
    *at = end + 1;
    return true;
}

static int open_fixed(struct dataset *dataset, const char *spec, const struct wire_welcome *welcome,
                      char error[DATASET_ERROR_BYTES_MAX])
{
    if (!read_count(&spec, &dataset->in_tokens, ':') ||
        !read_count(&spec, &dataset->out_tokens, '\0')) {
        return refuse(error, -EINVAL, "fixed:IN:OUT needs two counts of tokens above 0");
    }
    if (dataset->in_tokens + dataset->out_tokens > welcome->context_tokens_max) {
        return refuse(error, -E2BIG, "IN and OUT together exceed the context that is served");
    }
    if (welcome->eos_count >= welcome->vocab) {
        return refuse(error, -EINVAL, "the vocabulary has nothing but ends of text");
    }
    dataset->vocab = welcome->vocab;
    dataset->eos_count = welcome->eos_count;
    memcpy(dataset->eos_ids, welcome->eos_ids, welcome->eos_count * sizeof dataset->eos_ids[0]);
    dataset->ids = calloc(dataset->in_tokens, sizeof *dataset->ids);
    return dataset->ids ? 0 : refuse(error, -ENOMEM, "out of memory");
}

/* All of a file. 0 or -errno. */
static int read_file(const char *path, char **text, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    char *room = file ? malloc(LIMIT_FRAME_BYTES_MAX + 1) : NULL;
    int status = room ? 0 : -errno;

    if (room) {
        *bytes = fread(room, 1, LIMIT_FRAME_BYTES_MAX + 1, file);
        status = ferror(file) ? -EIO : *bytes > LIMIT_FRAME_BYTES_MAX ? -EFBIG : 0;
    }
    if (file) {
        (void)fclose(file);
    }
    if (status != 0) {
        free(room);
        room = NULL;
    }
    *text = room;
    return status;
}

static int open_prompts(struct dataset *dataset, const char *path,
                        char error[DATASET_ERROR_BYTES_MAX])
{
    size_t bytes = 0, breaks = 0;
    const int status = read_file(path, &dataset->text, &bytes);

    if (status != 0) {
        (void)snprintf(error, DATASET_ERROR_BYTES_MAX, "%.128s: %s", path, strerror(-status));
        return status;
    }
    for (size_t i = 0; i < bytes; i++) {
        breaks += dataset->text[i] == '\n';
    }
    dataset->lines = calloc(breaks + 1, sizeof *dataset->lines);
    if (!dataset->lines) {
        return refuse(error, -ENOMEM, "out of memory");
    }
    for (size_t at = 0; at < bytes;) {
        const char *line = dataset->text + at;
        const char *end = memchr(line, '\n', bytes - at);
        const size_t count = end ? (size_t)(end - line) : bytes - at;
        if (count > 0) {
            dataset->lines[dataset->line_count++] = (struct wire_text){line, count};
        }
        at += count + 1;
    }
    return dataset->line_count ? 0 : refuse(error, -EINVAL, "the file of prompts has no line");
}

int dataset_open(struct dataset *dataset, const char *spec, uint64_t seed, uint64_t nonce,
                 const struct wire_welcome *welcome, char error[DATASET_ERROR_BYTES_MAX])
{
    int status;

    *dataset = (struct dataset){.seed = prng_bits(seed, nonce, 0)};
    if (strncmp(spec, "fixed:", 6) == 0) {
        status = open_fixed(dataset, spec + 6, welcome, error);
    } else if (strncmp(spec, "prompts:", 8) == 0) {
        status = open_prompts(dataset, spec + 8, error);
    } else {
        status = refuse(error, -EINVAL, "a dataset is fixed:IN:OUT or prompts:FILE");
    }
    if (status != 0) {
        dataset_close(dataset);
    }
    return status;
}

void dataset_close(struct dataset *dataset)
{
    free(dataset->ids);
    free(dataset->text);
    free(dataset->lines);
    *dataset = (struct dataset){0};
}

static bool is_eos(const struct dataset *dataset, uint32_t id)
{
    for (uint32_t i = 0; i < dataset->eos_count; i++) {
        if (dataset->eos_ids[i] == id) {
            return true;
        }
    }
    return false;
}

/* Ends: there are more ids than ends of text, and every draw is new. */
static uint32_t draw_id(const struct dataset *dataset, uint64_t position)
{
    uint32_t draw = 0, id;

    do {
        id = (uint32_t)(prng_bits(dataset->seed, position, draw++) % dataset->vocab);
    } while (is_eos(dataset, id));
    return id;
}

void dataset_fill(struct dataset *dataset, uint32_t index, struct wire_generate *request)
{
    if (dataset->in_tokens == 0) {
        request->prompt = dataset->lines[index % dataset->line_count];
        return;
    }
    for (uint32_t i = 0; i < dataset->in_tokens; i++) {
        dataset->ids[i] = draw_id(dataset, (uint64_t)index << 32 | i);
    }
    request->ids = (struct wire_bytes){(const uint8_t *)dataset->ids,
                                       dataset->in_tokens * sizeof *dataset->ids};
    request->max_tokens = dataset->out_tokens;
    request->given |= WIRE_GIVEN_MAX_TOKENS;
}
