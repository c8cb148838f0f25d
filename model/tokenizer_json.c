/*
 * tokenizer_json.c - a tokenizer from Hugging Face's tokenizer.json (model type BPE), with BOS and
 * EOS from the tokenizer_config.json beside it. Called at start by the core and the tools. Order of
 * work: tokens, what surrounds a text, added tokens, merges. Invariant: every id from the file is
 * below the highest one of its vocabulary and belongs to one token.
 */
#include "model/tokenizer_parts.h"

#include <errno.h>
#include <string.h>

#include "model/bytelevel.h"
#include "model/tokenizer_rules.h"

static int malformed(struct model_error *error, const char *what)
{
    return model_error_set(error, -EINVAL, "tokenizer.json: malformed %s", what);
}

static int no_memory(struct model_error *error)
{
    return model_error_set(error, -ENOMEM, "tokenizer: out of memory");
}

static bool flag(const struct json *value, const char *key)
{
    bool set = false;
    (void)json_bool(json_get(value, key), &set);
    return set;
}

static bool read_id(const struct json *value, uint32_t *id)
{
    uint64_t wide;
    if (!json_u64(value, &wide) || wide >= LIMIT_VOCAB_MAX) {
        return false;
    }
    *id = (uint32_t)wide;
    return true;
}

/* A step of the pipeline that nothing here does: refused unless absent, null, 0 or "". */
static int refuse_unless_empty(const struct json *model, const char *key, struct model_error *error)
{
    const struct json *value = json_get(model, key);
    const char *text;
    size_t bytes;
    double number;
    const bool empty = json_kind(value) <= JSON_KIND_NULL ||
                       (json_text(value, &text, &bytes) && bytes == 0) ||
                       (json_f64(value, &number) && number == 0);
    return empty
               ? 0
               : model_error_set(error, -ENOTSUP, "tokenizer.json: model.%s is not supported", key);
}

static int check_model(const struct json *model, struct model_error *error)
{
    const char *type = "?";
    size_t bytes = 1;
    (void)json_text(json_get(model, "type"), &type, &bytes);
    if (bytes != 3 || memcmp(type, "BPE", 3) != 0) {
        return model_error_set(error, -ENOTSUP,
                               "tokenizer.json: model type '%.*s' is not supported (only BPE)",
                               bytes > 64 ? 64 : (int)bytes, type);
    }
    int code = refuse_unless_empty(model, "dropout", error);
    if (!code) {
        code = refuse_unless_empty(model, "continuing_subword_prefix", error);
    }
    if (!code) {
        code = refuse_unless_empty(model, "end_of_word_suffix", error);
    }
    return code;
}

/* Opens the vocabulary with as many ids as the highest of the file asks for. */
static int open_vocab(struct tokenizer *tokenizer, const struct json *vocab,
                      const struct json *added, struct model_error *error)
{
    uint32_t highest = 0;
    uint32_t id;
    if (json_kind(vocab) != JSON_KIND_OBJECT || json_count(vocab) + json_count(added) == 0) {
        return malformed(error, "model.vocab");
    }
    for (struct json_member *i = json_first(vocab); i; i = json_next(vocab, i)) {
        if (!read_id(json_member_value(i), &id)) {
            return model_error_set(error, -EINVAL, "tokenizer.json: id of '%.64s' is not in 0..%d",
                                   json_member_key(i), LIMIT_VOCAB_MAX - 1);
        }
        highest = id > highest ? id : highest;
    }
    for (size_t i = 0; i < json_count(added); i++) {
        if (!read_id(json_get(json_at(added, i), "id"), &id)) {
            return model_error_set(error, -EINVAL,
                                   "tokenizer.json: id of added token %zu is not in 0..%d", i,
                                   LIMIT_VOCAB_MAX - 1);
        }
        highest = id > highest ? id : highest;
    }
    return vocab_open(&tokenizer->vocab, highest + 1) ? no_memory(error) : 0;
}

static int set_token(struct tokenizer *tokenizer, uint32_t id, const char *bytes, size_t count,
                     unsigned flags, struct model_error *error)
{
    switch (vocab_set(&tokenizer->vocab, id, bytes, count, flags)) {
    case 0:
        return 0;
    case -ENOMEM:
        return no_memory(error);
    case -E2BIG:
        return model_error_set(error, -EINVAL, "tokenizer.json: token %u has more than %d bytes",
                               id, VOCAB_TOKEN_BYTES_MAX);
    default:
        return model_error_set(error, -EINVAL, "tokenizer.json: two tokens have the id %u", id);
    }
}

static int load_added(struct tokenizer *tokenizer, const struct json *added,
                      struct model_error *error)
{
    for (size_t i = 0; i < json_count(added); i++) {
        const struct json *token = json_at(added, i);
        const char *content;
        size_t bytes;
        uint32_t id;
        if (!json_text(json_get(token, "content"), &content, &bytes) ||
            !read_id(json_get(token, "id"), &id)) {
            return malformed(error, "added_tokens");
        }
        const bool special = flag(token, "special");
        const int code = set_token(tokenizer, id, content, bytes,
                                   VOCAB_ADDED | (special ? (unsigned)VOCAB_SPECIAL : 0u), error);
        if (code) {
            return code;
        }
    }
    return 0;
}

/* One entry of model.vocab. An added token may be listed here again, as the same one. */
static int load_piece(struct tokenizer *tokenizer, const char *text, uint32_t id,
                      const struct json *model, bool bytelevel, struct model_error *error)
{
    const size_t bytes = strlen(text);
    struct vocab_token *same = &tokenizer->vocab.tokens[id];
    char plain[VOCAB_TOKEN_BYTES_MAX];
    size_t plain_bytes;
    if (!(same->flags & VOCAB_HOLE) && same->count == bytes &&
        memcmp(vocab_bytes(&tokenizer->vocab, same), text, bytes) == 0) {
        /* A piece too, unless special or written otherwise in the alphabet. */
        const bool literal = !bytelevel || (bytes <= sizeof plain &&
                                            bytelevel_decode(text, bytes, plain, &plain_bytes) &&
                                            plain_bytes == bytes);
        if (literal && !(same->flags & VOCAB_SPECIAL)) {
            same->flags |= VOCAB_PIECE;
        }
        return 0;
    }
    if (bytelevel) {
        if (bytes <= sizeof plain && bytelevel_decode(text, bytes, plain, &plain_bytes)) {
            return set_token(tokenizer, id, plain, plain_bytes, VOCAB_PIECE, error);
        }
        return set_token(tokenizer, id, text, bytes, 0, error);
    }
    const int byte = flag(model, "byte_fallback") ? tokenizer_byte_named(text, bytes) : -1;
    if (byte >= 0) {
        plain[0] = (char)byte;
        return set_token(tokenizer, id, plain, 1, VOCAB_BYTE, error);
    }
    return set_token(tokenizer, id, text, bytes, VOCAB_PIECE, error);
}

static int load_tokens(struct tokenizer *tokenizer, const struct json *root, bool bytelevel,
                       struct model_error *error)
{
    const struct json *model = json_get(root, "model");
    const struct json *vocab = json_get(model, "vocab");
    const struct json *added = json_get(root, "added_tokens");
    int code = open_vocab(tokenizer, vocab, added, error);
    if (!code) {
        code = load_added(tokenizer, added, error);
    }
    for (struct json_member *i = json_first(vocab); i && !code; i = json_next(vocab, i)) {
        uint32_t id;
        must(read_id(json_member_value(i), &id)); /* open_vocab() has seen it. */
        code = load_piece(tokenizer, json_member_key(i), id, model, bytelevel, error);
    }
    return code;
}

/* bos_token or eos_token of the config: a text, or an object that holds it. Absent or unknown ones
 * leave *id alone. */
static int read_named(struct tokenizer *tokenizer, const struct json *value, uint32_t *id,
                      struct model_error *error)
{
    const char *text;
    size_t bytes;
    if (json_kind(value) == JSON_KIND_OBJECT) {
        value = json_get(value, "content");
    }
    if (!json_text(value, &text, &bytes)) {
        return 0;
    }
    uint32_t found = VOCAB_NONE;
    for (uint32_t i = 0; i < tokenizer->vocab.count && found == VOCAB_NONE; i++) {
        const struct vocab_token *token = vocab_at(&tokenizer->vocab, i);
        if (token && token->count == bytes &&
            memcmp(vocab_bytes(&tokenizer->vocab, token), text, bytes) == 0) {
            found = i;
        }
    }
    if (found == VOCAB_NONE) {
        return 0;
    }
    *id = found;
    return tokenizer_make_special(tokenizer, found, error);
}

/* BOS, EOS, and what surrounds a text: the template of the file, unless the config says outright
 * that BOS or EOS is added or is not. */
static int load_around(struct tokenizer *tokenizer, const struct json *root,
                       const struct json *config, struct model_error *error)
{
    int code = tokenizer_read_postprocessor(tokenizer, json_get(root, "post_processor"), error);
    if (code) {
        return code;
    }
    tokenizer->bos = tokenizer->before_count > 0 ? tokenizer->before[0] : VOCAB_NONE;
    tokenizer->eos = tokenizer->after_count > 0 ? tokenizer->after[0] : VOCAB_NONE;
    code = read_named(tokenizer, json_get(config, "bos_token"), &tokenizer->bos, error);
    if (!code) {
        code = read_named(tokenizer, json_get(config, "eos_token"), &tokenizer->eos, error);
    }
    bool add;
    if (tokenizer->bos != VOCAB_NONE && json_bool(json_get(config, "add_bos_token"), &add)) {
        tokenizer->before[0] = tokenizer->bos;
        tokenizer->before_count = add ? 1 : 0;
    }
    if (tokenizer->eos != VOCAB_NONE && json_bool(json_get(config, "add_eos_token"), &add)) {
        tokenizer->after[0] = tokenizer->eos;
        tokenizer->after_count = add ? 1 : 0;
    }
    return code;
}

/* An added token that is matched in normalised text is itself normalised. */
static int add_normalized(struct tokenizer *tokenizer, const char *content, size_t bytes,
                          uint32_t id, unsigned flags)
{
    struct normalizer_scratch scratch;
    struct normalizer_view view = {.bytes = content, .count = bytes, .first = true};
    int code = normalizer_scratch_open(&scratch, &tokenizer->normalizer, bytes);
    if (code) {
        return code;
    }
    code = normalizer_run(&tokenizer->normalizer, &scratch, &view);
    if (!code) {
        code = added_add(&tokenizer->added_normalized, view.bytes, view.count, id, flags);
    }
    normalizer_scratch_close(&scratch);
    return code;
}

static int load_matchers(struct tokenizer *tokenizer, const struct json *added,
                         struct model_error *error)
{
    int code = 0;
    for (size_t i = 0; i < json_count(added) && !code; i++) {
        const struct json *token = json_at(added, i);
        const char *content;
        size_t bytes;
        uint32_t id;
        must(json_text(json_get(token, "content"), &content, &bytes));
        must(read_id(json_get(token, "id"), &id)); /* load_added() has seen both. */
        const unsigned flags = (flag(token, "special") ? (unsigned)ADDED_SPECIAL : 0u) |
                               (flag(token, "lstrip") ? (unsigned)ADDED_STRIP_LEFT : 0u) |
                               (flag(token, "rstrip") ? (unsigned)ADDED_STRIP_RIGHT : 0u) |
                               (flag(token, "single_word") ? (unsigned)ADDED_SINGLE_WORD : 0u);
        code = flag(token, "normalized") ? add_normalized(tokenizer, content, bytes, id, flags)
                                         : added_add(&tokenizer->added, content, bytes, id, flags);
    }
    added_seal(&tokenizer->added);
    added_seal(&tokenizer->added_normalized);
    return code ? model_error_set(error, code, "tokenizer.json: added tokens: %s", strerror(-code))
                : 0;
}

/* "a b", or ["a", "b"] of newer files, where a piece may hold a space. */
static bool read_merge(const struct json *value, struct tokenizer_merge *merge)
{
    const char *text;
    size_t bytes;
    if (json_kind(value) == JSON_KIND_ARRAY) {
        return json_count(value) == 2 &&
               json_text(json_at(value, 0), &merge->left, &merge->left_bytes) &&
               json_text(json_at(value, 1), &merge->right, &merge->right_bytes);
    }
    if (!json_text(value, &text, &bytes)) {
        return false;
    }
    const char *space = memchr(text, ' ', bytes);
    if (!space) {
        return false;
    }
    merge->left = text;
    merge->left_bytes = (size_t)(space - text);
    merge->right = space + 1;
    merge->right_bytes = bytes - merge->left_bytes - 1;
    return true;
}

static int load_merges(struct tokenizer *tokenizer, const struct json *model, bool bytelevel,
                       struct model_error *error)
{
    const struct json *merges = json_get(model, "merges");
    const size_t count = json_count(merges);
    if (json_kind(merges) != JSON_KIND_ARRAY || count > BPE_MERGES_MAX) {
        return malformed(error, "model.merges");
    }
    if (bpe_reserve_merges(&tokenizer->bpe, count)) {
        return no_memory(error);
    }
    for (size_t i = 0; i < count; i++) {
        struct tokenizer_merge merge = {.rank = (uint32_t)i, .bytelevel = bytelevel};
        if (!read_merge(json_at(merges, i), &merge)) {
            return model_error_set(error, -EINVAL, "tokenizer.json: merge %zu is no pair", i);
        }
        const int code = tokenizer_add_merge(tokenizer, &merge, error);
        if (code) {
            return code;
        }
    }
    return 0;
}

static int load_unknown(struct tokenizer *tokenizer, const struct json *model,
                        struct model_error *error)
{
    const char *text;
    size_t bytes;
    if (!json_text(json_get(model, "unk_token"), &text, &bytes) || bytes == 0) {
        return 0;
    }
    tokenizer->bpe.unknown = tokenizer_find(tokenizer, text, bytes);
    return tokenizer->bpe.unknown != VOCAB_NONE
               ? 0
               : model_error_set(error, -EINVAL,
                                 "tokenizer.json: unk_token is not in the vocabulary");
}

int tokenizer_load_json(struct tokenizer *tokenizer, const struct json *root,
                        const struct json *config, struct model_error *error)
{
    const struct json *model = json_get(root, "model");
    const struct json *added = json_get(root, "added_tokens");
    bool bytelevel = false;
    int code = check_model(model, error);
    if (!code) {
        code = tokenizer_read_normalizer(tokenizer, json_get(root, "normalizer"), error);
    }
    if (!code) {
        code = tokenizer_read_pretokenizer(tokenizer, json_get(root, "pre_tokenizer"), &bytelevel,
                                           error);
    }
    if (!code) {
        code = tokenizer_read_decoder(tokenizer, json_get(root, "decoder"), bytelevel, error);
    }
    if (!code) {
        code = load_tokens(tokenizer, root, bytelevel, error);
    }
    if (!code) {
        code = load_around(tokenizer, root, config, error);
    }
    if (!code) {
        code = load_matchers(tokenizer, added, error);
    }
    if (!code && vocab_index(&tokenizer->vocab)) {
        code = no_memory(error);
    }
    if (code) {
        return code;
    }
    bpe_open(&tokenizer->bpe, &tokenizer->vocab, bytelevel ? BPE_BYTES : BPE_CHARS);
    tokenizer->bpe.fuse_unknown = flag(model, "fuse_unk");
    tokenizer->bpe.whole_words = flag(model, "ignore_merges");
    code = load_unknown(tokenizer, model, error);
    return code ? code : load_merges(tokenizer, model, bytelevel, error);
}
