/*
 * bed.c - see bed.h. Called by test programs on their main thread; owns the engines and comms. Rows
 * are chosen so that single tokens and prompts stand on both sides of each cut, and prompts across.
 */
#include "tests/unit/workers/bed.h"

#include <stdlib.h>
#include <string.h>

enum { PAST = 21, /* Positions before the batch's: within a tile, odd. */ TIMEOUT_US = 120000000 };

/* Tokens of each row; in the second, one prompt across all. */
static const uint32_t mixes[BED_MIXES][BED_SEQUENCES] = {{14, 1, 1, 20, 1, 40, 1, 18},
                                                         {BED_TOKENS}};

static void set_mix(struct bed *bed, uint32_t mix)
{
    uint32_t first = 0;
    bed->row_count = 0;
    for (uint32_t i = 0; i < BED_SEQUENCES && mixes[mix][i] > 0; i++) {
        const uint32_t tokens = mixes[mix][i];
        bed->rows[bed->row_count++] = (struct engine_row){.pages = bed->pages[i],
                                                          .first = first,
                                                          .tokens = tokens,
                                                          .position = PAST,
                                                          .wants_logits = true};
        first += tokens;
    }
    must(first == BED_TOKENS);
}

struct order { /* One batch, to every rank. */
    struct bed *bed;
    struct engine_batch batch;
};

static void run_rank(void *context, uint32_t rank)
{
    const struct order *order = context;
    engine_run(order->bed->probe[rank].engine, &order->batch);
}

static void run_batch(struct bed *bed, const struct engine_batch *batch)
{
    struct order order = {bed, *batch};
    if (bed->ranks > 1) {
        relay_run(bed->ranks, run_rank, &order);
    } else {
        run_rank(&order, 0);
    }
}

bool bed_run(struct bed *bed, uint32_t mix, const struct plan *plan, uint64_t chaos_seed)
{
    const size_t vocab = bed->probe[0].vocab;
    bool same = true;
    set_mix(bed, mix);
    run_batch(bed, &(struct engine_batch){.ids = bed->ids,
                                          .rows = bed->rows,
                                          .row_count = bed->row_count,
                                          .plan = plan,
                                          .chaos_seed = chaos_seed});
    for (uint32_t i = 0; i < bed->row_count; i++) {
        same = same && memcmp(engine_logits(bed->probe[0].engine, i),
                              bed->expected[mix] + i * vocab, vocab * sizeof(float)) == 0;
    }
    return same;
}

static void open_engines(struct bed *bed, const char *path, uint32_t threads, uint32_t ranks)
{
    bed->ranks = ranks;
    if (ranks > 1) {
        relay_open(&bed->relay, ranks, TIMEOUT_US);
    }
    for (uint32_t rank = 0; rank < ranks; rank++) {
        bed->probe[rank] =
            probe_open(path, (struct engine_options){.dtype = KERN_F32,
                                                     .isa = kern_isa_detect(),
                                                     .threads = threads,
                                                     .tokens_max = BED_TOKENS,
                                                     .rows_max = BED_SEQUENCES,
                                                     .context_max = BED_CONTEXT,
                                                     .page_tokens = BED_PAGE_TOKENS,
                                                     .device_pages = BED_SEQUENCES * BED_PAGES,
                                                     .rank = rank,
                                                     .ranks = ranks});
        must(engine_join(bed->probe[rank].engine, bed->relay.comm[rank]) == 0);
    }
    for (uint32_t i = 0; i < BED_TOKENS; i++) {
        bed->ids[i] = (i * 31 + 7) % bed->probe[0].vocab;
    }
    for (uint32_t i = 0; i < BED_SEQUENCES; i++) {
        for (uint32_t j = 0; j < BED_PAGES; j++) {
            bed->pages[i][j] = j * BED_SEQUENCES + i;
        }
        const struct engine_row row = {.pages = bed->pages[i], .tokens = PAST};
        run_batch(bed, &(struct engine_batch){.ids = bed->ids + i,
                                              .rows = &row,
                                              .row_count = 1,
                                              .plan = &bed->probe[0].plan});
    }
}

static void close_engines(struct bed *bed)
{
    for (uint32_t rank = 0; rank < bed->ranks; rank++) {
        probe_close(&bed->probe[rank]);
    }
    relay_close(&bed->relay);
}

/* What one engine gives. */
static void expect(struct bed *bed, const char *path, uint32_t threads)
{
    open_engines(bed, path, threads, 1);
    for (uint32_t mix = 0; mix < BED_MIXES; mix++) {
        const size_t vocab = bed->probe[0].vocab;
        bed->expected[mix] = calloc(BED_SEQUENCES * vocab, sizeof(float));
        must(bed->expected[mix]);
        (void)bed_run(bed, mix, &bed->probe[0].plan, 0);
        for (uint32_t i = 0; i < bed->row_count; i++) {
            memcpy(bed->expected[mix] + i * vocab, engine_logits(bed->probe[0].engine, i),
                   vocab * sizeof(float));
        }
    }
}

struct bed *bed_open(const char *path, const struct tiny_model *model, uint32_t threads,
                     uint32_t ranks)
{
    struct bed *bed = calloc(1, sizeof *bed);
    must(bed && ranks <= BED_RANKS_MAX);
    if (!path) {
        tiny_model_write(model, bed->path);
        path = bed->path;
    }
    expect(bed, path, threads);
    const struct hparams *hparams = engine_hparams(bed->probe[0].engine);
    bed->layers = hparams->layers;
    graph_build(&bed->graph, hparams->experts > 0, ranks, GRAPH_INSIDE);
    if (ranks > 1) {
        close_engines(bed);
        open_engines(bed, path, threads, ranks);
    }
    return bed;
}

void bed_close(struct bed *bed)
{
    close_engines(bed);
    if (bed->path[0]) {
        tiny_model_remove(bed->path);
    }
    for (uint32_t mix = 0; mix < BED_MIXES; mix++) {
        free(bed->expected[mix]);
    }
    free(bed);
}
