/*
 * words.h - the ways of cutting words that are known by name: expressions published with the models
 * that introduced them, in the order in which they apply, each match a piece of its own.
 */
#ifndef MODEL_WORDS_H
#define MODEL_WORDS_H

#include <stdbool.h>
#include <stddef.h>

enum { WORDS_PATTERNS_MAX = 8 };

struct words {
    const char *name;                         /* As tokenizer.ggml.pre has it. */
    bool whole;                               /* ignore_merges of the model's tokenizer.json. */
    bool adds_bos;                            /* Where the file does not say. */
    const char *patterns[WORDS_PATTERNS_MAX]; /* NULL behind the last. */
};

/* NULL for an unknown name. */
const struct words *words_find(const char *name, size_t bytes);

/* What ByteLevel with use_regex means in a tokenizer.json. */
extern const char WORDS_GPT2[];

#endif /* MODEL_WORDS_H */
