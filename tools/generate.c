/*
 * generate.c - sluicectl generate: one request from the command line, its answer as text or as one
 * JSON object. Called by sluicectl's dispatcher; runs once and owns what it opens. Without
 * --stream the request is sent with stream: false. Parameters are judged by the server alone, so
 * that its bounds are stated in one place.
 */
#include "tools/generate.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/limits.h"
#include "tools/options.h"
#include "tools/talk.h"
#include "wire/client.h"

#define COMMAND "sluicectl generate"

enum { CONNECT_MS = 5000, FLAG_TOP_LOGPROBS = 1 << 16, FLAG_PROMPT_LOGPROBS = 1 << 17 };

/* The command line, and what was made of it. */
struct run {
    const char *endpoint;
    const char *prompt;
    const char *prompt_file;
    const char *ids;
    const char *id;
    const char *stop_ids;
    const char *bad_ids;
    const char *allowed_ids;
    const char *logit_bias;
    const char *tenant;
    struct options_texts stop;
    bool stream;
    bool json;
    bool keep_special;
    uint32_t flags;
    char *text;           /* Of prompt_file. */
    uint32_t *packed_ids; /* Of ids. */
    struct wire_generate *request;
};

static bool parse(struct run *run, int argc, char **argv, int *status)
{
    struct wire_generate *request = run->request;
    const struct options_row rows[] = {
        {"endpoint", OPTIONS_TEXT, 0, &run->endpoint, "E", "default " OPTIONS_ENDPOINT_DEFAULT},
        {"prompt", OPTIONS_TEXT, 0, &run->prompt, "TEXT", "what to continue"},
        {"prompt-file", OPTIONS_TEXT, 0, &run->prompt_file, "F",
         "the same from a file; - is stdin"},
        {"ids", OPTIONS_TEXT, 0, &run->ids, "1,2,3", "token ids, used as given"},
        {"max-tokens", OPTIONS_U32, WIRE_GIVEN_MAX_TOKENS, &request->max_tokens, "N",
         "length of the answer at most"},
        {"min-tokens", OPTIONS_U32, 0, &request->min_tokens, "N", "no stop before these"},
        {"temperature", OPTIONS_F64, WIRE_GIVEN_TEMPERATURE, &request->temperature, "T",
         "0 takes the likeliest token"},
        {"top-k", OPTIONS_U32, WIRE_GIVEN_TOP_K, &request->top_k, "K",
         "sample from the K likeliest"},
        {"top-p", OPTIONS_F64, WIRE_GIVEN_TOP_P, &request->top_p, "P",
         "sample from the likeliest of sum P"},
        {"min-p", OPTIONS_F64, WIRE_GIVEN_MIN_P, &request->min_p, "P",
         "leave out what is P times less likely than the best"},
        {"seed", OPTIONS_U64, WIRE_GIVEN_SEED, &request->seed, "S",
         "the same seed, the same answer"},
        {"repetition-penalty", OPTIONS_F64, WIRE_GIVEN_REPETITION, &request->repetition_penalty,
         "R", "above 1 makes what was seen less likely"},
        {"presence-penalty", OPTIONS_F64, 0, &request->presence_penalty, "P",
         "taken off what was generated"},
        {"frequency-penalty", OPTIONS_F64, 0, &request->frequency_penalty, "P",
         "the same, once for each time"},
        {"logit-bias", OPTIONS_TEXT, 0, &run->logit_bias, "ID:BIAS,...",
         "add -100 to 100 to the logits of tokens"},
        {"bad-ids", OPTIONS_TEXT, 0, &run->bad_ids, "1,2", "never these tokens"},
        {"allowed-ids", OPTIONS_TEXT, 0, &run->allowed_ids, "1,2", "no other tokens"},
        {"prompt-logprobs", OPTIONS_U32, FLAG_PROMPT_LOGPROBS, &request->prompt_logprobs, "K",
         "logprobs of the prompt's tokens too (--json)"},
        {"top-logprobs", OPTIONS_U32, FLAG_TOP_LOGPROBS, &request->top_logprobs, "K",
         "logprobs, of the K likeliest too"},
        {"stop", OPTIONS_TEXTS, 0, &run->stop, "S", "end before this text"},
        {"stop-ids", OPTIONS_TEXT, 0, &run->stop_ids, "1,2", "end after one of these tokens"},
        {"include-stop", OPTIONS_FLAG, 0, &request->include_stop, NULL, "print the stop text too"},
        {"keep-special", OPTIONS_FLAG, 0, &run->keep_special, NULL, "print special tokens"},
        {"ignore-eos", OPTIONS_FLAG, 0, &request->ignore_eos, NULL, "go on after the end of text"},
        {"priority", OPTIONS_I32, 0, &request->priority, "P",
         "-100 to 100; lower runs earlier, among the tenant's own"},
        {"tenant", OPTIONS_TEXT, 0, &run->tenant, "NAME", "whose request it is"},
        {"id", OPTIONS_TEXT, 0, &run->id, "ID", "the request's id, for sluicectl cancel"},
        {"stream", OPTIONS_FLAG, 0, &run->stream, NULL, "print text as it comes"},
        {"events", OPTIONS_FLAG, 0, &request->events, NULL,
         "with --json: when it was queued, scheduled, ..."},
        {"json", OPTIONS_FLAG, 0, &run->json, NULL, "print one JSON object"},
    };

    const struct options options = {COMMAND, "Sends one request and prints the answer.", rows,
                                    sizeof rows / sizeof rows[0]};

    return options_parse(&options, argc, argv, &run->flags, status);
}

/* All of a file, at most what a message can hold. NULL with errno. */
static char *read_file(const char *path, size_t *bytes)
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    char *text = file ? malloc(LIMIT_FRAME_BYTES_MAX + 1) : NULL;
    int error = errno;

    if (text) {
        *bytes = fread(text, 1, LIMIT_FRAME_BYTES_MAX + 1, file);
        error = ferror(file) ? EIO : *bytes > LIMIT_FRAME_BYTES_MAX ? EFBIG : 0;
    }
    if (file && file != stdin) {
        (void)fclose(file);
    }
    if (error != 0) {
        free(text);
        text = NULL;
    }
    errno = error;
    return text;
}

/* Prompt, ids or file. 0 or an exit status. */
static int fill_prompt(struct run *run)
{
    struct wire_generate *request = run->request;

    if (!run->prompt + !run->prompt_file + !run->ids != 2) {
        return options_wrong(COMMAND, "give one of --prompt, --prompt-file and --ids");
    }
    if (run->prompt) {
        request->prompt = (struct wire_text){run->prompt, strlen(run->prompt)};
    } else if (run->prompt_file) {
        run->text = read_file(run->prompt_file, &request->prompt.count);
        request->prompt.bytes = run->text;
        return run->text ? 0 : options_failed("sluicectl", run->prompt_file, strerror(errno));
    } else {
        const size_t most = strlen(run->ids) / 2 + 1;
        size_t count;
        run->packed_ids = calloc(most, sizeof *run->packed_ids);
        must(run->packed_ids);
        if (!options_ids(run->ids, run->packed_ids, most, &count)) {
            return options_wrong(COMMAND, "--ids needs token ids with commas between them");
        }
        request->ids =
            (struct wire_bytes){(const uint8_t *)run->packed_ids, count * sizeof *run->packed_ids};
    }
    return 0;
}

/* Token ids of an option that may be absent. */
static bool fill_ids(const char *text, uint32_t *ids, size_t max, uint32_t *out)
{
    size_t count = 0;
    const bool good = !text || options_ids(text, ids, max, &count);

    *out = (uint32_t)count;
    return good;
}

static bool fill_biases(const char *text, struct wire_generate *request)
{
    size_t count = 0;
    const bool good =
        !text || options_biases(text, request->biases, LIMIT_LOGIT_BIASES_MAX, &count);

    request->bias_count = (uint32_t)count;
    return good;
}

/* Lists of tokens. 0 or an exit status. */
static int fill_lists(struct run *run)
{
    struct wire_generate *request = run->request;

    if (!fill_ids(run->stop_ids, request->stop_ids, LIMIT_STOP_IDS_MAX, &request->stop_id_count)) {
        return options_wrong(COMMAND, "--stop-ids needs at most 16 token ids with commas");
    }
    if (!fill_ids(run->bad_ids, request->bad_ids, LIMIT_BAD_IDS_MAX, &request->bad_id_count)) {
        return options_wrong(COMMAND, "--bad-ids needs at most 512 token ids with commas");
    }
    if (!fill_ids(run->allowed_ids, request->allowed_ids, LIMIT_ALLOWED_IDS_MAX,
                  &request->allowed_id_count)) {
        return options_wrong(COMMAND, "--allowed-ids needs at most 1024 token ids with commas");
    }
    if (!fill_biases(run->logit_bias, request)) {
        return options_wrong(COMMAND, "--logit-bias needs at most 512 ID:BIAS with commas");
    }
    return 0;
}

static int fill_request(struct run *run)
{
    struct wire_generate *request = run->request;
    int status;

    request->given = run->flags & (FLAG_TOP_LOGPROBS - 1u);
    request->logprobs = run->flags & FLAG_TOP_LOGPROBS;
    request->stream = run->stream;
    request->add_special = true;
    request->skip_special = !run->keep_special;
    request->scores_prompt = run->flags & FLAG_PROMPT_LOGPROBS;
    if (run->tenant) {
        request->tenant = (struct wire_text){run->tenant, strlen(run->tenant)};
    }
    if (run->stop.count > LIMIT_STOP_STRINGS_MAX) {
        return options_wrong(COMMAND, "--stop may be given at most 8 times");
    }
    for (uint32_t i = 0; i < run->stop.count; i++) {
        request->stop[i] = (struct wire_text){run->stop.items[i], strlen(run->stop.items[i])};
    }
    request->stop_count = run->stop.count;
    status = fill_lists(run);
    if (status != 0) {
        return status;
    }
    if (run->id && (run->id[0] == '\0' || strlen(run->id) > LIMIT_REQUEST_ID_BYTES_MAX)) {
        return options_wrong(COMMAND, "--id needs 1 to 64 bytes");
    }
    return fill_prompt(run);
}

static struct json *logprobs_json(const struct wire_token_logprobs *logprobs, size_t count)
{
    struct json *list = json_new_array();

    for (size_t i = 0; i < count; i++) {
        const struct wire_token_logprobs *token = &logprobs[i];
        struct json *item = json_new_object(), *top = json_new_array();
        for (uint32_t j = 0; j < token->top_count; j++) {
            struct json *pair = json_new_array();
            json_append(pair, json_new_u64(token->top[j].id));
            json_append(pair, json_new_f64((double)token->top[j].logprob));
            json_append(top, pair);
        }
        json_add(item, "id", json_new_u64(token->chosen.id));
        json_add(item, "logprob", json_new_f64((double)token->chosen.logprob));
        json_add(item, "top", top);
        json_append(list, item);
    }
    return list;
}

static struct json *events_json(const struct wire_events *events)
{
    struct json *map = json_new_object(), *times = json_new_array();

    for (uint32_t i = 0; i < events->preempted_count && i < LIMIT_PREEMPTIONS_TOLD_MAX; i++) {
        json_append(times, json_new_u64(events->preempted_us[i]));
    }
    json_add(map, "queued_us", json_new_u64(events->queued_us));
    json_add(map, "scheduled_us", json_new_u64(events->scheduled_us));
    json_add(map, "first_token_us", json_new_u64(events->first_token_us));
    json_add(map, "finished_us", json_new_u64(events->finished_us));
    json_add(map, "preempted_count", json_new_u64(events->preempted_count));
    json_add(map, "preempted_us", times);
    return map;
}

static void print_json(const struct talk *talk, const struct wire_generate *request)
{
    struct json *root = json_new_object(), *ids = json_new_array(), *usage = json_new_object();
    char *line;

    for (size_t i = 0; i < talk->id_count; i++) {
        json_append(ids, json_new_u64(talk->ids[i]));
    }
    json_add(usage, "prompt_tokens", json_new_u64(talk->usage.prompt_tokens));
    json_add(usage, "completion_tokens", json_new_u64(talk->usage.completion_tokens));
    json_add(usage, "cached_tokens", json_new_u64(talk->usage.cached_tokens));
    json_add(root, "text", json_new_string(talk->text ? talk->text : "", talk->text_bytes));
    json_add(root, "ids", ids);
    json_add(root, "logprobs", logprobs_json(talk->logprobs, talk->logprob_count));
    if (request->scores_prompt) {
        json_add(root, "prompt_logprobs", logprobs_json(talk->prompt, talk->prompt_count));
    }
    json_add(
        root, "finish_reason",
        json_new_string(codec_finish_name(talk->finish), strlen(codec_finish_name(talk->finish))));
    json_add(root, "usage", usage);
    if (request->events) {
        json_add(root, "events", events_json(&talk->events));
    }
    line = json_dump(root);
    (void)puts(line);
    free(line);
    json_free(root);
}

static int ask(const struct run *run)
{
    struct talk talk = {.echo = run->json ? NULL : stdout};
    char error[TALK_ERROR_BYTES_MAX];
    struct client *client;
    struct wire_id id;
    int status = client_open(&client, run->endpoint, CONNECT_MS, error);

    if (status != 0) {
        (void)fprintf(stderr, "sluicectl: %s\n", error);
        return EXIT_STATUS_FAILED;
    }
    id = client_next_id(client);
    if (run->id) {
        id.count = (uint8_t)strlen(run->id);
        memcpy(id.bytes, run->id, id.count);
    }
    status = talk_run(&talk, client, run->request, &id, error);
    if (!run->json && talk.text_bytes > 0) {
        (void)putchar('\n');
    }
    if (status != 0) {
        (void)fprintf(stderr, "sluicectl: %s\n", error);
    } else if (run->json) {
        print_json(&talk, run->request);
    }
    talk_free(&talk);
    client_close(client);
    return status == 0 && fflush(stdout) == 0 ? EXIT_STATUS_DONE : EXIT_STATUS_FAILED;
}

int generate_main(int argc, char **argv)
{
    struct run run = {.endpoint = OPTIONS_ENDPOINT_DEFAULT};
    int status;

    run.request = calloc(1, sizeof *run.request);
    must(run.request);
    if (parse(&run, argc, argv, &status)) {
        status = fill_request(&run);
        status = status ? status : ask(&run);
    }
    free(run.packed_ids);
    free(run.text);
    free(run.request);
    return status;
}
