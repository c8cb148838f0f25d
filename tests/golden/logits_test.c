/*
 * logits_test.c - the engine against float64 logits and greedy continuations that were computed
 * elsewhere: stories260K (trained) and neural-api-tiny (random), found through SLUICE_TEST_DATA.
 *
 * Tokens are compared up to the first position where the two best logits are closer than a stated
 * gap: there a correct engine may choose the other one.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/json.h"
#include "tests/unit/workers/probe.h"

enum { PATH_BYTES = 512, IDS_MAX = 1024 };

static const char *data_root(void)
{
    const char *root = getenv("SLUICE_TEST_DATA");
    if (!root) {
        print_message("skipped: SLUICE_TEST_DATA is not set\n");
        skip();
    }
    return root;
}

static struct json *parse(const char *path)
{
    struct json *root = NULL;
    struct json_error error = {{0}};
    if (json_parse_file(path, &root, &error)) {
        fail_msg("%s: %s", path, error.text);
    }
    return root;
}

static uint32_t read_ids(const struct json *array, uint32_t *ids)
{
    const size_t count = json_count(array);
    assert_in_range(count, 1, IDS_MAX);
    for (size_t i = 0; i < count; i++) {
        uint64_t id;
        assert_true(json_u64(json_at(array, i), &id));
        ids[i] = (uint32_t)id;
    }
    return (uint32_t)count;
}

/* Largest |a - b| over a row of the reference, and its largest magnitude. */
static void compare_row(const float *logits, const struct json *row, uint32_t vocab,
                        double *difference, double *magnitude)
{
    assert_int_equal(json_count(row), vocab);
    for (uint32_t i = 0; i < vocab; i++) {
        double expected;
        assert_true(json_f64(json_at(row, i), &expected));
        assert_true(isfinite(logits[i]));
        *difference = fmax(*difference, fabs((double)logits[i] - expected));
        *magnitude = fmax(*magnitude, fabs(expected));
    }
}

struct tolerance {
    double logits; /* Of the largest magnitude. */
    double gap;    /* Tokens count up to here; 0: twice the measured difference. */
};

/* The prompt in chunks, then its continuation token by token. Returns the difference allowed. */
static double check_case(struct probe *probe, const struct json *golden,
                         const struct tolerance *tolerance)
{
    uint32_t prompt[IDS_MAX];
    uint32_t greedy[IDS_MAX];
    const uint32_t prompt_count = read_ids(json_get(golden, "prompt_ids"), prompt);
    const uint32_t greedy_count = read_ids(json_get(golden, "greedy_ids"), greedy);
    double difference = 0;
    double magnitude = 0;
    probe_restart(probe);
    const float *logits = probe_feed(probe, prompt, prompt_count);
    compare_row(logits, json_get(golden, "last_logits"), probe->vocab, &difference, &magnitude);
    assert_true(difference <= tolerance->logits * magnitude);
    const double gap_min = tolerance->gap > 0 ? tolerance->gap : 2 * difference;
    uint32_t equal = 0;
    while (equal < greedy_count) {
        float gap;
        const uint32_t id = probe_best(logits, probe->vocab, &gap);
        if ((double)gap < gap_min) {
            break;
        }
        assert_int_equal(id, greedy[equal]);
        equal++;
        logits = probe_feed(probe, &id, 1);
    }
    assert_true(equal > 0);
    print_message("  prompt of %3u: difference %.1e of %.1f, %u of %u tokens compared\n",
                  prompt_count, difference, magnitude, equal, greedy_count);
    return tolerance->logits * magnitude;
}

/* The same prompt token by token: the path of decoding, at each position. */
static void check_positions(struct probe *probe, const struct json *golden, double allowed)
{
    uint32_t prompt[IDS_MAX];
    const uint32_t count = read_ids(json_get(golden, "prompt_ids"), prompt);
    const struct json *best = json_get(golden, "argmax_per_position");
    const struct json *max = json_get(golden, "max_logit_per_position");
    assert_int_equal(json_count(best), count);
    probe_restart(probe);
    for (uint32_t i = 0; i < count; i++) {
        const float *logits = probe_feed(probe, &prompt[i], 1);
        float gap;
        const uint32_t id = probe_best(logits, probe->vocab, &gap);
        double expected;
        uint64_t expected_id;
        assert_true(json_f64(json_at(max, i), &expected));
        assert_true(json_u64(json_at(best, i), &expected_id));
        assert_true(fabs((double)logits[id] - expected) <= allowed);
        assert_true(id == expected_id || (double)gap < 2 * allowed);
    }
}

static void check_golden(const char *model, const char *golden_path, enum kern_dtype dtype,
                         const struct tolerance *tolerance)
{
    struct json *root = parse(golden_path);
    const struct json *cases = json_get(root, "cases");
    assert_true(json_count(cases) > 0);
    /* A step smaller than the prompts, so that they are cut. */
    struct probe probe = probe_open(
        model, (struct engine_options){
                   .dtype = dtype, .isa = kern_isa_detect(), .threads = 2, .tokens_max = 37});
    for (size_t i = 0; i < json_count(cases); i++) {
        const double allowed = check_case(&probe, json_at(cases, i), tolerance);
        check_positions(&probe, json_at(cases, i), allowed);
    }
    probe_close(&probe);
    json_free(root);
}

/* A directory in /tmp whose files are links to files of the data set. */
struct linked {
    char path[64];
    char *files[8];
    uint32_t count;
};

static void linked_open(struct linked *linked)
{
    *linked = (struct linked){.path = "/tmp/sluice-golden-XXXXXX"};
    assert_non_null(mkdtemp(linked->path));
}

static void linked_add(struct linked *linked, const char *root, const char *from, const char *name)
{
    char *target;
    char **file = &linked->files[linked->count++];
    assert_true(asprintf(&target, "%s/models/%s", root, from) > 0);
    assert_true(asprintf(file, "%s/%s", linked->path, name) > 0);
    assert_int_equal(symlink(target, *file), 0);
    free(target);
}

static void linked_remove(const struct linked *linked)
{
    for (uint32_t i = 0; i < linked->count; i++) {
        assert_int_equal(unlink(linked->files[i]), 0);
        free(linked->files[i]);
    }
    assert_int_equal(rmdir(linked->path), 0);
}

static const struct tolerance exact = {.logits = 1e-4, .gap = 1e-3};
static const char tiny_llama[] = "tiny_llama_logits.json";
static const struct tolerance rounded = {.logits = 2e-2, .gap = 0};

static void stories_in_f32(void **state)
{
    (void)state;
    const char *root = data_root();
    char model[PATH_BYTES];
    char golden[PATH_BYTES];
    (void)snprintf(model, sizeof model, "%s/models/stories260K-hf", root);
    (void)snprintf(golden, sizeof golden, "%s/models/stories260K-hf/golden.json", root);
    check_golden(model, golden, KERN_F32, &exact);
}

static void stories_sharded_in_f32(void **state)
{
    (void)state;
    const char *root = data_root();
    struct linked linked;
    linked_open(&linked);
    linked_add(&linked, root, "stories260K-hf/config.json", "config.json");
    linked_add(&linked, root, "stories260K-hf/variants/sharded/model.safetensors.index.json",
               "model.safetensors.index.json");
    static const char *const shards[] = {"model-00001-of-00003.safetensors",
                                         "model-00002-of-00003.safetensors",
                                         "model-00003-of-00003.safetensors"};
    for (size_t i = 0; i < 3; i++) {
        char from[PATH_BYTES];
        (void)snprintf(from, sizeof from, "stories260K-hf/variants/sharded/%s", shards[i]);
        linked_add(&linked, root, from, shards[i]);
    }
    char golden[PATH_BYTES];
    (void)snprintf(golden, sizeof golden, "%s/models/stories260K-hf/golden.json", root);
    check_golden(linked.path, golden, KERN_F32, &exact);
    linked_remove(&linked);
}

static void check_bf16_file(enum kern_dtype dtype, const struct tolerance *tolerance)
{
    const char *root = data_root();
    struct linked linked;
    linked_open(&linked);
    linked_add(&linked, root, "stories260K-hf/config.json", "config.json");
    linked_add(&linked, root, "stories260K-hf/variants/bf16/model.safetensors",
               "model.safetensors");
    char golden[PATH_BYTES];
    (void)snprintf(golden, sizeof golden, "%s/models/stories260K-hf/golden_bf16.json", root);
    check_golden(linked.path, golden, dtype, tolerance);
    linked_remove(&linked);
}

static void stories_bf16_file_in_f32(void **state)
{
    (void)state;
    check_bf16_file(KERN_F32, &exact);
}

static void stories_bf16_file_in_bf16(void **state)
{
    (void)state;
    if ((kern_isa_detect() & (KERN_ISA_AVX512_BF16 | KERN_ISA_AMX_BF16)) == 0) {
        print_message("skipped: this CPU has no bf16 products\n");
        skip();
    }
    check_bf16_file(KERN_BF16, &rounded);
}

/* Sequences from position 0, each with the logits of every position. */
static void check_tiny(const char *model, const char *logits_file, double tolerance)
{
    char path[PATH_BYTES];
    (void)snprintf(path, sizeof path, "%s/models/neural-api-tiny/%s", data_root(), logits_file);
    struct json *root = parse(path);
    const struct json *sequences = json_get(root, "sequences");
    const struct json *logits = json_get(root, "logits");
    assert_int_equal(json_count(sequences), json_count(logits));
    struct probe probe =
        probe_open(model, (struct engine_options){.dtype = KERN_F32, .isa = kern_isa_detect()});
    double difference = 0;
    double magnitude = 0;
    for (size_t i = 0; i < json_count(sequences); i++) {
        uint32_t ids[IDS_MAX];
        const uint32_t count = read_ids(json_at(sequences, i), ids);
        probe_restart(&probe);
        for (uint32_t j = 0; j < count; j++) {
            compare_row(probe_feed(&probe, &ids[j], 1), json_at(json_at(logits, i), j), probe.vocab,
                        &difference, &magnitude);
        }
    }
    print_message("  difference %.1e of %.1f\n", difference, magnitude);
    assert_true(difference <= tolerance);
    probe_close(&probe);
    json_free(root);
}

static void check_tiny_folder(const char *config, const char *weights, const char *logits_file)
{
    const char *root = data_root();
    struct linked linked;
    linked_open(&linked);
    linked_add(&linked, root, config, "config.json");
    linked_add(&linked, root, weights, "model.safetensors");
    check_tiny(linked.path, logits_file, 1e-3);
    linked_remove(&linked);
}

static void tiny_llama_safetensors(void **state)
{
    (void)state;
    check_tiny_folder("neural-api-tiny/tiny_llama_config.json",
                      "neural-api-tiny/tiny_llama.safetensors", tiny_llama);
}

static void tiny_mixtral_safetensors(void **state)
{
    (void)state;
    check_tiny_folder("neural-api-tiny/tiny_mixtral_config.json",
                      "neural-api-tiny/tiny_mixtral.safetensors", "tiny_mixtral_logits.json");
}

static void tiny_llama_gguf(void **state)
{
    (void)state;
    const char *root = data_root();
    char model[PATH_BYTES];
    (void)snprintf(model, sizeof model, "%s/models/neural-api-tiny/tiny_llama_f32.gguf", root);
    check_tiny(model, tiny_llama, 1e-3);
    (void)snprintf(model, sizeof model, "%s/models/neural-api-tiny/tiny_llama_f16.gguf", root);
    check_tiny(model, tiny_llama, 1e-2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stories_in_f32),           cmocka_unit_test(stories_sharded_in_f32),
        cmocka_unit_test(stories_bf16_file_in_f32), cmocka_unit_test(stories_bf16_file_in_bf16),
        cmocka_unit_test(tiny_llama_safetensors),   cmocka_unit_test(tiny_llama_gguf),
        cmocka_unit_test(tiny_mixtral_safetensors),
    };
    return cmocka_run_group_tests_name("logits", tests, NULL, NULL);
}
