/*
 * pretoken.h - cuts a text into words: an ordered list of splits, each of which cuts every piece of
 * the one before. Regular expressions are those of tokenizer files, which are written for
 * Oniguruma. Immutable once loaded.
 */
#ifndef MODEL_PRETOKEN_H
#define MODEL_PRETOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/must.h"
#include "model/model_error.h"

/* What becomes of a match and of the text between matches. */
enum pretoken_behavior {
    PRETOKEN_ISOLATED,        /* Each is a piece. */
    PRETOKEN_REMOVED,         /* Matches vanish. */
    PRETOKEN_CONTIGUOUS,      /* Neighbouring matches are one piece. */
    PRETOKEN_MERGED_PREVIOUS, /* A match belongs to the text before it. */
    PRETOKEN_MERGED_NEXT,     /* ... after it. */
};

struct pretoken_rule {
    const char *pattern; /* Valid UTF-8. */
    size_t bytes;
    bool literal; /* Plain text, no expression. */
    bool invert;  /* What does not match counts as the match. */
    enum pretoken_behavior behavior;
};

enum { PRETOKEN_STEPS_MAX = 16, PRETOKEN_PATTERN_BYTES_MAX = 8192 };

struct pretoken; /* A list of splits. */

int pretoken_open(struct pretoken **out) MUST_CHECK; /* 0 or -ENOMEM. Splits nothing yet. */
void pretoken_close(struct pretoken *pretoken);      /* NULL is allowed. */

/* Adds a split. -EINVAL: the expression is wrong; -ENOTSUP: too long or one too many. */
int pretoken_add(struct pretoken *pretoken, const struct pretoken_rule *rule,
                 struct model_error *error) MUST_CHECK;

struct pretoken_scratch; /* Of one caller. */

/* For texts of up to text_bytes_max. 0 or -ENOMEM. */
int pretoken_scratch_open(struct pretoken_scratch **out, size_t text_bytes_max) MUST_CHECK;
void pretoken_scratch_close(struct pretoken_scratch *scratch);

struct pretoken_span {
    uint32_t start;
    uint32_t end;
};

/*
 * Cuts text[0..bytes), valid UTF-8, into spans[0..count), which stay in scratch until the next
 * call. Does not allocate. -E2BIG: an expression would need more work or memory than the text
 * allows for.
 */
int pretoken_split(const struct pretoken *pretoken, struct pretoken_scratch *scratch,
                   const char *text, size_t bytes, const struct pretoken_span **spans,
                   size_t *count) MUST_CHECK;

#endif /* MODEL_PRETOKEN_H */
