/*
 * tokenize.c - sluicectl tokenize and detokenize: standard input to standard output with the
 * tokenizer of a model. Called by sluicectl's dispatcher; runs once and owns what it opens. The
 * input is taken byte for byte, a last line break included. Invariant: nothing is written to
 * standard output unless all of the input was understood.
 */
#include "tools/tokenize.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "model/tokenizer.h"

enum { EXIT_REFUSED = 1, EXIT_USAGE = 2 };

struct options {
    const char *model;
    unsigned flags; /* TOKENIZER_... */
    bool json;
};

/* What a run has open; close_run() ends all of it. */
struct run {
    struct options options;
    struct tokenizer *tokenizer;
    char *input;
    size_t input_bytes;
};

static const char TOKENIZE_USAGE[] =
    "usage: sluicectl tokenize --model PATH [--no-special] [--parse-special] [--json] < TEXT\n"
    "  --model PATH      model directory, directory with tokenizer.json, or GGUF\n"
    "  --no-special      add no BOS / EOS\n"
    "  --parse-special   special tokens in the text become their ids\n"
    "  --json            {\"ids\":[...]} instead of ids on one line\n";

static const char DETOKENIZE_USAGE[] =
    "usage: sluicectl detokenize --model PATH [--skip-special] [--json] < IDS\n"
    "  --model PATH      model directory, directory with tokenizer.json, or GGUF\n"
    "  --skip-special    leave special tokens out\n"
    "  --json            {\"text\":\"...\"} instead of the text itself\n"
    "IDS is what tokenize prints, ids between blanks, or a JSON array of them.\n";

static const struct option TOKENIZE_OPTIONS[] = {{"model", required_argument, NULL, 'm'},
                                                 {"no-special", no_argument, NULL, 'n'},
                                                 {"parse-special", no_argument, NULL, 'p'},
                                                 {"json", no_argument, NULL, 'j'},
                                                 {"help", no_argument, NULL, 'h'},
                                                 {"version", no_argument, NULL, 'v'},
                                                 {NULL, 0, NULL, 0}};

static const struct option DETOKENIZE_OPTIONS[] = {
    {"model", required_argument, NULL, 'm'}, {"skip-special", no_argument, NULL, 's'},
    {"json", no_argument, NULL, 'j'},        {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'v'},     {NULL, 0, NULL, 0}};

/* True when the command goes on; else *status is its exit status. */
static bool parse_options(int argc, char **argv, const struct option *table, const char *usage,
                          struct options *options, int *status)
{
    *status = EXIT_USAGE;
    optind = 0; /* The dispatcher may have parsed before. */
    for (int name; (name = getopt_long(argc, argv, "", table, NULL)) != -1;) {
        switch (name) {
        case 'm':
            options->model = optarg;
            break;
        case 'n':
            options->flags &= ~(unsigned)TOKENIZER_ADD_SPECIAL;
            break;
        case 'p':
            options->flags |= TOKENIZER_PARSE_SPECIAL;
            break;
        case 's':
            options->flags |= TOKENIZER_SKIP_SPECIAL;
            break;
        case 'j':
            options->json = true;
            break;
        case 'h':
            (void)fputs(usage, stdout);
            *status = 0;
            return false;
        case 'v':
            (void)printf("sluicectl %s\n", SLUICE_VERSION);
            *status = 0;
            return false;
        default: /* getopt_long() has said what is wrong. */
            (void)fputs(usage, stderr);
            return false;
        }
    }
    if (!options->model || optind != argc) {
        (void)fprintf(stderr, "%s: %s\n%s", argv[0],
                      options->model ? "it takes no arguments" : "--model is missing", usage);
        return false;
    }
    return true;
}

/* All of standard input. */
static int read_input(struct run *run)
{
    size_t room = 0;
    for (;;) {
        if (run->input_bytes == room) {
            room = room > 0 ? 2 * room : 65536;
            char *grown = realloc(run->input, room);
            if (!grown) {
                return -ENOMEM;
            }
            run->input = grown;
        }
        const size_t got = fread(run->input + run->input_bytes, 1, room - run->input_bytes, stdin);
        run->input_bytes += got;
        if (run->input_bytes > LIMIT_FRAME_BYTES_MAX) {
            return -E2BIG;
        }
        if (got == 0) {
            return ferror(stdin) ? -EIO : 0;
        }
    }
}

static int open_run(struct run *run)
{
    struct model_error error = {{0}};
    const int code = tokenizer_open(&run->tokenizer, run->options.model, &error);
    if (code) {
        (void)fprintf(stderr, "sluicectl: %s\n", error.text[0] ? error.text : strerror(-code));
        return code;
    }
    const int input = read_input(run);
    if (input) {
        (void)fprintf(stderr, "sluicectl: standard input: %s\n", strerror(-input));
    }
    return input;
}

static void close_run(struct run *run)
{
    tokenizer_close(run->tokenizer);
    free(run->input);
}

/* 0, or 1 when standard output did not take all. */
static int end_output(void)
{
    if (fflush(stdout) != 0 || ferror(stdout)) {
        (void)fprintf(stderr, "sluicectl: standard output: %s\n", strerror(errno));
        return EXIT_REFUSED;
    }
    return 0;
}

static int print_json(const char *key, struct json *value)
{
    struct json *object = json_new_object();
    json_add(object, key, value);
    char *line = json_dump(object);
    (void)puts(line);
    free(line);
    json_free(object);
    return end_output();
}

static int print_ids(const struct ids *ids, bool json)
{
    if (!json) {
        for (size_t i = 0; i < ids->count; i++) {
            (void)printf(i > 0 ? " %u" : "%u", ids->items[i]);
        }
        (void)puts("");
        return end_output();
    }
    struct json *list = json_new_array();
    for (size_t i = 0; i < ids->count; i++) {
        json_append(list, json_new_u64(ids->items[i]));
    }
    return print_json("ids", list);
}

static int encode(const struct run *run, struct tokenizer_scratch *scratch)
{
    /* Normalisation grows a text at most eleven-fold, and a token covers at least one byte. */
    struct ids ids = {.max = 12 * (run->input_bytes + 16)};
    ids.items = malloc(ids.max * sizeof *ids.items);
    if (!ids.items) {
        (void)fputs("sluicectl: out of memory\n", stderr);
        return EXIT_REFUSED;
    }
    const int code = tokenizer_encode(run->tokenizer, scratch, run->input, run->input_bytes,
                                      run->options.flags, &ids);
    int status = EXIT_REFUSED;
    if (code) {
        (void)fprintf(stderr, "sluicectl: standard input: %s\n",
                      code == -EINVAL ? "not valid UTF-8" : strerror(-code));
    } else {
        status = print_ids(&ids, run->options.json);
    }
    free(ids.items);
    return status;
}

int tokenize_main(int argc, char **argv)
{
    struct run run = {.options = {.flags = TOKENIZER_ADD_SPECIAL}};
    struct tokenizer_scratch *scratch = NULL;
    int status;
    if (!parse_options(argc, argv, TOKENIZE_OPTIONS, TOKENIZE_USAGE, &run.options, &status)) {
        return status;
    }
    status = EXIT_REFUSED;
    if (open_run(&run) == 0) {
        if (tokenizer_scratch_open(&scratch, run.tokenizer, run.input_bytes)) {
            (void)fputs("sluicectl: out of memory\n", stderr);
        } else {
            status = encode(&run, scratch);
        }
    }
    tokenizer_scratch_close(scratch);
    close_run(&run);
    return status;
}

/* Text of a JSON array of ids to out[0..*bytes), which the caller frees. Prints what is wrong. */
static int decode(const struct run *run, const struct json *list, char **out, size_t *bytes)
{
    const size_t count = json_count(list);
    const size_t step = DETOK_OUT_BYTES_MAX; /* Of one token, or of the end. */
    struct detok detok = {0};
    size_t room = 2 * step;
    char *text = malloc(room);
    *bytes = 0;
    for (size_t i = 0; i < count && text; i++) {
        uint64_t id;
        size_t more;
        if (!json_u64(json_at(list, i), &id) || id >= tokenizer_vocab(run->tokenizer)) {
            (void)fprintf(stderr, "sluicectl: item %zu is no id of a vocabulary of %u\n", i,
                          tokenizer_vocab(run->tokenizer));
            free(text);
            return EXIT_REFUSED;
        }
        tokenizer_decode(run->tokenizer, &detok, (uint32_t)id, run->options.flags, text + *bytes,
                         &more);
        *bytes += more;
        if (room - *bytes < 2 * step) {
            room *= 2;
            char *grown = realloc(text, room);
            if (!grown) {
                free(text);
            }
            text = grown;
        }
    }
    if (!text) {
        (void)fputs("sluicectl: out of memory\n", stderr);
        return EXIT_REFUSED;
    }
    size_t more;
    tokenizer_decode_end(&detok, text + *bytes, &more);
    *bytes += more;
    *out = text;
    return 0;
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Ids between blanks; what is no number, or a large one, becomes null, which is no id. */
static struct json *list_words(const char *text, size_t count)
{
    struct json *list = json_new_array();
    size_t i = 0;
    for (;;) {
        uint64_t id = 0;
        bool number = true;
        while (i < count && is_blank(text[i])) {
            i++;
        }
        if (i == count) {
            return list;
        }
        for (; i < count && !is_blank(text[i]); i++) {
            number = number && text[i] >= '0' && text[i] <= '9' && id <= UINT32_MAX;
            id = number ? id * 10 + (uint64_t)(text[i] - '0') : 0;
        }
        json_append(list, number ? json_new_u64(id) : json_new_null());
    }
}

/* The ids of standard input; NULL after a line on stderr. */
static struct json *read_ids(const struct run *run)
{
    struct json_error reason = {{0}};
    struct json *list = NULL;
    size_t first = 0;
    while (first < run->input_bytes && is_blank(run->input[first])) {
        first++;
    }
    if (first == run->input_bytes || (run->input[first] >= '0' && run->input[first] <= '9')) {
        return list_words(run->input, run->input_bytes);
    }
    const int code = json_parse(run->input, run->input_bytes, &list, &reason);
    if (code || json_kind(list) != JSON_KIND_ARRAY) {
        (void)fprintf(stderr, "sluicectl: standard input: %s\n",
                      code == 0        ? "not an array"
                      : reason.text[0] ? reason.text
                                       : strerror(-code));
        json_free(list);
        return NULL;
    }
    return list;
}

static int decode_input(const struct run *run)
{
    struct json *list = read_ids(run);
    if (!list) {
        return EXIT_REFUSED;
    }
    char *text = NULL;
    size_t bytes;
    int status = decode(run, list, &text, &bytes);
    if (!status && run->options.json) {
        status = print_json("text", json_new_string(text, bytes));
    } else if (!status) {
        (void)fwrite(text, 1, bytes, stdout);
        status = end_output();
    }
    free(text);
    json_free(list);
    return status;
}

int detokenize_main(int argc, char **argv)
{
    struct run run = {0};
    int status;
    if (!parse_options(argc, argv, DETOKENIZE_OPTIONS, DETOKENIZE_USAGE, &run.options, &status)) {
        return status;
    }
    status = open_run(&run) == 0 ? decode_input(&run) : EXIT_REFUSED;
    close_run(&run);
    return status;
}
