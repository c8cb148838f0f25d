/*
 * safetensors_test.c - headers made here, cut at every byte, and the conformance files, whose names
 * carry their verdict; these are found through SLUICE_TEST_DATA.
 */
#include "model/safetensors.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { FILE_BYTES_MAX = 512, DATA_BYTES = 24 };

/* A file with this header and 24 bytes of data; returns its size. */
static size_t make(uint8_t *file, const char *header)
{
    const uint64_t header_bytes = strlen(header);
    assert_true(8 + header_bytes + DATA_BYTES <= FILE_BYTES_MAX);
    memcpy(file, &header_bytes, 8);
    memcpy(file + 8, header, header_bytes);
    for (uint8_t i = 0; i < DATA_BYTES; i++) {
        file[8 + header_bytes + i] = i;
    }
    return 8 + header_bytes + DATA_BYTES;
}

static const char good[] = "{\"__metadata__\":{\"format\":\"pt\"},"
                           "\"b\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[8,24]},"
                           "\"a\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[0,8]}}";

static void a_good_file_gives_its_table(void **state)
{
    (void)state;
    uint8_t file[FILE_BYTES_MAX];
    const size_t bytes = make(file, good);
    struct model_error error = {{0}};
    struct safetensors *open = NULL;
    assert_int_equal(safetensors_open_bytes(&open, file, bytes, &error), 0);
    const struct tensor_table *table = safetensors_tensors(open);
    assert_int_equal(table->count, 2);
    const struct tensor *tensor = tensor_find(table, "b");
    assert_non_null(tensor);
    assert_int_equal(tensor->dtype, TENSOR_F32);
    assert_int_equal(tensor->dims, 2);
    assert_int_equal(tensor->shape[1], 2);
    assert_int_equal(tensor->byte_count, 16);
    assert_ptr_equal(tensor->bytes, file + bytes - 16);
    assert_null(tensor_find(table, "__metadata__"));
    safetensors_close(open);
}

static void every_shorter_file_is_refused(void **state)
{
    (void)state;
    uint8_t file[FILE_BYTES_MAX];
    const size_t bytes = make(file, good);
    for (size_t count = 0; count < bytes; count++) {
        struct model_error error = {{0}};
        struct safetensors *open = NULL;
        uint8_t *cut = malloc(count + !count); /* Of its own, so that a sanitizer sees the end. */
        assert_non_null(cut);
        memcpy(cut, file, count);
        assert_int_equal(safetensors_open_bytes(&open, cut, count, &error), -EINVAL);
        assert_int_not_equal(error.text[0], 0);
        free(cut);
    }
}

static void refusals_name_the_tensor(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[7],\"data_offsets\":[0,24]}}", "tensor w: shape"},
        {"{\"w\":{\"dtype\":\"F31\",\"shape\":[6],\"data_offsets\":[0,24]}}", "tensor w: unknown"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[5],\"data_offsets\":[4,24]}}", "tensor w leaves"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[5],\"data_offsets\":[0,20]}}", "20 of 24"},
        {"{\"w\":{\"dtype\":\"U8\",\"shape\":[4294967296,4294967296],"
         "\"data_offsets\":[0,24]}}",
         "tensor w: shape overflows"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[6],\"data_offsets\":[24,0]}}", "tensor w: data"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t file[FILE_BYTES_MAX];
        struct model_error error = {{0}};
        struct safetensors *open = NULL;
        const size_t bytes = make(file, cases[i][0]);
        assert_int_equal(safetensors_open_bytes(&open, file, bytes, &error), -EINVAL);
        if (!strstr(error.text, cases[i][1])) {
            fail_msg("\"%s\" lacks \"%s\"", error.text, cases[i][1]);
        }
    }
}

static void conformance_files_have_their_verdicts(void **state)
{
    (void)state;
    const char *data = getenv("SLUICE_TEST_DATA");
    if (!data) {
        print_message("1 skipped: SLUICE_TEST_DATA is not set\n");
        skip();
    }
    char folder[512];
    (void)snprintf(folder, sizeof folder, "%s/conformance/safetensors", data);
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    unsigned files = 0;
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        const char *name = entry->d_name;
        char path[1024];
        struct model_error error = {{0}};
        struct safetensors *open = NULL;
        if (strncmp(name, "ok_", 3) != 0 && strncmp(name, "bad_", 4) != 0) {
            continue;
        }
        (void)snprintf(path, sizeof path, "%s/%s", folder, name);
        const bool valid = safetensors_open(&open, path, &error) == 0;
        safetensors_close(open);
        files++;
        /* The suite lets this one go either way; json.h refuses a NUL in a key. */
        const bool wanted = name[0] == 'o' && strcmp(name, "ok_nul_in_name.safetensors") != 0;
        if (valid != wanted) {
            fail_msg("%s: %s", name, valid ? "accepted" : error.text);
        }
    }
    (void)closedir(dir);
    assert_true(files > 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_file_gives_its_table),
        cmocka_unit_test(every_shorter_file_is_refused),
        cmocka_unit_test(refusals_name_the_tensor),
        cmocka_unit_test(conformance_files_have_their_verdicts),
    };
    return cmocka_run_group_tests_name("safetensors", tests, NULL, NULL);
}
