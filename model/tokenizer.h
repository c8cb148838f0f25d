/*
 * tokenizer.h - text to token ids and back, from tokenizer.json or a GGUF's metadata.
 *
 * Immutable once open: any number of threads may use one tokenizer, each with a scratch of its own.
 * Encoding and decoding do not allocate.
 */
#ifndef MODEL_TOKENIZER_H
#define MODEL_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/must.h"
#include "model/hparams.h"
#include "model/ids.h"

struct tokenizer;
struct tokenizer_scratch;

enum {
    TOKENIZER_ADD_SPECIAL = 1,   /* BOS / EOS as the model wants them. */
    TOKENIZER_PARSE_SPECIAL = 2, /* Special tokens in the text become their ids. */
    TOKENIZER_SKIP_SPECIAL = 4,  /* Decoding leaves special tokens out. */
};

/* path: a model directory, a directory with tokenizer.json alone, a tokenizer.json, or a GGUF,
 * vocabulary-only included. -ENOENT when there is no tokenizer (the model then serves ids only). */
int tokenizer_open(struct tokenizer **out, const char *path, struct model_error *error) MUST_CHECK;
void tokenizer_close(struct tokenizer *tokenizer);

uint32_t tokenizer_vocab(const struct tokenizer *tokenizer);
uint32_t tokenizer_bos(const struct tokenizer *tokenizer); /* UINT32_MAX: none */
uint32_t tokenizer_eos(const struct tokenizer *tokenizer); /* UINT32_MAX: none */
bool tokenizer_is_special(const struct tokenizer *tokenizer, uint32_t id);

/* Id of a token by its exact content (an added or plain one); UINT32_MAX when there is none. */
uint32_t tokenizer_find(const struct tokenizer *tokenizer, const char *bytes, size_t count);

/* Room for texts of up to text_bytes_max. 0 or -ENOMEM. */
int tokenizer_scratch_open(struct tokenizer_scratch **out, const struct tokenizer *tokenizer,
                           size_t text_bytes_max) MUST_CHECK;
void tokenizer_scratch_close(struct tokenizer_scratch *scratch);

/* Appends the ids of text. -EINVAL: not UTF-8; -E2BIG: ids is full, or more than text_bytes_max
 * bytes. ids->count changes on success only. flags: ADD_SPECIAL, PARSE_SPECIAL. */
int tokenizer_encode(const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch,
                     const char *text, size_t bytes, unsigned flags, struct ids *ids) MUST_CHECK;

/*
 * Streaming decode. Output never splits a UTF-8 character: bytes wait until the character is whole,
 * and what can never become one leaves as U+FFFD.
 */
enum { DETOK_PENDING_BYTES_MAX = 8, DETOK_OUT_BYTES_MAX = LIMIT_TOKEN_BYTES_MAX + 64 };

struct detok {
    uint32_t tokens; /* So far. A text that continues another one starts at 1: SentencePiece
                      * decoders strip a space from the very first token only. */
    uint32_t pending_count;
    uint8_t pending[DETOK_PENDING_BYTES_MAX];
};

/* Text that id adds, to out[0..*count), at most DETOK_OUT_BYTES_MAX bytes. An id outside the
 * vocabulary adds nothing. flags: SKIP_SPECIAL. */
void tokenizer_decode(const struct tokenizer *tokenizer, struct detok *detok, uint32_t id,
                      unsigned flags, char *out, size_t *count);

/* What is still pending, as U+FFFD; at the end of a stream. */
void tokenizer_decode_end(struct detok *detok, char *out, size_t *count);

#endif /* MODEL_TOKENIZER_H */
