/*
 * status.c - sluicectl status: what WELCOME says of the agent, what STATS counts and what PLANS
 * says of its plan files, as a table or as one JSON object. Called by sluicectl's dispatcher; runs
 * once and owns what it opens.
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

static void print_stats(const struct wire_welcome *welcome, const struct wire_number *numbers,
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

/* What steps ran by, once plan files are there. */
static void print_plans(const struct wire_plans *plans)
{
    if (plans->plan_count > 1) {
        (void)printf("\n%-*s%8s%8s%8s%8s%10s%10s\n", NAME_COLUMN, "steps made for", "plan",
                     "tokens", "decode", "context", "steps", "us each");
    }
    for (uint32_t i = 0; i < plans->plan_count && plans->plan_count > 1; i++) {
        const struct wire_plan *plan = &plans->plans[i];
        const struct wire_text none = {"no file", 7};
        const struct wire_text *file = plan->file.count > 0 ? &plan->file : &none;
        (void)printf(
            "%-*.*s%8" PRIu32 "%8" PRIu32 "%8" PRIu32 "%8" PRIu32 "%10" PRIu64 "%10" PRIu64 "\n",
            NAME_COLUMN, (int)file->count, file->bytes, plan->plan, plan->tokens, plan->decode,
            plan->context, plan->steps, plan->steps > 0 ? plan->compute_us / plan->steps : 0);
    }
    for (uint32_t i = 0; i < plans->refused_count; i++) {
        const struct wire_refusal *refusal = &plans->refused[i];
        (void)printf("%s%.*s is refused: %.*s\n", i == 0 ? "\n" : "", (int)refusal->file.count,
                     refusal->file.bytes, (int)refusal->reason.count, refusal->reason.bytes);
    }
}

static struct json *text_json(struct wire_text text)
{
    return json_new_string(text.bytes, text.count);
}

static struct json *plans_json(const struct wire_plans *plans)
{
    struct json *list = json_new_array();
    for (uint32_t i = 0; i < plans->plan_count; i++) {
        const struct wire_plan *plan = &plans->plans[i];
        struct json *object = json_new_object();
        json_add(object, "file", text_json(plan->file));
        json_add(object, "plan", json_new_u64(plan->plan));
        json_add(object, "tokens", json_new_u64(plan->tokens));
        json_add(object, "decode", json_new_u64(plan->decode));
        json_add(object, "context", json_new_u64(plan->context));
        json_add(object, "steps_total", json_new_u64(plan->steps));
        json_add(object, "compute_us_total", json_new_u64(plan->compute_us));
        json_append(list, object);
    }
    return list;
}

static struct json *refused_json(const struct wire_plans *plans)
{
    struct json *list = json_new_array();
    for (uint32_t i = 0; i < plans->refused_count; i++) {
        struct json *object = json_new_object();
        json_add(object, "file", text_json(plans->refused[i].file));
        json_add(object, "reason", text_json(plans->refused[i].reason));
        json_append(list, object);
    }
    return list;
}

static struct json *stats_json(const struct wire_welcome *welcome,
                               const struct wire_number *numbers, uint32_t count)
{
    struct json *root = json_new_object(), *stats = json_new_object();
    struct fact facts[FACTS];

    list_facts(welcome, facts);
    json_add(root, "model", text_json(welcome->model));
    json_add(root, "version", text_json(welcome->version));
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
    return root;
}

static bool ask(struct client *client, enum wire_command command, struct client_reply *reply)
{
    struct codec *codec = client_codec(client);

    return client_ask(client, command, codec_encode_empty(codec), REPLY_MS, reply) == 0 &&
           reply->command == WIRE_RESULT;
}

/* Prints the table, or fills *root. What one reply says is used before the next is asked for. */
static bool show_stats(struct client *client, bool json, struct json **root)
{
    struct wire_number *numbers = calloc(LIMIT_MSGPACK_KEYS_MAX, sizeof *numbers);
    struct client_reply reply;
    uint32_t count;
    bool good;

    must(numbers);
    good = ask(client, WIRE_STATS, &reply) &&
           codec_decode_stats(client_codec(client), reply.body, numbers, &count) == 0;
    if (good && json) {
        *root = stats_json(client_welcome(client), numbers, count);
    } else if (good) {
        print_stats(client_welcome(client), numbers, count);
    }
    free(numbers);
    return good;
}

static bool show_plans(struct client *client, bool json, struct json *root)
{
    struct client_reply reply;
    struct wire_plans plans;

    if (!ask(client, WIRE_PLANS, &reply) ||
        codec_decode_plans(client_codec(client), reply.body, &plans) != 0) {
        return false;
    }
    if (json) {
        json_add(root, "plans", plans_json(&plans));
        json_add(root, "refused_plans", refused_json(&plans));
    } else {
        print_plans(&plans);
    }
    return true;
}

static int show(struct client *client, bool json)
{
    struct json *root = NULL;
    int status = EXIT_STATUS_FAILED;

    if (!show_stats(client, json, &root) || !show_plans(client, json, root)) {
        (void)fputs("sluicectl: the agent does not tell its statistics\n", stderr);
    } else {
        if (json) {
            char *line = json_dump(root);
            (void)puts(line);
            free(line);
        }
        status = fflush(stdout) == 0 ? EXIT_STATUS_DONE : EXIT_STATUS_FAILED;
    }
    json_free(root);
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
