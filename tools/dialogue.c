/*
 * dialogue.c - sluicectl chat: one question with --prompt, else one for each line of stdin, with
 * what was said before sent along. Called by sluicectl's dispatcher; runs once. Answers go to
 * stdout as they come, everything else to stderr. Owns the texts of all turns, which the request
 * borrows. A model without a chat template continues the text as it is.
 */
#include "tools/dialogue.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/limits.h"
#include "tools/options.h"
#include "tools/talk.h"
#include "wire/client.h"

#define COMMAND "sluicectl chat"

enum { CONNECT_MS = 5000 };

struct dialogue {
    const char *endpoint;
    const char *prompt;
    const char *system;
    struct client *client;
    struct wire_generate *request;
    char *texts[LIMIT_MESSAGES_MAX]; /* texts[i] is the content of message i. */
};

static bool parse(struct dialogue *dialogue, int argc, char **argv, int *status)
{
    struct wire_generate *request = dialogue->request;
    const struct options_row rows[] = {
        {"endpoint", OPTIONS_TEXT, 0, &dialogue->endpoint, "E",
         "default " OPTIONS_ENDPOINT_DEFAULT},
        {"prompt", OPTIONS_TEXT, 0, &dialogue->prompt, "TEXT", "ask this alone"},
        {"system", OPTIONS_TEXT, 0, &dialogue->system, "TEXT", "the system message"},
        {"max-tokens", OPTIONS_U32, WIRE_GIVEN_MAX_TOKENS, &request->max_tokens, "N",
         "length of an answer at most"},
        {"temperature", OPTIONS_F64, WIRE_GIVEN_TEMPERATURE, &request->temperature, "T",
         "0 takes the likeliest token"},
        {"top-p", OPTIONS_F64, WIRE_GIVEN_TOP_P, &request->top_p, "P",
         "sample from the likeliest of sum P"},
        {"seed", OPTIONS_U64, WIRE_GIVEN_SEED, &request->seed, "S",
         "the same seed, the same answers"},
    };
    const struct options options = {COMMAND,
                                    "Talks with the model; without --prompt, line by line.", rows,
                                    sizeof rows / sizeof rows[0]};

    return options_parse(&options, argc, argv, &request->given, status);
}

/* Adds a turn; takes a copy of the text. */
static void add_turn(struct dialogue *dialogue, const char *role, const char *text, size_t bytes)
{
    const uint32_t turn = dialogue->request->message_count++;
    char *copy = malloc(bytes + 1);

    must(copy && turn < LIMIT_MESSAGES_MAX);
    memcpy(copy, text, bytes);
    dialogue->texts[turn] = copy;
    dialogue->request->messages[turn] =
        (struct wire_chat_message){{role, strlen(role)}, {copy, bytes}};
}

static void drop_turn(struct dialogue *dialogue)
{
    free(dialogue->texts[--dialogue->request->message_count]);
}

/* "[42 tokens, 31.0 tokens/s, first after 85 ms]": the rate is that of decode where there is one.
 */
static void print_speed(const struct talk *talk)
{
    const double first_s = (double)(talk->first_us - talk->sent_us) / 1e6;
    const double decode_s = (double)(talk->end_us - talk->first_us) / 1e6;
    const uint32_t count = talk->usage.completion_tokens;

    if (count > 1 && decode_s > 0) {
        (void)fprintf(stderr, "[%u tokens, %.1f tokens/s, TTFT %.0f ms]\n", count,
                      (count - 1) / decode_s, first_s * 1e3);
    } else if (count > 0) {
        (void)fprintf(stderr, "[%u tokens, TTFT %.0f ms]\n", count, first_s * 1e3);
    }
}

/* Asks what the last turn says and keeps the answer. A failure takes the question back. */
static int ask(struct dialogue *dialogue)
{
    struct wire_generate *request = dialogue->request;
    const uint32_t turns = request->message_count;
    const struct wire_id id = client_next_id(dialogue->client);
    struct talk talk = {.echo = stdout};
    char error[TALK_ERROR_BYTES_MAX];
    int status;

    if (!client_welcome(dialogue->client)->chat) {
        request->prompt = request->messages[turns - 1].content;
        request->message_count = 0;
    }
    status = talk_run(&talk, dialogue->client, request, &id, error);
    request->message_count = turns;
    if (talk.text_bytes > 0) {
        (void)putchar('\n');
        (void)fflush(stdout);
    }
    if (status == 0) {
        add_turn(dialogue, "assistant", talk.text ? talk.text : "", talk.text_bytes);
        print_speed(&talk);
    } else {
        (void)fprintf(stderr, "sluicectl: %s\n", error);
        drop_turn(dialogue);
    }
    talk_free(&talk);
    return status;
}

/* Reads lines until there are no more. A refused question does not end the talk; a lost agent
 * does. */
static int converse(struct dialogue *dialogue)
{
    const bool person = isatty(STDIN_FILENO);
    char *line = NULL;
    size_t room = 0;
    int status = 0;

    if (person) {
        (void)fprintf(stderr, "%.*s is listening; end with Ctrl-D\n",
                      (int)client_welcome(dialogue->client)->model.count,
                      client_welcome(dialogue->client)->model.bytes);
    }
    while (status == 0 || status == -EREMOTEIO) {
        ssize_t bytes;
        if (person) {
            (void)fputs("> ", stderr);
        }
        bytes = getline(&line, &room, stdin);
        if (bytes < 0) {
            break;
        }
        if (line[bytes - 1] == '\n') {
            bytes--;
        }
        if (dialogue->request->message_count + 2 > LIMIT_MESSAGES_MAX) {
            (void)fputs("sluicectl: the talk has as many turns as one request can hold\n", stderr);
            status = -E2BIG;
        } else if (bytes > 0) {
            add_turn(dialogue, "user", line, (size_t)bytes);
            status = ask(dialogue);
        }
    }
    free(line);
    return status;
}

static int run(struct dialogue *dialogue)
{
    char error[CLIENT_ERROR_BYTES_MAX];

    if (client_open(&dialogue->client, dialogue->endpoint, CONNECT_MS, error) != 0) {
        (void)fprintf(stderr, "sluicectl: %s\n", error);
        return EXIT_STATUS_FAILED;
    }
    if (!client_welcome(dialogue->client)->chat) {
        (void)fputs("sluicectl: this model has no chat template: it continues the text\n", stderr);
    }
    if (dialogue->system) {
        add_turn(dialogue, "system", dialogue->system, strlen(dialogue->system));
    }
    if (!dialogue->prompt) {
        return converse(dialogue) == 0 ? EXIT_STATUS_DONE : EXIT_STATUS_FAILED;
    }
    add_turn(dialogue, "user", dialogue->prompt, strlen(dialogue->prompt));
    return ask(dialogue) == 0 ? EXIT_STATUS_DONE : EXIT_STATUS_FAILED;
}

int dialogue_main(int argc, char **argv)
{
    struct dialogue *dialogue = calloc(1, sizeof *dialogue);
    struct wire_generate *request = calloc(1, sizeof *request);
    int status;

    must(dialogue && request);
    *request = (struct wire_generate){.stream = true, .add_special = true, .skip_special = true};
    dialogue->endpoint = OPTIONS_ENDPOINT_DEFAULT;
    dialogue->request = request;
    if (parse(dialogue, argc, argv, &status)) {
        status = run(dialogue);
    }
    while (request->message_count > 0) {
        drop_turn(dialogue);
    }
    client_close(dialogue->client);
    free(request);
    free(dialogue);
    return status;
}
