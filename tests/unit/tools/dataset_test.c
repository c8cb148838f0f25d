/* dataset_test.c - the prompts of a benchmark: the form of a dataset, its ids, lines of files. */
#include "tools/dataset.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const uint32_t EOS_IDS[] = {2, 5};

static const struct wire_welcome WELCOME = {
    .vocab = 8, .context_tokens_max = 128, .eos_ids = EOS_IDS, .eos_count = 2};

static int open_spec(struct dataset *dataset, const char *spec, uint64_t seed, uint64_t nonce)
{
    char error[DATASET_ERROR_BYTES_MAX] = "";
    const struct dataset_source source = {
        .spec = spec, .requests = 3, .seed = seed, .nonce = nonce, .welcome = &WELCOME};
    const int status = dataset_open(dataset, &source, error);
    assert_true(status == 0 || error[0] != '\0');
    return status;
}

static void refuses_other_forms(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",          "fixed",      "fixed:",     "fixed:1",
                                        "fixed:1:",  "fixed:0:1",  "fixed:1:0",  "fixed:1:2:3",
                                        "fixed:a:1", "fixed:1:2x", "random:1:1", "fixed:-1:1",
                                        "trace",     "lengths"};
    struct dataset dataset;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        if (open_spec(&dataset, wrong[i], 0, 0) != -EINVAL) {
            fail_msg("'%s'", wrong[i]);
        }
    }
    assert_int_equal(open_spec(&dataset, "fixed:100:29", 0, 0), -E2BIG);
    assert_int_equal(open_spec(&dataset, "fixed:100:28", 0, 0), 0);
    dataset_close(&dataset);
    assert_int_equal(open_spec(&dataset, "prompts:/nowhere/at/all", 0, 0), -ENOENT);
    assert_int_equal(open_spec(&dataset, "lengths:/nowhere/at/all", 0, 0), -ENOENT);
    assert_int_equal(open_spec(&dataset, "trace:/nowhere/at/all", 0, 0), -ENOENT);
}

/* Ids of request index under a seed and a nonce. */
static void draw(uint64_t seed, uint64_t nonce, uint32_t index, uint32_t out[100])
{
    struct dataset dataset;
    struct wire_generate *request = calloc(1, sizeof *request);
    assert_non_null(request);
    assert_int_equal(open_spec(&dataset, "fixed:100:7", seed, nonce), 0);
    dataset_fill(&dataset, index, request);
    assert_int_equal(request->ids.count, 400);
    assert_int_equal(request->max_tokens, 7);
    assert_true(request->given & WIRE_GIVEN_MAX_TOKENS);
    memcpy(out, request->ids.bytes, 400);
    dataset_close(&dataset);
    free(request);
}

static void ids_are_new_for_each_request_and_run(void **state)
{
    (void)state;
    uint32_t first[100], other[100];
    draw(1, 2, 3, first);
    draw(1, 2, 3, other);
    assert_memory_equal(first, other, sizeof first);
    draw(1, 2, 4, other);
    assert_memory_not_equal(first, other, sizeof first);
    draw(1, 3, 3, other);
    assert_memory_not_equal(first, other, sizeof first);
    draw(2, 2, 3, other);
    assert_memory_not_equal(first, other, sizeof first);
}

static void ids_are_spread_over_the_vocabulary(void **state)
{
    (void)state;
    unsigned seen[8] = {0};
    for (uint32_t index = 0; index < 100; index++) {
        uint32_t ids[100];
        draw(9, 9, index, ids);
        for (size_t i = 0; i < 100; i++) {
            assert_true(ids[i] < 8);
            seen[ids[i]]++;
        }
    }
    for (size_t id = 0; id < 8; id++) { /* 6 of 8 ids, 10,000 draws: 1,667 each, sigma 37. */
        const bool end = id == 2 || id == 5;
        assert_true(end ? seen[id] == 0 : seen[id] > 1400 && seen[id] < 1900);
    }
}

static void lines_are_taken_in_turn(void **state)
{
    (void)state;
    static const char text[] = "first\n\nsecond line\r\n\r\nlast";
    static const char *const wanted[] = {"first", "second line", "last", "first"};
    char path[] = "/tmp/sluice-dataset-XXXXXX", spec[64];
    struct wire_generate *request = calloc(1, sizeof *request);
    struct dataset dataset;
    const int fd = mkstemp(path);
    assert_non_null(request);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
    (void)close(fd);
    (void)snprintf(spec, sizeof spec, "prompts:%s", path);
    assert_int_equal(open_spec(&dataset, spec, 0, 0), 0);
    assert_int_equal(dataset.line_count, 3);
    for (uint32_t i = 0; i < 4; i++) {
        dataset_fill(&dataset, i, request);
        assert_int_equal(request->prompt.count, strlen(wanted[i]));
        assert_memory_equal(request->prompt.bytes, wanted[i], request->prompt.count);
        assert_null(request->ids.bytes);
    }
    dataset_close(&dataset);
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(open_spec(&dataset, spec, 0, 0), -ENODATA);
    (void)unlink(path);
    free(request);
}

enum { LONG_CONTEXT = 2000 };

static const struct wire_welcome LONG_WELCOME = {
    .vocab = 1000, .context_tokens_max = LONG_CONTEXT, .eos_ids = EOS_IDS, .eos_count = 2};

/* Opens KIND:FILE for a file of this text, which is gone again afterwards. */
static void open_text(struct dataset *dataset, const char *kind, const char *text, uint64_t seed,
                      uint64_t nonce)
{
    char path[] = "/tmp/sluice-dataset-XXXXXX", spec[64], error[DATASET_ERROR_BYTES_MAX] = "";
    const struct dataset_source source = {
        .spec = spec, .requests = 100, .seed = seed, .nonce = nonce, .welcome = &LONG_WELCOME};
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    (void)close(fd);
    (void)snprintf(spec, sizeof spec, "%s:%s", kind, path);
    assert_int_equal(dataset_open(dataset, &source, error), 0);
    (void)unlink(path);
}

/* The prompt of request index; how long it is. */
static size_t fill_ids(struct dataset *dataset, uint32_t index, uint32_t out[LONG_CONTEXT])
{
    struct wire_generate *request = calloc(1, sizeof *request);
    assert_non_null(request);
    dataset_fill(dataset, index, request);
    const size_t count = request->ids.count / sizeof *out;
    assert_true(count <= LONG_CONTEXT && request->max_tokens > 0 && request->ignore_eos);
    memcpy(out, request->ids.bytes, request->ids.count);
    free(request);
    return count;
}

static void lengths_are_the_same_in_each_run(void **state)
{
    (void)state;
    struct dataset dataset;
    uint32_t first[LONG_CONTEXT], other[LONG_CONTEXT];
    open_text(&dataset, "lengths", "40,2\n40,3\n", 7, 1);
    assert_int_equal(dataset_requests(&dataset), 2);
    assert_int_equal(fill_ids(&dataset, 0, first), 40);
    assert_int_equal(fill_ids(&dataset, 1, other), 40);
    assert_memory_not_equal(first, other, 160);
    assert_int_equal(fill_ids(&dataset, 2, other), 40); /* The first length, in another round. */
    assert_memory_not_equal(first, other, 160);
    dataset_close(&dataset);
    open_text(&dataset, "lengths", "40,2\n40,3\n", 7, 2);
    assert_int_equal(fill_ids(&dataset, 0, other), 40);
    assert_memory_equal(first, other, 160);
    dataset_close(&dataset);
    open_text(&dataset, "lengths", "40,2\n40,3\n", 8, 1);
    assert_int_equal(fill_ids(&dataset, 0, other), 40);
    assert_memory_not_equal(first, other, 160);
    dataset_close(&dataset);
}

static void prompts_with_the_same_blocks_share_their_ids(void **state)
{
    (void)state;
    static const char text[] =
        "{\"timestamp\":0,\"input_length\":1100,\"output_length\":5,\"hash_ids\":[7,8,9]}\n"
        "{\"timestamp\":5,\"input_length\":1030,\"output_length\":5,\"hash_ids\":[7,8,10]}\n"
        "{\"timestamp\":9,\"input_length\":600,\"output_length\":5,\"hash_ids\":[8,7]}\n";
    struct dataset dataset;
    uint32_t a[LONG_CONTEXT], b[LONG_CONTEXT], c[LONG_CONTEXT];
    open_text(&dataset, "trace", text, 1, 1);
    assert_int_equal(fill_ids(&dataset, 0, a), 1100);
    assert_int_equal(fill_ids(&dataset, 1, b), 1030);
    assert_int_equal(fill_ids(&dataset, 2, c), 600);
    assert_memory_equal(a, b, 1024 * sizeof *a);
    assert_memory_not_equal(a + 1024, b + 1024, 6 * sizeof *a);
    assert_memory_not_equal(a, a + 512, 512 * sizeof *a);
    assert_memory_equal(c, a + 512, 512 * sizeof *a); /* A block is the same at any place. */
    assert_memory_equal(c + 512, a, 88 * sizeof *a);
    assert_int_equal(fill_ids(&dataset, 3, b), 1100); /* The next round shares nothing. */
    assert_memory_not_equal(a, b, 512 * sizeof *a);
    dataset_close(&dataset);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_other_forms),
        cmocka_unit_test(ids_are_new_for_each_request_and_run),
        cmocka_unit_test(ids_are_spread_over_the_vocabulary),
        cmocka_unit_test(lines_are_taken_in_turn),
        cmocka_unit_test(lengths_are_the_same_in_each_run),
        cmocka_unit_test(prompts_with_the_same_blocks_share_their_ids),
    };
    return cmocka_run_group_tests_name("dataset", tests, NULL, NULL);
}
