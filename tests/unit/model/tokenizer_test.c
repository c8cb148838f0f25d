/*
 * tokenizer_test.c - what tokenizer_open() takes for a path: a directory, a tokenizer.json, a GGUF,
 * each with its errors. Works in a directory of its own under /tmp.
 */
#include "model/tokenizer.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static const char JSON[] =
    "{\"added_tokens\":[],\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\","
    "\"vocab\":{\"a\":0,\"<s>\":1},\"merges\":[]}}";

/* "GGUF", version 3, no tensors, no keys. */
static const char EMPTY_GGUF[24] = {'G', 'G', 'U', 'F', 3};

struct place {
    char folder[64];
    char json[128];
    char config[128];
    char gguf[128];
};

static int open_place(void **state)
{
    struct place *place = calloc(1, sizeof *place);
    if (!place) {
        return -1;
    }
    (void)snprintf(place->folder, sizeof place->folder, "/tmp/tokenizer_test.XXXXXX");
    if (!mkdtemp(place->folder)) {
        return -1;
    }
    (void)snprintf(place->json, sizeof place->json, "%s/tokenizer.json", place->folder);
    (void)snprintf(place->config, sizeof place->config, "%s/tokenizer_config.json", place->folder);
    (void)snprintf(place->gguf, sizeof place->gguf, "%s/model.gguf", place->folder);
    *state = place;
    return 0;
}

static int close_place(void **state)
{
    struct place *place = *state;
    (void)unlink(place->json);
    (void)unlink(place->config);
    (void)unlink(place->gguf);
    const int result = rmdir(place->folder);
    free(place);
    return result;
}

static void write_file(const char *path, const char *bytes, size_t count)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
}

static void expect_open(const char *path, uint32_t bos)
{
    struct model_error error = {{0}};
    struct tokenizer *tokenizer = NULL;
    if (tokenizer_open(&tokenizer, path, &error)) {
        fail_msg("%s: %s", path, error.text);
    }
    assert_int_equal(tokenizer_vocab(tokenizer), 2);
    assert_int_equal(tokenizer_bos(tokenizer), bos);
    tokenizer_close(tokenizer);
}

static void expect_refused(const char *path, int code, const char *word)
{
    struct model_error error = {{0}};
    struct tokenizer *tokenizer = NULL;
    assert_int_equal(tokenizer_open(&tokenizer, path, &error), code);
    assert_null(tokenizer);
    if (!strstr(error.text, word)) {
        fail_msg("'%s' does not name %s", error.text, word);
    }
}

static void opens_a_directory_or_its_file(void **state)
{
    const struct place *place = *state;
    char old[512];
    expect_refused(place->folder, -ENOENT, "tokenizer.json");
    write_file(place->json, JSON, sizeof JSON - 1);
    expect_open(place->folder, UINT32_MAX);
    expect_open(place->json, UINT32_MAX);
    static const char config[] = "{\"bos_token\":\"<s>\",\"model_max_length\":1000000000000000000"
                                 "019884624838656}";
    write_file(place->config, config, sizeof config - 1);
    expect_open(place->folder, 1);
    expect_open(place->json, 1);
    assert_non_null(getcwd(old, sizeof old)); /* A bare file name has its config beside it too. */
    assert_int_equal(chdir(place->folder), 0);
    expect_open("tokenizer.json", 1);
    assert_int_equal(chdir(old), 0);
    write_file(place->config, "{", 1);
    expect_refused(place->folder, -EINVAL, "tokenizer_config.json");
}

static void names_the_file_that_is_wrong(void **state)
{
    const struct place *place = *state;
    char path[2048];
    expect_refused("/nonexistent/model", -ENOENT, "/nonexistent/model");
    write_file(place->json, "[", 1);
    expect_refused(place->folder, -EINVAL, "tokenizer.json");
    write_file(place->json, "{}", 2);
    expect_refused(place->json, -ENOTSUP, "model type");
    memset(path, '/', sizeof path); /* "//////" is "/", by as long a name. */
    path[LIMIT_PATH_BYTES_MAX - 2] = 0;
    expect_refused(path, -ENAMETOOLONG, "too long");
}

static void opens_a_gguf_by_its_first_bytes(void **state)
{
    const struct place *place = *state;
    write_file(place->gguf, EMPTY_GGUF, sizeof EMPTY_GGUF);
    expect_refused(place->gguf, -ENOENT, "no tokenizer");
    write_file(place->gguf, EMPTY_GGUF, 12);
    expect_refused(place->gguf, -EINVAL, "");
    write_file(place->gguf, EMPTY_GGUF, 3);
    expect_refused(place->gguf, -EINVAL, "model.gguf");
    if (geteuid() != 0) { /* Root may read everything. */
        assert_int_equal(chmod(place->gguf, 0), 0);
        expect_refused(place->gguf, -EACCES, "model.gguf");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(opens_a_directory_or_its_file, open_place, close_place),
        cmocka_unit_test_setup_teardown(names_the_file_that_is_wrong, open_place, close_place),
        cmocka_unit_test_setup_teardown(opens_a_gguf_by_its_first_bytes, open_place, close_place),
    };
    return cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
}
