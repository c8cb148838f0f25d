/*
 * tokenizer_rules.h - the parts of a tokenizer.json that are lists of typed steps. Each reader
 * takes the value of its key, which may be absent or null, and refuses by name what it does not
 * know (-ENOTSUP) or what is malformed (-EINVAL).
 */
#ifndef MODEL_TOKENIZER_RULES_H
#define MODEL_TOKENIZER_RULES_H

#include <stdbool.h>

#include "model/tokenizer_parts.h"

int tokenizer_read_normalizer(struct tokenizer *tokenizer, const struct json *value,
                              struct model_error *error) MUST_CHECK;

/* *bytelevel: the vocabulary is written in the byte-level alphabet. */
int tokenizer_read_pretokenizer(struct tokenizer *tokenizer, const struct json *value,
                                bool *bytelevel, struct model_error *error) MUST_CHECK;

int tokenizer_read_decoder(struct tokenizer *tokenizer, const struct json *value, bool bytelevel,
                           struct model_error *error) MUST_CHECK;

/* Special tokens around a text; their ids are checked against the vocabulary and made special. */
int tokenizer_read_postprocessor(struct tokenizer *tokenizer, const struct json *value,
                                 struct model_error *error) MUST_CHECK;

#endif /* MODEL_TOKENIZER_RULES_H */
