/*
 * tokenizer_gguf.c - a tokenizer from GGUF metadata (tokenizer.ggml.*). Called at start by the core
 * and the tools. The keys and their defaults follow the GGUF specification and llama.cpp, whose
 * files these are: "llama" is SentencePiece BPE by scores, "gpt2" is byte-level BPE by merges, with
 * the expressions that cut words known by the name in tokenizer.ggml.pre. Invariant: every id from
 * the file is checked against the vocabulary.
 */
#include "model/tokenizer_parts.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "model/bytelevel.h"
#include "model/words.h"

/* tokenizer.ggml.token_type */
enum { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER_DEFINED, TYPE_UNUSED, TYPE_BYTE };

static uint32_t item_u32(const uint8_t *items, uint64_t index)
{
    uint32_t item;
    memcpy(&item, items + index * sizeof item, sizeof item);
    return le32toh(item);
}

static int bad_key(struct model_error *error, const char *key)
{
    return model_error_set(error, -EINVAL, "GGUF: %s is missing or malformed", key);
}

/* An optional array of one 32-bit item a token: *items is NULL where the key is absent. */
static int optional_items(const struct gguf *gguf, const char *key, uint64_t count,
                          bool (*read)(const struct gguf *, const char *, const uint8_t **),
                          const uint8_t **items)
{
    uint64_t got;
    *items = NULL;
    if (!gguf_array_count(gguf, key, &got)) {
        return 0;
    }
    return got == count && read(gguf, key, items) ? 0 : -EINVAL;
}

static unsigned flags_of(uint32_t type)
{
    switch (type) {
    case TYPE_NORMAL:
        return VOCAB_PIECE;
    case TYPE_USER_DEFINED:
        return VOCAB_ADDED;
    case TYPE_UNKNOWN:
    case TYPE_CONTROL:
        return VOCAB_ADDED | VOCAB_SPECIAL;
    case TYPE_BYTE:
        return VOCAB_BYTE;
    default: /* Unused, or newer than this code: it can be decoded, never encoded. */
        return 0;
    }
}

static int add_token(struct tokenizer *tokenizer, uint32_t id, const char *text, size_t bytes,
                     unsigned flags)
{
    int error = 0;
    if (flags & VOCAB_ADDED) {
        error = added_add(&tokenizer->added, text, bytes, id,
                          flags & VOCAB_SPECIAL ? ADDED_SPECIAL : 0);
    }
    return error ? error : vocab_set(&tokenizer->vocab, id, text, bytes, flags);
}

/* bytelevel: normal tokens are written in the byte-level alphabet. */
static int load_tokens(struct tokenizer *tokenizer, const struct gguf *gguf, bool bytelevel,
                       struct model_error *error)
{
    static const char key[] = "tokenizer.ggml.tokens";
    struct gguf_strings walk;
    const uint8_t *types;
    uint64_t count;
    if (!gguf_array_count(gguf, key, &count) || !gguf_array_strings(gguf, key, &walk) ||
        count > LIMIT_VOCAB_MAX || vocab_open(&tokenizer->vocab, (uint32_t)count)) {
        return bad_key(error, key);
    }
    if (optional_items(gguf, "tokenizer.ggml.token_type", count, gguf_array_i32, &types)) {
        return bad_key(error, "tokenizer.ggml.token_type");
    }
    for (uint32_t id = 0; id < count; id++) {
        const char *text;
        size_t bytes;
        if (!gguf_strings_next(&walk, &text, &bytes)) {
            return bad_key(error, key);
        }
        unsigned flags = flags_of(types ? item_u32(types, id) : TYPE_NORMAL);
        char plain[VOCAB_TOKEN_BYTES_MAX];
        const int byte = bytelevel ? -1 : tokenizer_byte_named(text, bytes);
        if (byte >= 0 && (flags & VOCAB_BYTE || !types)) {
            plain[0] = (char)byte;
            text = plain;
            bytes = 1;
            flags = VOCAB_BYTE;
        } else if (bytelevel && flags & VOCAB_PIECE && bytes <= sizeof plain) {
            flags = bytelevel_decode(text, bytes, plain, &bytes) ? flags : 0;
            text = flags ? plain : text;
        }
        if (flags & VOCAB_BYTE && byte < 0) {
            return model_error_set(error, -EINVAL, "GGUF: byte token %u names no byte", id);
        }
        if (add_token(tokenizer, id, text, bytes, flags)) {
            return model_error_set(error, -EINVAL, "GGUF: token %u of %zu bytes is too long", id,
                                   bytes);
        }
    }
    return 0;
}

/* An optional token id; false when it is there and is no token. */
static bool read_id(const struct tokenizer *tokenizer, const struct gguf *gguf, const char *key,
                    uint32_t *id)
{
    uint64_t value;
    if (!gguf_u64(gguf, key, &value)) {
        return true;
    }
    if (value >= tokenizer->vocab.count) {
        return value == UINT32_MAX; /* Some writers say "none" so. */
    }
    *id = (uint32_t)value;
    return true;
}

/* BOS, EOS, and which of them surround a text. bos_default: where the file does not say. */
static int load_special(struct tokenizer *tokenizer, const struct gguf *gguf, bool bos_default,
                        struct model_error *error)
{
    static const char bos_key[] = "tokenizer.ggml.bos_token_id";
    static const char eos_key[] = "tokenizer.ggml.eos_token_id";
    bool add_bos = bos_default;
    bool add_eos = false;
    if (!read_id(tokenizer, gguf, bos_key, &tokenizer->bos)) {
        return bad_key(error, bos_key);
    }
    if (!read_id(tokenizer, gguf, eos_key, &tokenizer->eos)) {
        return bad_key(error, eos_key);
    }
    (void)gguf_bool(gguf, "tokenizer.ggml.add_bos_token", &add_bos);
    (void)gguf_bool(gguf, "tokenizer.ggml.add_eos_token", &add_eos);
    int code = 0;
    if (tokenizer->bos != VOCAB_NONE) {
        code = tokenizer_make_special(tokenizer, tokenizer->bos, error);
    }
    if (!code && tokenizer->eos != VOCAB_NONE) {
        code = tokenizer_make_special(tokenizer, tokenizer->eos, error);
    }
    if (add_bos && tokenizer->bos != VOCAB_NONE) {
        tokenizer->before[tokenizer->before_count++] = tokenizer->bos;
    }
    if (add_eos && tokenizer->eos != VOCAB_NONE) {
        tokenizer->after[tokenizer->after_count++] = tokenizer->eos;
    }
    return code;
}

static int load_scores(struct tokenizer *tokenizer, const struct gguf *gguf,
                       struct model_error *error)
{
    static const char key[] = "tokenizer.ggml.scores";
    const uint32_t count = tokenizer->vocab.count;
    const uint8_t *items;
    if (optional_items(gguf, key, count, gguf_array_f32, &items)) {
        return bad_key(error, key);
    }
    float *scores = calloc(count, sizeof *scores); /* Absent: all are equal. */
    if (!scores) {
        return model_error_set(error, -ENOMEM, "tokenizer: out of memory");
    }
    for (uint32_t id = 0; id < count && items; id++) {
        const uint32_t bits = item_u32(items, id);
        memcpy(&scores[id], &bits, sizeof bits);
    }
    const int code = bpe_rank_by_score(&tokenizer->bpe, scores);
    free(scores);
    return code ? bad_key(error, key) : 0;
}

/* SentencePiece: spaces are written as U+2581, a text starts with one. */
static int load_llama(struct tokenizer *tokenizer, const struct gguf *gguf,
                      struct model_error *error)
{
    static const struct normalizer_text mark = {"\xe2\x96\x81", 3};
    static const struct normalizer_text space = {" ", 1};
    static const char unknown_key[] = "tokenizer.ggml.unknown_token_id";
    int code = load_tokens(tokenizer, gguf, false, error);
    if (!code) {
        code = load_special(tokenizer, gguf, true, error);
    }
    if (code) {
        return code;
    }
    if (vocab_index(&tokenizer->vocab)) {
        return model_error_set(error, -ENOMEM, "tokenizer: out of memory");
    }
    bpe_open(&tokenizer->bpe, &tokenizer->vocab, BPE_CHARS);
    tokenizer->bpe.fuse_unknown = true;
    if (!read_id(tokenizer, gguf, unknown_key, &tokenizer->bpe.unknown)) {
        return bad_key(error, unknown_key);
    }
    bool prefix = true;
    (void)gguf_bool(gguf, "tokenizer.ggml.add_space_prefix", &prefix);
    const struct normalizer_op prepend = {.kind = NORMALIZER_PREPEND, .text = mark};
    const struct normalizer_op replace = {
        .kind = NORMALIZER_REPLACE, .pattern = space, .text = mark};
    must(!prefix || normalizer_add(&tokenizer->normalizer, &prepend));
    must(normalizer_add(&tokenizer->normalizer, &replace));
    tokenizer->decoder = (struct decoder){.pattern = mark, .text = space, .strip_first = prefix};
    return load_scores(tokenizer, gguf, error);
}

static int load_merges(struct tokenizer *tokenizer, const struct gguf *gguf,
                       struct model_error *error)
{
    static const char key[] = "tokenizer.ggml.merges";
    struct gguf_strings walk;
    uint64_t count;
    if (!gguf_array_count(gguf, key, &count) || !gguf_array_strings(gguf, key, &walk) ||
        count > BPE_MERGES_MAX) {
        return bad_key(error, key);
    }
    if (bpe_reserve_merges(&tokenizer->bpe, count)) {
        return model_error_set(error, -ENOMEM, "tokenizer: out of memory");
    }
    for (uint32_t rank = 0; rank < count; rank++) {
        const char *text;
        size_t bytes;
        if (!gguf_strings_next(&walk, &text, &bytes)) {
            return bad_key(error, key);
        }
        const char *space = memchr(text, ' ', bytes); /* The alphabet has none of its own. */
        if (!space) {
            return model_error_set(error, -EINVAL, "GGUF: merge %u is no pair", rank);
        }
        const struct tokenizer_merge merge = {.left = text,
                                              .left_bytes = (size_t)(space - text),
                                              .right = space + 1,
                                              .right_bytes = bytes - (size_t)(space - text) - 1,
                                              .rank = rank,
                                              .bytelevel = true};
        const int code = tokenizer_add_merge(tokenizer, &merge, error);
        if (code) {
            return code;
        }
    }
    return 0;
}

static int load_gpt2(struct tokenizer *tokenizer, const struct gguf *gguf,
                     struct model_error *error)
{
    const char *name = "default";
    size_t bytes = strlen(name);
    (void)gguf_string(gguf, "tokenizer.ggml.pre", &name, &bytes);
    const struct words *words = words_find(name, bytes);
    if (!words) {
        return model_error_set(error, -ENOTSUP, "GGUF: tokenizer.ggml.pre '%.*s' is not supported",
                               bytes > 64 ? 64 : (int)bytes, name);
    }
    int code = load_tokens(tokenizer, gguf, true, error);
    if (!code) {
        code = load_special(tokenizer, gguf, words->adds_bos, error);
    }
    if (!code && vocab_index(&tokenizer->vocab)) {
        code = model_error_set(error, -ENOMEM, "tokenizer: out of memory");
    }
    if (code) {
        return code;
    }
    bpe_open(&tokenizer->bpe, &tokenizer->vocab, BPE_BYTES);
    tokenizer->bpe.whole_words = words->whole;
    added_seal(&tokenizer->added);
    for (size_t i = 0; i < WORDS_PATTERNS_MAX && words->patterns[i]; i++) {
        const struct pretoken_rule rule = {.pattern = words->patterns[i],
                                           .bytes = strlen(words->patterns[i])};
        code = pretoken_add(tokenizer->pretoken, &rule, error);
        if (code) {
            return code;
        }
    }
    return load_merges(tokenizer, gguf, error);
}

int tokenizer_load_gguf(struct tokenizer *tokenizer, const struct gguf *gguf,
                        struct model_error *error)
{
    const char *model;
    size_t bytes;
    if (!gguf_string(gguf, "tokenizer.ggml.model", &model, &bytes)) {
        return model_error_set(error, -ENOENT, "GGUF: no tokenizer (tokenizer.ggml.model)");
    }
    if (bytes == 5 && memcmp(model, "llama", 5) == 0) {
        const int code = load_llama(tokenizer, gguf, error);
        added_seal(&tokenizer->added);
        return code;
    }
    if (bytes == 4 && memcmp(model, "gpt2", 4) == 0) {
        return load_gpt2(tokenizer, gguf, error);
    }
    return model_error_set(error, -ENOTSUP, "GGUF: tokenizer.ggml.model '%.*s' is not supported",
                           bytes > 64 ? 64 : (int)bytes, model);
}
