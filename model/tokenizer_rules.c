/*
 * tokenizer_rules.c - normalizer, pre_tokenizer, decoder and post_processor of a tokenizer.json, as
 * Hugging Face's tokenizers library defines them. Called by tokenizer_json.c at start. A Sequence
 * is one level deep, as in every published file, so that nothing recurses on the input.
 */
#include "model/tokenizer_rules.h"

#include <errno.h>
#include <string.h>

#include "model/words.h"

static bool text_is(const struct json *value, const char *text)
{
    const char *bytes;
    size_t count;
    return json_text(value, &bytes, &count) && count == strlen(text) &&
           memcmp(bytes, text, count) == 0;
}

/* value's type, for messages; a name that is long or no string at all is shortened. */
static int unsupported(struct model_error *error, const char *what, const struct json *value)
{
    const char *type = "?";
    size_t bytes = 1;
    (void)json_text(json_get(value, "type"), &type, &bytes);
    return model_error_set(error, -ENOTSUP, "tokenizer.json: %s '%.*s' is not supported here", what,
                           bytes > 64 ? 64 : (int)bytes, type);
}

static int malformed(struct model_error *error, const char *what)
{
    return model_error_set(error, -EINVAL, "tokenizer.json: malformed %s", what);
}

/* Step index of a value that is one step or a Sequence of them; NULL behind the last. */
static const struct json *step_at(const struct json *value, const char *list, size_t index)
{
    if (json_kind(value) <= JSON_KIND_NULL) {
        return NULL;
    }
    if (text_is(json_get(value, "type"), "Sequence")) {
        return json_at(json_get(value, list), index);
    }
    return index == 0 ? value : NULL;
}

/* A flag with a default where it is absent. */
static bool flag(const struct json *value, const char *key, bool otherwise)
{
    (void)json_bool(json_get(value, key), &otherwise);
    return otherwise;
}

static bool short_text(const struct json *value, struct normalizer_text *out)
{
    const char *bytes;
    size_t count;
    if (!json_text(value, &bytes, &count) || count > NORMALIZER_TEXT_BYTES_MAX) {
        return false;
    }
    memcpy(out->bytes, bytes, count);
    out->count = count;
    return true;
}

/* Replace, of a normalizer or a decoder: {"pattern": {"String": ...}, "content": ...}. */
static int read_replace(const struct json *step, struct normalizer_op *op,
                        struct model_error *error)
{
    op->kind = NORMALIZER_REPLACE;
    if (json_get(json_get(step, "pattern"), "Regex")) {
        return model_error_set(error, -ENOTSUP,
                               "tokenizer.json: Replace by a regular expression "
                               "is not supported");
    }
    return short_text(json_get(json_get(step, "pattern"), "String"), &op->pattern) &&
                   op->pattern.count > 0 && short_text(json_get(step, "content"), &op->text)
               ? 0
               : malformed(error, "Replace");
}

static int read_normalizer_step(struct tokenizer *tokenizer, const struct json *step,
                                struct model_error *error)
{
    static const struct {
        const char *type;
        enum normalizer_kind kind;
    } forms[] = {{"NFC", NORMALIZER_NFC},
                 {"NFD", NORMALIZER_NFD},
                 {"NFKC", NORMALIZER_NFKC},
                 {"NFKD", NORMALIZER_NFKD}};
    const struct json *type = json_get(step, "type");
    struct normalizer_op op = {.kind = NORMALIZER_PREPEND};
    bool known = false;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (text_is(type, forms[i].type)) {
            op.kind = forms[i].kind;
            known = true;
        }
    }
    if (text_is(type, "Prepend")) {
        known = true;
        if (!short_text(json_get(step, "prepend"), &op.text)) {
            return malformed(error, "Prepend");
        }
    } else if (text_is(type, "Replace")) {
        known = true;
        const int code = read_replace(step, &op, error);
        if (code) {
            return code;
        }
    }
    return known && normalizer_add(&tokenizer->normalizer, &op)
               ? 0
               : unsupported(error, "normalizer", step);
}

int tokenizer_read_normalizer(struct tokenizer *tokenizer, const struct json *value,
                              struct model_error *error)
{
    int code = 0;
    const struct json *step;
    for (size_t i = 0; !code && (step = step_at(value, "normalizers", i)); i++) {
        code = read_normalizer_step(tokenizer, step, error);
    }
    return code;
}

static bool read_behavior(const struct json *value, enum pretoken_behavior *out)
{
    static const struct {
        const char *name;
        enum pretoken_behavior behavior;
    } names[] = {{"Isolated", PRETOKEN_ISOLATED},
                 {"Removed", PRETOKEN_REMOVED},
                 {"Contiguous", PRETOKEN_CONTIGUOUS},
                 {"MergedWithPrevious", PRETOKEN_MERGED_PREVIOUS},
                 {"MergedWithNext", PRETOKEN_MERGED_NEXT}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (text_is(value, names[i].name)) {
            *out = names[i].behavior;
            return true;
        }
    }
    return false;
}

static int read_split(struct tokenizer *tokenizer, const struct json *step,
                      struct model_error *error)
{
    const struct json *pattern = json_get(step, "pattern");
    struct pretoken_rule rule = {.invert = flag(step, "invert", false)};
    if (json_text(json_get(pattern, "String"), &rule.pattern, &rule.bytes)) {
        rule.literal = true;
    } else if (!json_text(json_get(pattern, "Regex"), &rule.pattern, &rule.bytes)) {
        return malformed(error, "Split");
    }
    if (rule.bytes == 0 || !read_behavior(json_get(step, "behavior"), &rule.behavior)) {
        return malformed(error, "Split");
    }
    return pretoken_add(tokenizer->pretoken, &rule, error);
}

static int split_by(struct tokenizer *tokenizer, const char *pattern, struct model_error *error)
{
    const struct pretoken_rule rule = {.pattern = pattern, .bytes = strlen(pattern)};
    return pretoken_add(tokenizer->pretoken, &rule, error);
}

/* Changes the text, so that it comes before every split. */
static int read_metaspace(struct tokenizer *tokenizer, const struct json *step,
                          struct model_error *error)
{
    const struct json *scheme = json_get(step, "prepend_scheme");
    struct normalizer_op replace = {.kind = NORMALIZER_REPLACE, .pattern = {" ", 1}};
    if (!short_text(json_get(step, "replacement"), &replace.text) || replace.text.count == 0) {
        return malformed(error, "Metaspace");
    }
    struct normalizer_op prepend = {.kind = NORMALIZER_PREPEND_MISSING, .text = replace.text};
    bool prepends = flag(step, "add_prefix_space", true); /* The older spelling. */
    if (scheme) {
        prepends = !text_is(scheme, "never");
        prepend.kind = text_is(scheme, "first") ? NORMALIZER_PREPEND_FIRST : prepend.kind;
        if (prepends && !text_is(scheme, "first") && !text_is(scheme, "always")) {
            return malformed(error, "Metaspace");
        }
    }
    if (!normalizer_add(&tokenizer->shape, &replace) ||
        (prepends && !normalizer_add(&tokenizer->shape, &prepend))) {
        return unsupported(error, "pre-tokenizer", step);
    }
    const struct pretoken_rule rule = {.pattern = replace.text.bytes,
                                       .bytes = replace.text.count,
                                       .literal = true,
                                       .behavior = PRETOKEN_MERGED_NEXT};
    return flag(step, "split", true) ? pretoken_add(tokenizer->pretoken, &rule, error) : 0;
}

static int read_bytelevel(struct tokenizer *tokenizer, const struct json *step,
                          struct model_error *error)
{
    const struct normalizer_op prepend = {.kind = NORMALIZER_PREPEND_MISSING, .text = {" ", 1}};
    if (flag(step, "add_prefix_space", true) && !normalizer_add(&tokenizer->shape, &prepend)) {
        return unsupported(error, "pre-tokenizer", step);
    }
    return flag(step, "use_regex", true) ? split_by(tokenizer, WORDS_GPT2, error) : 0;
}

int tokenizer_read_pretokenizer(struct tokenizer *tokenizer, const struct json *value,
                                bool *bytelevel, struct model_error *error)
{
    const struct json *step;
    int code = 0;
    *bytelevel = false;
    for (size_t i = 0; !code && (step = step_at(value, "pretokenizers", i)); i++) {
        const struct json *type = json_get(step, "type");
        const bool first = i == 0;
        if (*bytelevel) { /* From here on the text would be in the alphabet. */
            code = unsupported(error, "after ByteLevel, pre-tokenizer", step);
        } else if (text_is(type, "Split")) {
            code = read_split(tokenizer, step, error);
        } else if (text_is(type, "Digits")) {
            code = split_by(tokenizer,
                            flag(step, "individual_digits", false) ? "\\p{N}" : "\\p{N}+", error);
        } else if (text_is(type, "Metaspace") && first) {
            code = read_metaspace(tokenizer, step, error);
        } else if (text_is(type, "ByteLevel") && (first || !flag(step, "add_prefix_space", true))) {
            code = read_bytelevel(tokenizer, step, error);
            *bytelevel = true;
        } else {
            code = unsupported(error, "pre-tokenizer", step);
        }
    }
    return code;
}

/* Strip as SentencePiece files have it: one space at the start of the answer. */
static int read_strip(struct tokenizer *tokenizer, const struct json *step,
                      struct model_error *error)
{
    uint64_t start;
    uint64_t stop;
    if (!json_u64(json_get(step, "start"), &start) || !json_u64(json_get(step, "stop"), &stop)) {
        return malformed(error, "Strip");
    }
    if (!text_is(json_get(step, "content"), " ") || start > 1 || stop != 0) {
        return unsupported(error, "decoder", step);
    }
    tokenizer->decoder.strip_first = start == 1;
    return 0;
}

static int read_decoder_step(struct tokenizer *tokenizer, const struct json *step,
                             struct model_error *error)
{
    const struct json *type = json_get(step, "type");
    struct decoder *decoder = &tokenizer->decoder;
    if (text_is(type, "Strip")) {
        return read_strip(tokenizer, step, error);
    }
    if (text_is(type, "ByteFallback") || text_is(type, "Fuse")) {
        return 0; /* Decoding joins and knows byte tokens in any case. */
    }
    struct normalizer_op op = {.text = {" ", 1}};
    if (text_is(type, "Metaspace")) {
        if (!short_text(json_get(step, "replacement"), &op.pattern)) {
            return malformed(error, "Metaspace");
        }
        decoder->strip_first = !text_is(json_get(step, "prepend_scheme"), "never") &&
                               flag(step, "add_prefix_space", true);
    } else if (text_is(type, "Replace")) {
        const int code = read_replace(step, &op, error);
        if (code) {
            return code;
        }
    } else {
        return unsupported(error, "decoder", step);
    }
    if (decoder->pattern.count > 0 || op.text.count > op.pattern.count) {
        return unsupported(error, "decoder", step);
    }
    decoder->pattern = op.pattern;
    decoder->text = op.text;
    return 0;
}

int tokenizer_read_decoder(struct tokenizer *tokenizer, const struct json *value, bool bytelevel,
                           struct model_error *error)
{
    const struct json *step;
    int code = 0;
    for (size_t i = 0; !code && (step = step_at(value, "decoders", i)); i++) {
        if (!bytelevel) {
            code = read_decoder_step(tokenizer, step, error);
        } else if (!text_is(json_get(step, "type"), "ByteLevel") &&
                   !text_is(json_get(step, "type"), "Fuse")) {
            code = unsupported(error, "decoder", step);
        }
    }
    return code;
}

/* The ids of one special token of a template, to one side of the text. */
static int read_template_token(struct tokenizer *tokenizer, const struct json *template,
                               const struct json *token, bool after, struct model_error *error)
{
    static const char what[] = "TemplateProcessing";
    size_t *count = after ? &tokenizer->after_count : &tokenizer->before_count;
    uint32_t *side = after ? tokenizer->after : tokenizer->before;
    const char *name;
    size_t bytes;
    if (!json_text(json_get(token, "id"), &name, &bytes) || strlen(name) != bytes) {
        return malformed(error, what);
    }
    const struct json *ids = json_get(json_get(json_get(template, "special_tokens"), name), "ids");
    if (json_count(ids) == 0) {
        return malformed(error, what);
    }
    for (size_t i = 0; i < json_count(ids); i++) {
        uint64_t id;
        if (!json_u64(json_at(ids, i), &id) || id >= tokenizer->vocab.count ||
            *count == TOKENIZER_AROUND_MAX) {
            return malformed(error, what);
        }
        const int code = tokenizer_make_special(tokenizer, (uint32_t)id, error);
        if (code) {
            return code;
        }
        side[(*count)++] = (uint32_t)id;
    }
    return 0;
}

static int read_template(struct tokenizer *tokenizer, const struct json *template,
                         struct model_error *error)
{
    const struct json *single = json_get(template, "single");
    bool after = false;
    int code = 0;
    if (json_kind(single) !=
        JSON_KIND_ARRAY) { /* Written as one string, it is older than any model. */
        return malformed(error, "TemplateProcessing");
    }
    for (size_t i = 0; !code && i < json_count(single); i++) {
        const struct json *item = json_at(single, i);
        const struct json *token = json_get(item, "SpecialToken");
        if (token) {
            code = read_template_token(tokenizer, template, token, after, error);
        } else if (json_get(item, "Sequence") && !after) {
            after = true;
        } else {
            code = malformed(error, "TemplateProcessing");
        }
    }
    return code;
}

int tokenizer_read_postprocessor(struct tokenizer *tokenizer, const struct json *value,
                                 struct model_error *error)
{
    const struct json *step;
    int code = 0;
    for (size_t i = 0; !code && (step = step_at(value, "processors", i)); i++) {
        const struct json *type = json_get(step, "type");
        if (text_is(type, "TemplateProcessing")) {
            code = read_template(tokenizer, step, error);
        } else if (!text_is(type, "ByteLevel")) { /* ByteLevel trims offsets, nothing else. */
            code = unsupported(error, "post-processor", step);
        }
    }
    return code;
}
