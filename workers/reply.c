/*
 * reply.c - see reply.h. Called by the step on the worker's main thread; owns nothing. Invariant:
 * DONE is the last cell of an answer, and all of them become visible together.
 */
#include "workers/reply.h"

#include <string.h>

#include "base/clock.h"

int64_t reply_cells_max(const struct step_turn *turn)
{
    return ((int64_t)turn->sampled_count + turn->score_count) * REPLY_CELLS_MAX + 1;
}

static struct record_head reply_head(const struct step *step, uint8_t kind, uint8_t flags)
{
    return (struct record_head){
        .kind = kind, .flags = flags, .group = step->link->group, .epoch = step->link->epoch};
}

/* The room was checked before the run, and nobody else writes. */
static void push(struct step *step, const union record *record)
{
    must(ring_push(&step->link->out, record) == 0);
}

/* A result of a row and the logprobs behind it. Returns how many came before the next one's. */
static uint32_t push_result(struct step *step, struct record_result *record,
                            const struct step_row *row, const struct sample_result *result)
{
    record->head = reply_head(step, record->head.kind, result->invalid ? RECORD_RESULT_INVALID : 0);
    record->slot = row->slot_index;
    record->generation = row->generation;
    record->id = result->id;
    record->logprob_count = result->logprob_count;
    push(step, &(union record){.result = *record});
    for (uint32_t first = 0; first < result->logprob_count; first += RECORD_LOGPROBS_PER_CELL) {
        const uint32_t rest = result->logprob_count - first;
        const uint32_t count = rest < RECORD_LOGPROBS_PER_CELL ? rest : RECORD_LOGPROBS_PER_CELL;
        union record cell = {0};
        cell.logprobs =
            (struct record_logprobs){.head = reply_head(step, RECORD_LOGPROBS, 0), .count = count};
        memcpy(cell.logprobs.pairs, result->logprobs + first,
               count * sizeof cell.logprobs.pairs[0]);
        push(step, &cell);
    }
    return record->logprob_first + result->logprob_count;
}

/* Returns how many logprobs there were. */
static uint32_t push_results(struct step *step, const struct step_turn *turn)
{
    uint32_t logprobs = 0;
    for (uint32_t i = 0; i < turn->sampled_count; i++) {
        const uint32_t row = turn->sampled[i];
        const struct engine_row *engine_row = &turn->engine_rows[row];
        struct record_result record = {.head.kind = RECORD_RESULT,
                                       .step = turn->number,
                                       .position = engine_row->position + engine_row->tokens,
                                       .logprob_first = logprobs};
        logprobs = push_result(step, &record, &turn->rows[row], &turn->results[i]);
    }
    for (uint32_t i = 0; i < turn->score_count; i++) {
        const struct step_score *score = &step->scores[i];
        struct record_result record = {.head.kind = RECORD_SCORE,
                                       .step = turn->number,
                                       .position = score->position,
                                       .logprob_first = logprobs};
        logprobs = push_result(step, &record, &turn->rows[score->row], &step->judged[i]);
    }
    return logprobs;
}

/* Splits the time since the last answer into what the step was waited for and the rest. One that
 * was put behind another was there before that ended: then only the device knows. */
static void split_time(struct step *step, const struct step_turn *turn, struct record_done *done)
{
    const uint64_t now_us = clock_now_us();
    uint64_t since_us = turn->start_us;
    uint64_t wait_us = 0;
    if (step->end_us > 0) {
        since_us = step->end_us;
        wait_us = turn->start_us > since_us ? turn->start_us - since_us : 0;
        wait_us = turn->idle_us > wait_us ? turn->idle_us : wait_us;
    }
    done->wait_us = wait_us < now_us - since_us ? wait_us : now_us - since_us;
    done->compute_us = now_us - since_us - done->wait_us;
    step->end_us = now_us;
}

void reply_step(struct step *step, const struct step_turn *turn)
{
    const bool speaks = step->link->rank == 0; /* The other ranks only say that they are done. */
    const uint32_t logprobs = speaks ? push_results(step, turn) : 0;
    union record record = {0};
    record.done = (struct record_done){.head = reply_head(step, RECORD_DONE, 0),
                                       .step = turn->number,
                                       .result_count = speaks ? turn->sampled_count : 0,
                                       .logprob_count = logprobs,
                                       .score_count = speaks ? turn->score_count : 0};
    split_time(step, turn, &record.done);
    push(step, &record);
    failpoint_pass(&step->failpoint, "publish");
    link_worker_publish(step->link);
}

void reply_stalled(struct step *step, const struct step_turn *turn)
{
    union record record = {0};
    record.done = (struct record_done){.head = reply_head(step, RECORD_DONE, RECORD_DONE_STALLED),
                                       .step = turn->number,
                                       .late = comm_late(step->comm)};
    push(step, &record);
    link_worker_publish(step->link);
}
