/*
 * compare.c - sluice-bench compare A.json B.json: a table of two results. Called by main of
 * sluice-bench; runs once, without an agent, and owns what it opens. A figure that only one file
 * has is left out; settings that differ are shown first, for they may be why figures differ.
 */
#include "tools/compare.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "tools/options.h"

#define COMMAND "sluice-bench compare"

enum { CELL = 14, LABEL = 34 };

/* What is better. */
enum side { SIDE_NONE, SIDE_HIGH, SIDE_LOW };

struct row {
    const char *key;
    const char *label;
    enum side better;
};

static const struct row settings[] = {
    {"model_id", "Model", SIDE_NONE},
    {"dataset", "Dataset", SIDE_NONE},
    {"num_prompts", "Requests", SIDE_NONE},
    {"max_concurrency", "Concurrency bound", SIDE_NONE},
    {"request_rate", "Request rate", SIDE_NONE},
    {"burstiness", "Burstiness", SIDE_NONE},
    {"speed", "Speed of the trace", SIDE_NONE},
    {"seed", "Seed", SIDE_NONE},
};

static const struct row figures[] = {
    {"completed", "Completed", SIDE_NONE},
    {"failed", "Failed", SIDE_LOW},
    {"duration", "Duration (s)", SIDE_NONE},
    {"total_input_tokens", "Input tokens", SIDE_NONE},
    {"total_cached_tokens", "Input tokens from a cache", SIDE_NONE},
    {"total_output_tokens", "Output tokens", SIDE_NONE},
    {"request_throughput", "Requests/s", SIDE_HIGH},
    {"request_goodput", "Good requests/s", SIDE_HIGH},
    {"output_throughput", "Output tokens/s", SIDE_HIGH},
    {"total_token_throughput", "All tokens/s", SIDE_HIGH},
    {"max_output_tokens_per_s", "Output tokens in the best second", SIDE_HIGH},
    {"max_concurrent_requests", "Requests under way, at most", SIDE_NONE},
    {"mean_ttft_ms", "TTFT mean (ms)", SIDE_LOW},
    {"median_ttft_ms", "TTFT median (ms)", SIDE_LOW},
    {"p99_ttft_ms", "TTFT p99 (ms)", SIDE_LOW},
    {"mean_tpot_ms", "TPOT mean (ms)", SIDE_LOW},
    {"median_tpot_ms", "TPOT median (ms)", SIDE_LOW},
    {"p99_tpot_ms", "TPOT p99 (ms)", SIDE_LOW},
    {"mean_itl_ms", "ITL mean (ms)", SIDE_LOW},
    {"median_itl_ms", "ITL median (ms)", SIDE_LOW},
    {"p99_itl_ms", "ITL p99 (ms)", SIDE_LOW},
    {"mean_e2el_ms", "E2EL mean (ms)", SIDE_LOW},
    {"median_e2el_ms", "E2EL median (ms)", SIDE_LOW},
    {"p99_e2el_ms", "E2EL p99 (ms)", SIDE_LOW},
};

/* Opens a result. NULL after one line on stderr. */
static struct json *open_result(const char *path)
{
    struct json_error error = {.text = ""};
    struct json *root = NULL;
    const int status = json_parse_file(path, &root, &error);
    double duration;

    if (status != 0) {
        (void)fprintf(stderr, "%s: %s: %s\n", COMMAND, path,
                      error.text[0] ? error.text : strerror(-status));
        return NULL;
    }
    if (!json_f64(json_get(root, "duration"), &duration)) {
        (void)fprintf(stderr, "%s: %s: this is no result: it has no duration\n", COMMAND, path);
        json_free(root);
        return NULL;
    }
    return root;
}

static void print_setting(const struct row *row, const struct json *a, const struct json *b)
{
    const struct json *left = json_get(a, row->key), *right = json_get(b, row->key);
    char *left_text = left ? json_dump(left) : NULL;
    char *right_text = right ? json_dump(right) : NULL;

    if (left_text && right_text && strcmp(left_text, right_text) != 0) {
        (void)printf("%-*s A %s\n%-*s B %s\n", LABEL, row->label, left_text, LABEL, "", right_text);
    }
    free(left_text);
    free(right_text);
}

static const char *judge(const struct row *row, double a, double b)
{
    if (row->better == SIDE_NONE || a == b) {
        return "";
    }
    return (b > a) == (row->better == SIDE_HIGH) ? "better" : "worse";
}

static void print_figure(const struct row *row, const struct json *a, const struct json *b)
{
    double left, right;
    int digits;

    if (!json_f64(json_get(a, row->key), &left) || !json_f64(json_get(b, row->key), &right)) {
        return;
    }
    digits = left == floor(left) && right == floor(right) ? 0 : 2; /* Counts have none. */
    (void)printf("%-*s %*.*f %*.*f ", LABEL, row->label, CELL, digits, left, CELL, digits, right);
    if (left > 0) {
        (void)printf("%8.3f  %s\n", right / left, judge(row, left, right));
    } else {
        (void)printf("%8s  %s\n", "-", judge(row, left, right));
    }
}

static void print_table(const char *const paths[2], const struct json *a, const struct json *b)
{
    (void)printf("A: %s\nB: %s\n\n", paths[0], paths[1]);
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        print_setting(&settings[i], a, b);
    }
    (void)printf("%-*s %*s %*s %8s  %s\n", LABEL, "", CELL, "A", CELL, "B", "B / A", "B is");
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++) {
        print_figure(&figures[i], a, b);
    }
}

/* Takes the words that are no options out of argv. Their number; the first two are kept. */
static int take_paths(int *argc, char **argv, const char *paths[2])
{
    int kept = 1, found = 0;

    for (int i = 1; i < *argc; i++) {
        if (argv[i][0] == '-') {
            argv[kept++] = argv[i];
        } else if (found++ < 2) {
            paths[found - 1] = argv[i];
        }
    }
    *argc = kept;
    return found;
}

int compare_main(int argc, char **argv)
{
    static const struct options options = {COMMAND " A.json B.json",
                                           "Compares two results of --json.", NULL, 0};
    const char *paths[2] = {NULL, NULL};
    const int found = take_paths(&argc, argv, paths);
    struct json *a, *b;
    uint32_t flags;
    int status = EXIT_STATUS_FAILED;

    if (!options_parse(&options, argc, argv, &flags, &status)) {
        return status;
    }
    if (found != 2) {
        return options_wrong(COMMAND, "it takes two files");
    }
    a = open_result(paths[0]);
    b = a ? open_result(paths[1]) : NULL;
    status = b ? EXIT_STATUS_DONE : EXIT_STATUS_FAILED;
    if (b) {
        print_table(paths, a, b);
    }
    json_free(a);
    json_free(b);
    return status;
}
