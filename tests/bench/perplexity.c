/*
 * perplexity.c - perplexity MODEL TEXT TOKENS FORMAT...: how well a model foretells a text in each
 * of some number formats, and how often its first choice is the one of the first of them. int8 is
 * of the weights, with bf16 or f32 around it; fp8 of the weights and kv8 of keys and values, on a
 * GPU. Not a test: the
 * accuracy rows of docs/benchmarks.md come from here. Built for the emulated device, too
 * (perplexity_emu).
 *
 * The text's first TOKENS are cut into windows that run side by side, one token of each a step.
 * Tokens of a window's second half are scored, so that each has at least half a window before it.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "model/tokenizer.h"
#include "tests/unit/workers/probe.h"

enum {
    WINDOW = 256,
    ROWS_MAX = 64,
    PAGE_TOKENS = 16,
    WINDOW_PAGES = WINDOW / PAGE_TOKENS,
    TOKENS_MAX = 1 << 20,
    FIRST_FORMAT = 4,     /* Among the arguments. */
    TOKEN_TEXT_BYTES = 8, /* More than a token of any language takes on average. */
};

static const struct numbers {
    const char *name;
    enum kern_dtype dtype;
    enum matmul_weights weights;
    enum engine_kv kv;
} all_numbers[] = {
    {"f32", KERN_F32, MATMUL_WEIGHTS_DTYPE, ENGINE_KV_DTYPE},
    {"bf16", KERN_BF16, MATMUL_WEIGHTS_DTYPE, ENGINE_KV_DTYPE},
    {"int8", KERN_BF16, MATMUL_WEIGHTS_INT8, ENGINE_KV_DTYPE},
    {"int8-f32", KERN_F32, MATMUL_WEIGHTS_INT8, ENGINE_KV_DTYPE},
    {"fp8", KERN_BF16, MATMUL_WEIGHTS_FP8, ENGINE_KV_DTYPE},
    {"fp8-f32", KERN_F32, MATMUL_WEIGHTS_FP8, ENGINE_KV_DTYPE},
    {"fp8-kv8", KERN_BF16, MATMUL_WEIGHTS_FP8, ENGINE_KV_E4M3},
    {"kv8", KERN_BF16, MATMUL_WEIGHTS_DTYPE, ENGINE_KV_E4M3},
    {"kv8-f32", KERN_F32, MATMUL_WEIGHTS_DTYPE, ENGINE_KV_E4M3},
};

struct score {
    double logprob; /* Sum over the scored tokens. */
    uint64_t tokens;
    uint64_t best;     /* Of these the model's first choice. */
    uint64_t alike;    /* Of these with the first format's first choice. */
    bool first;        /* This is that format: */
    uint32_t *choices; /* its choices are noted here. */
};

/* The text's beginning, cut between characters. */
static char *read_text(const char *path, size_t bytes_max, size_t *bytes)
{
    char *text = malloc(bytes_max + 1);
    FILE *file = fopen(path, "rb");
    if (!file || !text) {
        (void)fprintf(stderr, "perplexity: %s: %s\n", path, strerror(errno));
        exit(EXIT_FAILURE);
    }
    *bytes = fread(text, 1, bytes_max + 1, file);
    if (*bytes > bytes_max) {
        *bytes = bytes_max;
        while (*bytes > 0 && ((unsigned char)text[*bytes] & 0xc0) == 0x80) {
            (*bytes)--;
        }
    }
    (void)fclose(file);
    return text;
}

static uint32_t tokenise(const char *model, const char *path, uint32_t *ids, uint32_t count_max)
{
    struct model_error error = {"out of memory"};
    struct tokenizer *tokenizer = NULL;
    struct tokenizer_scratch *scratch = NULL;
    size_t bytes;
    char *text = read_text(path, (size_t)count_max * TOKEN_TEXT_BYTES, &bytes);
    uint32_t *room = calloc(bytes + 1, sizeof *room);
    must(room);
    struct ids list = {.items = room, .max = bytes + 1};
    int status = tokenizer_open(&tokenizer, model, &error);
    status = status ? status : tokenizer_scratch_open(&scratch, tokenizer, bytes);
    status = status ? status : tokenizer_encode(tokenizer, scratch, text, bytes, 0, &list);
    if (status) {
        (void)fprintf(stderr, "perplexity: %s: %s\n", model, error.text);
        exit(EXIT_FAILURE);
    }
    const uint32_t count = list.count < count_max ? (uint32_t)list.count : count_max;
    memcpy(ids, room, count * sizeof *ids);
    tokenizer_scratch_close(scratch);
    tokenizer_close(tokenizer);
    free(room);
    free(text);
    return count;
}

static void take_logits(const struct probe *probe, uint32_t row, uint32_t id, struct score *score)
{
    struct kern_softmax_stats stats;
    const float *logits = engine_logits(probe->engine, row);
    const struct kern_logits_args args = {logits, probe->vocab, &stats};
    struct kern_ops ops;
    kern_ops_init(&ops, kern_isa_detect());
    ops.logits(&args);
    score->logprob += (double)logits[id] - (double)stats.max - log((double)stats.sum);
    if (score->first) {
        score->choices[score->tokens] = stats.argmax;
    }
    score->alike += stats.argmax == score->choices[score->tokens++];
    score->best += stats.argmax == id;
}

/* rows windows of ids, one behind the other, side by side. */
static void run_windows(const struct probe *probe, const uint32_t *ids, uint32_t rows,
                        struct score *score)
{
    struct step {
        uint32_t pages[ROWS_MAX * WINDOW_PAGES];
        struct engine_row row[ROWS_MAX];
        uint32_t id[ROWS_MAX];
    } *step = calloc(1, sizeof *step);
    must(step);
    for (uint32_t i = 0; i < rows * WINDOW_PAGES; i++) {
        step->pages[i] = i;
    }
    for (uint32_t position = 0; position + 1 < WINDOW; position++) {
        const bool scored = position + 1 >= WINDOW / 2;
        for (uint32_t i = 0; i < rows; i++) {
            step->id[i] = ids[i * WINDOW + position];
            step->row[i] = (struct engine_row){.pages = step->pages + (size_t)i * WINDOW_PAGES,
                                               .first = i,
                                               .tokens = 1,
                                               .position = position,
                                               .wants_logits = scored};
        }
        const struct engine_batch batch = {
            .ids = step->id, .rows = step->row, .row_count = rows, .plan = &probe->plan};
        engine_run(probe->engine, &batch);
        for (uint32_t i = 0; i < rows && scored; i++) {
            take_logits(probe, i, ids[i * WINDOW + position + 1], score);
        }
    }
    free(step);
}

static const struct numbers *numbers_by_name(const char *name)
{
    for (size_t i = 0; i < sizeof all_numbers / sizeof all_numbers[0]; i++) {
        if (strcmp(all_numbers[i].name, name) == 0) {
            return &all_numbers[i];
        }
    }
    return NULL;
}

/* The first `windows` windows of ids in one format. */
static void run_format(const char *model, const struct numbers *numbers, const uint32_t *ids,
                       uint32_t windows, struct score *score)
{
    struct probe probe = probe_open(model, (struct engine_options){.dtype = numbers->dtype,
                                                                   .weights = numbers->weights,
                                                                   .kv = numbers->kv,
                                                                   .isa = kern_isa_detect(),
                                                                   .threads = 2,
                                                                   .rows_max = ROWS_MAX,
                                                                   .context_max = WINDOW,
                                                                   .page_tokens = PAGE_TOKENS});
    for (uint32_t first = 0; first < windows; first += ROWS_MAX) {
        const uint32_t rows = windows - first < ROWS_MAX ? windows - first : ROWS_MAX;
        run_windows(&probe, ids + (size_t)first * WINDOW, rows, score);
    }
    probe_close(&probe);
    (void)printf("%-8s perplexity %.4f, first choice right %.2f %%, alike %.2f %%, %llu tokens\n",
                 numbers->name, exp(-score->logprob / (double)score->tokens),
                 100.0 * (double)score->best / (double)score->tokens,
                 100.0 * (double)score->alike / (double)score->tokens,
                 (unsigned long long)score->tokens);
    (void)fflush(stdout);
}

int main(int argc, char **argv)
{
    const unsigned long wanted = argc > FIRST_FORMAT ? strtoul(argv[3], NULL, 10) : 0;
    bool known = wanted >= WINDOW && wanted <= TOKENS_MAX;
    for (int i = FIRST_FORMAT; i < argc; i++) {
        known = known && numbers_by_name(argv[i]);
    }
    if (!known) {
        (void)fprintf(stderr, "usage: perplexity MODEL TEXT TOKENS FORMAT...; a format is f32, "
                              "bf16, int8, int8-f32, kv8 or kv8-f32\n");
        return 2;
    }
    uint32_t *ids = calloc(wanted, sizeof *ids);
    uint32_t *choices = calloc(wanted, sizeof *choices);
    must(ids && choices);
    const uint32_t windows = tokenise(argv[1], argv[2], ids, (uint32_t)wanted) / WINDOW;
    if (windows == 0) {
        (void)fprintf(stderr, "perplexity: %s is shorter than %d tokens\n", argv[2], (int)WINDOW);
        exit(EXIT_FAILURE);
    }
    for (int i = FIRST_FORMAT; i < argc; i++) {
        struct score score = {.choices = choices, .first = i == FIRST_FORMAT};
        run_format(argv[1], numbers_by_name(argv[i]), ids, windows, &score);
    }
    free(choices);
    free(ids);
    return 0;
}
