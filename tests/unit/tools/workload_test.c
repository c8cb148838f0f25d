/* workload_test.c - files of requests: what their lines say, what is refused, what is cut. */
#include "tools/workload.h"

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

#define HEADER "TIMESTAMP,ContextTokens,GeneratedTokens\n"
#define TIME   "2023-11-16 18:15:46"
#define BLOCKS "{\"timestamp\":0,\"input_length\":1000,\"output_length\":5,\"hash_ids\":[3,4]}\n"

enum { CONTEXT = 1000, ITEMS_MAX = 100 };

/* The file of this process. */
static const char *name_file(char path[64])
{
    (void)snprintf(path, 64, "/tmp/sluice-workload-%d", (int)getpid());
    return path;
}

/* Opens a file of these bytes, which is gone afterwards. */
static int open_bytes(struct workload *workload, enum workload_kind kind, const char *bytes,
                      size_t count, char error[WORKLOAD_ERROR_BYTES_MAX])
{
    char path[64];
    FILE *file = fopen(name_file(path), "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
    error[0] = '\0';
    const int status = workload_open(workload, kind, path, CONTEXT, ITEMS_MAX, error);
    assert_int_equal(unlink(path), 0);
    return status;
}

static int open_text(struct workload *workload, enum workload_kind kind, const char *text)
{
    char error[WORKLOAD_ERROR_BYTES_MAX];
    return open_bytes(workload, kind, text, strlen(text), error);
}

/* Refused, with the file, the line and one line of words. */
static void assert_refused(enum workload_kind kind, const char *text, size_t count, int line)
{
    char error[WORKLOAD_ERROR_BYTES_MAX], path[64], place[96];
    struct workload workload;
    const int status = open_bytes(&workload, kind, text, count, error);
    (void)snprintf(place, sizeof place, "%s:%d: ", name_file(path), line);
    if (status != -EBADMSG || strncmp(error, place, strlen(place)) != 0 || strchr(error, '\n') ||
        strlen(error) < strlen(place) + 8) {
        fail_msg("'%s' gave %d, '%s'", text, status, error);
    }
    assert_null(workload.items);
}

static void assert_item(const struct workload *workload, size_t index, uint64_t arrival_us,
                        uint32_t in_tokens, uint32_t out_tokens)
{
    const struct workload_item *item = &workload->items[index];
    assert_true(index < workload->count);
    assert_int_equal(item->arrival_us, arrival_us);
    assert_int_equal(item->in_tokens, in_tokens);
    assert_int_equal(item->out_tokens, out_tokens);
}

static void reads_azure(void **state)
{
    (void)state;
    struct workload workload;
    assert_int_equal(open_text(&workload, WORKLOAD_TRACE,
                               HEADER "2023-11-16 18:15:46.6805900,374,44\r\n"
                                      "2023-11-16 18:15:50.9951690,396,109\r\n"
                                      "\n"
                                      "2023-11-16T18:15:51,1,1\n"
                                      "2023-12-01 00:00:00.5+00:00,2,3"),
                     0);
    assert_int_equal(workload.count, 4);
    assert_item(&workload, 0, 0, 374, 44);
    assert_item(&workload, 1, 4314579, 396, 109);
    assert_item(&workload, 2, 4319410, 1, 1);
    /* 14 days from 18:15:46.68059 of the 16th, less that time of the day, and half a second. */
    assert_item(&workload, 3, (15ull * 86400 - 65746) * 1000000 - 680590 + 500000, 2, 3);
    assert_int_equal(workload.clipped, 0);
    assert_int_equal(workload.skipped, 0);
    assert_int_equal(workload.in_tokens_max, 396);
    workload_close(&workload);
}

static void a_byte_order_mark_is_no_text(void **state)
{
    (void)state;
    static const char csv[] = "\xef\xbb\xbf" HEADER "2023-11-16 18:15:46.6805900,374,44\r\n";
    static const char json[] =
        "\xef\xbb\xbf{\"timestamp\":0,\"input_length\":10,\"output_length\":3}\n";
    struct workload workload;
    assert_int_equal(open_text(&workload, WORKLOAD_TRACE, csv), 0);
    assert_item(&workload, 0, 0, 374, 44);
    workload_close(&workload);
    assert_int_equal(open_text(&workload, WORKLOAD_TRACE, json), 0);
    assert_item(&workload, 0, 0, 10, 3);
    workload_close(&workload);
}

static void months_have_their_days(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to;
        uint64_t days;
    } cases[] = {
        {"2023-02-28", "2023-03-01", 1},   {"2024-02-28", "2024-03-01", 2},
        {"1900-02-28", "1900-03-01", 1},   {"2000-02-28", "2000-03-01", 2},
        {"2023-12-31", "2024-01-01", 1},   {"2023-01-01", "2024-01-01", 365},
        {"2024-01-01", "2025-01-01", 366}, {"1970-01-01", "2023-11-16", 19677},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[256];
        struct workload workload;
        (void)snprintf(text, sizeof text, HEADER "%s 00:00:00,1,1\n%s 00:00:00,1,1\n",
                       cases[i].from, cases[i].to);
        assert_int_equal(open_text(&workload, WORKLOAD_TRACE, text), 0);
        assert_item(&workload, 1, cases[i].days * 86400 * 1000000, 1, 1);
        workload_close(&workload);
    }
}

static void reads_lengths_by_their_columns(void **state)
{
    (void)state;
    static const char *const texts[] = {
        HEADER "?,42,285\n?,19,82\n",
        "num_prefill_tokens,num_decode_tokens,num_total_tokens,ratio\n42,285,327,0.1\n19,82,1,2\n",
        "GeneratedTokens,other,ContextTokens\n285,x,42\n82,,19\n",
        "42,285\n19,82\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct workload workload;
        assert_int_equal(open_text(&workload, WORKLOAD_BATCH, texts[i]), 0);
        assert_int_equal(workload.count, 2);
        assert_item(&workload, 0, 0, 42, 285);
        assert_item(&workload, 1, 0, 19, 82);
        workload_close(&workload);
    }
}

static void reads_mooncake(void **state)
{
    (void)state;
    struct workload workload;
    assert_int_equal(
        open_text(&workload, WORKLOAD_TRACE,
                  "{\"timestamp\": 27, \"input_length\": 513, \"output_length\": 6, "
                  "\"hash_ids\": [0, 46]}\n"
                  "{\"timestamp\": 3027, \"input_length\": 512, \"output_length\": 7, "
                  "\"hash_ids\": [18446744073709551615], \"other\": {}}\n"
                  "{\"timestamp\": 3027, \"input_length\": 9, \"output_length\": 8}\n"),
        -EBADMSG); /* json_u64() holds 63 bits. */
    assert_int_equal(
        open_text(&workload, WORKLOAD_TRACE,
                  "{\"timestamp\": 27, \"input_length\": 513, \"output_length\": 6, "
                  "\"hash_ids\": [0, 46]}\n"
                  "{\"timestamp\": 3027, \"input_length\": 512, \"output_length\": 7, "
                  "\"hash_ids\": [99], \"other\": {}}\n"
                  "{\"timestamp\": 3027, \"input_length\": 9, \"output_length\": 8}\n"),
        0);
    assert_int_equal(workload.count, 3);
    assert_item(&workload, 0, 0, 513, 6);
    assert_item(&workload, 1, 3000000, 512, 7);
    assert_item(&workload, 2, 3000000, 9, 8);
    assert_int_equal(workload.items[0].block_count, 2);
    assert_int_equal(workload.blocks[workload.items[0].block_first + 1], 46);
    assert_int_equal(workload.blocks[workload.items[1].block_first], 99);
    assert_int_equal(workload.items[2].block_count, 0);
    workload_close(&workload);
}

static void refuses_malformed_lines(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int line;
    } traces[] = {
        {"TIMESTAMP,ContextTokens\n", 1},
        {"ContextTokens,GeneratedTokens\n1,2\n", 1},
        {"1,2,3\n", 1},
        {HEADER TIME ",1,2\n" TIME ",1\n", 3},
        {HEADER TIME ",1,2\n" TIME "\n", 3},
        {HEADER TIME ",1x,2\n", 2},
        {HEADER TIME ",-1,2\n", 2},
        {HEADER TIME ",,2\n", 2},
        {HEADER TIME ", 1,2\n", 2},
        {HEADER TIME ",1,4294967296\n", 2},
        {HEADER TIME ",1,99999999999999999999999\n", 2},
        {HEADER "\n\n2023-11-16,1,2\n", 4},
        {HEADER "2023-13-16 00:00:00,1,2\n", 2},
        {HEADER "2023-00-16 00:00:00,1,2\n", 2},
        {HEADER "2023-11-32 00:00:00,1,2\n", 2},
        {HEADER "2023-11-16 24:00:00,1,2\n", 2},
        {HEADER "2023-11-16 23:60:00,1,2\n", 2},
        {HEADER "2023-11-16 23:00:0,1,2\n", 2},
        {HEADER "2023-11-16 23:00:00Q,1,2\n", 2},
        {HEADER "2023-11-16 23:00:00+01:00,1,2\n", 2},
        {HEADER TIME ".5,1,2\n" TIME ".4,1,2\n", 3},
        {BLOCKS "{\n", 2},
        {BLOCKS "[]\n", 2},
        {BLOCKS HEADER, 2},
        {BLOCKS "{\"input_length\":1,\"output_length\":5}\n", 2},
        {BLOCKS "{\"timestamp\":-1,\"input_length\":1,\"output_length\":5}\n", 2},
        {BLOCKS "{\"timestamp\":1.5,\"input_length\":1,\"output_length\":5}\n", 2},
        {BLOCKS "{\"timestamp\":1,\"input_length\":\"1\",\"output_length\":5}\n", 2},
        {BLOCKS "{\"timestamp\":1,\"input_length\":1}\n", 2},
        {BLOCKS "{\"timestamp\":1,\"input_length\":4294967296,\"output_length\":5}\n", 2},
        {"{\"timestamp\":1,\"input_length\":512,\"output_length\":5,\"hash_ids\":[1,2]}\n", 1},
        {"{\"timestamp\":1,\"input_length\":513,\"output_length\":5,\"hash_ids\":[1]}\n", 1},
        {"{\"timestamp\":1,\"input_length\":5,\"output_length\":5,\"hash_ids\":[\"a\"]}\n", 1},
        {"{\"timestamp\":1,\"input_length\":5,\"output_length\":5,\"hash_ids\":7}\n", 1},
    };
    for (size_t i = 0; i < sizeof traces / sizeof traces[0]; i++) {
        assert_refused(WORKLOAD_TRACE, traces[i].text, strlen(traces[i].text), traces[i].line);
    }
    assert_refused(WORKLOAD_BATCH, "1,2\n3\n", 6, 2);
    assert_refused(WORKLOAD_BATCH, "1,2\nx,2\n", 8, 2);
    assert_refused(WORKLOAD_BATCH, "a,b\n1,2\n", 8, 1);
    assert_refused(WORKLOAD_BATCH, "1,2\n1,\0002\n", 9, 2);
}

static void refuses_a_line_without_end(void **state)
{
    (void)state;
    enum { BYTES = 70000 };
    char *text = malloc(BYTES + 1);
    assert_non_null(text);
    memset(text, '1', BYTES);
    memcpy(text, "1,2\n", 4);
    text[BYTES] = '\0';
    assert_refused(WORKLOAD_BATCH, text, BYTES, 2);
    free(text);
}

static void refuses_files_without_requests(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "\n\n", HEADER, HEADER "?,0,5\n?,5,0\n"};
    char error[WORKLOAD_ERROR_BYTES_MAX], path[64];
    struct workload workload;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        assert_int_equal(open_bytes(&workload, WORKLOAD_BATCH, texts[i], strlen(texts[i]), error),
                         -ENODATA);
        assert_non_null(strstr(error, name_file(path)));
    }
    assert_int_equal(workload_open(&workload, WORKLOAD_BATCH, "/nowhere/at/all", CONTEXT, 1, error),
                     -ENOENT);
    assert_non_null(strstr(error, "/nowhere/at/all"));
    assert_int_equal(workload_open(&workload, WORKLOAD_BATCH, "/tmp", CONTEXT, 1, error), -EIO);
}

static void batches_leave_outliers_out(void **state)
{
    (void)state;
    struct workload workload;
    assert_int_equal(open_text(&workload, WORKLOAD_BATCH,
                               "241402,5\n1000,5\n999,1\n5,1000\n0,7\n7,0\n400,700\n5,999\n2,2\n"),
                     0);
    assert_int_equal(workload.count, 4);
    assert_item(&workload, 0, 0, 999, 1);
    assert_item(&workload, 1, 0, 400, 600);
    assert_item(&workload, 2, 0, 5, 995);
    assert_item(&workload, 3, 0, 2, 2);
    assert_int_equal(workload.skipped, 5);
    assert_int_equal(workload.clipped, 2);
    workload_close(&workload);
}

static void traces_keep_every_arrival(void **state)
{
    (void)state;
    struct workload workload;
    assert_int_equal(open_text(&workload, WORKLOAD_TRACE,
                               HEADER TIME ",0,5\n" TIME ".5,14050,39\n" TIME ".7,600,400\n" TIME
                                           ".8,600,401\n" TIME ".9,600,5000\n"),
                     0);
    assert_int_equal(workload.count, 4);
    assert_item(&workload, 0, 0, 961, 39); /* The first usable one is at 0. */
    assert_item(&workload, 1, 200000, 600, 400);
    assert_item(&workload, 2, 300000, 599, 401);
    assert_item(&workload, 3, 400000, 1, 999);
    assert_int_equal(workload.skipped, 1);
    assert_int_equal(workload.clipped, 3);
    workload_close(&workload);
    assert_int_equal(open_text(&workload, WORKLOAD_TRACE, BLOCKS), 0);
    assert_item(&workload, 0, 0, 995, 5);
    assert_int_equal(workload.items[0].block_count, 2);
    workload_close(&workload);
}

static void the_first_usable_lines_are_taken(void **state)
{
    (void)state;
    char text[4096] = HEADER "?,0,0\n";
    struct workload workload;
    for (int i = 1; i <= ITEMS_MAX; i++) {
        const size_t count = strlen(text);
        (void)snprintf(text + count, sizeof text - count, "?,%d,1\n", i);
    }
    const size_t count = strlen(text);
    (void)snprintf(text + count, sizeof text - count, "this is never read\n");
    assert_int_equal(open_text(&workload, WORKLOAD_BATCH, text), 0);
    assert_int_equal(workload.count, ITEMS_MAX);
    assert_int_equal(workload.skipped, 1);
    assert_item(&workload, ITEMS_MAX - 1, 0, ITEMS_MAX, 1);
    workload_close(&workload);
}

/* The files that the acceptance runs replay. */
static void reads_the_real_files(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum workload_kind kind;
        size_t count;
    } files[] = {
        {"AzureLLMInferenceTrace_conv.csv", WORKLOAD_TRACE, 19366},
        {"mooncake_synthetic_trace.jsonl", WORKLOAD_TRACE, 3993},
        {"nanoflow_sharegpt_lengths.csv", WORKLOAD_BATCH, 58787},
        {"vidur_arxiv_summarization_lengths.csv", WORKLOAD_BATCH, 28257},
    };
    const char *data = getenv("SLUICE_TEST_DATA");
    if (!data) {
        print_message("skipped: 4 files, SLUICE_TEST_DATA is not set\n");
        skip();
    }
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char full[1024], error[WORKLOAD_ERROR_BYTES_MAX];
        struct workload workload;
        (void)snprintf(full, sizeof full, "%s/traces/%s", data, files[i].name);
        if (workload_open(&workload, files[i].kind, full, 8192, SIZE_MAX, error) != 0) {
            fail_msg("%s", error);
        }
        assert_int_equal(workload.count + workload.skipped, files[i].count);
        assert_true(workload.count > files[i].count * 9 / 10);
        workload_close(&workload);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_azure),
        cmocka_unit_test(a_byte_order_mark_is_no_text),
        cmocka_unit_test(months_have_their_days),
        cmocka_unit_test(reads_lengths_by_their_columns),
        cmocka_unit_test(reads_mooncake),
        cmocka_unit_test(refuses_malformed_lines),
        cmocka_unit_test(refuses_a_line_without_end),
        cmocka_unit_test(refuses_files_without_requests),
        cmocka_unit_test(batches_leave_outliers_out),
        cmocka_unit_test(traces_keep_every_arrival),
        cmocka_unit_test(the_first_usable_lines_are_taken),
        cmocka_unit_test(reads_the_real_files),
    };
    return cmocka_run_group_tests_name("workload", tests, NULL, NULL);
}
