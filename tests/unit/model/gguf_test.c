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

#include "tests/unit/model/gguf_bytes.h"

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
    uint64_t data_bytes; /* Of the data section: true in every case. */
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
                                 .second_name = "b",
                                 .data_bytes = 96 + 16};

/* The same with a in a K-quant: 288 bytes in two super-blocks. */
static const struct lies super = {.version = 3,
                                  .tensors = 2,
                                  .pairs = 3,
                                  .alignment = 32,
                                  .second_key = "names",
                                  .strings = 2,
                                  .columns = 256,
                                  .dims = 2,
                                  .type = 12,
                                  .second_offset = 288,
                                  .second_name = "b",
                                  .data_bytes = 288 + 16};

/* Tensors a, q8_0 [2][32] of 68 bytes, and b, f32 [4] of 16. */
static struct gguf_bytes make(const struct lies *lies)
{
    struct gguf_bytes file = {.count = 0};
    put(&file, "GGUF", 4);
    put_u32(&file, lies->version);
    put_u64(&file, lies->tensors);
    put_u64(&file, lies->pairs);
    put_key(&file, "general.alignment", KIND_U32);
    put_u32(&file, lies->alignment);
    put_key(&file, lies->second_key, KIND_ARRAY);
    put_u32(&file, KIND_STRING);
    put_u64(&file, lies->strings);
    put_text(&file, "one");
    put_text(&file, "");
    put_key(&file, "minus", KIND_I32);
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
    file.count = (file.count + 31) / 32 * 32 + lies->data_bytes;
    return file;
}

static int judge(const struct lies *lies, struct model_error *error)
{
    const struct gguf_bytes file = make(lies);
    struct gguf *gguf = NULL;
    const int code = gguf_open_bytes(&gguf, file.bytes, file.count, error);
    gguf_close(gguf);
    return code;
}

static void a_good_file_gives_its_contents(void **state)
{
    (void)state;
    const struct gguf_bytes file = make(&none);
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

static void refuse_shorter(const struct lies *whole)
{
    const struct gguf_bytes file = make(whole);
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

static void every_shorter_file_is_refused(void **state)
{
    (void)state;
    struct model_error error = {{0}};
    assert_int_equal(judge(&super, &error), 0);
    refuse_shorter(&none);
    refuse_shorter(&super);
}

/* Types that are not read have their names, for the refusal, and no extent. */
static void types_have_their_names(void **state)
{
    (void)state;
    static const struct {
        uint32_t type;
        const char *name;
        bool readable;
    } cases[] = {
        {12, "q4_k", true},     {13, "q5_k", true},
        {14, "q6_k", true},     {10, "q2_k", false},
        {11, "q3_k", false},    {15, "q8_k", false},
        {16, "iq2_xxs", false}, {20, "iq4_nl", false},
        {23, "iq4_xs", false},  {29, "iq1_m", false},
        {35, "tq2_0", false},   {39, "mxfp4", false},
        {4, "unknown", false},  {UINT32_MAX, "unknown", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct lies lies = super;
        struct model_error error = {{0}};
        struct gguf *gguf = NULL;
        lies.type = cases[i].type;
        lies.second_offset = 448; /* Behind the largest of them. */
        lies.data_bytes = 448 + 16;
        const struct gguf_bytes file = make(&lies);
        assert_int_equal(gguf_open_bytes(&gguf, file.bytes, file.count, &error), 0);
        const struct tensor *tensor = tensor_find(gguf_tensors(gguf), "a");
        assert_string_equal(tensor_dtype_name(tensor->dtype), cases[i].name);
        assert_int_equal(tensor_readable(tensor->dtype), cases[i].readable);
        gguf_close(gguf);
    }
}

static void lies_are_found(void **state)
{
    (void)state;
    struct lies cases[17];
    const char *reasons[17];
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
    LIE(columns, UINT64_MAX / 2 + 1, "overflows");
    LIE(columns, 33, "tensor a: rows of 33 are not in blocks of 32 as q8_0 wants");
    LIE(type, 12, "tensor a: rows of 32 are not in blocks of 256 as q4_k wants");
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
        cmocka_unit_test(types_have_their_names),
        cmocka_unit_test(lies_are_found),
    };
    return cmocka_run_group_tests_name("gguf", tests, NULL, NULL);
}
