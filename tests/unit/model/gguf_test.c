/*
 * gguf_test.c - files built in memory: what a good one gives, every shorter one refused, and one
 * lie at a time in counts, alignment, offsets, types and keys.
 */
#include "model/gguf.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { FILE_BYTES_MAX = 1024, U32 = 4, I32 = 5, STRING = 8, ARRAY = 9 };

struct file {
    uint8_t bytes[FILE_BYTES_MAX];
    size_t count;
};

static void put(struct file *file, const void *bytes, size_t count)
{
    assert_true(file->count + count <= FILE_BYTES_MAX);
    memcpy(file->bytes + file->count, bytes, count);
    file->count += count;
}

static void put_u32(struct file *file, uint32_t value)
{
    put(file, &value, sizeof value);
}

static void put_u64(struct file *file, uint64_t value)
{
    put(file, &value, sizeof value);
}

static void put_text(struct file *file, const char *text)
{
    put_u64(file, strlen(text));
    put(file, text, strlen(text));
}

/* What a good file says; each test changes one thing. */
struct lies {
    uint32_t version;
    uint64_t tensors;
    uint64_t pairs;
    uint32_t alignment;
    const char *second_key;
    uint64_t strings;
    uint64_t columns;
    uint32_t dims;
    uint32_t type;
    uint64_t second_offset;
    const char *second_name;
};

static const struct lies none = {.version = 3,
                                 .tensors = 2,
                                 .pairs = 3,
                                 .alignment = 32,
                                 .second_key = "names",
                                 .strings = 2,
                                 .columns = 32,
                                 .dims = 2,
                                 .type = 8,
                                 .second_offset = 96,
                                 .second_name = "b"};

/* Tensors a, q8_0 [2][32] of 68 bytes, and b, f32 [4] of 16. */
static struct file make(const struct lies *lies)
{
    struct file file = {.count = 0};
    put(&file, "GGUF", 4);
    put_u32(&file, lies->version);
    put_u64(&file, lies->tensors);
    put_u64(&file, lies->pairs);
    put_text(&file, "general.alignment");
    put_u32(&file, U32);
    put_u32(&file, lies->alignment);
    put_text(&file, lies->second_key);
    put_u32(&file, ARRAY);
    put_u32(&file, STRING);
    put_u64(&file, lies->strings);
    put_text(&file, "one");
    put_text(&file, "");
    put_text(&file, "minus");
    put_u32(&file, I32);
    put_u32(&file, UINT32_MAX);
    put_text(&file, "a");
    put_u32(&file, lies->dims);
    put_u64(&file, lies->columns);
    put_u64(&file, 2);
    put_u32(&file, lies->type);
    put_u64(&file, 0);
    put_text(&file, lies->second_name);
    put_u32(&file, 1);
    put_u64(&file, 4);
    put_u32(&file, 0);
    put_u64(&file, lies->second_offset);
    file.count = (file.count + 31) / 32 * 32 + 96 + 16;
    return file;
}

static int judge(const struct lies *lies, struct model_error *error)
{
    const struct file file = make(lies);
    struct gguf *gguf = NULL;
    const int code = gguf_open_bytes(&gguf, file.bytes, file.count, error);
    gguf_close(gguf);
    return code;
}

static void a_good_file_gives_its_contents(void **state)
{
    (void)state;
    const struct file file = make(&none);
    struct model_error error = {{0}};
    struct gguf *gguf = NULL;
    assert_int_equal(gguf_open_bytes(&gguf, file.bytes, file.count, &error), 0);
    uint64_t number = 7;
    assert_true(gguf_u64(gguf, "general.alignment", &number) && number == 32);
    assert_false(gguf_u64(gguf, "minus", &number));
    assert_false(gguf_u64(gguf, "absent", &number));
    assert_false(gguf_u64(gguf, "names", &number));
    assert_int_equal(number, 32);
    struct gguf_strings walk;
    const char *text;
    size_t bytes;
    assert_true(gguf_array_count(gguf, "names", &number) && number == 2);
    assert_true(gguf_array_strings(gguf, "names", &walk));
    assert_true(gguf_strings_next(&walk, &text, &bytes) && bytes == 3);
    assert_memory_equal(text, "one", 3);
    assert_true(gguf_strings_next(&walk, &text, &bytes) && bytes == 0);
    assert_false(gguf_strings_next(&walk, &text, &bytes));
    const struct tensor *tensor = tensor_find(gguf_tensors(gguf), "a");
    assert_non_null(tensor);
    assert_int_equal(tensor->dtype, TENSOR_Q8_0);
    assert_int_equal(tensor->shape[0], 2);
    assert_int_equal(tensor->shape[1], 32);
    assert_int_equal(tensor->byte_count, 68);
    assert_ptr_equal(tensor->bytes, file.bytes + file.count - 112);
    gguf_close(gguf);
}

static void every_shorter_file_is_refused(void **state)
{
    (void)state;
    const struct file file = make(&none);
    for (size_t count = 0; count < file.count; count++) {
        struct model_error error = {{0}};
        struct gguf *gguf = NULL;
        uint8_t *cut = malloc(count + !count); /* Of its own, so that a sanitizer sees the end. */
        assert_non_null(cut);
        memcpy(cut, file.bytes, count);
        assert_int_not_equal(gguf_open_bytes(&gguf, cut, count, &error), 0);
        assert_null(gguf);
        assert_int_not_equal(error.text[0], 0);
        free(cut);
    }
}

static void lies_are_found(void **state)
{
    (void)state;
    struct lies cases[16];
    const char *reasons[16];
    size_t count = 0;
#define LIE(field, value, reason)                                                                  \
    do {                                                                                           \
        cases[count] = none;                                                                       \
        cases[count].field = (value);                                                              \
        reasons[count++] = (reason);                                                               \
    } while (0)
    LIE(version, 1, "version");
    LIE(tensors, UINT64_MAX, "claims");
    LIE(pairs, UINT64_MAX, "claims");
    LIE(alignment, 0, "power of two");
    LIE(alignment, 48, "power of two");
    LIE(second_key, "minus", "duplicate");
    LIE(strings, UINT64_MAX, "names is malformed");
    LIE(columns, UINT64_MAX / 2, "overflows");
    LIE(columns, 33, "blocks");
    LIE(columns, 96, "do not fit");
    LIE(dims, 5, "dimensions");
    LIE(second_offset, 97, "not aligned");
    LIE(second_offset, 64, "overlap");
    LIE(second_offset, 128, "do not fit");
    LIE(second_offset, UINT64_MAX - 31, "do not fit");
    LIE(second_name, "a", "twice");
#undef LIE
    for (size_t i = 0; i < count; i++) {
        struct model_error error = {{0}};
        assert_int_not_equal(judge(&cases[i], &error), 0);
        if (!strstr(error.text, reasons[i])) {
            fail_msg("case %zu: \"%s\" lacks \"%s\"", i, error.text, reasons[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_file_gives_its_contents),
        cmocka_unit_test(every_shorter_file_is_refused),
        cmocka_unit_test(lies_are_found),
    };
    return cmocka_run_group_tests_name("gguf", tests, NULL, NULL);
}
