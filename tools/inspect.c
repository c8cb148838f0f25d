/*
 * inspect.c - sluicectl inspect: reads a model as a worker would and prints its numbers, or the one
 * line that a worker would refuse it with. A GGUF with a vocabulary alone and a single .safetensors
 * file have no numbers: only their tables are judged. Called by sluicectl's dispatcher; runs once,
 * without an agent, and owns what it opens.
 */
#include "tools/inspect.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/json.h"
#include "model/gguf.h"
#include "model/safetensors.h"
#include "model/weights.h"
#include "tools/options.h"

#define COMMAND "sluicectl inspect"

static void add_text(struct json *object, const char *key, const char *text)
{
    json_add(object, key, json_new_string(text, strlen(text)));
}

static void add_hparams(struct json *root, const struct hparams *hparams)
{
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {
        {"hidden", hparams->hidden},
        {"layers", hparams->layers},
        {"heads", hparams->heads},
        {"kv_heads", hparams->kv_heads},
        {"head_dim", hparams->head_dim},
        {"ffn", hparams->ffn},
        {"vocab", hparams->vocab},
        {"positions_max", hparams->positions_max},
        {"parameters", hparams_parameters(hparams)},
    };
    add_text(root, "architecture", hparams->architecture);
    add_text(root, "dtype", hparams->stored_dtype);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        json_add(root, rows[i].name, json_new_u64(rows[i].value));
    }
    if (hparams->experts > 0) {
        json_add(root, "experts", json_new_u64(hparams->experts));
        json_add(root, "experts_used", json_new_u64(hparams->experts_used));
    }
    json_add(root, "tied_embeddings", json_new_bool(hparams->tied_embeddings));
}

static void add_tensors(struct json *root, const struct tensor_table *table)
{
    json_add(root, "tensors", json_new_u64(table->count));
}

static int inspect_safetensors(struct json *root, const char *path, struct model_error *error)
{
    struct safetensors *file = NULL;
    const int code = safetensors_open(&file, path, error);
    if (!code) {
        add_text(root, "architecture", "none");
        add_tensors(root, safetensors_tensors(file));
        safetensors_close(file);
    }
    return code;
}

static int inspect_weights(struct json *root, const char *path, struct model_error *error)
{
    struct weights *weights = NULL;
    const int code = weights_open(&weights, path, error);
    if (!code) {
        add_hparams(root, weights_hparams(weights));
        add_tensors(root, weights_table(weights));
        weights_close(weights);
    }
    return code;
}

/* A GGUF without tensors is a vocabulary; any other is a model. */
static int inspect_gguf(struct json *root, const char *path, struct model_error *error)
{
    struct gguf *gguf = NULL;
    const int code = gguf_open(&gguf, path, error);
    if (code) {
        return code;
    }
    uint64_t vocab = 0;
    const char *name = "none";
    size_t name_bytes = strlen(name);
    const bool vocabulary =
        gguf_tensors(gguf)->count == 0 && gguf_array_count(gguf, "tokenizer.ggml.tokens", &vocab);
    if (vocabulary) {
        (void)gguf_string(gguf, "general.architecture", &name, &name_bytes);
        json_add(root, "architecture", json_new_string(name, name_bytes));
        json_add(root, "vocab", json_new_u64(vocab));
        json_add(root, "tensors", json_new_u64(0));
    }
    gguf_close(gguf);
    return vocabulary ? 0 : inspect_weights(root, path, error);
}

static bool ends_with(const char *text, const char *end)
{
    const size_t count = strlen(text);
    const size_t end_count = strlen(end);
    return count >= end_count && strcmp(text + count - end_count, end) == 0;
}

static int inspect_path(struct json *root, const char *path, struct model_error *error)
{
    struct stat info;
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) {
        return inspect_weights(root, path, error);
    }
    return ends_with(path, ".safetensors") ? inspect_safetensors(root, path, error)
                                           : inspect_gguf(root, path, error);
}

static void print_table(const struct json *root)
{
    for (struct json_member *at = json_first(root); at; at = json_next(root, at)) {
        char *value = json_dump(json_member_value(at));
        (void)printf("%-18s%s\n", json_member_key(at), value);
        free(value);
    }
}

static void print_json(const struct json *root)
{
    char *line = json_dump(root);
    (void)puts(line);
    free(line);
}

static int inspect(const char *path, bool as_json)
{
    struct model_error error = {{0}};
    struct json *root = json_new_object();
    const int code = inspect_path(root, path, &error);
    if (code) {
        add_text(root, "error", error.text);
    }
    if (as_json) {
        print_json(root);
    } else if (code) {
        (void)fprintf(stderr, COMMAND ": %s\n", error.text);
    } else {
        print_table(root);
    }
    json_free(root);
    return fflush(stdout) == 0 && !code ? EXIT_STATUS_DONE : EXIT_STATUS_FAILED;
}

/* The first argument that is no option, taken out of the list; all options here are flags. */
static const char *take_path(int *argc, char **argv)
{
    for (int i = 1; i < *argc; i++) {
        if (argv[i][0] != '-') {
            const char *path = argv[i];
            memmove(&argv[i], &argv[i + 1], (size_t)(*argc - i) * sizeof argv[0]); /* With NULL. */
            (*argc)--;
            return path;
        }
    }
    return NULL;
}

int inspect_main(int argc, char **argv)
{
    bool as_json = false;
    const struct options_row rows[] = {
        {"json", OPTIONS_FLAG, 0, &as_json, NULL, "one JSON object; a refusal is {\"error\":...}"},
    };
    const struct options options = {COMMAND " PATH",
                                    "Checks a model directory, a GGUF or a .safetensors file.",
                                    rows, sizeof rows / sizeof rows[0]};
    const char *path = take_path(&argc, argv);
    uint32_t flags;
    int status;

    if (!options_parse(&options, argc, argv, &flags, &status)) {
        return status;
    }
    return path ? inspect(path, as_json) : options_wrong(COMMAND, "PATH is missing");
}
