/*
 * tokenizer.c - opens a tokenizer and encodes text. Called at start by the core and the tools, then
 * by the core's tokenizer threads; a tokenizer is shared and read-only, a scratch belongs to one
 * caller. All memory is taken by the open functions. Invariant: text reaches the merge loop only
 * as valid UTF-8 and in pieces that fit the scratch.
 */
#include "model/tokenizer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/checked.h"
#include "model/bytelevel.h"
#include "model/tokenizer_parts.h"
#include "model/utf8.h"

/* -1 for anything but an upper-case hexadecimal digit. */
static int digit_of(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int tokenizer_byte_named(const char *text, size_t bytes)
{
    if (bytes != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') {
        return -1;
    }
    const int high = digit_of(text[3]);
    const int low = digit_of(text[4]);
    return high >= 0 && low >= 0 ? high * 16 + low : -1;
}

int tokenizer_make_special(struct tokenizer *tokenizer, uint32_t id, struct model_error *error)
{
    const struct vocab_token *token = vocab_at(&tokenizer->vocab, id);
    if (!token) {
        return model_error_set(error, -EINVAL,
                               "tokenizer: special token id %u is not in the "
                               "vocabulary of %u",
                               id, tokenizer->vocab.count);
    }
    if (token->flags & VOCAB_SPECIAL) {
        return 0;
    }
    vocab_mark_special(&tokenizer->vocab, id);
    const int code = added_add(&tokenizer->added, vocab_bytes(&tokenizer->vocab, token),
                               token->count, id, ADDED_SPECIAL);
    return code ? model_error_set(error, code, "tokenizer: out of memory") : 0;
}

static uint32_t find_merged(const struct tokenizer *tokenizer, const char *text, size_t bytes,
                            bool bytelevel)
{
    char plain[VOCAB_TOKEN_BYTES_MAX];
    if (bytelevel) {
        /* The alphabet takes at most two bytes for one. */
        if (bytes > sizeof plain || !bytelevel_decode(text, bytes, plain, &bytes)) {
            return VOCAB_NONE;
        }
        text = plain;
    }
    return vocab_find(&tokenizer->vocab, text, bytes);
}

static bool is_special_text(const struct tokenizer *tokenizer, const char *text, size_t bytes)
{
    uint32_t id = added_exact(&tokenizer->added, text, bytes);
    if (id == VOCAB_NONE) {
        id = added_exact(&tokenizer->added_normalized, text, bytes);
    }
    return tokenizer_is_special(tokenizer, id);
}

int tokenizer_add_merge(struct tokenizer *tokenizer, const struct tokenizer_merge *merge,
                        struct model_error *error)
{
    const uint32_t left = find_merged(tokenizer, merge->left, merge->left_bytes, merge->bytelevel);
    const uint32_t right =
        find_merged(tokenizer, merge->right, merge->right_bytes, merge->bytelevel);
    if (left != VOCAB_NONE && right != VOCAB_NONE &&
        bpe_add_merge(&tokenizer->bpe, left, right, merge->rank) == 0) {
        return 0;
    }
    char joined[2 * VOCAB_TOKEN_BYTES_MAX];
    if (merge->left_bytes <= VOCAB_TOKEN_BYTES_MAX && merge->right_bytes <= VOCAB_TOKEN_BYTES_MAX) {
        memcpy(joined, merge->left, merge->left_bytes);
        memcpy(joined + merge->left_bytes, merge->right, merge->right_bytes);
        if (is_special_text(tokenizer, merge->left, merge->left_bytes) ||
            is_special_text(tokenizer, merge->right, merge->right_bytes) ||
            is_special_text(tokenizer, joined, merge->left_bytes + merge->right_bytes)) {
            return 0;
        }
    }
    return model_error_set(error, -EINVAL,
                           "tokenizer: merge %u uses or makes a token that is not in the "
                           "vocabulary",
                           merge->rank);
}

int tokenizer_build(struct tokenizer **out, const struct tokenizer_source *source,
                    struct model_error *error)
{
    must(!source->root != !source->gguf);
    struct tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    if (!tokenizer || pretoken_open(&tokenizer->pretoken)) {
        free(tokenizer);
        return model_error_set(error, -ENOMEM, "tokenizer: out of memory");
    }
    tokenizer->bos = VOCAB_NONE;
    tokenizer->eos = VOCAB_NONE;
    const int code = source->gguf
                         ? tokenizer_load_gguf(tokenizer, source->gguf, error)
                         : tokenizer_load_json(tokenizer, source->root, source->config, error);
    if (code) {
        tokenizer_close(tokenizer);
        return code;
    }
    *out = tokenizer;
    return 0;
}

static int open_gguf(struct tokenizer **out, const char *path, struct model_error *error)
{
    struct gguf *gguf = NULL;
    int code = gguf_open(&gguf, path, error);
    if (code) {
        return code;
    }
    code = tokenizer_build(out, &(struct tokenizer_source){.gguf = gguf}, error);
    gguf_close(gguf);
    return code;
}

/* folder: of the file, for its tokenizer_config.json; absent means no config. */
static int open_json(struct tokenizer **out, const char *path, const char *folder,
                     struct model_error *error)
{
    char config_path[LIMIT_PATH_BYTES_MAX];
    struct json_error reason = {{0}};
    struct json *root = NULL;
    struct json *config = NULL;
    const int room = (int)sizeof config_path;
    if (snprintf(config_path, sizeof config_path, "%s/tokenizer_config.json", folder) >= room) {
        return model_error_set(error, -ENAMETOOLONG, "%.200s...: path too long", folder);
    }
    int code = json_parse_file(path, &root, &reason);
    if (code) {
        return model_error_set(error, code, "%.200s: %s", path,
                               reason.text[0] ? reason.text : strerror(-code));
    }
    reason = (struct json_error){{0}};
    code = json_parse_file(config_path, &config, &reason);
    if (code && code != -ENOENT) {
        (void)model_error_set(error, code, "%.200s: %s", config_path,
                              reason.text[0] ? reason.text : strerror(-code));
    } else {
        const struct tokenizer_source source = {.root = root, .config = config};
        code = tokenizer_build(out, &source, error);
    }
    json_free(config);
    json_free(root);
    return code;
}

static bool is_gguf(const char *path)
{
    char magic[4] = {0};
    FILE *file = fopen(path, "rb");
    if (!file) {
        return false;
    }
    const size_t got = fread(magic, 1, sizeof magic, file);
    (void)fclose(file);
    return got == sizeof magic && memcmp(magic, "GGUF", 4) == 0;
}

int tokenizer_open(struct tokenizer **out, const char *path, struct model_error *error)
{
    char file[LIMIT_PATH_BYTES_MAX];
    char folder[LIMIT_PATH_BYTES_MAX];
    struct stat status;
    if (stat(path, &status) != 0) {
        const int code = -errno;
        return model_error_set(error, code, "%.200s: %s", path, strerror(-code));
    }
    if (S_ISREG(status.st_mode) && is_gguf(path)) {
        return open_gguf(out, path, error);
    }
    const char *slash = strrchr(path, '/');
    const int folder_bytes = !slash ? 1 : slash == path ? 1 : (int)(slash - path);
    int bytes;
    if (S_ISDIR(status.st_mode)) {
        (void)snprintf(folder, sizeof folder, "%s", path);
        bytes = snprintf(file, sizeof file, "%s/tokenizer.json", path);
    } else {
        (void)snprintf(folder, sizeof folder, "%.*s", folder_bytes, slash ? path : ".");
        bytes = snprintf(file, sizeof file, "%s", path);
    }
    if (bytes >= (int)sizeof file) {
        return model_error_set(error, -ENAMETOOLONG, "%.200s...: path too long", path);
    }
    return open_json(out, file, folder, error);
}

void tokenizer_close(struct tokenizer *tokenizer)
{
    if (!tokenizer) {
        return;
    }
    bpe_close(&tokenizer->bpe);
    pretoken_close(tokenizer->pretoken);
    added_close(&tokenizer->added);
    added_close(&tokenizer->added_normalized);
    vocab_close(&tokenizer->vocab);
    free(tokenizer);
}

uint32_t tokenizer_vocab(const struct tokenizer *tokenizer)
{
    return tokenizer->vocab.count;
}

uint32_t tokenizer_bos(const struct tokenizer *tokenizer)
{
    return tokenizer->bos;
}

uint32_t tokenizer_eos(const struct tokenizer *tokenizer)
{
    return tokenizer->eos;
}

bool tokenizer_is_special(const struct tokenizer *tokenizer, uint32_t id)
{
    const struct vocab_token *token = vocab_at(&tokenizer->vocab, id);
    return token && token->flags & VOCAB_SPECIAL;
}

uint32_t tokenizer_find(const struct tokenizer *tokenizer, const char *bytes, size_t count)
{
    uint32_t id = added_exact(&tokenizer->added, bytes, count);
    if (id == VOCAB_NONE) {
        id = added_exact(&tokenizer->added_normalized, bytes, count);
    }
    return id != VOCAB_NONE ? id : vocab_find(&tokenizer->vocab, bytes, count);
}

int tokenizer_scratch_open(struct tokenizer_scratch **out, const struct tokenizer *tokenizer,
                           size_t text_bytes_max)
{
    if (text_bytes_max > LIMIT_FRAME_BYTES_MAX) {
        return -ENOMEM;
    }
    const size_t normal_max = normalizer_bytes_max(&tokenizer->normalizer, text_bytes_max);
    const size_t word_max = normalizer_bytes_max(&tokenizer->shape, normal_max);
    struct tokenizer_scratch *scratch = calloc(1, sizeof *scratch);
    if (!scratch) {
        return -ENOMEM;
    }
    scratch->text_bytes_max = text_bytes_max;
    scratch->joined = malloc(text_bytes_max + 1);
    if (!scratch->joined ||
        normalizer_scratch_open(&scratch->normalizer, &tokenizer->normalizer, text_bytes_max) ||
        normalizer_scratch_open(&scratch->shape, &tokenizer->shape, normal_max) ||
        pretoken_scratch_open(&scratch->pretoken, word_max) ||
        bpe_scratch_open(&scratch->bpe, word_max)) {
        tokenizer_scratch_close(scratch);
        return -ENOMEM;
    }
    *out = scratch;
    return 0;
}

void tokenizer_scratch_close(struct tokenizer_scratch *scratch)
{
    if (!scratch) {
        return;
    }
    normalizer_scratch_close(&scratch->normalizer);
    normalizer_scratch_close(&scratch->shape);
    pretoken_scratch_close(scratch->pretoken);
    bpe_scratch_close(scratch->bpe);
    free(scratch->joined);
    free(scratch);
}

/* A stretch without added tokens. */
static int append_words(const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch,
                        struct normalizer_view view, struct ids *ids)
{
    const struct pretoken_span *spans;
    size_t count;
    int error = normalizer_run(&tokenizer->shape, &scratch->shape, &view);
    if (!error) {
        error = pretoken_split(tokenizer->pretoken, scratch->pretoken, view.bytes, view.count,
                               &spans, &count);
    }
    for (size_t i = 0; !error && i < count; i++) {
        error = bpe_encode(&tokenizer->bpe, scratch->bpe, view.bytes + spans[i].start,
                           spans[i].end - spans[i].start, ids);
    }
    return error;
}

/* A stretch without added tokens that are matched in the text as it came. */
static int append_stretch(const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch,
                          const struct tokenizer_part *part, struct ids *ids)
{
    struct normalizer_view view = {part->text, part->bytes, part->first};
    int error = normalizer_run(&tokenizer->normalizer, &scratch->normalizer, &view);
    for (size_t at = 0; !error && at < view.count;) {
        struct added_match match = {.start = view.count, .end = view.count};
        const bool found = added_find(&tokenizer->added_normalized, view.bytes, view.count, at,
                                      part->special, &match);
        const struct normalizer_view plain = {view.bytes + at, match.start - at,
                                              part->first && at == 0};
        if (plain.count > 0) {
            error = append_words(tokenizer, scratch, plain, ids);
        }
        if (!error && found) {
            error = ids_push(ids, match.id);
        }
        at = match.end;
    }
    return error;
}

int tokenizer_append(const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch,
                     const struct tokenizer_part *part, struct ids *ids)
{
    must(part->bytes <= scratch->text_bytes_max);
    int error = 0;
    for (size_t at = 0; !error && at < part->bytes;) {
        struct added_match match = {.start = part->bytes, .end = part->bytes};
        const bool found =
            added_find(&tokenizer->added, part->text, part->bytes, at, part->special, &match);
        const struct tokenizer_part plain = {.text = part->text + at,
                                             .bytes = match.start - at,
                                             .special = part->special,
                                             .first = part->first && at == 0};
        if (plain.bytes > 0) {
            error = append_stretch(tokenizer, scratch, &plain, ids);
        }
        if (!error && found) {
            error = ids_push(ids, match.id);
        }
        at = match.end;
    }
    return error;
}

static int append_ids(const uint32_t *items, size_t count, struct ids *ids)
{
    int error = 0;
    for (size_t i = 0; !error && i < count; i++) {
        error = ids_push(ids, items[i]);
    }
    return error;
}

int tokenizer_encode(const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch,
                     const char *text, size_t bytes, unsigned flags, struct ids *ids)
{
    if (bytes > scratch->text_bytes_max) {
        return -E2BIG;
    }
    if (!utf8_valid(text, bytes)) {
        return -EINVAL;
    }
    const bool around = flags & TOKENIZER_ADD_SPECIAL;
    const struct tokenizer_part part = {
        .text = text, .bytes = bytes, .special = flags & TOKENIZER_PARSE_SPECIAL, .first = true};
    struct ids list = *ids;
    int error = around ? append_ids(tokenizer->before, tokenizer->before_count, &list) : 0;
    if (!error) {
        error = tokenizer_append(tokenizer, scratch, &part, &list);
    }
    if (!error && around) {
        error = append_ids(tokenizer->after, tokenizer->after_count, &list);
    }
    if (!error) {
        ids->count = list.count;
    }
    return error;
}
