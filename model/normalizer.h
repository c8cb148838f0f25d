/*
 * normalizer.h - an ordered list of changes to a text before it is cut into words: prefixes,
 * replacements, Unicode normalisation forms. Immutable once loaded.
 */
#ifndef MODEL_NORMALIZER_H
#define MODEL_NORMALIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/must.h"

enum normalizer_kind {
    NORMALIZER_PREPEND,         /* text before everything, unless there is nothing. */
    NORMALIZER_PREPEND_MISSING, /* ... unless it already starts so. */
    NORMALIZER_PREPEND_FIRST,   /* ... and only where the input begins. */
    NORMALIZER_REPLACE,         /* each pattern by text. */
    NORMALIZER_NFC,
    NORMALIZER_NFD,
    NORMALIZER_NFKC,
    NORMALIZER_NFKD,
};

enum {
    NORMALIZER_OPS_MAX = 8,
    NORMALIZER_TEXT_BYTES_MAX = 16,
    /* A run of combining marks longer than this is refused, since sorting it costs the square. The
     * stream-safe form of UAX 15 allows 30. */
    NORMALIZER_MARKS_MAX = 1024,
};

struct normalizer_text {
    char bytes[NORMALIZER_TEXT_BYTES_MAX];
    size_t count;
};

struct normalizer_op {
    enum normalizer_kind kind;
    struct normalizer_text pattern; /* REPLACE; not empty. */
    struct normalizer_text text;
};

struct normalizer {
    struct normalizer_op ops[NORMALIZER_OPS_MAX];
    size_t count;
};

/* False when there is no room for one more, or a replaced pattern is empty. */
bool normalizer_add(struct normalizer *normalizer, const struct normalizer_op *op) MUST_CHECK;

/* Bytes that a text of bytes may become. */
size_t normalizer_bytes_max(const struct normalizer *normalizer, size_t bytes);

struct normalizer_scratch {
    char *front;         /* [bytes_max] Where the last result is. */
    char *back;          /* [bytes_max] */
    int32_t *codepoints; /* [bytes_max + 1]; NULL when no op is a Unicode form. */
    size_t bytes_max;
};

/* For texts of up to text_bytes_max. 0 or -ENOMEM. */
int normalizer_scratch_open(struct normalizer_scratch *scratch, const struct normalizer *normalizer,
                            size_t text_bytes_max) MUST_CHECK;
void normalizer_scratch_close(struct normalizer_scratch *scratch);

struct normalizer_view {
    const char *bytes;
    size_t count;
    bool first; /* The input begins here. */
};

/*
 * Changes *view, valid UTF-8, to the normalised text, which stays in scratch until the next run
 * (or is the old view where nothing changes). Does not allocate. -E2BIG: too long, or too many
 * combining marks in a row.
 */
int normalizer_run(const struct normalizer *normalizer, struct normalizer_scratch *scratch,
                   struct normalizer_view *view) MUST_CHECK;

#endif /* MODEL_NORMALIZER_H */
