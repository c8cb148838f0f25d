/*
 * record_check.c - see record_check.h. Called by the core (replies) and the workers (requests) on
 * the thread that reads the ring, with a private copy of the cell; owns nothing. Invariant: a cell
 * that passes holds no index, count or id beyond the bounds, so that what follows may use them
 * unchecked.
 */
#include "ipc/record_check.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>

#include "base/config.h"

static_assert(sizeof(struct record_head) == 8, "record layout");
static_assert(sizeof(struct record_open) == 64, "record layout");
static_assert(sizeof(struct record_stop_ids) == 64, "record layout");
static_assert(sizeof(struct record_adjust) == 64, "record layout");
static_assert(sizeof(struct record_biases) == 64, "record layout");
static_assert(sizeof(struct record_pages) == 64, "record layout");
static_assert(sizeof(struct record_close) == 64, "record layout");
static_assert(sizeof(struct record_copy) == 64, "record layout");
static_assert(sizeof(struct record_step) == 64, "record layout");
static_assert(sizeof(struct record_row) == 64, "record layout");
static_assert(sizeof(struct record_ids) == 64, "record layout");
static_assert(sizeof(struct record_ready) == 64, "record layout");
static_assert(sizeof(struct record_result) == 64, "record layout");
static_assert(sizeof(struct record_logprobs) == 64, "record layout");
static_assert(sizeof(struct record_done) == 64, "record layout");
static_assert(sizeof(union record) == 64, "one cell");

enum {
    RECORD_STOP_IDS_MAX = LIMIT_STOP_IDS_MAX + LIMIT_EOS_IDS_MAX,
    RECORD_LOGPROBS_OF_ROW_MAX = 1 + LIMIT_TOP_LOGPROBS_MAX, /* The chosen one and the top ones. */
};

static bool record_ids_fit(const uint32_t *ids, uint32_t count, uint32_t bound)
{
    for (uint32_t i = 0; i < count; i++) {
        if (ids[i] >= bound) {
            return false;
        }
    }
    return true;
}

/* [first, first + count) lies inside [0, bound); count is at least 1. No sum that could wrap. */
static bool record_range_fits(uint32_t first, uint32_t count, uint32_t bound)
{
    return count >= 1 && count <= bound && first <= bound - count;
}

static bool record_page_tokens_fit(uint32_t tokens)
{
    return tokens == 16 || tokens == 32 || tokens == 64;
}

/* Comparisons with NaN are false, so NaN never passes. */
static bool record_open_fits(const struct record_open *open, const struct record_bounds *bounds)
{
    return open->slot < bounds->slots && open->temperature >= 0.0f && isfinite(open->temperature) &&
           open->top_p >= 0.0f && open->top_p <= 1.0f && open->min_p >= 0.0f &&
           open->min_p <= 1.0f && open->top_logprobs <= LIMIT_TOP_LOGPROBS_MAX &&
           open->logprobs <= 1 && open->min_position <= bounds->positions &&
           open->stop_id_count <= RECORD_STOP_IDS_MAX && open->adjusts <= 1 &&
           open->score_top <= LIMIT_TOP_LOGPROBS_MAX;
}

static bool record_adjust_fits(const struct record_adjust *adjust,
                               const struct record_bounds *bounds)
{
    return adjust->slot < bounds->slots && adjust->prompt_tokens <= bounds->positions &&
           adjust->repetition > 0.0f && isfinite(adjust->repetition) &&
           isfinite(adjust->presence) && isfinite(adjust->frequency) &&
           adjust->bias_count <= RECORD_BIASES_MAX &&
           adjust->allowed_count <= LIMIT_ALLOWED_IDS_MAX;
}

static bool record_biases_fit(const struct record_biases *biases,
                              const struct record_bounds *bounds)
{
    if (biases->slot >= bounds->slots || biases->count < 1 ||
        biases->count > RECORD_BIASES_PER_CELL) {
        return false;
    }
    for (uint32_t i = 0; i < biases->count; i++) {
        if (biases->pairs[i].id >= bounds->vocab || !(biases->pairs[i].bias < INFINITY)) {
            return false;
        }
    }
    return true;
}

static bool record_pages_fit(const struct record_pages *pages, const struct record_bounds *bounds)
{
    return pages->slot < bounds->slots && pages->count <= RECORD_PAGES_PER_CELL &&
           record_range_fits(pages->index, pages->count, bounds->pages) &&
           record_ids_fit(pages->pages, pages->count, bounds->pages);
}

static bool record_copy_fits(const struct record_copy *copy, const struct record_bounds *bounds)
{
    return copy->count >= 1 && copy->count <= RECORD_COPIES_PER_CELL &&
           record_ids_fit(copy->sources, copy->count, bounds->pages) &&
           record_ids_fit(copy->targets, copy->count, bounds->pages);
}

/* Every row has a token of its own, and a listed id belongs to one token. */
static bool record_step_fits(const struct record_step *step, const struct record_bounds *bounds)
{
    return step->row_count >= 1 && step->row_count <= bounds->rows &&
           step->token_count >= step->row_count && step->token_count <= bounds->tokens &&
           step->ids_count <= step->token_count;
}

static bool record_row_fits(const struct record_row *row, const struct record_bounds *bounds)
{
    if (row->slot >= bounds->slots ||
        (row->head.flags & ~(RECORD_ROW_SAMPLE | RECORD_ROW_SKIPS)) != 0 ||
        !record_range_fits(row->position, row->tokens, bounds->positions)) {
        return false;
    }
    if (row->source == RECORD_SOURCE_LAST) {
        return row->tokens == 1 && row->score_count == 0;
    }
    if (row->score_count > 0 &&
        (row->next_id >= bounds->vocab ||
         !record_range_fits(row->score_first, row->score_count, row->tokens))) {
        return false;
    }
    return row->source == RECORD_SOURCE_LISTED &&
           record_range_fits(row->ids_first, row->tokens, bounds->tokens);
}

static bool record_listed_fit(uint32_t count, const uint32_t *ids,
                              const struct record_bounds *bounds)
{
    return count >= 1 && count <= RECORD_IDS_PER_CELL && record_ids_fit(ids, count, bounds->vocab);
}

static bool record_request_fits(const union record *record, const struct record_bounds *bounds)
{
    if (record->head.kind != RECORD_ROW && record->head.flags != 0) {
        return false;
    }
    switch (record->head.kind) {
    case RECORD_OPEN:
        return record_open_fits(&record->open, bounds);
    case RECORD_ADJUST:
        return record_adjust_fits(&record->adjust, bounds);
    case RECORD_BIASES:
        return record_biases_fit(&record->biases, bounds);
    case RECORD_STOP_IDS:
    case RECORD_ALLOWED:
        return record->stop_ids.slot < bounds->slots &&
               record_listed_fit(record->stop_ids.count, record->stop_ids.ids, bounds);
    case RECORD_PAGES:
        return record_pages_fit(&record->pages, bounds);
    case RECORD_CLOSE:
        return record->close.slot < bounds->slots;
    case RECORD_COPY:
        return record_copy_fits(&record->copy, bounds);
    case RECORD_STEP:
        return record_step_fits(&record->step, bounds);
    case RECORD_ROW:
        return record_row_fits(&record->row, bounds);
    case RECORD_IDS:
        return record_listed_fit(record->ids.count, record->ids.ids, bounds);
    default:
        return false;
    }
}

static bool record_ready_fits(const struct record_ready *ready)
{
    return ready->vocab >= 1 && ready->vocab <= LIMIT_VOCAB_MAX && ready->device_pages >= 1 &&
           ready->device_pages <= LIMIT_PAGES_MAX && record_page_tokens_fit(ready->page_tokens) &&
           (ready->dtype == CONFIG_DTYPE_BF16 || ready->dtype == CONFIG_DTYPE_F32);
}

static uint32_t record_logprobs_max(const struct record_bounds *bounds)
{
    return (bounds->rows + LIMIT_STEP_SCORES_MAX) * RECORD_LOGPROBS_OF_ROW_MAX;
}

/* The token sampled from the last position of the context lies one beyond it. */
static bool record_result_fits(const struct record_result *result,
                               const struct record_bounds *bounds)
{
    const bool invalid = (result->head.flags & RECORD_RESULT_INVALID) != 0;
    return (result->head.flags & ~RECORD_RESULT_INVALID) == 0 && result->slot < bounds->slots &&
           result->position <= bounds->positions && (invalid || result->id < bounds->vocab) &&
           result->logprob_count <= RECORD_LOGPROBS_OF_ROW_MAX &&
           result->logprob_first <= record_logprobs_max(bounds);
}

static bool record_logprobs_fit(const struct record_logprobs *logprobs,
                                const struct record_bounds *bounds)
{
    if (logprobs->count < 1 || logprobs->count > RECORD_LOGPROBS_PER_CELL) {
        return false;
    }
    for (uint32_t i = 0; i < logprobs->count; i++) {
        if (logprobs->pairs[i].id >= bounds->vocab || isnan(logprobs->pairs[i].logprob)) {
            return false;
        }
    }
    return true;
}

static bool record_done_fits(const struct record_done *done, const struct record_bounds *bounds)
{
    return (done->head.flags & ~RECORD_DONE_STALLED) == 0 && done->late < LIMIT_WORKERS_MAX &&
           done->result_count <= bounds->rows && done->score_count <= LIMIT_STEP_SCORES_MAX &&
           done->logprob_count <= record_logprobs_max(bounds);
}

static bool record_reply_fits(const union record *record, const struct record_bounds *bounds)
{
    if (record->head.kind != RECORD_RESULT && record->head.kind != RECORD_SCORE &&
        record->head.kind != RECORD_DONE && record->head.flags != 0) {
        return false;
    }
    switch (record->head.kind) {
    case RECORD_READY:
        return record_ready_fits(&record->ready);
    case RECORD_RESULT:
    case RECORD_SCORE:
        return record_result_fits(&record->result, bounds);
    case RECORD_LOGPROBS:
        return record_logprobs_fit(&record->logprobs, bounds);
    case RECORD_DONE:
        return record_done_fits(&record->done, bounds);
    default:
        return false;
    }
}

int record_check_request(const union record *record, const struct record_bounds *bounds)
{
    if (record->head.epoch != bounds->epoch) {
        return -ESTALE;
    }
    const bool fits = record->head.group == bounds->group && record_request_fits(record, bounds);
    return fits ? 0 : -EBADMSG;
}

int record_check_reply(const union record *record, const struct record_bounds *bounds)
{
    if (record->head.epoch != bounds->epoch) {
        return -ESTALE;
    }
    const bool fits = record->head.group == bounds->group && record_reply_fits(record, bounds);
    return fits ? 0 : -EBADMSG;
}
