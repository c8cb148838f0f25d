/*
 * tokenizer_fuzz.c - fuzz target: the input is a tokenizer.json, up to the first NUL byte, and what
 * follows is its tokenizer_config.json. Whatever opens must encode and decode without a fault.
 */
#include <stdlib.h>
#include <string.h>

#include "model/tokenizer_parts.h"
#include "model/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

enum { TEXT_BYTES_MAX = 64, IDS_MAX = 1024 };

static void use(const struct tokenizer *tokenizer)
{
    static const char *const texts[] = {
        "Hello  world's 2024!\n\n <|im_end|><s>",
        "\xe2\x96\x81\x61 e\xcc\x81\xc3\xa9 \xe4\xb8\xad\xf0\x9f\xa6\x99",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", " \t\r\n\x01\x7f"};
    struct tokenizer_scratch *scratch;
    uint32_t items[IDS_MAX];
    char out[DETOK_OUT_BYTES_MAX];
    must(tokenizer_scratch_open(&scratch, tokenizer, TEXT_BYTES_MAX) == 0);
    for (unsigned flags = 0; flags < 8; flags++) {
        for (size_t t = 0; t < sizeof texts / sizeof *texts; t++) {
            struct ids ids = {.items = items, .max = IDS_MAX};
            struct detok detok = {0};
            size_t bytes;
            if (tokenizer_encode(tokenizer, scratch, texts[t], strlen(texts[t]), flags, &ids)) {
                must(ids.count == 0);
                continue;
            }
            for (size_t i = 0; i < ids.count; i++) {
                must(items[i] < tokenizer_vocab(tokenizer));
                tokenizer_decode(tokenizer, &detok, items[i], flags, out, &bytes);
                must(bytes <= DETOK_OUT_BYTES_MAX && utf8_valid(out, bytes));
            }
            tokenizer_decode_end(&detok, out, &bytes);
            must(utf8_valid(out, bytes));
        }
    }
    tokenizer_scratch_close(scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    const char *text = (const char *)bytes;
    const char *end = memchr(text, 0, count);
    const size_t root_bytes = end ? (size_t)(end - text) : count;
    struct tokenizer *tokenizer = NULL;
    struct json *config = NULL;
    struct json *root = NULL;
    struct json_error reason;
    struct model_error error = {{0}};
    if (end && json_parse(end + 1, count - root_bytes - 1, &config, &reason)) {
        config = NULL;
    }
    if (json_parse(text, root_bytes, &root, &reason) == 0) {
        const struct tokenizer_source source = {.root = root, .config = config};
        if (tokenizer_build(&tokenizer, &source, &error) == 0) {
            use(tokenizer);
        } else {
            must(error.text[0] != 0);
        }
    }
    tokenizer_close(tokenizer);
    json_free(root);
    json_free(config);
    return 0;
}
