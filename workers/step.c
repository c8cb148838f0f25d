/*
 * step.c - see step.h. Called by main.c on the worker's main thread; owns the slots and the arrays
 * of one step. Invariant: nothing of a step is visible to the core before all of it is, so a death
 * at any point means that the step did not happen.
 */
#include "workers/step.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "workers/trial.h"

enum { STEP_LOGPROB_CELLS = (SAMPLE_LOGPROBS_MAX - 1) / RECORD_LOGPROBS_PER_CELL + 1 };

static_assert(sizeof(struct plan_table) <= LINK_BOARD_BYTES, "the board holds the plans");
static_assert((LIMIT_STEP_ROWS_MAX + LIMIT_STEP_SCORES_MAX) * (1 + STEP_LOGPROB_CELLS) + 1 <=
                  RING_CELLS / 2,
              "the answers of two steps fit the ring");

int step_open(struct step *step, struct engine *engine, const struct record_bounds *bounds,
              uint32_t page_tokens, uint32_t ranks)
{
    const bool experts = engine_hparams(engine)->experts > 0;
    *step = (struct step){.engine = engine, .bounds = *bounds};
    plan_sequential(&step->sequential, experts);
    graph_build(&step->graph, experts, ranks, GRAPH_INSIDE);
    step->failpoint = failpoint_from_environment();
    const uint32_t pages_max = (bounds->positions - 1) / page_tokens + 1;
    const size_t rows = bounds->rows;
    const size_t tokens = bounds->tokens;
    const size_t scores = LIMIT_STEP_SCORES_MAX;
    const size_t score_bytes =
        scores * (sizeof *step->scores + sizeof *step->judged + sizeof *step->score_tokens);
    const size_t plan_bytes = TABLE_PLANS_MAX * sizeof *step->plans;
    const size_t slack = 704; /* Alignment of the arrays below. */
    const size_t row_bytes = sizeof *step->rows + sizeof *step->engine_rows +
                             sizeof *step->sampled + sizeof *step->results + sizeof *step->choices +
                             sizeof *step->asked;
    int error = arena_open(&step->arena, slots_bytes(bounds->slots, pages_max) + rows * row_bytes +
                                             tokens * (sizeof *step->listed + sizeof *step->ids) +
                                             score_bytes + plan_bytes + slack);
    if (error) {
        return error;
    }
    error = slots_open(&step->slots, &step->arena, bounds->slots, pages_max, page_tokens);
    must(!error);
    step->rows = arena_alloc(&step->arena, rows, sizeof *step->rows);
    step->engine_rows = arena_alloc(&step->arena, rows, sizeof *step->engine_rows);
    step->sampled = arena_alloc(&step->arena, rows, sizeof *step->sampled);
    step->results = arena_alloc(&step->arena, rows, sizeof *step->results);
    step->choices = arena_alloc(&step->arena, rows, sizeof *step->choices);
    step->listed = arena_alloc(&step->arena, tokens, sizeof *step->listed);
    step->ids = arena_alloc(&step->arena, tokens, sizeof *step->ids);
    step->scores = arena_alloc(&step->arena, scores, sizeof *step->scores);
    step->score_tokens = arena_alloc(&step->arena, scores, sizeof *step->score_tokens);
    step->judged = arena_alloc(&step->arena, scores, sizeof *step->judged);
    step->asked = arena_alloc(&step->arena, rows, sizeof *step->asked);
    step->plans = arena_alloc(&step->arena, TABLE_PLANS_MAX, sizeof *step->plans);
    must(step->plans && step->rows && step->engine_rows && step->sampled && step->results &&
         step->choices && step->listed && step->ids && step->scores && step->score_tokens &&
         step->judged && step->asked);
    arena_seal(&step->arena);
    return 0;
}

void step_close(struct step *step)
{
    arena_close(&step->arena);
}

void step_attach(struct step *step, struct link *link, struct comm *comm)
{
    step->link = link;
    step->comm = comm;
    engine_join(step->engine, comm);
    engine_watch(step->engine, link_own_progress(link));
    step->bounds.epoch = link->epoch;
    step->bounds.group = link->group;
    step->end_us = 0;
    slots_reset(&step->slots);
    memset(step->plan_taken, 0, sizeof step->plan_taken);
}

/* The next cell of this epoch, checked on its own. 0, -EAGAIN, -EBADMSG. */
static int take(struct step *step, union record *record)
{
    int error;
    do {
        error = ring_take(&step->link->in, record);
        if (!error) {
            error = record_check_request(record, &step->bounds);
        }
    } while (error == -ESTALE);
    return error;
}

/* Cells of a step come together: what should follow and is not there is an error of the core. */
static int take_kind(struct step *step, uint8_t kind, union record *record)
{
    const int error = take(step, record);
    return error || record->head.kind != kind ? -EBADMSG : 0;
}

static bool samples(const struct step *step, uint32_t row)
{
    return step->engine_rows[row].wants_logits;
}

/* The plan that a step names; NULL: there is none such, or none that can run here. */
static const struct plan *find_plan(struct step *step, uint32_t id, uint64_t hash)
{
    if (id == step->sequential.id) {
        return hash == step->sequential.hash ? &step->sequential : NULL;
    }
    if (id > TABLE_PLANS_MAX) {
        return NULL;
    }
    struct plan *plan = &step->plans[id - 1];
    bool *taken = &step->plan_taken[id - 1];
    if (!*taken) {
        const struct plan_table *table = link_peer_board(step->link);
        *plan = table->plan[id - 1];
        *taken = trial_passes(plan, &step->graph, engine_hparams(step->engine)->layers) &&
                 plan->id == id && plan_hash(plan) == plan->hash;
    }
    return *taken && plan->hash == hash ? plan : NULL;
}

static int take_rows(struct step *step, const struct record_step *head)
{
    uint32_t tokens = 0;
    uint32_t scores = 0;
    for (uint32_t i = 0; i < head->row_count; i++) {
        union record record;
        if (take_kind(step, RECORD_ROW, &record)) {
            return -EBADMSG;
        }
        const struct record_row *row = &record.row;
        struct slot *slot = slots_row(&step->slots, row, head->step);
        const bool wants = (row->head.flags & RECORD_ROW_SAMPLE) != 0;
        const bool listed = row->source == RECORD_SOURCE_LISTED;
        if (!slot || row->tokens > head->token_count - tokens ||
            (listed &&
             (row->tokens > head->ids_count || row->ids_first > head->ids_count - row->tokens)) ||
            (wants && row->tokens >= step->bounds.positions - row->position) ||
            row->score_count > LIMIT_STEP_SCORES_MAX - scores) {
            return -EBADMSG;
        }
        slot->step = head->step;
        step->rows[i] = (struct step_row){.slot = slot,
                                          .slot_index = row->slot,
                                          .source = row->source,
                                          .ids_first = row->ids_first,
                                          .score_first = row->score_first,
                                          .score_count = row->score_count,
                                          .next_id = row->next_id};
        step->engine_rows[i] = (struct engine_row){.pages = slot->pages,
                                                   .first = tokens,
                                                   .tokens = row->tokens,
                                                   .position = row->position,
                                                   .wants_logits = wants};
        tokens += row->tokens;
        scores += row->score_count;
    }
    return tokens == head->token_count ? 0 : -EBADMSG;
}

static int take_ids(struct step *step, uint32_t count)
{
    for (uint32_t first = 0; first < count; first += RECORD_IDS_PER_CELL) {
        const uint32_t rest = count - first;
        const uint32_t here = rest < RECORD_IDS_PER_CELL ? rest : RECORD_IDS_PER_CELL;
        union record record;
        if (take_kind(step, RECORD_IDS, &record) || record.ids.count != here) {
            return -EBADMSG;
        }
        memcpy(step->listed + first, record.ids.ids, here * sizeof step->listed[0]);
    }
    return 0;
}

/* Token ids of the dense batch, and the list of rows that sample. Returns their number. */
static uint32_t gather_ids(struct step *step, uint32_t row_count)
{
    uint32_t sampled = 0;
    for (uint32_t i = 0; i < row_count; i++) {
        const struct step_row *row = &step->rows[i];
        struct engine_row *engine_row = &step->engine_rows[i];
        uint32_t *ids = step->ids + engine_row->first;
        if (row->source == RECORD_SOURCE_LISTED) {
            memcpy(ids, step->listed + row->ids_first, engine_row->tokens * sizeof *ids);
        } else {
            *ids = row->slot->last_id;
            engine_row->fed = 1 + row->slot_index;
        }
        if (samples(step, i)) {
            step->sampled[sampled++] = i;
        }
    }
    return sampled;
}

/* Lists what is judged, in the order of rows and positions. */
static void gather_scores(struct step *step, uint32_t row_count)
{
    step->score_count = 0;
    for (uint32_t i = 0; i < row_count; i++) {
        const struct step_row *row = &step->rows[i];
        const struct engine_row *engine_row = &step->engine_rows[i];
        const uint32_t *ids = step->ids + engine_row->first;
        for (uint32_t t = row->score_first; t < row->score_first + row->score_count; t++) {
            step->score_tokens[step->score_count] = engine_row->first + t;
            step->scores[step->score_count++] =
                (struct step_score){.row = i,
                                    .position = engine_row->position + t + 1,
                                    .id = t + 1 < engine_row->tokens ? ids[t + 1] : row->next_id};
        }
    }
}

/* Rank 0 has the logits, if the collectives went well. */
static bool judges(const struct step *step)
{
    return step->link->rank == 0 && !(step->comm && comm_error(step->comm));
}

/* As many at a time as there is room for logits. */
static void judge_tokens(struct step *step)
{
    for (uint32_t first = 0; first < step->score_count; first += step->bounds.rows) {
        const uint32_t rest = step->score_count - first;
        const uint32_t count = rest < step->bounds.rows ? rest : step->bounds.rows;
        for (uint32_t i = 0; i < count; i++) {
            const struct step_score *score = &step->scores[first + i];
            const struct slot *slot = step->rows[score->row].slot;
            step->asked[i] = (struct engine_choice){.params = &slot->sampling,
                                                    .pages = slot->pages,
                                                    .position = score->position,
                                                    .judged = true,
                                                    .id = score->id};
        }
        engine_head(step->engine, step->score_tokens + first, count);
        if (judges(step)) {
            engine_choose(step->engine, step->asked, count, step->judged + first);
        }
    }
}

static void choose_tokens(struct step *step, uint32_t sampled)
{
    for (uint32_t i = 0; i < sampled; i++) {
        const uint32_t row = step->sampled[i];
        const struct slot *slot = step->rows[row].slot;
        const struct engine_row *engine_row = &step->engine_rows[row];
        step->asked[i] =
            (struct engine_choice){.params = &slot->sampling,
                                   .pages = slot->pages,
                                   .slot = step->rows[row].slot_index,
                                   .position = engine_row->position + engine_row->tokens};
    }
    engine_choose(step->engine, step->asked, sampled, step->results);
}

static void advance_slots(struct step *step, uint32_t row_count)
{
    uint32_t sampled = 0;
    for (uint32_t i = 0; i < row_count; i++) {
        struct slot *slot = step->rows[i].slot;
        slot->computed = step->engine_rows[i].position + step->engine_rows[i].tokens;
        slot->sampled = false;
        if (samples(step, i)) {
            const struct sample_result *result = &step->results[sampled++];
            slot->sampled = true; /* The core may have sent the next row already. */
            slot->last_id = result->invalid ? 0 : result->id;
        }
    }
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

/* RESULT or SCORE, and the logprobs behind it. Returns how many came before the next one's. */
static uint32_t push_result(struct step *step, struct record_result *record, uint32_t row,
                            const struct sample_result *result)
{
    record->head = reply_head(step, record->head.kind, result->invalid ? RECORD_RESULT_INVALID : 0);
    record->slot = step->rows[row].slot_index;
    record->generation = step->rows[row].slot->generation;
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

static void answer(struct step *step, uint64_t number, uint32_t sampled)
{
    const bool speaks = step->link->rank == 0; /* The other ranks only say that they are done. */
    const uint32_t results = speaks ? sampled : 0;
    const uint32_t scores = speaks ? step->score_count : 0;
    uint32_t logprobs = 0;
    for (uint32_t i = 0; i < results; i++) {
        const uint32_t row = step->sampled[i];
        const struct engine_row *engine_row = &step->engine_rows[row];
        struct record_result record = {.head.kind = RECORD_RESULT,
                                       .step = number,
                                       .position = engine_row->position + engine_row->tokens,
                                       .logprob_first = logprobs};
        logprobs = push_result(step, &record, row, &step->results[i]);
    }
    for (uint32_t i = 0; i < scores; i++) {
        const struct step_score *score = &step->scores[i];
        struct record_result record = {.head.kind = RECORD_SCORE,
                                       .step = number,
                                       .position = score->position,
                                       .logprob_first = logprobs};
        logprobs = push_result(step, &record, score->row, &step->judged[i]);
    }
    const uint64_t wait_us = step->end_us > 0 ? step->start_us - step->end_us : 0;
    step->end_us = clock_now_us();
    union record record = {0};
    record.done = (struct record_done){.head = reply_head(step, RECORD_DONE, 0),
                                       .step = number,
                                       .compute_us = step->end_us - step->start_us,
                                       .result_count = results,
                                       .logprob_count = logprobs,
                                       .score_count = scores,
                                       .wait_us = wait_us};
    push(step, &record);
    failpoint_pass(&step->failpoint, "publish");
    link_worker_publish(step->link);
}

/* Rank 0's choices become everybody's, before anybody needs them for the next embedding. */
static int share_choices(struct step *step, uint32_t sampled)
{
    for (uint32_t i = 0; i < sampled; i++) { /* Other ranks': overwritten. */
        step->choices[i] = (struct step_choice){step->results[i].id, step->results[i].invalid};
    }
    const int error = comm_broadcast(step->comm, step->choices, sampled * sizeof *step->choices);
    for (uint32_t i = 0; i < sampled && !error && step->link->rank != 0; i++) {
        if (step->choices[i].id >= step->bounds.vocab) {
            return -EBADMSG;
        }
        step->results[i] = (struct sample_result){.id = step->choices[i].id,
                                                  .invalid = step->choices[i].invalid != 0};
    }
    return error;
}

static int compute(struct step *step, const struct record_step *head, const struct plan *plan,
                   uint32_t sampled)
{
    bool prefill = false;
    for (uint32_t i = 0; i < head->row_count; i++) {
        prefill = prefill || step->rows[i].source == RECORD_SOURCE_LISTED;
    }
    failpoint_pass(&step->failpoint, prefill ? "prefill" : "decode");
    const struct engine_batch batch = {
        .ids = step->ids, .rows = step->engine_rows, .row_count = head->row_count, .plan = plan};
    engine_run(step->engine, &batch);
    if (engine_failure(step->engine)) {
        return -EIO;
    }
    if (judges(step)) {
        choose_tokens(step, sampled);
    }
    int error = step->comm ? share_choices(step, sampled) : 0;
    if (!error) { /* Every rank: the head is cut between them. */
        judge_tokens(step);
        error = step->comm ? comm_error(step->comm) : 0;
        error = engine_failure(step->engine) ? -EIO : error;
    }
    if (!error) {
        advance_slots(step, head->row_count);
    }
    return error;
}

/* The step did not happen. Who is to blame for it, where that is known, decides the core. */
static int give_up(struct step *step, uint64_t number, int error)
{
    if (error == -ETIMEDOUT) {
        union record record = {0};
        record.done =
            (struct record_done){.head = reply_head(step, RECORD_DONE, RECORD_DONE_STALLED),
                                 .step = number,
                                 .late = comm_late(step->comm)};
        push(step, &record);
        link_worker_publish(step->link);
    }
    return error == -EBADMSG || error == -EIO ? error : -ECANCELED;
}

static int run_step(struct step *step, const struct record_step *head)
{
    step->start_us = clock_now_us();
    const struct plan *plan = find_plan(step, head->plan_id, head->plan_hash);
    if (!plan || take_rows(step, head) || take_ids(step, head->ids_count)) {
        return -EBADMSG;
    }
    ring_release(&step->link->in);
    const uint32_t sampled = gather_ids(step, head->row_count);
    gather_scores(step, head->row_count);
    const int64_t room = ring_room(&step->link->out);
    const int64_t answers = (int64_t)sampled + step->score_count;
    if (room < answers * (1 + STEP_LOGPROB_CELLS) + 1) {
        return room < 0 ? -EBADMSG : -ENOBUFS;
    }
    const int error = compute(step, head, plan, sampled);
    if (error) {
        return give_up(step, head->step, error);
    }
    answer(step, head->step, sampled);
    return 0;
}

int step_serve(struct step *step)
{
    for (;;) {
        union record record;
        int error = take(step, &record);
        if (error == -EAGAIN) {
            ring_release(&step->link->in);
            return 0;
        }
        const char *what = "sent a malformed record";
        if (!error && record.head.kind == RECORD_STEP) {
            what = "sent a step that does not hold together";
            error = run_step(step, &record.step);
        } else if (!error && record.head.kind == RECORD_COPY) {
            const struct record_copy *copy = &record.copy;
            engine_copy_pages(step->engine, copy->sources, copy->targets, copy->count);
        } else if (!error) {
            what = "sent a record that does not fit its slot";
            error = slots_apply(&step->slots, &record);
        }
        if (error == -ECANCELED || error == -EIO) { /* The epoch is over, or the device. */
            return error;
        }
        if (error) {
            log_error("worker: the core %s",
                      error == -ENOBUFS ? "does not read its results" : what);
            return error;
        }
    }
}
