/*
 * options.c - parses the command line of a tool by its table. Called once by each tool's main;
 * owns nothing: texts are borrowed from argv.
 */
#include "tools/options.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MESSAGE_BYTES = 256, HELP_COLUMN = 26 };

int options_wrong(const char *command, const char *what)
{
    (void)fprintf(stderr, "%s: %s; try --help\n", command, what);
    return EXIT_STATUS_USAGE;
}

int options_failed(const char *command, const char *what, const char *why)
{
    (void)fprintf(stderr, "%s: %s: %s\n", command, what, why);
    return EXIT_STATUS_FAILED;
}

static void print_help(const struct options *options)
{
    (void)printf("usage: %s [options]\n%s\n\n", options->command, options->summary);
    for (size_t i = 0; i < options->row_count; i++) {
        const struct options_row *row = &options->rows[i];
        const int printed =
            printf("  --%s%s%s", row->name, row->value ? " " : "", row->value ? row->value : "");
        (void)printf("%*s%s%s\n", printed < HELP_COLUMN ? HELP_COLUMN - printed : 1, "", row->help,
                     row->kind == OPTIONS_TEXTS ? " (may be repeated)" : "");
    }
    (void)printf("%-*s%s\n%-*s%s\n", HELP_COLUMN, "  --help", "this text", HELP_COLUMN,
                 "  --version", "the version");
}

/* A whole non-negative decimal number that is at most max. */
static bool read_integer(const char *text, uint64_t max, uint64_t *out)
{
    char *end;

    if (!isdigit((unsigned char)text[0])) {
        return false; /* strtoull would take a sign or a space. */
    }
    errno = 0;
    *out = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0' && *out <= max;
}

static bool read_value(const struct options_row *row, const char *text)
{
    struct options_texts *texts = row->target;
    uint64_t integer;
    char *end;

    switch (row->kind) {
    case OPTIONS_TEXT:
        *(const char **)row->target = text;
        return true;
    case OPTIONS_TEXTS:
    case OPTIONS_WORDS:
        if (texts->count == OPTIONS_TEXTS_MAX) {
            return false;
        }
        texts->items[texts->count++] = text;
        return true;
    case OPTIONS_I32:
        if (!read_integer(text + (text[0] == '-'), INT32_MAX, &integer)) {
            return false;
        }
        *(int32_t *)row->target = text[0] == '-' ? -(int32_t)integer : (int32_t)integer;
        return true;
    case OPTIONS_U32:
        if (!read_integer(text, UINT32_MAX, &integer)) {
            return false;
        }
        *(uint32_t *)row->target = (uint32_t)integer;
        return true;
    case OPTIONS_U64:
        return read_integer(text, UINT64_MAX, row->target);
    case OPTIONS_F64:
        *(double *)row->target = strtod(text, &end);
        return end != text && *end == '\0' && !isnan(*(double *)row->target);
    case OPTIONS_FLAG:
        break;
    }
    return false;
}

/* The row that --name or --name=value means; *value is what stands behind '=', or NULL. */
static const struct options_row *find_row(const struct options *options, const char *word,
                                          const char **value)
{
    const char *equals = strchr(word, '=');
    const size_t count = equals ? (size_t)(equals - word) : strlen(word);

    *value = equals ? equals + 1 : NULL;
    for (size_t i = 0; i < options->row_count; i++) {
        const char *name = options->rows[i].name;
        if (count > 2 && strncmp(word, "--", 2) == 0 && strlen(name) == count - 2 &&
            memcmp(name, word + 2, count - 2) == 0) {
            return &options->rows[i];
        }
    }
    return NULL;
}

static const char *kind_name(enum options_kind kind)
{
    switch (kind) {
    case OPTIONS_I32:
    case OPTIONS_U32:
    case OPTIONS_U64:
        return "a whole number";
    case OPTIONS_F64:
        return "a number";
    default:
        return "fewer repetitions";
    }
}

static int parse_row(const struct options *options, const struct options_row *row,
                     const char *value)
{
    char message[MESSAGE_BYTES];

    if (row->kind == OPTIONS_FLAG) {
        if (value) {
            (void)snprintf(message, sizeof message, "--%s takes no value", row->name);
            return options_wrong(options->command, message);
        }
        *(bool *)row->target = true;
        return 0;
    }
    if (!value) {
        (void)snprintf(message, sizeof message, "--%s needs a value", row->name);
        return options_wrong(options->command, message);
    }
    if (!read_value(row, value)) {
        (void)snprintf(message, sizeof message, "--%s needs %s, not '%.64s'", row->name,
                       kind_name(row->kind), value);
        return options_wrong(options->command, message);
    }
    return 0;
}

bool options_parse(const struct options *options, int argc, char **argv, uint32_t *flags,
                   int *status)
{
    *flags = 0;
    for (int i = 1; i < argc; i++) {
        const char *value;
        const struct options_row *row = find_row(options, argv[i], &value);
        *status = EXIT_STATUS_DONE;
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help(options);
            return false;
        }
        if (strcmp(argv[i], "--version") == 0) {
            (void)printf("%s %s\n", options->command, SLUICE_VERSION);
            return false;
        }
        if (!row) {
            char message[MESSAGE_BYTES];
            (void)snprintf(message, sizeof message, "'%.64s' is no option", argv[i]);
            *status = options_wrong(options->command, message);
            return false;
        }
        if (row->kind != OPTIONS_FLAG && !value && i + 1 < argc) {
            value = argv[++i];
        }
        *status = parse_row(options, row, value);
        if (*status != 0) {
            return false;
        }
        *flags |= row->flag;
        while (row->kind == OPTIONS_WORDS && i + 1 < argc && argv[i + 1][0] != '-') {
            *status = parse_row(options, row, argv[++i]);
            if (*status != 0) {
                return false;
            }
        }
    }
    return true;
}

bool options_ids(const char *text, uint32_t *ids, size_t max, size_t *count)
{
    *count = 0;
    for (const char *at = text;; at++) {
        char *end;
        if (*count == max || !isdigit((unsigned char)*at)) {
            return false;
        }
        errno = 0;
        const unsigned long long id = strtoull(at, &end, 10);
        if (errno != 0 || id > UINT32_MAX || (*end != ',' && *end != '\0')) {
            return false;
        }
        ids[(*count)++] = (uint32_t)id;
        if (*end == '\0') {
            return true;
        }
        at = end;
    }
}

bool options_biases(const char *text, struct wire_bias *biases, size_t max, size_t *count)
{
    *count = 0;
    for (const char *at = text;; at++) {
        char *end;
        if (*count == max || !isdigit((unsigned char)*at)) {
            return false;
        }
        errno = 0;
        const unsigned long long id = strtoull(at, &end, 10);
        if (errno != 0 || id > UINT32_MAX || *end != ':' || isspace((unsigned char)end[1])) {
            return false;
        }
        at = end + 1;
        const float bias = strtof(at, &end);
        if (end == at || isnan(bias) || (*end != ',' && *end != '\0')) {
            return false;
        }
        biases[(*count)++] = (struct wire_bias){(uint32_t)id, bias};
        if (*end == '\0') {
            return true;
        }
        at = end;
    }
}
