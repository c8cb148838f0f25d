/*
 * tokenizer_vectors_test.c - real vocabularies: the published vectors, that decoding undoes
 * encoding on corpora, and that no text of 1 MB takes long. Needs SLUICE_TEST_DATA.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "model/tokenizer.h"

enum { TEXT_BYTES_MAX = 1 << 20, IDS_MAX = 4 << 20, PATH_BYTES_MAX = 1024 };

#define QWEN "tokenizers/hf-qwen3"

/* One tokenizer with room to work in. */
struct bench {
    struct tokenizer *tokenizer;
    struct tokenizer_scratch *scratch;
    uint32_t *ids;
    char *text;
};

static void data_path(char *out, const char *name)
{
    const char *folder = getenv("SLUICE_TEST_DATA");
    if (!folder) {
        print_message("SLUICE_TEST_DATA is not set: skipped\n");
        skip();
    }
    assert_true(snprintf(out, PATH_BYTES_MAX, "%s/%s", folder, name) < PATH_BYTES_MAX);
}

/* A whole file; the caller frees. */
static char *read_data(const char *name, size_t *count)
{
    char path[PATH_BYTES_MAX];
    data_path(path, name);
    FILE *file = fopen(path, "rb");
    if (!file) {
        fail_msg("%s is missing", path);
    }
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    const long bytes = ftell(file);
    assert_true(bytes > 0);
    rewind(file);
    char *text = malloc((size_t)bytes + 1);
    assert_non_null(text);
    assert_int_equal(fread(text, 1, (size_t)bytes, file), bytes);
    (void)fclose(file);
    text[bytes] = 0;
    *count = (size_t)bytes;
    return text;
}

/* Qwen's is stored gzipped: unpacked into a folder of its own, whose path replaces path. */
static void unpack(char *path)
{
    char command[2 * PATH_BYTES_MAX + 64];
    char folder[] = "/tmp/sluice-tokenizer-XXXXXX";
    assert_non_null(mkdtemp(folder));
    (void)snprintf(command, sizeof command, "gzip -dc '%s/tokenizer.json.gz' > '%s/tokenizer.json'",
                   path, folder);
    assert_int_equal(system(command), 0);
    (void)snprintf(path, PATH_BYTES_MAX, "%s", folder);
}

static void remove_unpacked(const char *folder)
{
    char path[PATH_BYTES_MAX + 32];
    (void)snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
}

static struct bench open_bench(const char *name)
{
    char path[PATH_BYTES_MAX];
    struct model_error error = {{0}};
    struct bench bench = {0};
    const bool packed = strcmp(name, QWEN) == 0;
    data_path(path, name);
    if (packed) {
        unpack(path);
    }
    const int code = tokenizer_open(&bench.tokenizer, path, &error);
    if (packed) {
        remove_unpacked(path);
    }
    if (code) {
        fail_msg("%s", error.text);
    }
    assert_int_equal(tokenizer_scratch_open(&bench.scratch, bench.tokenizer, TEXT_BYTES_MAX), 0);
    bench.ids = malloc(IDS_MAX * sizeof *bench.ids);
    bench.text = malloc(8 * (size_t)TEXT_BYTES_MAX);
    assert_true(bench.ids && bench.text);
    return bench;
}

static void close_bench(struct bench *bench)
{
    tokenizer_scratch_close(bench->scratch);
    tokenizer_close(bench->tokenizer);
    free(bench->ids);
    free(bench->text);
}

static size_t encode(const struct bench *bench, const char *text, size_t bytes)
{
    struct ids ids = {.items = bench->ids, .max = IDS_MAX};
    assert_int_equal(tokenizer_encode(bench->tokenizer, bench->scratch, text, bytes, 0, &ids), 0);
    return ids.count;
}

static void expect_decoded(const struct bench *bench, size_t count, const char *text, size_t bytes)
{
    struct detok detok = {0};
    size_t done = 0;
    size_t more;
    for (size_t i = 0; i < count; i++) {
        tokenizer_decode(bench->tokenizer, &detok, bench->ids[i], 0, bench->text + done, &more);
        done += more;
        assert_true(done <= bytes);
    }
    tokenizer_decode_end(&detok, bench->text + done, &more);
    assert_int_equal(done + more, bytes);
    assert_memory_equal(bench->text, text, bytes);
}

/* Reads one line of ids; false at the end of the file. */
static size_t expected_ids(char **line, uint32_t *ids)
{
    char *end = strchr(*line, '\n');
    if (end) {
        *end = 0;
    }
    size_t count = 0;
    char *next = *line;
    for (char *start = next;; start = next) {
        const unsigned long id = strtoul(start, &next, 10);
        if (next == start) {
            break;
        }
        ids[count++] = (uint32_t)id;
        assert_true(count < 4096);
    }
    *line = end ? end + 1 : *line + strlen(*line);
    return count;
}

static void check_vectors(const char *vectors, const char *vocabulary)
{
    static const char separator[] = "\n__ggml_vocab_test__\n";
    char name[PATH_BYTES_MAX];
    uint32_t expected[4096];
    size_t bytes;
    size_t cases = 0;
    (void)snprintf(name, sizeof name, "tokenizers/llama.cpp-vocab/ggml-vocab-%s.gguf.inp", vectors);
    char *input = read_data(name, &bytes);
    (void)snprintf(name, sizeof name, "tokenizers/llama.cpp-vocab/ggml-vocab-%s.gguf.out", vectors);
    char *output = read_data(name, &(size_t){0});
    struct bench bench = open_bench(vocabulary);
    char *line = output;
    for (const char *text = input; text; cases++) {
        const char *end = strstr(text, separator);
        const size_t count = end ? (size_t)(end - text) : (size_t)(input + bytes - text);
        const size_t ids = expected_ids(&line, expected);
        assert_int_equal(encode(&bench, text, count), ids);
        assert_memory_equal(bench.ids, expected, ids * sizeof *expected);
        expect_decoded(&bench, ids, text, count);
        text = end ? end + sizeof separator - 1 : NULL;
    }
    assert_int_equal(cases, 47);
    close_bench(&bench);
    free(input);
    free(output);
}

static void llama_spm(void **state)
{
    (void)state;
    check_vectors("llama-spm", "tokenizers/llama.cpp-vocab/ggml-vocab-llama-spm.gguf");
    check_vectors("llama-spm", "tokenizers/llama2-sentencepiece");
    check_vectors("phi-3", "tokenizers/llama.cpp-vocab/ggml-vocab-phi-3.gguf");
}

static void llama_bpe(void **state)
{
    (void)state;
    check_vectors("llama-bpe", "tokenizers/hf-llama3");
}

static void gpt_2(void **state)
{
    (void)state;
    check_vectors("gpt-2", "tokenizers/llama.cpp-vocab/ggml-vocab-gpt-2.gguf");
}

static void deepseek(void **state)
{
    (void)state;
    check_vectors("deepseek-llm", "tokenizers/llama.cpp-vocab/ggml-vocab-deepseek-llm.gguf");
    check_vectors("deepseek-coder", "tokenizers/llama.cpp-vocab/ggml-vocab-deepseek-coder.gguf");
}

static void qwen2(void **state)
{
    (void)state;
    check_vectors("qwen2", QWEN);
}

static void decoding_undoes_encoding(void **state)
{
    (void)state;
    static const char *const vocabularies[] = {"tokenizers/llama.cpp-vocab/ggml-vocab-gpt-2.gguf",
                                               "tokenizers/hf-llama3",
                                               "tokenizers/minimind",
                                               "tokenizers/hf-mistral-v1",
                                               "tokenizers/llama2-sentencepiece",
                                               QWEN,
                                               "models/stories260K-hf"};
    static const char *const corpora[] = {
        "corpora/war-and-peace.txt",           "corpora/oasst/en_100_message.jsonl",
        "corpora/mt_bench/question.jsonl",     "corpora/oasst/en_100_tree.jsonl",
        "corpora/vicuna_bench/question.jsonl", "corpora/gsm8k/test.jsonl"};
    for (size_t v = 0; v < sizeof vocabularies / sizeof *vocabularies; v++) {
        struct bench bench = open_bench(vocabularies[v]);
        for (size_t c = 0; c < sizeof corpora / sizeof *corpora; c++) {
            size_t bytes;
            char *text = read_data(corpora[c], &bytes);
            bytes = bytes < 200000 ? bytes : 200000;
            while (bytes > 0 && ((uint8_t)text[bytes] & 0xc0) == 0x80) {
                bytes--; /* To the start of a character. */
            }
            expect_decoded(&bench, encode(&bench, text, bytes), text, bytes);
            free(text);
        }
        close_bench(&bench);
    }
}

/* A generous deadline that only a quadratic walk would miss; the usual time is below 0.4 s. */
static void no_text_takes_long(void **state)
{
    (void)state;
    static const char *const vocabularies[] = {
        "tokenizers/llama.cpp-vocab/ggml-vocab-llama-spm.gguf",
        "tokenizers/llama.cpp-vocab/ggml-vocab-gpt-2.gguf",
        "tokenizers/llama.cpp-vocab/ggml-vocab-deepseek-llm.gguf", "tokenizers/hf-llama3"};
    static const char *const units[] = {"a",  " ",        "\n",       "7",  "!",
                                        "ab", "\xc3\xa9", "\xcc\x81", "'s "};
    char *text = malloc(TEXT_BYTES_MAX);
    assert_non_null(text);
    for (size_t v = 0; v < sizeof vocabularies / sizeof *vocabularies; v++) {
        struct bench bench = open_bench(vocabularies[v]);
        for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
            const size_t unit = strlen(units[u]);
            const size_t bytes = TEXT_BYTES_MAX / unit * unit;
            for (size_t i = 0; i < bytes; i++) {
                text[i] = units[u][i % unit];
            }
            if (units[u][0] == ' ') {
                memcpy(text + bytes - 3, "\xe4\xb8\xad", 3); /* Spaces that do not end the text. */
            }
            const size_t count = encode(&bench, text, bytes); /* The test's deadline bounds it. */
            expect_decoded(&bench, count, text, bytes);
        }
        close_bench(&bench);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_spm),
        cmocka_unit_test(llama_bpe),
        cmocka_unit_test(gpt_2),
        cmocka_unit_test(deepseek),
        cmocka_unit_test(qwen2),
        cmocka_unit_test(decoding_undoes_encoding),
        cmocka_unit_test(no_text_takes_long),
    };
    return cmocka_run_group_tests_name("tokenizer_vectors", tests, NULL, NULL);
}
