/*
 * dataset.h - what sluice-bench sends: random ids of a fixed length, the lines of a file, or random
 * ids of the lengths that a file describes.
 */
#ifndef TOOLS_DATASET_H
#define TOOLS_DATASET_H

#include <stddef.h>
#include <stdint.h>

#include "base/must.h"
#include "tools/workload.h"
#include "wire/message.h"

enum { DATASET_ERROR_BYTES_MAX = WORKLOAD_ERROR_BYTES_MAX };

enum dataset_kind {
    DATASET_FIXED,   /* fixed:IN:OUT */
    DATASET_PROMPTS, /* prompts:FILE, one a line */
    DATASET_LENGTHS, /* lengths:FILE, CSV of lengths */
    DATASET_TRACE,   /* trace:FILE, CSV or JSON lines with times */
};

/* What a dataset is opened with. */
struct dataset_source {
    const char *spec;
    uint32_t requests; /* At most so many are taken from lengths and traces. */
    uint64_t seed;
    uint64_t nonce; /* Of this run. */
    const struct wire_welcome *welcome;
};

struct dataset {
    enum dataset_kind kind;
    uint64_t seed; /* With the nonce, for fixed. */

    /* Ids */
    uint32_t vocab;
    uint32_t eos_ids[LIMIT_EOS_IDS_MAX]; /* Never sent. */
    uint32_t eos_count;
    uint32_t *ids; /* As many as the longest prompt has, rewritten for each request. */

    uint32_t in_tokens; /* fixed */
    uint32_t out_tokens;

    struct workload workload; /* lengths, trace */

    char *text; /* prompts */
    struct wire_text *lines;
    size_t line_count;
};

/* The kind that "KIND:..." names. False: none. */
bool dataset_find_kind(const char *spec, enum dataset_kind *kind) MUST_CHECK;

/*
 * Reads what a spec names. Ids are uniform over the vocabulary but for the ends of text. Those of
 * fixed are new in each run, so that no cache can help: the nonce sees to it. Those of lengths and
 * trace are the same in each run of one seed. -EINVAL: not of this form; -E2BIG: longer than the
 * server's context; other -errno: the file is at fault; *error is set.
 */
int dataset_open(struct dataset *dataset, const struct dataset_source *source,
                 char error[DATASET_ERROR_BYTES_MAX]) MUST_CHECK;
void dataset_close(struct dataset *dataset);

/* How many requests there are; UINT32_MAX: any number. */
uint32_t dataset_requests(const struct dataset *dataset);

/*
 * Fills prompt or ids and, but for prompts, max_tokens of request number index; answers of lengths
 * and traces ignore ends of text, or they would not have their lengths. Past the last one lengths
 * begin again, with other ids. Blocks of a trace that have one number have the same ids;
 * those past the last request share with none before.
 * What it points to lives until the next call.
 */
void dataset_fill(struct dataset *dataset, uint32_t index, struct wire_generate *request);

#endif /* TOOLS_DATASET_H */
