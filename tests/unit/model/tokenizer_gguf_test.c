/*
 * tokenizer_gguf_test.c - small GGUF files written here: SentencePiece by scores and byte-level by
 * merges, the kinds of token, defaults, and what is refused.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "model/tokenizer_parts.h"
#include "tests/unit/model/gguf_bytes.h"

enum { TEXT_BYTES_MAX = 128, IDS_MAX = 128 };

struct file {
    struct gguf_bytes of;
    uint64_t keys;
};

static void key(struct file *file, const char *name, enum gguf_kind kind)
{
    put_key(&file->of, name, kind);
    file->keys++;
}

static void key_array(struct file *file, const char *name, uint32_t kind, uint64_t count)
{
    key(file, name, KIND_ARRAY);
    put_u32(&file->of, kind);
    put_u64(&file->of, count);
}

static void key_u32(struct file *file, const char *name, uint32_t value)
{
    key(file, name, KIND_U32);
    put_u32(&file->of, value);
}

static void key_bool(struct file *file, const char *name, bool value)
{
    const uint8_t byte = value;
    key(file, name, KIND_BOOL);
    put(&file->of, &byte, 1);
}

static void key_string(struct file *file, const char *name, const char *value)
{
    key(file, name, KIND_STRING);
    put_text(&file->of, value);
}

static void key_strings(struct file *file, const char *name, const char *const *items,
                        uint64_t count)
{
    key_array(file, name, KIND_STRING, count);
    for (uint64_t i = 0; i < count; i++) {
        put_text(&file->of, items[i]);
    }
}

static void key_items(struct file *file, const char *name, uint32_t kind, const void *items,
                      uint64_t count)
{
    key_array(file, name, kind, count);
    put(&file->of, items, count * sizeof(uint32_t));
}

static void begin(struct file *file)
{
    file->keys = 0;
    put_head(&file->of, 0, 0); /* build() knows the count of keys. */
}

static int build(struct file *file, struct tokenizer **out, struct model_error *error)
{
    struct gguf *gguf = NULL;
    memcpy(file->of.bytes + 16, &file->keys, sizeof file->keys);
    error->text[0] = 0;
    assert_int_equal(gguf_open_bytes(&gguf, file->of.bytes, file->of.count, error), 0);
    const int code = tokenizer_build(out, &(struct tokenizer_source){.gguf = gguf}, error);
    gguf_close(gguf);
    return code;
}

static struct tokenizer *open_file(struct file *file)
{
    struct model_error error;
    struct tokenizer *tokenizer = NULL;
    if (build(file, &tokenizer, &error)) {
        fail_msg("%s", error.text);
    }
    return tokenizer;
}

static void refuse(struct file *file, int code, const char *word)
{
    struct model_error error;
    struct tokenizer *tokenizer = NULL;
    assert_int_equal(build(file, &tokenizer, &error), code);
    assert_null(tokenizer);
    if (!strstr(error.text, word)) {
        fail_msg("'%s' does not name %s", error.text, word);
    }
}

static void expect_ids(const struct tokenizer *tokenizer, const char *text, unsigned flags,
                       const uint32_t *expected, size_t count)
{
    uint32_t items[IDS_MAX];
    struct ids ids = {.items = items, .max = IDS_MAX};
    struct tokenizer_scratch *scratch;
    assert_int_equal(tokenizer_scratch_open(&scratch, tokenizer, TEXT_BYTES_MAX), 0);
    assert_int_equal(tokenizer_encode(tokenizer, scratch, text, strlen(text), flags, &ids), 0);
    assert_int_equal(ids.count, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(items[i], expected[i]);
    }
    tokenizer_scratch_close(scratch);
}

#define EXPECT(tokenizer, text, flags, ...)                                                        \
    expect_ids(tokenizer, text, flags, (const uint32_t[]){__VA_ARGS__},                            \
               sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))

static void expect_text(const struct tokenizer *tokenizer, uint32_t first, uint32_t second,
                        const char *expected)
{
    char text[2 * DETOK_OUT_BYTES_MAX];
    struct detok detok = {0};
    size_t bytes;
    size_t more;
    tokenizer_decode(tokenizer, &detok, first, 0, text, &bytes);
    tokenizer_decode(tokenizer, &detok, second, 0, text + bytes, &more);
    assert_int_equal(bytes + more, strlen(expected));
    assert_memory_equal(text, expected, bytes + more);
}

static const char *const SPM_TOKENS[] = {
    "<unk>", "<s>",    "</s>",  "<0xC3>", "<0xA9>", "\xe2\x96\x81", "a", "b", "\xe2\x96\x81\x61",
    "ab",    "<user>", "unused"};
static const uint32_t SPM_TYPES[] = {2, 3, 3, 6, 6, 1, 1, 1, 1, 1, 4, 5};
static const float SPM_SCORES[] = {0, 0, 0, 0, 0, -9, -9, -9, -1, -2, 0, 0};
enum { SPM_COUNT = sizeof SPM_TOKENS / sizeof *SPM_TOKENS };

static void begin_llama(struct file *file)
{
    begin(file);
    key_string(file, "tokenizer.ggml.model", "llama");
    key_strings(file, "tokenizer.ggml.tokens", SPM_TOKENS, SPM_COUNT);
}

static void full_llama(struct file *file)
{
    begin_llama(file);
    key_items(file, "tokenizer.ggml.token_type", KIND_I32, SPM_TYPES, SPM_COUNT);
    key_items(file, "tokenizer.ggml.scores", KIND_F32, SPM_SCORES, SPM_COUNT);
    key_u32(file, "tokenizer.ggml.bos_token_id", 1);
    key_u32(file, "tokenizer.ggml.eos_token_id", 2);
    key_u32(file, "tokenizer.ggml.unknown_token_id", 0);
}

static void sentencepiece_by_scores(void **state)
{
    (void)state;
    struct file file;
    full_llama(&file);
    struct tokenizer *tokenizer = open_file(&file);
    assert_int_equal(tokenizer_vocab(tokenizer), SPM_COUNT);
    assert_int_equal(tokenizer_bos(tokenizer), 1);
    assert_int_equal(tokenizer_eos(tokenizer), 2);
    EXPECT(tokenizer, "ab", 0, 8, 7); /* mark + a scores above ab. */
    EXPECT(tokenizer, "bab", TOKENIZER_ADD_SPECIAL, 1, 5, 7, 9);
    EXPECT(tokenizer, "a\xc3\xa9xy", 0, 8, 3, 4, 0);
    EXPECT(tokenizer, "a<user>a</s>", 0, 8, 10, 8, 0); /* A user's token always, EOS never. */
    EXPECT(tokenizer, "a</s>", TOKENIZER_PARSE_SPECIAL, 8, 2);
    expect_text(tokenizer, 8, 8, "a a");
    expect_text(tokenizer, 3, 4, "\xc3\xa9");
    assert_true(tokenizer_is_special(tokenizer, 0) && tokenizer_is_special(tokenizer, 2));
    tokenizer_close(tokenizer);
}

static void llama_settings(void **state)
{
    (void)state;
    struct file file;
    full_llama(&file);
    key_bool(&file, "tokenizer.ggml.add_space_prefix", false);
    key_bool(&file, "tokenizer.ggml.add_bos_token", false);
    key_bool(&file, "tokenizer.ggml.add_eos_token", true);
    struct tokenizer *tokenizer = open_file(&file);
    EXPECT(tokenizer, "ab a", TOKENIZER_ADD_SPECIAL, 9, 8, 2);
    expect_text(tokenizer, 8, 7, " ab");
    tokenizer_close(tokenizer);
}

/* The least a file may say: tokens. Byte tokens are known by their text. */
static void llama_with_tokens_alone(void **state)
{
    (void)state;
    struct file file;
    begin_llama(&file);
    struct tokenizer *tokenizer = open_file(&file);
    assert_int_equal(tokenizer_bos(tokenizer), VOCAB_NONE);
    EXPECT(tokenizer, "\xc3\xa9x", TOKENIZER_ADD_SPECIAL, 5, 3, 4);
    tokenizer_close(tokenizer);
}

static const char *const BPE_TOKENS[] = {
    "a",   "b",        "1",   "\xc4\xa0",     "ab", "\xc4\xa0\x61\x62",
    "<e>", "\xc3\xb8", "<u>", "\xe4\xb8\xad", "11"};
static const uint32_t BPE_TYPES[] = {1, 1, 1, 1, 1, 1, 3, 4, 4, 1, 1};
static const char *const BPE_MERGES[] = {"a b", "\xc4\xa0 ab", "1 1"};
enum { BPE_COUNT = sizeof BPE_TOKENS / sizeof *BPE_TOKENS };

static void full_gpt2(struct file *file, const char *pre)
{
    begin(file);
    key_string(file, "tokenizer.ggml.model", "gpt2");
    if (pre) {
        key_string(file, "tokenizer.ggml.pre", pre);
    }
    key_strings(file, "tokenizer.ggml.tokens", BPE_TOKENS, BPE_COUNT);
    key_items(file, "tokenizer.ggml.token_type", KIND_I32, BPE_TYPES, BPE_COUNT);
    key_strings(file, "tokenizer.ggml.merges", BPE_MERGES, 3);
    key_u32(file, "tokenizer.ggml.bos_token_id", 6);
}

static void byte_level_by_merges(void **state)
{
    (void)state;
    struct file file;
    full_gpt2(&file, NULL);
    struct tokenizer *tokenizer = open_file(&file);
    EXPECT(tokenizer, "ab ab11", TOKENIZER_ADD_SPECIAL, 4, 5, 10);
    EXPECT(tokenizer, "a\xc3\xb8<u>", 0, 0, 7, 8); /* A user's token is literal text. */
    EXPECT(tokenizer, "a<e>", TOKENIZER_PARSE_SPECIAL, 0, 6);
    EXPECT(tokenizer, "\xe4\xb8\xad\x61", 0, 0); /* Not in the alphabet: never made. */
    expect_text(tokenizer, 9, 7, "\xe4\xb8\xad\xc3\xb8");
    expect_text(tokenizer, 5, 6, " ab<e>");
    tokenizer_close(tokenizer);
}

static void cuttings_by_name(void **state)
{
    (void)state;
    struct file file;
    full_gpt2(&file, "smollm");
    struct tokenizer *tokenizer = open_file(&file);
    EXPECT(tokenizer, "11", TOKENIZER_ADD_SPECIAL, 2, 2);
    tokenizer_close(tokenizer);
    full_gpt2(&file, "llama-bpe");
    tokenizer = open_file(&file);
    EXPECT(tokenizer, "11", TOKENIZER_ADD_SPECIAL, 6, 10);
    tokenizer_close(tokenizer);
    full_gpt2(&file, "from-the-future");
    refuse(&file, -ENOTSUP, "from-the-future");
}

static void refuses_models_it_does_not_know(void **state)
{
    (void)state;
    struct file file;
    begin(&file);
    refuse(&file, -ENOENT, "no tokenizer");
    key_string(&file, "tokenizer.ggml.model", "bert");
    refuse(&file, -ENOTSUP, "bert");
}

static void refuses_malformed_tokens(void **state)
{
    (void)state;
    static const uint32_t byte_type[] = {6};
    static const char *const plain[] = {"plain"};
    static char large[VOCAB_TOKEN_BYTES_MAX + 2];
    const char *const large_tokens[] = {large};
    struct file file;
    memset(large, 'x', sizeof large - 1);
    begin(&file);
    key_string(&file, "tokenizer.ggml.model", "llama");
    refuse(&file, -EINVAL, "tokens");
    key_items(&file, "tokenizer.ggml.tokens", KIND_I32, SPM_TYPES, 2);
    refuse(&file, -EINVAL, "tokens");
    begin(&file);
    key_string(&file, "tokenizer.ggml.model", "llama");
    key_strings(&file, "tokenizer.ggml.tokens", NULL, 0);
    refuse(&file, -EINVAL, "tokens");
    begin_llama(&file);
    key_items(&file, "tokenizer.ggml.token_type", KIND_I32, SPM_TYPES, SPM_COUNT - 1);
    refuse(&file, -EINVAL, "token_type");
    begin(&file);
    key_string(&file, "tokenizer.ggml.model", "llama");
    key_strings(&file, "tokenizer.ggml.tokens", plain, 1);
    key_items(&file, "tokenizer.ggml.token_type", KIND_I32, byte_type, 1);
    refuse(&file, -EINVAL, "names no byte");
    begin(&file);
    key_string(&file, "tokenizer.ggml.model", "llama");
    key_strings(&file, "tokenizer.ggml.tokens", large_tokens, 1);
    refuse(&file, -EINVAL, "too long");
}

static void refuses_malformed_numbers(void **state)
{
    (void)state;
    float scores[SPM_COUNT] = {0};
    struct file file;
    begin_llama(&file);
    key_items(&file, "tokenizer.ggml.scores", KIND_F32, scores, SPM_COUNT - 1);
    refuse(&file, -EINVAL, "scores");
    begin_llama(&file);
    key_items(&file, "tokenizer.ggml.scores", KIND_I32, scores, SPM_COUNT);
    refuse(&file, -EINVAL, "scores");
    scores[3] = NAN;
    begin_llama(&file);
    key_items(&file, "tokenizer.ggml.scores", KIND_F32, scores, SPM_COUNT);
    refuse(&file, -EINVAL, "scores");
    begin_llama(&file);
    key_u32(&file, "tokenizer.ggml.bos_token_id", SPM_COUNT);
    refuse(&file, -EINVAL, "bos_token_id");
    begin_llama(&file);
    key_u32(&file, "tokenizer.ggml.eos_token_id", SPM_COUNT);
    refuse(&file, -EINVAL, "eos_token_id");
    begin_llama(&file);
    key_u32(&file, "tokenizer.ggml.unknown_token_id", SPM_COUNT);
    refuse(&file, -EINVAL, "unknown_token_id");
    begin_llama(&file);
    key_u32(&file, "tokenizer.ggml.bos_token_id", UINT32_MAX); /* A spelling of "none". */
    tokenizer_close(open_file(&file));
}

static void refuses_malformed_merges(void **state)
{
    (void)state;
    static const char *const no_pair[] = {"ab"};
    static const char *const no_token[] = {"a b", "b a"};
    struct file file;
    begin(&file);
    key_string(&file, "tokenizer.ggml.model", "gpt2");
    key_strings(&file, "tokenizer.ggml.tokens", BPE_TOKENS, BPE_COUNT);
    const struct file without = file;
    refuse(&file, -EINVAL, "merges");
    key_strings(&file, "tokenizer.ggml.merges", no_pair, 1);
    refuse(&file, -EINVAL, "merge 0");
    file = without;
    key_strings(&file, "tokenizer.ggml.merges", no_token, 2);
    refuse(&file, -EINVAL, "merge 1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sentencepiece_by_scores),
        cmocka_unit_test(llama_settings),
        cmocka_unit_test(llama_with_tokens_alone),
        cmocka_unit_test(byte_level_by_merges),
        cmocka_unit_test(cuttings_by_name),
        cmocka_unit_test(refuses_models_it_does_not_know),
        cmocka_unit_test(refuses_malformed_tokens),
        cmocka_unit_test(refuses_malformed_numbers),
        cmocka_unit_test(refuses_malformed_merges),
    };
    return cmocka_run_group_tests_name("tokenizer_gguf", tests, NULL, NULL);
}
