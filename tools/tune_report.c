/*
 * tune_report.c - sluice-tune report: reads a model's numbers and a device's peaks, or measures
 * those of this machine, and prints the cost model for some mixes. Called by sluice-tune; runs once
 * and owns what it opens. Invariant: every figure comes from plan/cost.h.
 */
#include "tools/tune_report.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/weights.h"
#include "plan/cost.h"
#include "tools/options.h"
#include "tools/peak.h"

#define COMMAND "sluice-tune report"

enum { TOKENS_MAX = 1 << 20, RANKS_MAX = 64, THREADS_MAX = 256, LENGTH_MAX = 1 << 24 };

struct report_run {
    const char *model;
    const char *device_name; /* A file, or "auto". */
    const char *dtype_name;
    const char *collectives_name;
    struct options_texts mixes;
    uint32_t tokens;
    uint32_t ranks;
    uint32_t threads; /* 0: all of the machine. */
    enum kern_dtype dtype;
    enum graph_collectives collectives;
    double parameters;
    char model_text[HPARAMS_TEXT_BYTES_MAX];
    struct cost_device device;
    struct graph graph;
    struct graph_shape shape;
};

/* Words as enums count them; false: none of them. */
static bool find_word(const char *text, const char *const *words, uint32_t count, uint32_t *index)
{
    for (*index = 0; *index < count; (*index)++) {
        if (strcmp(text, words[*index]) == 0) {
            return true;
        }
    }
    return false;
}

static void take_shape(struct report_run *run, const struct hparams *hparams)
{
    const double bytes = run->dtype == KERN_F32 ? 4 : 2;
    run->parameters = (double)hparams_parameters(hparams);
    run->shape = (struct graph_shape){
        .hidden = hparams->hidden,
        .heads = hparams->heads,
        .kv_heads = hparams->kv_heads,
        .head_dim = hparams->head_dim,
        .ffn = hparams->ffn,
        .experts = hparams->experts,
        .experts_used = hparams->experts_used,
        .layers = hparams->layers,
        .vocab = hparams->vocab,
        .ranks = run->ranks,
        .weight_bytes = bytes,
        .act_bytes = bytes,
        .kv_bytes = bytes,
    };
    graph_build(&run->graph, hparams->experts > 0, run->ranks, run->collectives);
    hparams_text(hparams, run->model_text);
}

static int read_model(struct report_run *run)
{
    struct model_error error = {{0}};
    struct hparams *hparams = calloc(1, sizeof *hparams);
    must(hparams);
    int status = EXIT_STATUS_DONE;
    if (weights_peek(hparams, run->model, &error) ||
        hparams_check_ranks(hparams, run->ranks, &error)) {
        status = options_failed(COMMAND, run->model, error.text);
    } else {
        take_shape(run, hparams);
    }
    free(hparams);
    return status;
}

static int read_device(struct report_run *run)
{
    struct json_error json_error;
    struct json *root = NULL;
    char error[COST_ERROR_BYTES_MAX];
    if (json_parse_file(run->device_name, &root, &json_error)) {
        return options_failed(COMMAND, run->device_name, json_error.text);
    }
    const int code = cost_read(&run->device, root, error);
    json_free(root);
    return code ? options_failed(COMMAND, run->device_name, error) : EXIT_STATUS_DONE;
}

static int measure_device(struct report_run *run)
{
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    const uint32_t all = online > 0 && online <= THREADS_MAX ? (uint32_t)online : THREADS_MAX;
    const int code = peak_measure(&run->device, run->dtype, run->threads ? run->threads : all);
    return code ? options_failed(COMMAND, "this machine cannot be measured", strerror(-code))
                : EXIT_STATUS_DONE;
}

static void print_device(const struct report_run *run)
{
    const struct cost_device *device = &run->device;
    (void)printf("model    %s\n         %.4g million parameters, %s, %u rank%s\n", run->model_text,
                 run->parameters / 1e6, run->dtype_name, run->ranks, run->ranks == 1 ? "" : "s");
    (void)printf("device   %s%s\n         %.4g TFLOP/s, memory %.4g GB/s and %.4g GB", device->name,
                 strcmp(run->device_name, "auto") == 0 ? ", measured" : "", device->flops / 1e12,
                 device->memory_bytes_s / 1e9, device->memory_bytes / 1e9);
    if (device->network_bytes_s > 0) {
        (void)printf(", links %.4g GB/s after %.3g us", device->network_bytes_s / 1e9,
                     device->collective_s * 1e6);
    }
    (void)printf("\n         %.4g KiB of keys and values a token and rank\n",
                 cost_token_bytes(&run->shape) / 1024);
}

static void print_curve(const char *name, const struct cost_curve *curve)
{
    (void)printf("  %-10s", name);
    for (uint32_t i = 1; i < 10; i++) {
        (void)printf(" %5.2f", cost_curve_at(curve, i / 10.0));
    }
    (void)printf("\n");
}

static void print_interference(const struct cost_device *device)
{
    if (device->memory_curve.count == 0 && device->network_curve.count == 0) {
        return;
    }
    (void)printf("\nspeed kept on a share R of the device, a product on the rest\n  R         ");
    for (uint32_t i = 1; i < 10; i++) {
        (void)printf(" %5.1f", i / 10.0);
    }
    (void)printf("\n");
    if (device->memory_curve.count > 0) {
        print_curve("memory", &device->memory_curve);
    }
    if (device->network_curve.count > 0) {
        print_curve("network", &device->network_curve);
    }
}

static void print_equations(const struct report_run *run)
{
    struct cost_bounds bounds;
    cost_equations(&bounds, &run->device, &run->shape, run->parameters, run->tokens);
    (void)printf("\na step of %u tokens, all memory read once\n", run->tokens);
    (void)printf("  T_comp %.4g ms   T_mem %.4g ms   T_net %.4g ms   T_R %.3g: bound by %s\n",
                 bounds.compute_s * 1e3, bounds.memory_s * 1e3, bounds.network_s * 1e3,
                 bounds.memory_s / bounds.compute_s,
                 bounds.memory_s < bounds.compute_s ? "compute" : "memory");
    (void)printf("  optimum %.5g tokens/s a device: Compute / 2 P\n",
                 cost_optimum(&run->device, run->parameters));
}

static void print_operations(const struct report_run *run, const struct cost_mix *mix)
{
    static const char *const classes[] = {"compute", "memory", "network"};
    (void)printf("  %-18s %-8s %10s %10s %10s %10s %10s\n", "a layer", "class", "GFLOP", "read MB",
                 "rows MB", "links MB", "us alone");
    for (uint32_t i = 0; i < run->graph.count; i++) {
        const struct graph_operation *operation = &run->graph.operation[i];
        if (operation->tokens == GRAPH_O_REDUCED) {
            continue;
        }
        const struct graph_work work = cost_work(operation, &run->shape, mix);
        (void)printf("  %-18s %-8s %10.4g %10.4g %10.4g %10.4g %10.4g\n",
                     plan_operation_name(operation->operation), classes[operation->class],
                     work.flops / 1e9, work.bytes / 1e6, work.row_bytes / 1e6, work.net_bytes / 1e6,
                     cost_operation(&run->device, operation, &run->shape, mix) * 1e6);
    }
}

static void print_mix(const struct report_run *run, const char *name, uint32_t input,
                      uint32_t output)
{
    struct cost_mix mix;
    struct cost_bounds bounds;
    cost_mix_of(&mix, run->tokens, input, output);
    cost_step(&bounds, &run->device, &run->graph, &run->shape, &mix);
    const double bound_s = cost_longest(&bounds);
    const double sequential_s = cost_sequential(&run->device, &run->graph, &run->shape, &mix);
    (void)printf("\nmix %s: %.4g tokens of prompts and %.4g of decode, which attend to %.4g\n",
                 name, mix.tokens - mix.decode, mix.decode, mix.decode_context);
    print_operations(run, &mix);
    (void)printf("  all layers and the head: compute %.4g ms, memory %.4g ms, network %.4g ms\n",
                 bounds.compute_s * 1e3, bounds.memory_s * 1e3, bounds.network_s * 1e3);
    (void)printf("  overlapped at best %.4g ms, %.5g tokens/s; one after the other %.4g ms, %.5g\n",
                 bound_s * 1e3, run->tokens / bound_s, sequential_s * 1e3,
                 run->tokens / sequential_s);
}

static bool read_length(const char *text, char **end, uint32_t *tokens)
{
    const unsigned long value = isdigit((unsigned char)*text) ? strtoul(text, end, 10) : 0;
    *tokens = value <= LENGTH_MAX ? (uint32_t)value : 0;
    return *tokens > 0;
}

/* "512:128" */
static bool read_mix(const char *text, uint32_t *input, uint32_t *output)
{
    char *end = NULL;
    return read_length(text, &end, input) && *end == ':' && read_length(end + 1, &end, output) &&
           *end == 0;
}

static int report(struct report_run *run)
{
    int status = read_model(run);
    if (status) {
        return status;
    }
    status = strcmp(run->device_name, "auto") == 0 ? measure_device(run) : read_device(run);
    if (status) {
        return status;
    }
    print_device(run);
    print_interference(&run->device);
    print_equations(run);
    for (uint32_t i = 0; i < run->mixes.count; i++) {
        uint32_t input, output;
        must(read_mix(run->mixes.items[i], &input, &output));
        print_mix(run, run->mixes.items[i], input, output);
    }
    return EXIT_STATUS_DONE;
}

/* NULL, or what is wrong. */
static const char *check(struct report_run *run)
{
    static const char *const dtypes[] = {[KERN_F32] = "f32", [KERN_BF16] = "bf16"};
    static const char *const forms[] = {
        [GRAPH_INSIDE] = "inside", [GRAPH_REDUCE] = "reduce", [GRAPH_SCATTER] = "scatter"};
    uint32_t dtype, form, input, output;
    if (!run->model) {
        return "--model is missing";
    }
    if (!find_word(run->dtype_name, dtypes, 2, &dtype)) {
        return "--dtype must be bf16 or f32";
    }
    if (!find_word(run->collectives_name, forms, 3, &form)) {
        return "--collectives must be inside, reduce or scatter";
    }
    if (run->tokens < 1 || run->tokens > TOKENS_MAX || run->ranks < 1 || run->ranks > RANKS_MAX ||
        run->threads > THREADS_MAX) {
        return "--tokens must be 1 to 1048576, --tp 1 to 64, --threads at most 256";
    }
    for (uint32_t i = 0; i < run->mixes.count; i++) {
        if (!read_mix(run->mixes.items[i], &input, &output)) {
            return "--mix must be tokens of prompt and of answer, as 512:128";
        }
    }
    run->dtype = (enum kern_dtype)dtype;
    run->collectives = (enum graph_collectives)form;
    return NULL;
}

int tune_report_main(int argc, char **argv)
{
    struct report_run run = {.device_name = "auto",
                             .dtype_name = "bf16",
                             .collectives_name = "inside",
                             .tokens = 256,
                             .ranks = 1};
    const struct options_row rows[] = {
        {"model", OPTIONS_TEXT, 0, &run.model, "PATH", "directory or .gguf file"},
        {"device", OPTIONS_TEXT, 0, &run.device_name, "FILE",
         "its peaks as JSON; default auto: measure this machine"},
        {"mix", OPTIONS_TEXTS, 0, &run.mixes, "IN:OUT",
         "tokens of prompt and of answer; may be repeated; default 512:128"},
        {"tokens", OPTIONS_U32, 0, &run.tokens, "N", "of the dense batch; default 256"},
        {"dtype", OPTIONS_TEXT, 0, &run.dtype_name, "TYPE", "bf16 or f32; default bf16"},
        {"tp", OPTIONS_U32, 0, &run.ranks, "N", "ranks that share the model; default 1"},
        {"collectives", OPTIONS_TEXT, 0, &run.collectives_name, "FORM",
         "inside operations, reduce or scatter; default inside"},
        {"threads", OPTIONS_U32, 0, &run.threads, "N", "to measure with; default: all"},
    };
    const struct options options = {COMMAND, "Prints what a model asks of a device.", rows,
                                    sizeof rows / sizeof rows[0]};
    uint32_t flags;
    int status;
    if (!options_parse(&options, argc, argv, &flags, &status)) {
        return status;
    }
    if (run.mixes.count == 0) {
        run.mixes.items[run.mixes.count++] = "512:128";
    }
    const char *wrong = check(&run);
    return wrong ? options_wrong(COMMAND, wrong) : report(&run);
}
