/*
 * perplexity.c - perplexity MODEL TEXT [f32|bf16|int8|int8-f32] [TOKENS]: how well a model
 * foretells a text in one number format; int8 is of the weights, with bf16 or f32 around it. Not a
 * test: the accuracy rows of docs/benchmarks.md come from here.
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
    TOKENS_DEFAULT = 16384,
    TOKENS_MAX = 1 << 20,
    TOKEN_TEXT_BYTES = 8, /* More than a token of any language takes on average. */
};

static const struct numbers {
    const char *name;
    enum kern_dtype dtype;
    enum matmul_weights weights;
} all_numbers[] = {
    {"f32", KERN_F32, MATMUL_WEIGHTS_DTYPE},
    {"bf16", KERN_BF16, MATMUL_WEIGHTS_DTYPE},
    {"int8", KERN_BF16, MATMUL_WEIGHTS_INT8},
    {"int8-f32", KERN_F32, MATMUL_WEIGHTS_INT8},
};

struct score {
    double logprob; /* Sum over the scored tokens. */
    uint64_t tokens;
    uint64_t best; /* Of these the model's first choice. */
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
    score->tokens++;
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

int main(int argc, char **argv)
{
    const struct numbers *numbers = numbers_by_name(argc > 3 ? argv[3] : "bf16");
    const unsigned long wanted = argc > 4 ? strtoul(argv[4], NULL, 10) : TOKENS_DEFAULT;
    if (argc < 3 || argc > 5 || !numbers || wanted < WINDOW || wanted > TOKENS_MAX) {
        (void)fprintf(stderr, "usage: perplexity MODEL TEXT [f32|bf16|int8|int8-f32] [TOKENS]\n");
        return 2;
    }
    uint32_t *ids = calloc(wanted, sizeof *ids);
    must(ids);
    const uint32_t windows = tokenise(argv[1], argv[2], ids, (uint32_t)wanted) / WINDOW;
    struct probe probe = probe_open(argv[1], (struct engine_options){.dtype = numbers->dtype,
                                                                     .weights = numbers->weights,
                                                                     .isa = kern_isa_detect(),
                                                                     .threads = 2,
                                                                     .rows_max = ROWS_MAX,
                                                                     .context_max = WINDOW,
                                                                     .page_tokens = PAGE_TOKENS});
    struct score score = {0};
    for (uint32_t first = 0; first < windows; first += ROWS_MAX) {
        const uint32_t rows = windows - first < ROWS_MAX ? windows - first : ROWS_MAX;
        run_windows(&probe, ids + (size_t)first * WINDOW, rows, &score);
    }
    probe_close(&probe);
    free(ids);
    if (score.tokens == 0) {
        (void)fprintf(stderr, "perplexity: %s is shorter than %d tokens\n", argv[2], (int)WINDOW);
        return EXIT_FAILURE;
    }
    (void)printf("%-8s perplexity %.4f, first choice right %.2f %%, %llu tokens scored\n",
                 numbers->name, exp(-score.logprob / (double)score.tokens),
                 100.0 * (double)score.best / (double)score.tokens,
                 (unsigned long long)score.tokens);
    return 0;
}
