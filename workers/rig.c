/*
 * rig.c - see rig.h. Used by measure.c and rehearse.c on the main thread; owns the engine and the
 * rows of its batches.
 */
#include "workers/rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/weights.h"
#include "workers/identity.h"

enum { PAGE_TOKENS = 16, PAGES = 4096 };

void rig_print(struct json *root)
{
    char *text = json_dump(root);
    (void)printf("%s\n", text);
    (void)fflush(stdout);
    free(text);
    json_free(root);
}

int rig_fail(const char *what, const char *why)
{
    char text[512];
    struct json *root = json_new_object();
    (void)snprintf(text, sizeof text, "%s: %s", what, why);
    json_add(root, "error", json_new_string(text, strlen(text)));
    rig_print(root);
    return -EIO;
}

static int by_value(const void *left, const void *right)
{
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

void rig_sort(double *values, size_t count)
{
    qsort(values, count, sizeof *values, by_value);
}

bool rig_number(const char *text, uint32_t least, uint32_t most, uint32_t *out)
{
    char *end = NULL;
    errno = 0;
    const unsigned long value = strtoul(text, &end, 10);
    *out = (uint32_t)value;
    return !errno && end != text && *end == '\0' && value >= least && value <= most;
}

static enum kern_dtype choose_dtype(const struct rig *rig, unsigned isa)
{
    if (strcmp(rig->dtype, "auto") == 0) {
        return engine_dtype_auto(isa);
    }
    return strcmp(rig->dtype, "bf16") == 0 ? KERN_BF16 : KERN_F32;
}

static int open_engine(struct rig *rig, const struct weights *weights)
{
    const struct hparams *hparams = weights_hparams(weights);
    const bool int8 = strcmp(rig->weights, "int8") == 0;
    const bool fp8 = strcmp(rig->weights, "fp8") == 0;
    const unsigned isa = kern_isa_detect();
    struct model_error error = {"out of memory"};
    if (rig->context_max > hparams->positions_max) {
        rig->context_max = hparams->positions_max;
    }
    if (rig->context_max <= rig->tokens_max) {
        return rig_fail("the model", "has no more positions than a batch has tokens");
    }
    const struct engine_options options = {
        .dtype = choose_dtype(rig, isa),
        .weights = int8  ? MATMUL_WEIGHTS_INT8
                   : fp8 ? MATMUL_WEIGHTS_FP8
                         : MATMUL_WEIGHTS_DTYPE,
        .kv = strcmp(rig->kv, "fp8_e4m3") == 0 ? ENGINE_KV_E4M3 : ENGINE_KV_DTYPE,
        .isa = isa,
        .threads = rig->threads,
        .tokens_max = rig->tokens_max,
        .rows_max = rig->tokens_max,
        .context_max = rig->context_max,
        .page_tokens = PAGE_TOKENS,
        .device_pages = PAGES,
        .timed = rig->timed,
    };
    if (engine_open(&rig->engine, weights, &options, &error)) {
        return rig_fail("the model", error.text);
    }
    identity_fill(&rig->key, rig->engine, &options);
    return 0;
}

int rig_open(struct rig *rig, const char *path)
{
    struct model_error error = {"out of memory"};
    struct weights *weights = NULL;
    if (rig->seed > 0 ? weights_open_random(&weights, path, rig->seed, &error)
                      : weights_open(&weights, path, &error)) {
        return rig_fail("the model", error.text);
    }
    const int code = open_engine(rig, weights);
    weights_close(weights);
    if (code) {
        return code;
    }
    rig->sequence_pages = (rig->context_max + PAGE_TOKENS - 1) / PAGE_TOKENS;
    const size_t pages = (size_t)rig->tokens_max * rig->sequence_pages;
    rig->pages = calloc(pages, sizeof *rig->pages);
    rig->ids = calloc(rig->tokens_max, sizeof *rig->ids);
    rig->rows = calloc(rig->tokens_max, sizeof *rig->rows);
    must(rig->pages && rig->ids && rig->rows);
    for (size_t i = 0; i < pages; i++) {
        rig->pages[i] = (uint32_t)(i % PAGES);
    }
    return 0;
}

void rig_close(struct rig *rig)
{
    engine_close(rig->engine);
    free(rig->pages);
    free(rig->ids);
    free(rig->rows);
}

/* Where tokens of a sequence begin that see this many in the mean. */
static uint32_t position_for(const struct rig *rig, uint32_t tokens, uint32_t context)
{
    const uint32_t before = (tokens + 1) / 2; /* Of its own, in the mean. */
    const uint32_t most = rig->context_max - tokens;
    const uint32_t position = context > before ? context - before : 0;
    return position < most ? position : most;
}

struct engine_batch rig_batch(struct rig *rig, const struct regime *regime, const struct plan *plan)
{
    uint32_t first = 0;
    uint32_t rows = 0;
    must(regime->tokens >= 1 && regime->tokens <= rig->tokens_max);
    while (first < regime->tokens) {
        const uint32_t tokens = first < regime->decode ? 1 : regime->tokens - first;
        rig->rows[rows] = (struct engine_row){
            .pages = rig->pages + (size_t)rows * rig->sequence_pages,
            .first = first,
            .tokens = tokens,
            .position = position_for(rig, tokens, regime->context),
        };
        rows++;
        first += tokens;
    }
    return (struct engine_batch){
        .ids = rig->ids, .rows = rig->rows, .row_count = rows, .plan = plan};
}
