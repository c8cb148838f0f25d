/*
 * tokenizer_parts.h - a tokenizer laid open, for the files that build and run one: tokenizer.c,
 * detok.c, chat.c and the loaders. Nobody else includes it.
 */
#ifndef MODEL_TOKENIZER_PARTS_H
#define MODEL_TOKENIZER_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "model/added.h"
#include "model/bpe.h"
#include "model/gguf.h"
#include "model/model_error.h"
#include "model/normalizer.h"
#include "model/pretoken.h"
#include "model/tokenizer.h"
#include "model/vocab.h"

enum { TOKENIZER_AROUND_MAX = 8 };

/* How the pieces of an answer become text: pattern leaves as text, which is not longer. */
struct decoder {
    struct normalizer_text pattern; /* Empty: nothing is replaced. */
    struct normalizer_text text;
    bool strip_first; /* One space at the very start is left out. */
};

/*
 * Text goes left to right:
 *
 *   added -> normalizer -> added_normalized -> shape -> pretoken -> bpe
 *
 * A special token is known to the vocabulary as such and to one of the two lists.
 */
struct tokenizer {
    struct vocab vocab;
    struct added added;            /* Matched in the text as it came. */
    struct added added_normalized; /* Matched in the normalised text. */
    struct normalizer normalizer;
    struct normalizer shape; /* Changes that belong to cutting words: Metaspace, a prefix space. */
    struct pretoken *pretoken;
    struct bpe bpe;
    struct decoder decoder;
    uint32_t bos; /* VOCAB_NONE: none. */
    uint32_t eos;
    uint32_t before[TOKENIZER_AROUND_MAX]; /* Put around a text by ADD_SPECIAL. */
    uint32_t after[TOKENIZER_AROUND_MAX];
    size_t before_count;
    size_t after_count;
};

struct tokenizer_scratch {
    struct normalizer_scratch normalizer;
    struct normalizer_scratch shape;
    struct pretoken_scratch *pretoken;
    struct bpe_scratch *bpe;
    char *joined; /* [text_bytes_max] For chat.c, which builds a turn here. */
    size_t text_bytes_max;
};

/* One stretch of text that is encoded by itself. */
struct tokenizer_part {
    const char *text; /* Valid UTF-8. */
    size_t bytes;     /* At most text_bytes_max. */
    bool special;     /* Special tokens in it become their ids. */
    bool first;       /* The input begins here. */
};

/* Appends the ids of one part. 0 or -E2BIG. */
int tokenizer_append(const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch,
                     const struct tokenizer_part *part, struct ids *ids) MUST_CHECK;

/*
 * The loaders. *tokenizer is zeroed but for bos and eos, which are VOCAB_NONE, and an open
 * pretoken; on failure the caller closes what is there. config (tokenizer_config.json) may be NULL.
 * -ENOENT: the file has no tokenizer.
 */
int tokenizer_load_json(struct tokenizer *tokenizer, const struct json *root,
                        const struct json *config, struct model_error *error) MUST_CHECK;
int tokenizer_load_gguf(struct tokenizer *tokenizer, const struct gguf *gguf,
                        struct model_error *error) MUST_CHECK;

/* The same as tokenizer_open(), from parsed files: exactly one of root and gguf. */
struct tokenizer_source {
    const struct json *root;
    const struct json *config; /* May be NULL. */
    const struct gguf *gguf;
};
int tokenizer_build(struct tokenizer **out, const struct tokenizer_source *source,
                    struct model_error *error) MUST_CHECK;

/* For the loaders. Makes an existing token special; the vocabulary is indexed afterwards. */
int tokenizer_make_special(struct tokenizer *tokenizer, uint32_t id,
                           struct model_error *error) MUST_CHECK;

/* Adds the merge of two pieces. One that involves a special token is left out: plain text must
 * never become one. bytelevel: the texts are in the byte-level alphabet. */
struct tokenizer_merge {
    const char *left;
    size_t left_bytes;
    const char *right;
    size_t right_bytes;
    uint32_t rank;
    bool bytelevel;
};
int tokenizer_add_merge(struct tokenizer *tokenizer, const struct tokenizer_merge *merge,
                        struct model_error *error) MUST_CHECK;

/* The byte that "<0xXX>" names, -1 for any other text. */
int tokenizer_byte_named(const char *text, size_t bytes);

#endif /* MODEL_TOKENIZER_PARTS_H */
