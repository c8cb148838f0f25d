/*
 * status.c - sluicectl status: what WELCOME says of the agent and what STATS counts, as a table or
 * as one JSON object. Called by sluicectl's dispatcher; runs once and owns what it opens.
 */
#include "tools/status.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/limits.h"
#include "tools/options.h"
#include "wire/client.h"

#define COMMAND "sluicectl status"

enum { CONNECT_MS = 5000, REPLY_MS = 5000, NAME_COLUMN = 26 };

struct fact {
    const char *name;
    uint64_t value;
};

enum { FACTS = 6 };

/* The numbers of WELCOME that a person asks for. */
static void list_facts(const struct wire_welcome *welcome, struct fact facts[FACTS])
{
    facts[0] = (struct fact){"context_tokens_max", welcome->context_tokens_max};
    facts[1] = (struct fact){"vocab", welcome->vocab};
    facts[2] = (struct fact){"page_tokens", welcome->page_tokens};
    facts[3] = (struct fact){"credit_tokens", welcome->credit_tokens};
    facts[4] = (struct fact){"message_bytes_max", welcome->message_bytes_max};
    facts[5] = (struct fact){"max_tokens_default", welcome->max_tokens_default};
}

static void print_table(const struct wire_welcome *welcome, const struct wire_number *numbers,
                        uint32_t count)
{
    struct fact facts[FACTS];

    list_facts(welcome, facts);
    (void)printf("%-*s%.*s\n", NAME_COLUMN, "model", (int)welcome->model.count,
                 welcome->model.bytes);
    (void)printf("%-*s%.*s\n", NAME_COLUMN, "version", (int)welcome->version.count,
                 welcome->version.bytes);
    for (size_t i = 0; i < FACTS; i++) {
        (void)printf("%-*s%" PRIu64 "\n", NAME_COLUMN, facts[i].name, facts[i].value);
    }
    (void)putchar('\n');
    for (uint32_t i = 0; i < count; i++) {
        const int padding = (int)numbers[i].name.count < NAME_COLUMN - 1
                                ? NAME_COLUMN - (int)numbers[i].name.count
                                : 1;
        (void)printf("%.*s%*s%" PRIu64 "\n", (int)numbers[i].name.count, numbers[i].name.bytes,
                     padding, "", numbers[i].value);
    }
}

static void print_json(const struct wire_welcome *welcome, const struct wire_number *numbers,
                       uint32_t count)
{
    struct json *root = json_new_object(), *stats = json_new_object();
    struct fact facts[FACTS];
    char *line;

    list_facts(welcome, facts);
    json_add(root, "model", json_new_string(welcome->model.bytes, welcome->model.count));
    json_add(root, "version", json_new_string(welcome->version.bytes, welcome->version.count));
    for (size_t i = 0; i < FACTS; i++) {
        json_add(root, facts[i].name, json_new_u64(facts[i].value));
    }
    json_add(root, "tokenizer", json_new_bool(welcome->tokenizer));
    json_add(root, "chat", json_new_bool(welcome->chat));
    for (uint32_t i = 0; i < count; i++) {
        char name[LIMIT_NAME_BYTES_MAX];
        (void)snprintf(name, sizeof name, "%.*s", (int)numbers[i].name.count,
                       numbers[i].name.bytes);
        json_add(stats, name, json_new_u64(numbers[i].value));
    }
    json_add(root, "stats", stats);
    line = json_dump(root);
    (void)puts(line);
    free(line);
    json_free(root);
}

static int show(struct client *client, bool json)
{
    struct wire_number *numbers = calloc(LIMIT_MSGPACK_KEYS_MAX, sizeof *numbers);
    struct codec *codec = client_codec(client);
    struct client_reply reply;
    uint32_t count;
    int status = EXIT_STATUS_FAILED;

    must(numbers);
    if (client_ask(client, WIRE_STATS, codec_encode_empty(codec), REPLY_MS, &reply) != 0 ||
        reply.command != WIRE_RESULT ||
        codec_decode_stats(codec, reply.body, numbers, &count) != 0) {
        (void)fputs("sluicectl: the agent does not tell its statistics\n", stderr);
    } else {
        if (json) {
            print_json(client_welcome(client), numbers, count);
        } else {
            print_table(client_welcome(client), numbers, count);
        }
        status = fflush(stdout) == 0 ? EXIT_STATUS_DONE : EXIT_STATUS_FAILED;
    }
    free(numbers);
    return status;
}

int status_main(int argc, char **argv)
{
    const char *endpoint = OPTIONS_ENDPOINT_DEFAULT;
    bool json = false;
    const struct options_row rows[] = {
        {"endpoint", OPTIONS_TEXT, 0, &endpoint, "E", "default " OPTIONS_ENDPOINT_DEFAULT},
        {"json", OPTIONS_FLAG, 0, &json, NULL, "print one JSON object"},
    };
    const struct options options = {COMMAND, "Shows what the agent serves and what it is doing.",
                                    rows, sizeof rows / sizeof rows[0]};
    char error[CLIENT_ERROR_BYTES_MAX];
    struct client *client;
    uint32_t flags;
    int status;

    if (!options_parse(&options, argc, argv, &flags, &status)) {
        return status;
    }
    if (client_open(&client, endpoint, CONNECT_MS, error) != 0) {
        (void)fprintf(stderr, "sluicectl: %s\n", error);
        return EXIT_STATUS_FAILED;
    }
    status = show(client, json);
    client_close(client);
    return status;
}
