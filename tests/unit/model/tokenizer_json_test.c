/*
 * tokenizer_json_test.c - small tokenizer.json files written here: what each part does, and that
 * unknown or malformed parts are refused by name.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/tokenizer_parts.h"

enum { FILE_BYTES_MAX = 16384, TEXT_BYTES_MAX = 256, IDS_MAX = 256 };

/* A tokenizer.json by its parts; NULL means what the byte-level one below has. */
struct file {
    const char *added;
    const char *normalizer;
    const char *pre;
    const char *post;
    const char *decoder;
    const char *model; /* Keys before vocab. */
    const char *vocab;
    const char *merges;
    const char *config; /* tokenizer_config.json; NULL: there is none. */
};

static const char BYTELEVEL[] =
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}";
static const char SPM_NORMALIZER[] =
    "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"\xe2\x96\x81\"},"
    "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\xe2\x96\x81\"}]}";
static const char SPM_DECODER[] =
    "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":"
    "\"\xe2\x96\x81\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},"
    "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}";
static const char SPM_VOCAB[] =
    "{\"<unk>\":0,\"<s>\":1,\"</s>\":2,\"<0xC3>\":3,\"<0xA9>\":4,\"\xe2\x96\x81\":5,\"a\":6,"
    "\"b\":7,\"\xe2\x96\x81\x61\":8,\"ab\":9}";
static const char SPM_MERGES[] = "[\"\xe2\x96\x81 a\",[\"a\",\"b\"]]";

static const char *or_else(const char *text, const char *otherwise)
{
    return text ? text : otherwise;
}

static int build(const struct file *file, struct tokenizer **out, struct model_error *error)
{
    static char text[FILE_BYTES_MAX];
    struct json_error reason;
    struct json *root = NULL;
    struct json *config = NULL;
    const int bytes = snprintf(
        text, sizeof text,
        "{\"added_tokens\":%s,\"normalizer\":%s,\"pre_tokenizer\":%s,\"post_processor\":%s,"
        "\"decoder\":%s,\"model\":{%s,\"vocab\":%s,\"merges\":%s}}",
        or_else(file->added, "[{\"id\":7,\"content\":\"<e>\",\"special\":true}]"),
        or_else(file->normalizer, "null"), or_else(file->pre, BYTELEVEL),
        or_else(file->post, "null"), or_else(file->decoder, BYTELEVEL),
        or_else(file->model, "\"type\":\"BPE\""),
        or_else(file->vocab, "{\"a\":0,\"b\":1,\"\xc4\xa0\":2,\"ab\":3,\"\xc4\xa0\x61\x62\":4,"
                             "\"\xc3\x83\":5,\"\xc2\xa9\":6}"),
        or_else(file->merges, "[\"a b\",\"\xc4\xa0 ab\"]"));
    assert_true(bytes > 0 && bytes < FILE_BYTES_MAX);
    assert_int_equal(json_parse(text, (size_t)bytes, &root, &reason), 0);
    if (file->config) {
        assert_int_equal(json_parse(file->config, strlen(file->config), &config, &reason), 0);
    }
    error->text[0] = 0;
    const struct tokenizer_source source = {.root = root, .config = config};
    const int code = tokenizer_build(out, &source, error);
    json_free(config);
    json_free(root);
    return code;
}

static struct tokenizer *open_file(const struct file *file)
{
    struct model_error error;
    struct tokenizer *tokenizer = NULL;
    if (build(file, &tokenizer, &error)) {
        fail_msg("%s", error.text);
    }
    return tokenizer;
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

static void expect_text(const struct tokenizer *tokenizer, const uint32_t *ids, size_t count,
                        unsigned flags, const char *expected)
{
    static char text[64 * DETOK_OUT_BYTES_MAX];
    struct detok detok = {0};
    size_t bytes = 0;
    size_t more;
    assert_true(count < 64);
    for (size_t i = 0; i < count; i++) {
        tokenizer_decode(tokenizer, &detok, ids[i], flags, text + bytes, &more);
        bytes += more;
    }
    tokenizer_decode_end(&detok, text + bytes, &more);
    bytes += more;
    assert_int_equal(bytes, strlen(expected));
    assert_memory_equal(text, expected, bytes);
}

#define EXPECT_TEXT(tokenizer, flags, expected, ...)                                               \
    expect_text(tokenizer, (const uint32_t[]){__VA_ARGS__},                                        \
                sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t), flags, expected)

static void byte_level(void **state)
{
    (void)state;
    struct tokenizer *tokenizer = open_file(&(struct file){0});
    assert_int_equal(tokenizer_vocab(tokenizer), 8);
    assert_int_equal(tokenizer_bos(tokenizer), VOCAB_NONE);
    assert_int_equal(tokenizer_eos(tokenizer), VOCAB_NONE);
    EXPECT(tokenizer, "ab ab", 0, 3, 4);
    EXPECT(tokenizer, "a\xc3\xa9", 0, 0, 5, 6);
    EXPECT(tokenizer, "a<e>b", TOKENIZER_PARSE_SPECIAL | TOKENIZER_ADD_SPECIAL, 0, 7, 1);
    EXPECT(tokenizer, "a<e>b", 0, 0, 1); /* No tokens for the marks, no unknown one. */
    EXPECT_TEXT(tokenizer, 0, "ab ab\xc3\xa9<e>", 3, 4, 5, 6, 7, 99);
    EXPECT_TEXT(tokenizer, TOKENIZER_SKIP_SPECIAL, "ab", 3, 7);
    EXPECT_TEXT(tokenizer, 0, "\xef\xbf\xbd\x61\xef\xbf\xbd", 5, 0, 6);
    EXPECT_TEXT(tokenizer, 0, "a\xef\xbf\xbd", 0, 5);
    assert_int_equal(tokenizer_find(tokenizer, " ab", 3), 4);
    assert_int_equal(tokenizer_find(tokenizer, "<e>", 3), 7);
    assert_int_equal(tokenizer_find(tokenizer, "zz", 2), VOCAB_NONE);
    assert_true(tokenizer_is_special(tokenizer, 7));
    assert_false(tokenizer_is_special(tokenizer, 3) || tokenizer_is_special(tokenizer, 99));
    tokenizer_close(tokenizer);
}

static void sentencepiece_style(void **state)
{
    (void)state;
    const struct file file = {
        .added = "[{\"id\":0,\"content\":\"<unk>\",\"special\":true}]",
        .normalizer = SPM_NORMALIZER,
        .pre = "null",
        .post = "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},"
                "{\"Sequence\":{\"id\":\"A\"}},{\"SpecialToken\":{\"id\":\"</s>\"}}],"
                "\"special_tokens\":{\"<s>\":{\"ids\":[1]},\"</s>\":{\"ids\":[2]}}}",
        .decoder = SPM_DECODER,
        .model =
            "\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"fuse_unk\":true,\"byte_fallback\":true",
        .vocab = SPM_VOCAB,
        .merges = SPM_MERGES};
    struct tokenizer *tokenizer = open_file(&file);
    assert_int_equal(tokenizer_bos(tokenizer), 1);
    assert_int_equal(tokenizer_eos(tokenizer), 2);
    EXPECT(tokenizer, "a ab", 0, 8, 8, 7);
    EXPECT(tokenizer, "", TOKENIZER_ADD_SPECIAL, 1, 2);
    EXPECT(tokenizer, "b\xc3\xa9xyb", TOKENIZER_ADD_SPECIAL, 1, 5, 7, 3, 4, 0, 7, 2);
    EXPECT(tokenizer, "a</s>a", TOKENIZER_PARSE_SPECIAL, 8, 2, 8); /* Each stretch has its mark. */
    EXPECT_TEXT(tokenizer, 0, "a ab", 8, 8, 7);
    EXPECT_TEXT(tokenizer, 0, "<s> a", 1, 8);
    EXPECT_TEXT(tokenizer, TOKENIZER_SKIP_SPECIAL, "a", 1, 8);
    EXPECT_TEXT(tokenizer, 0, " a", 5, 8); /* One space, not two. */
    EXPECT_TEXT(tokenizer, 0, "\xc3\xa9\xef\xbf\xbd\x61", 3, 4, 3, 6);
    tokenizer_close(tokenizer);
}

static void config_decides_what_surrounds(void **state)
{
    (void)state;
    struct file file = {.added = "[]",
                        .vocab = "{\"a\":0,\"<s>\":1,\"</s>\":2}",
                        .merges = "[]",
                        .config = "{\"bos_token\":\"<s>\",\"eos_token\":{\"content\":\"</s>\"},"
                                  "\"add_bos_token\":true,\"add_eos_token\":true}"};
    struct tokenizer *tokenizer = open_file(&file);
    EXPECT(tokenizer, "a", TOKENIZER_ADD_SPECIAL, 1, 0, 2);
    EXPECT(tokenizer, "a", 0, 0);
    assert_true(tokenizer_is_special(tokenizer, 1) && tokenizer_is_special(tokenizer, 2));
    tokenizer_close(tokenizer);
    file.post = "{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"},{\"type\":"
                "\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},"
                "{\"Sequence\":{\"id\":\"A\"}}],\"special_tokens\":{\"<s>\":{\"ids\":[1]}}}]}";
    file.config = "{\"bos_token\":\"<s>\",\"eos_token\":\"gone\",\"add_bos_token\":false}";
    tokenizer = open_file(&file);
    EXPECT(tokenizer, "a", TOKENIZER_ADD_SPECIAL, 0);
    assert_int_equal(tokenizer_bos(tokenizer), 1);
    assert_int_equal(tokenizer_eos(tokenizer), VOCAB_NONE);
    tokenizer_close(tokenizer);
    file.config = NULL;
    tokenizer = open_file(&file);
    EXPECT(tokenizer, "a", TOKENIZER_ADD_SPECIAL, 1, 0);
    tokenizer_close(tokenizer);
}

static void added_tokens_of_every_kind(void **state)
{
    (void)state;
    const struct file file = {
        .added =
            "[{\"id\":3,\"content\":\"ab\"},{\"id\":4,\"content\":\"<n>\",\"normalized\":true},"
            "{\"id\":5,\"content\":\"<l>\",\"lstrip\":true,\"rstrip\":true},"
            "{\"id\":6,\"content\":\"b\",\"single_word\":true,\"special\":true},"
            "{\"id\":7,\"content\":\"\xc3\xa9\",\"normalized\":true}]",
        .normalizer = "{\"type\":\"NFC\"}",
        .vocab = "{\"a\":0,\"b\":6,\"\xc4\xa0\":2,\"ab\":3}",
        .merges = "[\"a b\"]"};
    struct tokenizer *tokenizer = open_file(&file);
    EXPECT(tokenizer, "aab", 0, 0, 3);
    EXPECT(tokenizer, "a <n>a", 0, 0, 2, 4, 0);
    EXPECT(tokenizer, "a <l> a", 0, 0, 5, 0);
    EXPECT(tokenizer, "a b", TOKENIZER_PARSE_SPECIAL, 0, 2, 6);
    EXPECT(tokenizer, "a b", 0, 0, 2);        /* As plain text a special token is never made. */
    EXPECT(tokenizer, "ae\xcc\x81", 0, 0, 7); /* Matched once it is composed. */
    tokenizer_close(tokenizer);
}

static void merges_never_make_special_tokens(void **state)
{
    (void)state;
    const struct file file = {.added = "[{\"id\":2,\"content\":\"ab\",\"special\":true}]",
                              .vocab = "{\"a\":0,\"b\":1,\"ab\":2,\"abb\":3}",
                              .merges = "[\"a b\",\"ab b\"]",
                              .model = "\"type\":\"BPE\",\"ignore_merges\":true"};
    struct tokenizer *tokenizer = open_file(&file);
    EXPECT(tokenizer, "ab", 0, 0, 1);
    EXPECT(tokenizer, "abb", 0, 3);
    EXPECT(tokenizer, "ab", TOKENIZER_PARSE_SPECIAL, 2);
    tokenizer_close(tokenizer);
}

static void metaspace_and_prefix_spaces(void **state)
{
    (void)state;
    static const char vocab[] =
        "{\"a\":0,\"\xe2\x96\x81\":1,\"\xe2\x96\x81\x61\":2,\"a\xe2\x96\x81\":3}";
    static const char merges[] = "[\"a \xe2\x96\x81\",\"\xe2\x96\x81 a\"]";
    struct file file = {
        .added = "[{\"id\":4,\"content\":\"<e>\"}]",
        .pre = "{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\",\"prepend_scheme\":"
               "\"always\"}",
        .decoder = "{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\"}",
        .vocab = vocab,
        .merges = merges};
    struct tokenizer *tokenizer = open_file(&file);
    EXPECT(tokenizer, "a a<e>a", 0, 2, 2, 4, 2); /* Cut before each mark. */
    EXPECT(tokenizer, " a", 0, 2);
    EXPECT_TEXT(tokenizer, 0, "a a", 2, 2);
    tokenizer_close(tokenizer);
    file.pre = "{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\",\"prepend_scheme\":"
               "\"first\",\"split\":false}";
    tokenizer = open_file(&file);
    EXPECT(tokenizer, "a a<e>a", 0, 1, 3, 0, 4, 0); /* a+mark merges first where nothing cuts. */
    tokenizer_close(tokenizer);
    file.pre = "{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\",\"add_prefix_space\":"
               "false}";
    file.decoder = "{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\",\"prepend_scheme\":"
                   "\"never\"}";
    tokenizer = open_file(&file);
    EXPECT(tokenizer, "a a", 0, 0, 2);
    EXPECT_TEXT(tokenizer, 0, " a", 2);
    tokenizer_close(tokenizer);
    tokenizer = open_file(&(struct file){.pre = "{\"type\":\"ByteLevel\"}"});
    EXPECT(tokenizer, "ab", 0, 4);
    EXPECT(tokenizer, " ab", 0, 4);
    tokenizer_close(tokenizer);
}

static void splits(void **state)
{
    (void)state;
    static const char vocab[] = "{\"a\":0,\"1\":1,\"11\":2,\"-\":3,\"a1\":4,\"-a\":5}";
    static const char merges[] = "[\"1 1\",\"a 1\",\"- a\"]";
    static const struct {
        const char *step;
        uint32_t ids[6];
        size_t count;
    } cases[] = {
        {"{\"type\":\"Digits\",\"individual_digits\":true}", {0, 1, 1, 5}, 4},
        {"{\"type\":\"Digits\"}", {0, 2, 5}, 3},
        {"{\"type\":\"Split\",\"pattern\":{\"String\":\"-\"},\"behavior\":\"Isolated\"}",
         {0, 2, 3, 0},
         4},
        {"{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[0-9]+\"},\"behavior\":\"Removed\"}",
         {0, 5},
         2},
        {"{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Removed\","
         "\"invert\":true}",
         {0, 0},
         2},
        {"{\"type\":\"Split\",\"pattern\":{\"String\":\"1\"},\"behavior\":\"MergedWithNext\"}",
         {0, 1, 1, 5},
         4},
        {"{\"type\":\"Split\",\"pattern\":{\"String\":\"1\"},\"behavior\":\"MergedWithPrevious\"}",
         {4, 1, 5},
         3},
        {"{\"type\":\"Split\",\"pattern\":{\"String\":\"1\"},\"behavior\":\"Contiguous\"}",
         {0, 2, 5},
         3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char pre[512];
        (void)snprintf(pre, sizeof pre,
                       "{\"type\":\"Sequence\",\"pretokenizers\":[%s,{\"type\":\"ByteLevel\","
                       "\"add_prefix_space\":false,\"use_regex\":false}]}",
                       cases[i].step);
        const struct file file = {.added = "[]", .pre = pre, .vocab = vocab, .merges = merges};
        struct tokenizer *tokenizer = open_file(&file);
        expect_ids(tokenizer, "a11-a", 0, cases[i].ids, cases[i].count);
        tokenizer_close(tokenizer);
    }
}

/* Each: a part that is wrong, the error, and a word of the message. */
struct refusal {
    struct file file;
    int code;
    const char *word;
};

static const struct refusal REFUSED[] = {
    {{.model = "\"type\":\"WordPiece\""}, -ENOTSUP, "WordPiece"},
    {{.model = "\"type\":7"}, -ENOTSUP, "model type"},
    {{.model = "\"type\":\"BPE\",\"dropout\":0.1"}, -ENOTSUP, "dropout"},
    {{.model = "\"type\":\"BPE\",\"end_of_word_suffix\":\"</w>\""}, -ENOTSUP, "end_of_word"},
    {{.model = "\"type\":\"BPE\",\"continuing_subword_prefix\":\"##\""}, -ENOTSUP, "continuing"},
    {{.model = "\"type\":\"BPE\",\"unk_token\":\"<none>\""}, -EINVAL, "unk_token"},
    {{.normalizer = "{\"type\":\"Lowercase\"}"}, -ENOTSUP, "Lowercase"},
    {{.normalizer = "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Sequence\"}]}"},
     -ENOTSUP,
     "Sequence"},
    {{.normalizer = "{\"type\":\"Prepend\"}"}, -EINVAL, "Prepend"},
    {{.normalizer = "{\"type\":\"Prepend\",\"prepend\":\"12345678901234567\"}"},
     -EINVAL,
     "Prepend"},
    {{.normalizer = "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" +\"},\"content\":\"\"}"},
     -ENOTSUP,
     "Replace"},
    {{.normalizer = "{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"\"}"},
     -EINVAL,
     "Replace"},
    {{.pre = "{\"type\":\"BertPreTokenizer\"}"}, -ENOTSUP, "BertPreTokenizer"},
    {{.pre = "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},\"behavior\":\"Isolated\"}"},
     -EINVAL,
     "regular expression"},
    {{.pre = "{\"type\":\"Split\",\"pattern\":{},\"behavior\":\"Isolated\"}"}, -EINVAL, "Split"},
    {{.pre = "{\"type\":\"Split\",\"pattern\":{\"String\":\"\"},\"behavior\":\"Isolated\"}"},
     -EINVAL,
     "Split"},
    {{.pre = "{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":\"Other\"}"},
     -EINVAL,
     "Split"},
    {{.pre = "{\"type\":\"Metaspace\"}"}, -EINVAL, "Metaspace"},
    {{.pre = "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"odd\"}"},
     -EINVAL,
     "Metaspace"},
    {{.pre = "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\"},{\"type\":"
             "\"Metaspace\",\"replacement\":\"_\"}]}"},
     -ENOTSUP,
     "Metaspace"},
    {{.pre = "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\"},{\"type\":"
             "\"Digits\"}]}"},
     -ENOTSUP,
     "Digits"},
    {{.decoder = "{\"type\":\"WordPiece\"}"}, -ENOTSUP, "WordPiece"},
    {{.pre = "null", .decoder = "{\"type\":\"CTC\"}"}, -ENOTSUP, "CTC"},
    {{.pre = "null", .decoder = "{\"type\":\"ByteLevel\"}"}, -ENOTSUP, "ByteLevel"},
    {{.pre = "null", .decoder = "{\"type\":\"Strip\",\"content\":\" \"}"}, -EINVAL, "Strip"},
    {{.pre = "null", .decoder = "{\"type\":\"Strip\",\"content\":\" \",\"start\":0,\"stop\":1}"},
     -ENOTSUP,
     "Strip"},
    {{.pre = "null", .decoder = "{\"type\":\"Metaspace\"}"}, -EINVAL, "Metaspace"},
    {{.pre = "null", .decoder = "{\"type\":\"Replace\",\"pattern\":{}}"}, -EINVAL, "Replace"},
    {{.pre = "null",
      .decoder = "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"bb\"}"},
     -ENOTSUP,
     "Replace"},
    {{.post = "{\"type\":\"BertProcessing\"}"}, -ENOTSUP, "BertProcessing"},
    {{.post = "{\"type\":\"TemplateProcessing\",\"single\":\"$A\"}"}, -EINVAL, "Template"},
    {{.post = "{\"type\":\"TemplateProcessing\",\"single\":[{}]}"}, -EINVAL, "Template"},
    {{.post = "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{}}]}"},
     -EINVAL,
     "Template"},
    {{.post = "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}}],"
              "\"special_tokens\":{}}"},
     -EINVAL,
     "Template"},
    {{.post = "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}}],"
              "\"special_tokens\":{\"x\":{\"ids\":[99]}}}"},
     -EINVAL,
     "Template"},
    {{.vocab = "[]"}, -EINVAL, "vocab"},
    {{.vocab = "{}", .added = "[]"}, -EINVAL, "vocab"},
    {{.vocab = "{\"a\":-1}"}, -EINVAL, "'a'"},
    {{.vocab = "{\"a\":1048576}"}, -EINVAL, "'a'"},
    {{.vocab = "{\"a\":0,\"b\":0}"}, -EINVAL, "id 0"},
    {{.vocab = "{\"a\":7}"}, -EINVAL, "id 7"},
    {{.added = "[{\"content\":\"x\"}]"}, -EINVAL, "added"},
    {{.added = "[{\"id\":9}]"}, -EINVAL, "added"},
    {{.added = "[{\"id\":9,\"content\":\"x\"},{\"id\":9,\"content\":\"y\"}]"}, -EINVAL, "id 9"},
    {{.merges = "{}"}, -EINVAL, "merges"},
    {{.merges = "[\"ab\"]"}, -EINVAL, "merge 0"},
    {{.merges = "[\"a b\",7]"}, -EINVAL, "merge 1"},
    {{.merges = "[[\"a\",\"b\",\"c\"]]"}, -EINVAL, "merge 0"},
    {{.merges = "[\"a z\"]"}, -EINVAL, "merge 0"},
    {{.merges = "[\"b a\"]"}, -EINVAL, "merge 0"},
};

static void refuses_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof REFUSED / sizeof *REFUSED; i++) {
        struct model_error error;
        struct tokenizer *tokenizer = NULL;
        const int code = build(&REFUSED[i].file, &tokenizer, &error);
        if (code != REFUSED[i].code || !strstr(error.text, REFUSED[i].word)) {
            fail_msg("case %zu: %d (%s), not %d (%s)", i, code, error.text, REFUSED[i].code,
                     REFUSED[i].word);
        }
        assert_null(tokenizer);
    }
}

static void refuses_long_tokens_and_long_lists(void **state)
{
    (void)state;
    static char vocab[2 * VOCAB_TOKEN_BYTES_MAX];
    static char steps[2048];
    struct model_error error;
    struct tokenizer *tokenizer;
    (void)snprintf(vocab, sizeof vocab, "{\"%0*d\":0}", VOCAB_TOKEN_BYTES_MAX + 1, 7);
    assert_int_equal(build(&(struct file){.vocab = vocab}, &tokenizer, &error), -EINVAL);
    assert_non_null(strstr(error.text, "bytes"));
    size_t bytes =
        (size_t)snprintf(steps, sizeof steps, "{\"type\":\"Sequence\",\"normalizers\":[");
    for (size_t i = 0; i <= NORMALIZER_OPS_MAX; i++) {
        bytes += (size_t)snprintf(steps + bytes, sizeof steps - bytes, "%s{\"type\":\"NFC\"}",
                                  i > 0 ? "," : "");
    }
    (void)snprintf(steps + bytes, sizeof steps - bytes, "]}");
    assert_int_equal(build(&(struct file){.normalizer = steps}, &tokenizer, &error), -ENOTSUP);
}

static void encode_refuses(void **state)
{
    (void)state;
    uint32_t items[2] = {42, 42};
    struct ids ids = {.items = items, .max = 2};
    struct tokenizer *tokenizer = open_file(&(struct file){0});
    struct tokenizer_scratch *scratch;
    assert_int_equal(tokenizer_scratch_open(&scratch, tokenizer, (size_t)LIMIT_FRAME_BYTES_MAX + 1),
                     -ENOMEM);
    assert_int_equal(tokenizer_scratch_open(&scratch, tokenizer, 8), 0);
    assert_int_equal(tokenizer_encode(tokenizer, scratch, "a\xff", 2, 0, &ids), -EINVAL);
    assert_int_equal(tokenizer_encode(tokenizer, scratch, "123456789", 9, 0, &ids), -E2BIG);
    assert_int_equal(tokenizer_encode(tokenizer, scratch, "a a", 3, 0, &ids), -E2BIG);
    assert_int_equal(ids.count, 0);
    assert_int_equal(tokenizer_encode(tokenizer, scratch, "a", 1, 0, &ids), 0);
    assert_int_equal(tokenizer_encode(tokenizer, scratch, "b", 1, 0, &ids), 0);
    assert_int_equal(ids.count, 2); /* Appended. */
    assert_true(items[0] == 0 && items[1] == 1);
    tokenizer_scratch_close(scratch);
    tokenizer_scratch_close(NULL);
    tokenizer_close(tokenizer);
    tokenizer_close(NULL);
}

/* A token of nothing but invalid bytes grows threefold and still fits. */
static void the_longest_answer_fits(void **state)
{
    (void)state;
    static char vocab[4 * VOCAB_TOKEN_BYTES_MAX];
    static char out[DETOK_OUT_BYTES_MAX];
    struct detok detok = {0};
    size_t bytes = (size_t)snprintf(vocab, sizeof vocab, "{\"\xc3\xb0\xc4\xb2\":1,\"");
    for (size_t i = 0; i < VOCAB_TOKEN_BYTES_MAX / 2; i++) {
        memcpy(vocab + bytes, "\xc3\xbf", 2); /* The byte 0xff. */
        bytes += 2;
    }
    (void)snprintf(vocab + bytes, sizeof vocab - bytes, "\":0}");
    struct tokenizer *tokenizer =
        open_file(&(struct file){.added = "[]", .vocab = vocab, .merges = "[]"});
    tokenizer_decode(tokenizer, &detok, 1, 0, out, &bytes);
    assert_int_equal(bytes, 0);
    tokenizer_decode(tokenizer, &detok, 0, 0, out, &bytes);
    assert_int_equal(bytes, 3 + 3 * (VOCAB_TOKEN_BYTES_MAX / 2));
    tokenizer_close(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(byte_level),
        cmocka_unit_test(sentencepiece_style),
        cmocka_unit_test(config_decides_what_surrounds),
        cmocka_unit_test(added_tokens_of_every_kind),
        cmocka_unit_test(merges_never_make_special_tokens),
        cmocka_unit_test(metaspace_and_prefix_spaces),
        cmocka_unit_test(splits),
        cmocka_unit_test(refuses_by_name),
        cmocka_unit_test(refuses_long_tokens_and_long_lists),
        cmocka_unit_test(encode_refuses),
        cmocka_unit_test(the_longest_answer_fits),
    };
    return cmocka_run_group_tests_name("tokenizer_json", tests, NULL, NULL);
}
