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
    const int status = dataset_open(dataset, spec, seed, nonce, &WELCOME, error);
    assert_true(status == 0 || error[0] != '\0');
    return status;
}

static void refuses_other_forms(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",          "fixed",      "fixed:",     "fixed:1",
                                        "fixed:1:",  "fixed:0:1",  "fixed:1:0",  "fixed:1:2:3",
                                        "fixed:a:1", "fixed:1:2x", "random:1:1", "fixed:-1:1"};
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
    static const char text[] = "first\n\nsecond line\nlast";
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
    assert_int_equal(open_spec(&dataset, spec, 0, 0), -EINVAL);
    (void)unlink(path);
    free(request);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_other_forms),
        cmocka_unit_test(ids_are_new_for_each_request_and_run),
        cmocka_unit_test(ids_are_spread_over_the_vocabulary),
        cmocka_unit_test(lines_are_taken_in_turn),
    };
    return cmocka_run_group_tests_name("dataset", tests, NULL, NULL);
}
