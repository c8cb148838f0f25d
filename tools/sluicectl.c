/*
 * sluicectl.c - the operator's tool: one table of commands, each with a main of its own. A process
 * of its own, one thread; talks to the agent as any client does, or to no agent at all. Every
 * command exits with 0 done, 1 failed, 2 wrong usage.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "tools/cancel.h"
#include "tools/dialogue.h"
#include "tools/generate.h"
#include "tools/inspect.h"
#include "tools/options.h"
#include "tools/status.h"
#include "tools/tokenize.h"

struct command {
    const char *name;
    const char *summary;
    int (*run)(int argc, char **argv);
};

static const struct command commands[] = {
    {"generate", "send one request and print the answer", generate_main},
    {"chat", "talk with the model", dialogue_main},
    {"tokenize", "text on stdin to token ids, without an agent", tokenize_main},
    {"detokenize", "token ids on stdin to text, without an agent", detokenize_main},
    {"inspect", "check a model and show what it holds, without an agent", inspect_main},
    {"status", "show what the agent serves and does", status_main},
    {"cancel", "end a running request", cancel_main},
};

static void print_usage(FILE *out)
{
    (void)fputs("usage: sluicectl COMMAND [options]\n\n", out);
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        (void)fprintf(out, "  %-14s%s\n", commands[i].name, commands[i].summary);
    }
    (void)fputs("\nsluicectl COMMAND --help tells the options of a command.\n", out);
}

int main(int argc, char **argv)
{
    (void)signal(SIGPIPE, SIG_DFL); /* `sluicectl ... | head` ends quietly. */
    if (argc < 2) {
        print_usage(stderr);
        return EXIT_STATUS_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_usage(stdout);
        return EXIT_STATUS_DONE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        (void)printf("sluicectl %s\n", SLUICE_VERSION);
        return EXIT_STATUS_DONE;
    }
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    (void)fprintf(stderr, "sluicectl: '%.64s' is no command; try --help\n", argv[1]);
    return EXIT_STATUS_USAGE;
}
