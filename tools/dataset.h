/*
 * dataset.h - what sluice-bench sends: random ids of a fixed length, or the lines of a file.
 */
#ifndef TOOLS_DATASET_H
#define TOOLS_DATASET_H

#include <stddef.h>
#include <stdint.h>

#include "base/must.h"
#include "wire/message.h"

enum { DATASET_ERROR_BYTES_MAX = 256 };

struct dataset {
    /* fixed:IN:OUT */
    uint32_t in_tokens; /* 0: lines of a file. */
    uint32_t out_tokens;
    uint32_t vocab;
    uint32_t eos_ids[LIMIT_EOS_IDS_MAX]; /* Never sent. */
    uint32_t eos_count;
    uint64_t seed; /* Of the user and of this run together. */
    uint32_t *ids; /* [in_tokens], rewritten for each request. */

    /* prompts:FILE */
    char *text;
    struct wire_text *lines;
    size_t line_count;
};

/*
 * Reads "fixed:IN:OUT" or "prompts:FILE". Ids are uniform over the vocabulary but for the ends of
 * text; seed and nonce give them, so another nonce gives other ids and no cache can help. -EINVAL:
 * not of this form; -E2BIG: longer than the server's context; -errno of the file; *error is set.
 */
int dataset_open(struct dataset *dataset, const char *spec, uint64_t seed, uint64_t nonce,
                 const struct wire_welcome *welcome,
                 char error[DATASET_ERROR_BYTES_MAX]) MUST_CHECK;
void dataset_close(struct dataset *dataset);

/* Fills prompt or ids and, for fixed, max_tokens of request number index. Lines are taken in turn.
 * What it points to lives until the next call. */
void dataset_fill(struct dataset *dataset, uint32_t index, struct wire_generate *request);

#endif /* TOOLS_DATASET_H */
