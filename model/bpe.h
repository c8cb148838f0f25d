/*
 * bpe.h - byte-pair encoding: neighbouring symbols of a word merge, best pair first, leftmost among
 * equals. Which pairs may merge comes either from a list of merges or, in SentencePiece's way, from
 * the scores of the pieces themselves. Immutable once loaded.
 */
#ifndef MODEL_BPE_H
#define MODEL_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/must.h"
#include "model/ids.h"
#include "model/vocab.h"

enum bpe_unit {
    BPE_BYTES, /* A word starts as its bytes. */
    BPE_CHARS, /* ... as its characters. */
};

struct bpe_merge {
    uint32_t left; /* Ids; left is VOCAB_NONE in a free slot. */
    uint32_t right;
    uint32_t rank; /* Lower merges first. */
    uint32_t result;
};

struct bpe {
    const struct vocab *vocab; /* Borrowed. */
    struct bpe_merge *merges;  /* [merge_mask + 1], open addressing; NULL: ranks decide. */
    uint32_t merge_mask;
    uint32_t merge_room;    /* Further merges that the table was opened for. */
    uint32_t *ranks;        /* [vocab->count] from scores; NULL: merges decide. */
    uint32_t byte_ids[256]; /* Pieces of one byte, or byte fallback tokens. VOCAB_NONE: none. */
    uint32_t unknown;       /* For what no token covers; VOCAB_NONE: it is left out. */
    enum bpe_unit unit;
    bool fuse_unknown; /* Neighbouring unknowns give one id. */
    bool whole_words;  /* A word that is a piece is not taken apart (ignore_merges). */
};

/* An indexed vocabulary; no merges, no ranks. */
void bpe_open(struct bpe *bpe, const struct vocab *vocab, enum bpe_unit unit);
void bpe_close(struct bpe *bpe);

/* Room for count merges. -EINVAL above BPE_MERGES_MAX; -ENOMEM. */
enum { BPE_MERGES_MAX = 1 << 22 };
int bpe_reserve_merges(struct bpe *bpe, size_t count) MUST_CHECK;

/* Merges left + right, two tokens, into the piece of their joined bytes; a pair given twice has its
 * last rank. -ENOENT: there is no such piece. */
int bpe_add_merge(struct bpe *bpe, uint32_t left, uint32_t right, uint32_t rank) MUST_CHECK;

/* Ranks from scores[id], highest first; equal scores rank equal. -EINVAL for a NaN; -ENOMEM. */
int bpe_rank_by_score(struct bpe *bpe, const float *scores) MUST_CHECK;

/* Working memory for words of up to word_bytes_max bytes; 44 bytes for each of them, touched only
 * as far as a word goes. 0 or -ENOMEM. */
struct bpe_scratch;
int bpe_scratch_open(struct bpe_scratch **out, size_t word_bytes_max) MUST_CHECK;
void bpe_scratch_close(struct bpe_scratch *scratch);

/*
 * Ids of one word, at most word_bytes_max bytes of valid UTF-8 (any bytes for BPE_BYTES), appended
 * to ids. O(n log n) for n bytes. Does not allocate. 0, or -E2BIG when ids is full.
 */
int bpe_encode(const struct bpe *bpe, struct bpe_scratch *scratch, const char *word, size_t bytes,
               struct ids *ids) MUST_CHECK;

#endif /* MODEL_BPE_H */
