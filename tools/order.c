/*
 * order.c - reads the command line of sluice-bench. Called by its main before anything is opened;
 * texts are borrowed from argv. Options that would be without effect are mistakes.
 */
#include "tools/order.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

enum {
    REQUESTS_MAX = 1 << 24, /* Ids number them, with warm-up and probe on top. */
    FLAG_MAX_TOKENS = 1,
    FLAG_RATE = 2,
    FLAG_BURSTINESS = 4,
    FLAG_SPEED = 8,
};

static bool same(const char *path, const char *other)
{
    return path && other && strcmp(path, other) == 0;
}

/* What options_parse() cannot see: NULL, or what is wrong. */
static const char *find_mistake(struct order *order)
{
    if (!order->dataset_spec) {
        return "--dataset is missing";
    }
    if (!dataset_find_kind(order->dataset_spec, &order->kind)) {
        return "--dataset is fixed:IN:OUT, prompts:FILE, lengths:FILE or trace:FILE";
    }
    if (order->requests == 0 || order->concurrency == 0 || !(order->rate > 0)) {
        return "--num-prompts, --max-concurrency and --request-rate must be above 0";
    }
    if (order->requests > REQUESTS_MAX || order->warmup > REQUESTS_MAX) {
        return "--num-prompts and --warmup are at most 16777216";
    }
    if ((order->flags & FLAG_MAX_TOKENS) &&
        (order->max_tokens == 0 || order->kind != DATASET_PROMPTS)) {
        return "--max-tokens is above 0 and goes with prompts:FILE";
    }
    if (!(order->burstiness > 0) || !isfinite(order->burstiness) ||
        ((order->flags & FLAG_BURSTINESS) && isinf(order->rate))) {
        return "--burstiness is above 0 and goes with a finite --request-rate";
    }
    if (!(order->speed > 0) || !isfinite(order->speed) ||
        ((order->flags & FLAG_SPEED) && order->kind != DATASET_TRACE)) {
        return "--speed is above 0 and goes with trace:FILE";
    }
    if ((order->flags & FLAG_RATE) && order->kind == DATASET_TRACE) {
        return "a trace has times of its own: --speed, not --request-rate";
    }
    if (same(order->json_path, order->plot_path) || same(order->json_path, order->trace_path) ||
        same(order->plot_path, order->trace_path)) {
        return "--json, --plot and --trace are files of their own";
    }
    return NULL;
}

bool order_parse(struct order *order, int argc, char **argv, int *status)
{
    const struct options_row rows[] = {
        {"endpoint", OPTIONS_TEXT, 0, &order->endpoint, "E", "default " OPTIONS_ENDPOINT_DEFAULT},
        {"dataset", OPTIONS_TEXT, 0, &order->dataset_spec, "D",
         "fixed:IN:OUT, prompts:FILE (one a line), lengths:FILE or trace:FILE"},
        {"num-prompts", OPTIONS_U32, 0, &order->requests, "N",
         "requests in all, default 64; of a FILE, the first usable"},
        {"warmup", OPTIONS_U32, 0, &order->warmup, "N", "requests before, not counted; default 0"},
        {"max-concurrency", OPTIONS_U32, 0, &order->concurrency, "C",
         "requests at one time, default all"},
        {"request-rate", OPTIONS_F64, FLAG_RATE, &order->rate, "R",
         "arrivals a second, default inf: all at once"},
        {"burstiness", OPTIONS_F64, FLAG_BURSTINESS, &order->burstiness, "B",
         "of gamma arrivals; default 1: Poisson; less: in bursts"},
        {"speed", OPTIONS_F64, FLAG_SPEED, &order->speed, "X",
         "a trace runs so many times faster, default 1"},
        {"max-tokens", OPTIONS_U32, FLAG_MAX_TOKENS, &order->max_tokens, "N",
         "length of an answer to a prompt of FILE"},
        {"ignore-eos", OPTIONS_FLAG, 0, &order->ignore_eos, NULL,
         "every answer has full length; lengths, trace: always"},
        {"tenant", OPTIONS_TEXT, 0, &order->tenant, "NAME", "whose requests they are"},
        {"priority", OPTIONS_I32, 0, &order->priority, "P",
         "-100 to 100; lower runs earlier, among the tenant's own"},
        {"goodput", OPTIONS_WORDS, 0, &order->goodput_words, "L...",
         "limits in ms that a good request keeps: ttft:200 tpot:50 e2el:9000"},
        {"seed", OPTIONS_U64, 0, &order->seed, "S", "of ids and arrivals, default 0"},
        {"json", OPTIONS_TEXT, 0, &order->json_path, "FILE", "write the figures there too"},
        {"plot", OPTIONS_TEXT, 0, &order->plot_path, "FILE.svg", "draw the run there"},
        {"trace", OPTIONS_TEXT, 0, &order->trace_path, "FILE.json",
         "write the life of each request there, as a Chrome trace"},
    };
    const struct options options = {ORDER_COMMAND,
                                    "Measures an agent under load. \"" ORDER_COMMAND
                                    " compare A.json B.json\" compares two results.",
                                    rows, sizeof rows / sizeof rows[0]};
    char error[GOODPUT_ERROR_BYTES_MAX];
    const char *mistake;

    *order = (struct order){
        .endpoint = OPTIONS_ENDPOINT_DEFAULT,
        .requests = 64,
        .concurrency = UINT32_MAX,
        .rate = INFINITY,
        .burstiness = 1,
        .speed = 1,
    };
    if (!options_parse(&options, argc, argv, &order->flags, status)) {
        return false;
    }
    mistake = find_mistake(order);
    if (!mistake && goodput_parse(&order->goodput, order->goodput_words.items,
                                  order->goodput_words.count, error) != 0) {
        mistake = error;
    }
    if (mistake) {
        *status = options_wrong(ORDER_COMMAND, mistake);
    }
    return mistake == NULL;
}
