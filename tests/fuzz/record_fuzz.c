/*
 * record_fuzz.c - cells of any bytes against the two checks: what passes holds no index or id
 * beyond the bounds, stated here a second time in the simplest form.
 */
#include <stdint.h>
#include <string.h>

#include "base/must.h"
#include "ipc/record_check.h"

enum { SLOTS = 5, PAGES = 33, VOCAB = 301, POSITIONS = 129, TOKENS = 40, ROWS = 4 };

static void fuzz_request(const union record *record)
{
    switch (record->head.kind) {
    case RECORD_OPEN:
        must(record->open.slot < SLOTS && record->open.min_position <= POSITIONS);
        break;
    case RECORD_ADJUST:
        must(record->adjust.slot < SLOTS && record->adjust.prompt_tokens <= POSITIONS);
        must(record->adjust.bias_count <= RECORD_BIASES_MAX);
        must(record->adjust.allowed_count <= LIMIT_ALLOWED_IDS_MAX);
        break;
    case RECORD_BIASES:
        must(record->biases.slot < SLOTS);
        for (uint32_t i = 0; i < record->biases.count; i++) {
            must(record->biases.pairs[i].id < VOCAB);
        }
        break;
    case RECORD_STOP_IDS:
    case RECORD_ALLOWED:
        for (uint32_t i = 0; i < record->stop_ids.count; i++) {
            must(record->stop_ids.ids[i] < VOCAB);
        }
        break;
    case RECORD_PAGES:
        for (uint32_t i = 0; i < record->pages.count; i++) {
            must((uint64_t)record->pages.index + i < PAGES && record->pages.pages[i] < PAGES);
        }
        break;
    case RECORD_COPY:
        for (uint32_t i = 0; i < record->copy.count; i++) {
            must(record->copy.sources[i] < PAGES && record->copy.targets[i] < PAGES);
        }
        break;
    case RECORD_STEP:
        must(record->step.row_count <= ROWS && record->step.token_count <= TOKENS);
        break;
    case RECORD_ROW:
        must((uint64_t)record->row.position + record->row.tokens <= POSITIONS);
        must(record->row.source == RECORD_SOURCE_LAST ||
             (uint64_t)record->row.ids_first + record->row.tokens <= TOKENS);
        must(record->row.score_count == 0 ||
             (uint64_t)record->row.score_first + record->row.score_count <= record->row.tokens);
        break;
    case RECORD_IDS:
        for (uint32_t i = 0; i < record->ids.count; i++) {
            must(record->ids.ids[i] < VOCAB);
        }
        break;
    default:
        must(record->head.kind == RECORD_CLOSE && record->close.slot < SLOTS);
    }
}

static void fuzz_reply(const union record *record)
{
    switch (record->head.kind) {
    case RECORD_RESULT:
    case RECORD_SCORE:
        must(record->result.slot < SLOTS && record->result.position <= POSITIONS);
        must(record->head.flags == RECORD_RESULT_INVALID || record->result.id < VOCAB);
        break;
    case RECORD_LOGPROBS:
        for (uint32_t i = 0; i < record->logprobs.count; i++) {
            must(record->logprobs.pairs[i].id < VOCAB);
        }
        break;
    default:
        must(record->head.kind == RECORD_READY || record->head.kind == RECORD_DONE);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    union record record;
    if (count != sizeof record) {
        return 0;
    }
    memcpy(&record, bytes, sizeof record);
    const struct record_bounds bounds = {.epoch = record.head.epoch,
                                         .group = record.head.group,
                                         .slots = SLOTS,
                                         .pages = PAGES,
                                         .vocab = VOCAB,
                                         .positions = POSITIONS,
                                         .rows = ROWS,
                                         .tokens = TOKENS};
    if (record_check_request(&record, &bounds) == 0) {
        fuzz_request(&record);
    }
    if (record_check_reply(&record, &bounds) == 0) {
        fuzz_reply(&record);
    }
    return 0;
}
