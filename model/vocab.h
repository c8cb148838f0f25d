/*
 * vocab.h - the tokens of a tokenizer: bytes and flags by id, and ids by bytes for the pieces that
 * the model itself can make. Filled once by a loader, then read by any thread.
 */
#ifndef MODEL_VOCAB_H
#define MODEL_VOCAB_H

#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/must.h"

enum {
    VOCAB_PIECE = 1,   /* Merging can make it: vocab_find() sees it. */
    VOCAB_ADDED = 2,   /* Matched in the text before merging. */
    VOCAB_SPECIAL = 4, /* Matched only where special tokens are parsed. Never a piece. */
    VOCAB_BYTE = 8,    /* Stands for one byte (byte fallback); its bytes are that byte. */
    VOCAB_HOLE = 16,   /* No token has this id. */
};

/* A byte of a token may leave as U+FFFD, which takes three; see DETOK_OUT_BYTES_MAX. */
enum { VOCAB_TOKEN_BYTES_MAX = LIMIT_TOKEN_BYTES_MAX / 3 };

static const uint32_t VOCAB_NONE = UINT32_MAX;

struct vocab_token {
    uint32_t offset; /* Into pool. */
    uint16_t count;
    uint8_t flags;
};

struct vocab {
    struct vocab_token *tokens; /* [count] */
    uint32_t count;             /* Highest id + 1. */
    uint32_t bytes_longest;     /* Of a piece. */
    char *pool;
    size_t pool_bytes;
    size_t pool_room;
    uint32_t *slots; /* [slot_mask + 1] ids, VOCAB_NONE where free; open addressing. */
    uint32_t slot_mask;
};

/* count ids, all holes. 0, -EINVAL (0 or above LIMIT_VOCAB_MAX) or -ENOMEM. */
int vocab_open(struct vocab *vocab, uint32_t count) MUST_CHECK;
void vocab_close(struct vocab *vocab);

/* -EINVAL: id out of range; -EEXIST: id taken; -E2BIG: above VOCAB_TOKEN_BYTES_MAX; -ENOMEM. */
int vocab_set(struct vocab *vocab, uint32_t id, const char *bytes, size_t count,
              unsigned flags) MUST_CHECK;

/* The token, which exists, is special and no piece from the next vocab_index() on. */
void vocab_mark_special(struct vocab *vocab, uint32_t id);

/* Builds the index of pieces, again if need be; of equal ones the lowest id is found. 0 or -ENOMEM.
 */
int vocab_index(struct vocab *vocab) MUST_CHECK;

/* Id of a piece, VOCAB_NONE when there is none. After vocab_index(). */
uint32_t vocab_find(const struct vocab *vocab, const char *bytes, size_t count);

/* The token, NULL for a hole or an id outside. */
const struct vocab_token *vocab_at(const struct vocab *vocab, uint32_t id);
const char *vocab_bytes(const struct vocab *vocab, const struct vocab_token *token);

#endif /* MODEL_VOCAB_H */
