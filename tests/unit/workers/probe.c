/*
 * probe.c - see probe.h. Called by test programs on their main thread; owns the engine and the page
 * list of a probe.
 */
#include "tests/unit/workers/probe.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/must.h"

enum { CONTEXT_DEFAULT = 2048, TOKENS_DEFAULT = 64, ROWS_DEFAULT = 8, PAGE_TOKENS_DEFAULT = 16 };

static uint32_t or_default(uint32_t value, uint32_t otherwise)
{
    return value > 0 ? value : otherwise;
}

static void complete(struct engine_options *options, const struct hparams *hparams)
{
    const uint32_t positions =
        hparams->positions_max < CONTEXT_DEFAULT ? hparams->positions_max : CONTEXT_DEFAULT;
    options->threads = or_default(options->threads, 1);
    options->tokens_max = or_default(options->tokens_max, TOKENS_DEFAULT);
    options->rows_max = or_default(options->rows_max, ROWS_DEFAULT);
    options->context_max = or_default(options->context_max, positions);
    options->page_tokens = or_default(options->page_tokens, PAGE_TOKENS_DEFAULT);
    const uint32_t pages = (options->context_max - 1) / options->page_tokens + 1;
    options->device_pages = or_default(options->device_pages, pages * options->rows_max);
}

struct probe probe_open(const char *path, struct engine_options options)
{
    struct model_error error = {"out of memory"};
    struct weights *weights = NULL;
    struct probe probe = {0};
    int status = weights_open(&weights, path, &error);
    if (!status) {
        complete(&options, weights_hparams(weights));
        probe.options = options;
        probe.vocab = weights_hparams(weights)->vocab;
        plan_sequential(&probe.plan, weights_hparams(weights)->experts > 0);
        status = engine_open(&probe.engine, weights, &options, &error);
        weights_close(weights);
    }
    if (status) {
        (void)fprintf(stderr, "%s: %s\n", path, error.text);
        exit(EXIT_FAILURE);
    }
    const uint32_t pages = (options.context_max - 1) / options.page_tokens + 1;
    probe.pages = calloc(pages, sizeof *probe.pages);
    must(probe.pages);
    for (uint32_t i = 0; i < pages; i++) {
        probe.pages[i] = i;
    }
    return probe;
}

void probe_close(struct probe *probe)
{
    engine_close(probe->engine);
    free(probe->pages);
}

const float *probe_feed(struct probe *probe, const uint32_t *ids, uint32_t count)
{
    must(count > 0);
    while (count > 0) {
        const uint32_t most = probe->options.tokens_max;
        const uint32_t tokens = count < most ? count : most;
        const struct engine_row row = {.pages = probe->pages,
                                       .tokens = tokens,
                                       .position = probe->fed,
                                       .wants_logits = count == tokens};
        const struct engine_batch batch = {
            .ids = ids, .rows = &row, .row_count = 1, .plan = &probe->plan};
        engine_run(probe->engine, &batch);
        probe->fed += tokens;
        ids += tokens;
        count -= tokens;
    }
    return engine_logits(probe->engine, 0);
}

void probe_restart(struct probe *probe)
{
    probe->fed = 0;
}

uint32_t probe_best(const float *logits, uint32_t vocab, float *gap)
{
    uint32_t best = 0;
    float second = -INFINITY;
    for (uint32_t i = 1; i < vocab; i++) {
        if (logits[i] > logits[best]) {
            second = logits[best];
            best = i;
        } else if (logits[i] > second) {
            second = logits[i];
        }
    }
    if (gap) {
        *gap = logits[best] - second;
    }
    return best;
}
