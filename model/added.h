/*
 * added.h - finds added tokens (special ones and others that are matched as they stand) in a text
 * before it is cut into words. Filled by a loader, sealed, then read by any thread.
 */
#ifndef MODEL_ADDED_H
#define MODEL_ADDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/must.h"

enum {
    ADDED_SPECIAL = 1,     /* Found only when asked for. */
    ADDED_STRIP_LEFT = 2,  /* Takes the white space before it. */
    ADDED_STRIP_RIGHT = 4, /* ... after it. */
    ADDED_SINGLE_WORD = 8, /* Found only where no word character touches it. */
};

struct added_token {
    uint32_t offset; /* Of its text in pool. */
    uint32_t count;
    uint32_t id;
    unsigned flags;
};

struct added {
    struct added_token *tokens; /* [count], sorted by text once sealed. */
    uint32_t count;
    uint32_t room;
    char *pool;
    size_t pool_bytes;
    size_t pool_room;
    bool starts[256]; /* Bytes that some token starts with. */
};

/* Zeroed memory is an empty list. What no text can contain is passed over: an empty token and one
 * that is not UTF-8, which could match inside a character. 0, -ENOMEM, or -E2BIG above
 * VOCAB_TOKEN_BYTES_MAX or LIMIT_VOCAB_MAX. */
int added_add(struct added *added, const char *text, size_t bytes, uint32_t id,
              unsigned flags) MUST_CHECK;

/* Sorts; of tokens with equal text the one added first stays. */
void added_seal(struct added *added);
void added_close(struct added *added);

/* Id of the token with exactly this text, UINT32_MAX when there is none. */
uint32_t added_exact(const struct added *added, const char *text, size_t bytes);

struct added_match {
    size_t start; /* What the token takes: white space that it strips included. */
    size_t end;
    uint32_t id;
};

/* The next token that starts at or after from: the leftmost, of several the longest. special: also
 * ADDED_SPECIAL ones. text is valid UTF-8. */
bool added_find(const struct added *added, const char *text, size_t bytes, size_t from,
                bool special, struct added_match *match);

#endif /* MODEL_ADDED_H */
