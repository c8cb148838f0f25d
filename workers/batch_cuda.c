/*
 * batch_cuda.c - see batch_cuda.h. Called by the engine on a worker's main thread, once a step;
 * owns nothing. Invariant: what it writes lies where the plan and the bucket say, whatever the
 * batch, and within the block.
 */
#include "workers/batch_cuda.h"

#include <string.h>

enum { BUCKET_PARTS = 8 }; /* Buckets from one power of two to the next. */

uint32_t batch_cuda_bucket(uint32_t rows, uint32_t most)
{
    uint32_t power = 1;
    while (power * 2 <= rows) {
        power *= 2;
    }
    const uint32_t step = power > BUCKET_PARTS ? power / BUCKET_PARTS : 1;
    const uint32_t bucket = (rows + step - 1) / step * step;
    return bucket < most ? bucket : most;
}

void batch_cuda_lay_out(struct cuda_block *block, const struct cuda_model *model,
                        const struct engine_options *options, struct carve *from)
{
    const size_t tokens = options->tokens_max;
    const size_t rows = options->rows_max;
    const size_t pages = (options->context_max - 1) / options->page_tokens + 1;
    *block = (struct cuda_block){
        .valid = carve(from, PLAN_NANO_MAX, sizeof *block->valid),
        .tokens = carve(from, 1, sizeof *block->tokens),
        .logit_rows = carve(from, 1, sizeof *block->logit_rows),
        .ids = carve(from, tokens, sizeof *block->ids),
        .source = carve(from, tokens, sizeof *block->source),
        .position = carve(from, tokens, sizeof *block->position),
        .page = carve(from, tokens, sizeof *block->page),
        .logit_token = carve(from, rows, sizeof *block->logit_token),
        .counts = carve(from, PLAN_NANO_MAX, sizeof *block->counts),
        .prefill = carve(from, tokens, sizeof *block->prefill),
        .decode = carve(from, tokens, sizeof *block->decode),
        .blocks = carve(from, tokens * cuda_token_blocks(model), sizeof *block->blocks),
        .items = carve(from, tokens + model->slots, sizeof *block->items),
        .merges = carve(from, model->slots, sizeof *block->merges),
        .tables = carve(from, rows * pages, sizeof *block->tables),
    };
}

/* Rows of each nano-operation. */
static void cut_bucket(struct cuda_batch *batch, const struct cuda_block *block,
                       const struct cuda_model *model)
{
    struct cuts cuts;
    cuts_make(&cuts, batch->plan, batch->bucket, model->rows_step);
    for (uint32_t i = 0; i < batch->plan->nano_count; i++) {
        const uint32_t first = cuts.row[cuts_of(&cuts, batch->plan->nano[i].first)];
        const uint32_t end = cuts.row[cuts_of(&cuts, batch->plan->nano[i].end)];
        const uint32_t valid_end = end < batch->tokens ? end : batch->tokens;
        batch->first[i] = first;
        batch->end[i] = end;
        block->valid[i] = valid_end > first ? valid_end - first : 0;
    }
}

/* Ids, positions, pages and the block table of a row; returns where the next table begins. */
static uint32_t place_row(const struct cuda_block *block, const struct cuda_model *model,
                          const struct engine_batch *in, uint32_t index, uint32_t table)
{
    const struct engine_row *row = &in->rows[index];
    const uint32_t pages = (row->position + row->tokens - 1) / model->page_tokens + 1;
    const bool alone = model->shard.ranks == 1; /* Else rank 0 has chosen; ids come from hosts. */
    memcpy(block->tables + table, row->pages, pages * sizeof *row->pages);
    memcpy(block->ids + row->first, in->ids + row->first, row->tokens * sizeof *in->ids);
    for (uint32_t i = 0; i < row->tokens; i++) {
        const uint32_t position = row->position + i;
        block->source[row->first + i] = alone ? row->fed : 0;
        block->position[row->first + i] = position;
        block->page[row->first + i] = row->pages[position / model->page_tokens];
    }
    return table + pages;
}

/* The sequences of a range of rows: those with several tokens, or those with one. Their rows count
 * from the range's first. */
static uint32_t list_pieces(struct attend_sequence *pieces, const struct engine_batch *in,
                            uint32_t page_tokens, bool several, const uint32_t range[2])
{
    uint32_t count = 0;
    uint32_t table = 0;
    for (uint32_t i = 0; i < in->row_count && in->rows[i].first < range[1]; i++) {
        const struct engine_row *row = &in->rows[i];
        const uint32_t end = row->first + row->tokens;
        const uint32_t begin = row->first > range[0] ? row->first : range[0];
        const uint32_t stop = end < range[1] ? end : range[1];
        if (stop > begin && (row->tokens > 1) == several) {
            pieces[count++] =
                (struct attend_sequence){.row_first = begin - range[0],
                                         .row_count = stop - begin,
                                         .position = row->position + begin - row->first,
                                         .table = table};
        }
        table += (row->position + row->tokens - 1) / page_tokens + 1;
    }
    return count;
}

/* The work lists of a nano-operation that attends. */
static void list_work(const struct cuda_batch *batch, const struct cuda_block *block,
                      const struct cuda_model *model, const struct engine_batch *in, uint32_t nano)
{
    const bool several = batch->plan->nano[nano].operation == PLAN_PREFILL_ATTENTION;
    const uint32_t range[2] = {batch->first[nano], batch->end[nano]};
    const struct cuda_task task = {.batch = batch, .nano = nano};
    struct attend_shape shape = cuda_attend_shape(model, batch->lane[nano]);
    shape.prompts = several;
    struct attend_sequence *pieces = (several ? block->prefill : block->decode) + range[0];
    uint32_t slot;
    const uint32_t slots = cuda_slots(model, &task, &slot);
    struct attend_work work = {
        .items = block->items + range[0] + slot,
        .merges = block->merges + slot,
        .blocks = block->blocks + (size_t)range[0] * cuda_token_blocks(model),
        .items_max = several ? 0 : range[1] - range[0] + slots,
        .merges_max = slots,
        .blocks_max = several ? (range[1] - range[0]) * cuda_token_blocks(model) : 0,
        .slots_max = slots,
    };
    const uint32_t count = list_pieces(pieces, in, model->page_tokens, several, range);
    must(attend_work_build(&work, &shape, pieces, count) == 0);
    block->counts[nano] = work.counts;
}

void batch_cuda_fill(struct cuda_batch *batch, const struct cuda_block *block,
                     const struct cuda_model *model, const struct engine_batch *in,
                     const struct engine_options *options)
{
    uint32_t table = 0;
    must(in->row_count >= 1 && in->row_count <= options->rows_max);
    batch->tokens = 0;
    batch->logit_rows = 0;
    for (uint32_t i = 0; i < in->row_count; i++) {
        const struct engine_row *row = &in->rows[i];
        must(row->first == batch->tokens && row->tokens >= 1 &&
             row->tokens <= options->tokens_max - batch->tokens &&
             row->position < options->context_max &&
             row->tokens <= options->context_max - row->position);
        batch->tokens += row->tokens;
        table = place_row(block, model, in, i, table);
        if (row->wants_logits) {
            block->logit_token[batch->logit_rows++] = batch->tokens - 1;
        }
    }
    *block->tokens = batch->tokens;
    *block->logit_rows = batch->logit_rows;
    batch->bucket = batch_cuda_bucket(batch->tokens, options->tokens_max);
    batch->logit_bucket =
        batch->logit_rows > 0 ? batch_cuda_bucket(batch->logit_rows, options->rows_max) : 0;
    batch->block_bytes = (size_t)((uint8_t *)(block->tables + table) - (uint8_t *)block->valid);
    cut_bucket(batch, block, model);
    for (uint32_t i = 0; i < batch->plan->nano_count; i++) {
        const uint32_t operation = batch->plan->nano[i].operation;
        if (operation == PLAN_PREFILL_ATTENTION || operation == PLAN_DECODE_ATTENTION) {
            list_work(batch, block, model, in, i);
        }
    }
}

void batch_cuda_head(struct cuda_batch *batch, const struct cuda_block *block,
                     const uint32_t *tokens, uint32_t count, uint32_t rows_max)
{
    must(count >= 1 && count <= rows_max);
    for (uint32_t i = 0; i < count; i++) {
        must(tokens[i] < batch->tokens);
        block->logit_token[i] = tokens[i];
    }
    *block->logit_rows = count;
    batch->logit_rows = count;
    batch->logit_bucket = batch_cuda_bucket(count, rows_max);
}
