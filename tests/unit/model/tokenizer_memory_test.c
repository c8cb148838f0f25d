/*
 * tokenizer_memory_test.c - encoding, decoding and chat take no memory once the scratch is open:
 * this program's own malloc counts every call, those of the libraries included. Sanitizers bring
 * their own malloc: there the counting stands still and the test says so.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "model/chat.h"
#include "model/tokenizer_parts.h"

/* Nobody can pass it to malloc. */
static size_t *calls(void)
{
    static size_t count;
    return &count;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(__clang__)
enum { COUNTS = 0 };
#else
enum { COUNTS = 1 };

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *block, size_t bytes);
void *malloc(size_t bytes);
void *calloc(size_t count, size_t bytes);
void *realloc(void *block, size_t bytes);

void *malloc(size_t bytes)
{
    (*calls())++;
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    (*calls())++;
    return __libc_calloc(count, bytes);
}

void *realloc(void *block, size_t bytes)
{
    (*calls())++;
    return __libc_realloc(block, bytes);
}
#endif

static const char FILE_TEXT[] =
    "{\"added_tokens\":[{\"id\":8,\"content\":\"<|im_start|>\",\"special\":true},"
    "{\"id\":9,\"content\":\"<|im_end|>\",\"special\":true}],"
    "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKC\"},{\"type\":"
    "\"Replace\",\"pattern\":{\"String\":\"b\"},\"content\":\"aa\"}]},"
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":"
    "{\"Regex\":\"(?:a(?:a(?:a)?)?)+\"},\"behavior\":\"Isolated\"},{\"type\":\"ByteLevel\","
    "\"add_prefix_space\":false}]},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"aa\":1,"
    "\"aaaa\":2,\"\xc4\xa0\":3,\"\xc3\x83\":4,\"\xc2\xa9\":5},\"merges\":[\"a a\",\"aa aa\"]}}";

static void the_request_path_takes_no_memory(void **state)
{
    (void)state;
    static uint32_t items[4096];
    static char out[DETOK_OUT_BYTES_MAX];
    static char text[1024];
    struct ids ids = {.items = items, .max = 4096};
    struct model_error error;
    struct json_error reason;
    struct json *root = NULL;
    struct tokenizer *tokenizer = NULL;
    struct tokenizer_scratch *scratch;
    const struct chat_message message = {"user", 4, "a<|im_end|>b", 12};
    assert_int_equal(json_parse(FILE_TEXT, sizeof FILE_TEXT - 1, &root, &reason), 0);
    assert_int_equal(tokenizer_build(&tokenizer, &(struct tokenizer_source){.root = root}, &error),
                     0);
    json_free(root);
    assert_int_equal(tokenizer_scratch_open(&scratch, tokenizer, sizeof text), 0);
    memset(text, 'a', sizeof text); /* Long enough for PCRE2's frames to grow. */
    memcpy(text + 500, " e\xcc\x81 <|im_end|>", 15);
    const size_t before = *calls();
    int code =
        tokenizer_encode(tokenizer, scratch, text, sizeof text, TOKENIZER_PARSE_SPECIAL, &ids);
    struct detok detok = {0};
    for (size_t i = 0; i < ids.count; i++) {
        size_t count;
        tokenizer_decode(tokenizer, &detok, items[i], 0, out, &count);
    }
    const size_t encoded = ids.count;
    if (!code) {
        code = chat_encode(CHAT_CHATML, tokenizer, scratch, &message, 1, &ids);
    }
    const size_t after = *calls();
    assert_int_equal(code, 0);
    assert_true(encoded > 0 && ids.count > encoded);
    assert_int_equal(after, before);
    if (COUNTS) {
        assert_true(before > 0);
    } else {
        print_message("malloc is a sanitizer's: not counted\n");
    }
    tokenizer_scratch_close(scratch);
    tokenizer_close(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_request_path_takes_no_memory),
    };
    return cmocka_run_group_tests_name("tokenizer_memory", tests, NULL, NULL);
}
