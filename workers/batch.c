/*
 * batch.c - see batch.h. Called by the engine on a worker's main thread, once a step; owns nothing.
 * Invariant: no attention item has rows on both sides of a cut, and no cut parts the tokens of a KV
 * tile (kern.h): attention reads whole tiles, so one side would read what the other writes.
 */
#include "workers/batch.h"

/* Page and position of each token of a row. */
static void place_tokens(struct llama *llama, const struct engine_row *row)
{
    for (uint32_t i = 0; i < row->tokens; i++) {
        const uint32_t position = row->position + i;
        llama->batch.position[row->first + i] = position;
        llama->batch.page[row->first + i] = row->pages[position / llama->page_tokens];
    }
}

/* Moves a cut within a row down to the beginning of its tile, or of the row. */
static void move_cuts(struct cuts *cuts, const struct engine_batch *in)
{
    uint32_t i = 0;
    for (uint32_t c = 0; c < cuts->count; c++) {
        while (i + 1 < in->row_count && in->rows[i + 1].first <= cuts->row[c]) {
            i++;
        }
        const struct engine_row *row = &in->rows[i];
        const uint32_t within = cuts->row[c] - row->first;
        if (within < row->tokens) {
            const uint32_t behind = (row->position + within) % KERN_KV_TILE;
            cuts->row[c] -= behind < within ? behind : within;
        }
    }
}

/* Tokens [begin, end) of a row as attention items, the last ones first: they look back furthest. */
static void cut_row(struct llama *llama, uint32_t sequence, uint32_t begin, uint32_t end)
{
    struct llama_batch *batch = &llama->batch;
    while (end > begin) {
        const uint32_t left = end - begin;
        const uint32_t count = left < KERN_ATTEND_ROWS_MAX ? left : KERN_ATTEND_ROWS_MAX;
        end -= count;
        for (uint32_t head = 0; head < llama->shard.kv_heads.count; head++) {
            batch->item[batch->items++] = (struct kern_attend_item){
                .sequence = sequence, .row_first = end, .row_count = count, .kv_head = head};
        }
    }
}

static uint32_t greater(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Items of the rows with several tokens, or of those with one, cut after cut; at[c]: the first one
 * behind cut c. */
static void list_items(struct llama *llama, const struct engine_batch *in, bool several,
                       uint32_t *at)
{
    const struct cuts *cuts = &llama->batch.cuts;
    uint32_t row = 0; /* The first that ends behind the cut. */
    for (uint32_t c = 0; c < cuts->count; c++) {
        at[c] = llama->batch.items;
        const uint32_t begin = cuts->row[c];
        const uint32_t end = c + 1 < cuts->count ? cuts->row[c + 1] : begin;
        while (row < in->row_count && in->rows[row].first + in->rows[row].tokens <= begin) {
            row++;
        }
        for (uint32_t i = row; i < in->row_count && in->rows[i].first < end; i++) {
            const struct engine_row *here = &in->rows[i];
            if ((here->tokens > 1) == several) {
                cut_row(llama, i, greater(begin, here->first) - here->first,
                        smaller(end, here->first + here->tokens) - here->first);
            }
        }
    }
}

void batch_fill(struct llama *llama, const struct engine_batch *in,
                const struct engine_options *options)
{
    struct llama_batch *batch = &llama->batch;
    must(in->row_count >= 1 && in->row_count <= options->rows_max);
    batch->ids = in->ids;
    batch->tokens = 0;
    batch->rows = in->row_count;
    batch->items = 0;
    batch->logit_rows = 0;
    for (uint32_t i = 0; i < in->row_count; i++) {
        const struct engine_row *row = &in->rows[i];
        must(row->first == batch->tokens && row->tokens >= 1 &&
             row->tokens <= options->tokens_max - batch->tokens &&
             row->position < options->context_max &&
             row->tokens <= options->context_max - row->position);
        batch->tokens += row->tokens;
        batch->sequence[i] = (struct kern_sequence){.pages = row->pages,
                                                    .row_first = row->first,
                                                    .row_count = row->tokens,
                                                    .position = row->position};
        place_tokens(llama, row);
        if (row->wants_logits) {
            batch->logit_token[batch->logit_rows++] = row->first + row->tokens - 1;
        }
    }
    cuts_make(&batch->cuts, in->plan, batch->tokens, matmul_rows_step(llama->shape[LLAMA_QKV]));
    move_cuts(&batch->cuts, in);
    list_items(llama, in, true, batch->prefill_item);
    list_items(llama, in, false, batch->decode_item);
}
