/*
 * dataset.c - the prompts of a benchmark. Called by sluice-bench; owns the ids, the lengths and the
 * file's text. Every line of a file of prompts is one; empty lines are left out. A prompt's ids are
 * a function of the seed and of the request's number, or of its blocks' numbers.
 */
#include "tools/dataset.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/prng.h"

/* What separates the seeds drawn from one; tokens are drawn from 0 up. */
enum { DRAW_ROUND = 1 << 30, DRAW_BLOCK };

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

/* What drawing ids needs. */
static int prepare_ids(struct dataset *dataset, uint32_t ids_max,
                       const struct wire_welcome *welcome, char error[DATASET_ERROR_BYTES_MAX])
{
    if (welcome->eos_count >= welcome->vocab) {
        return refuse(error, -EINVAL, "the vocabulary has nothing but ends of text");
    }
    dataset->vocab = welcome->vocab;
    dataset->eos_count = welcome->eos_count;
    memcpy(dataset->eos_ids, welcome->eos_ids, welcome->eos_count * sizeof dataset->eos_ids[0]);
    dataset->ids = calloc(ids_max, sizeof *dataset->ids);
    return dataset->ids ? 0 : refuse(error, -ENOMEM, "out of memory");
}

static int open_fixed(struct dataset *dataset, const char *lengths,
                      const struct dataset_source *source, char error[DATASET_ERROR_BYTES_MAX])
{
    if (!read_count(&lengths, &dataset->in_tokens, ':') ||
        !read_count(&lengths, &dataset->out_tokens, '\0')) {
        return refuse(error, -EINVAL, "fixed:IN:OUT needs two counts of tokens above 0");
    }
    if (dataset->in_tokens + dataset->out_tokens > source->welcome->context_tokens_max) {
        return refuse(error, -E2BIG, "IN and OUT together exceed the context that is served");
    }
    dataset->seed = prng_bits(source->seed, source->nonce, 0);
    return prepare_ids(dataset, dataset->in_tokens, source->welcome, error);
}

static int open_workload(struct dataset *dataset, const char *path,
                         const struct dataset_source *source, char error[DATASET_ERROR_BYTES_MAX])
{
    const enum workload_kind kind =
        dataset->kind == DATASET_TRACE ? WORKLOAD_TRACE : WORKLOAD_BATCH;
    const int status = workload_open(&dataset->workload, kind, path,
                                     source->welcome->context_tokens_max, source->requests, error);

    return status ? status
                  : prepare_ids(dataset, dataset->workload.in_tokens_max, source->welcome, error);
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

static int refuse_file(const char *path, int status, const char *what,
                       char error[DATASET_ERROR_BYTES_MAX])
{
    (void)snprintf(error, DATASET_ERROR_BYTES_MAX, "%.128s: %.100s", path, what);
    return status;
}

static int open_prompts(struct dataset *dataset, const char *path,
                        char error[DATASET_ERROR_BYTES_MAX])
{
    size_t bytes = 0, breaks = 0;
    const int status = read_file(path, &dataset->text, &bytes);

    if (status != 0) {
        return refuse_file(path, status, strerror(-status), error);
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
        const size_t shown = count - (count > 0 && line[count - 1] == '\r');
        if (shown > 0) {
            dataset->lines[dataset->line_count++] = (struct wire_text){line, shown};
        }
        at += count + 1;
    }
    return dataset->line_count ? 0 : refuse_file(path, -ENODATA, "it has no line", error);
}

static const struct {
    const char *prefix;
    enum dataset_kind kind;
} kinds[] = {
    {"fixed:", DATASET_FIXED},
    {"prompts:", DATASET_PROMPTS},
    {"lengths:", DATASET_LENGTHS},
    {"trace:", DATASET_TRACE},
};

bool dataset_find_kind(const char *spec, enum dataset_kind *kind)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strncmp(spec, kinds[i].prefix, strlen(kinds[i].prefix)) == 0) {
            *kind = kinds[i].kind;
            return true;
        }
    }
    return false;
}

int dataset_open(struct dataset *dataset, const struct dataset_source *source,
                 char error[DATASET_ERROR_BYTES_MAX])
{
    const char *rest = strchr(source->spec, ':');
    int status = 0;

    *dataset = (struct dataset){.seed = source->seed};
    if (!dataset_find_kind(source->spec, &dataset->kind)) {
        return refuse(error, -EINVAL,
                      "a dataset is fixed:IN:OUT, prompts:FILE, lengths:FILE or trace:FILE");
    }
    rest++;
    switch (dataset->kind) {
    case DATASET_FIXED:
        status = open_fixed(dataset, rest, source, error);
        break;
    case DATASET_PROMPTS:
        status = open_prompts(dataset, rest, error);
        break;
    case DATASET_LENGTHS:
    case DATASET_TRACE:
        status = open_workload(dataset, rest, source, error);
        break;
    }
    if (status != 0) {
        dataset_close(dataset);
    }
    return status;
}

void dataset_close(struct dataset *dataset)
{
    workload_close(&dataset->workload);
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
static uint32_t draw_id(const struct dataset *dataset, uint64_t seed, uint64_t position)
{
    uint32_t draw = 0, id;

    do {
        id = (uint32_t)(prng_bits(seed, position, draw++) % dataset->vocab);
    } while (is_eos(dataset, id));
    return id;
}

static void draw_prompt(struct dataset *dataset, uint32_t index, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        dataset->ids[i] = draw_id(dataset, dataset->seed, (uint64_t)index << 32 | i);
    }
}

/* A block's number and the round of the dataset are the seed of its ids. */
static void draw_blocks(struct dataset *dataset, const struct workload_item *item, uint32_t round)
{
    const uint64_t seed = prng_bits(dataset->seed, round, DRAW_ROUND);
    const uint64_t *blocks = dataset->workload.blocks + item->block_first;

    for (uint32_t i = 0; i < item->in_tokens; i++) {
        const uint64_t block = blocks[i / WORKLOAD_BLOCK_TOKENS];
        dataset->ids[i] =
            draw_id(dataset, prng_bits(seed, block, DRAW_BLOCK), i % WORKLOAD_BLOCK_TOKENS);
    }
}

uint32_t dataset_requests(const struct dataset *dataset)
{
    return dataset->workload.count ? (uint32_t)dataset->workload.count : UINT32_MAX;
}

void dataset_fill(struct dataset *dataset, uint32_t index, struct wire_generate *request)
{
    const uint32_t requests = dataset_requests(dataset);
    struct workload_item item = {.in_tokens = dataset->in_tokens,
                                 .out_tokens = dataset->out_tokens};

    if (dataset->kind == DATASET_PROMPTS) {
        request->prompt = dataset->lines[index % dataset->line_count];
        return;
    }
    if (dataset->workload.count > 0) {
        item = dataset->workload.items[index % requests];
        request->ignore_eos = true;
    }
    if (item.block_count > 0) {
        draw_blocks(dataset, &item, index / requests);
    } else {
        draw_prompt(dataset, index, item.in_tokens);
    }
    request->ids =
        (struct wire_bytes){(const uint8_t *)dataset->ids, item.in_tokens * sizeof *dataset->ids};
    request->max_tokens = item.out_tokens;
    request->given |= WIRE_GIVEN_MAX_TOKENS;
}
