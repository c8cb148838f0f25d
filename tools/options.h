/*
 * options.h - the command line of every tool: one table of rows gives parsing, --help, --version
 * and the errors. Long options only, as --name VALUE or --name=VALUE.
 */
#ifndef TOOLS_OPTIONS_H
#define TOOLS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/must.h"
#include "wire/message.h"

/* Exit statuses of every tool. */
enum { EXIT_STATUS_DONE = 0, EXIT_STATUS_FAILED = 1, EXIT_STATUS_USAGE = 2 };

enum { OPTIONS_TEXTS_MAX = 16 };

#define OPTIONS_ENDPOINT_DEFAULT "ipc:///tmp/sluice-agent/api.sock"

enum options_kind {
    OPTIONS_FLAG,  /* bool: no value */
    OPTIONS_TEXT,  /* const char *, borrowed from argv */
    OPTIONS_TEXTS, /* struct options_texts: may be repeated */
    OPTIONS_WORDS, /* struct options_texts: all words up to the next option */
    OPTIONS_I32,   /* int32_t */
    OPTIONS_U32,   /* uint32_t */
    OPTIONS_U64,   /* uint64_t */
    OPTIONS_F64,   /* double; "inf" is a number, "nan" is none */
};

struct options_texts {
    const char *items[OPTIONS_TEXTS_MAX];
    uint32_t count;
};

struct options_row {
    const char *name; /* Without the dashes. */
    enum options_kind kind;
    uint32_t flag; /* Comes out set when the option was there. */
    void *target;
    const char *value; /* What --help calls the value; NULL for a flag. */
    const char *help;
};

struct options {
    const char *command; /* "sluicectl generate" */
    const char *summary; /* One sentence. */
    const struct options_row *rows;
    size_t row_count;
};

/* Fills the targets and *flags. True: go on. False: --help or --version was answered, or one line
 * on stderr says what is wrong; *status is the exit status. */
bool options_parse(const struct options *options, int argc, char **argv, uint32_t *flags,
                   int *status) MUST_CHECK;

/* One line on stderr, "COMMAND: WHAT; try --help"; the exit status of wrong usage. */
int options_wrong(const char *command, const char *what);

/* One line on stderr, "COMMAND: WHAT: WHY"; the exit status of a command that failed. */
int options_failed(const char *command, const char *what, const char *why);

/* "1,2,3" to at most max ids. False when it is anything else. */
bool options_ids(const char *text, uint32_t *ids, size_t max, size_t *count) MUST_CHECK;

/* "50256:-100,11:2.5" to at most max pairs. False when it is anything else. */
bool options_biases(const char *text, struct wire_bias *biases, size_t max,
                    size_t *count) MUST_CHECK;

#endif /* TOOLS_OPTIONS_H */
