/*
 * step.c - see step.h. Called by main.c on the worker's main thread; owns the slots and the arrays
 * of two steps. Invariant: nothing of a step is visible to the core before all of it is, so a death
 * at any point means that the step did not happen.
 */
#include "workers/step.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "workers/reply.h"
#include "workers/trial.h"

/* Between two looks at a device that runs: the wait costs that much of a core's time, and what a
 * look finds late is an answer, not the device's next step. */
enum { WATCH_US = 20 };

static_assert(sizeof(struct plan_table) <= LINK_BOARD_BYTES, "the board holds the plans");
static_assert((LIMIT_STEP_ROWS_MAX + LIMIT_STEP_SCORES_MAX) * REPLY_CELLS_MAX + 1 <= RING_CELLS / 2,
              "the answers of two steps fit the ring");
static_assert((int)LIMIT_STEPS_IN_FLIGHT_MAX <= (int)ENGINE_AHEAD_MAX, "all of them may be put");

static size_t turn_bytes(const struct record_bounds *bounds)
{
    const struct step_turn *turn = NULL;
    const size_t slack = 256; /* Alignment of the arrays. */
    return slack + bounds->rows * (sizeof *turn->rows + sizeof *turn->engine_rows +
                                   sizeof *turn->sampled + sizeof *turn->results);
}

static void open_turn(struct step_turn *turn, struct arena *arena, size_t rows)
{
    turn->rows = arena_alloc(arena, rows, sizeof *turn->rows);
    turn->engine_rows = arena_alloc(arena, rows, sizeof *turn->engine_rows);
    turn->sampled = arena_alloc(arena, rows, sizeof *turn->sampled);
    turn->results = arena_alloc(arena, rows, sizeof *turn->results);
    must(turn->rows && turn->engine_rows && turn->sampled && turn->results);
}

static void open_arrays(struct step *step)
{
    const size_t rows = step->bounds.rows;
    const size_t tokens = step->bounds.tokens;
    const size_t scores = LIMIT_STEP_SCORES_MAX;
    for (uint32_t i = 0; i < ENGINE_AHEAD_MAX; i++) {
        open_turn(&step->turns[i], &step->arena, rows);
    }
    step->choices = arena_alloc(&step->arena, rows, sizeof *step->choices);
    step->listed = arena_alloc(&step->arena, tokens, sizeof *step->listed);
    step->ids = arena_alloc(&step->arena, tokens, sizeof *step->ids);
    step->scores = arena_alloc(&step->arena, scores, sizeof *step->scores);
    step->score_tokens = arena_alloc(&step->arena, scores, sizeof *step->score_tokens);
    step->judged = arena_alloc(&step->arena, scores, sizeof *step->judged);
    step->asked = arena_alloc(&step->arena, rows, sizeof *step->asked);
    step->plans = arena_alloc(&step->arena, TABLE_PLANS_MAX, sizeof *step->plans);
    must(step->plans && step->choices && step->listed && step->ids && step->scores &&
         step->score_tokens && step->judged && step->asked);
}

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
    const size_t slack = 512; /* Alignment of the arrays of open_arrays(). */
    int error = arena_open(&step->arena, slots_bytes(bounds->slots, pages_max) +
                                             ENGINE_AHEAD_MAX * turn_bytes(bounds) +
                                             rows * (sizeof *step->choices + sizeof *step->asked) +
                                             tokens * (sizeof *step->listed + sizeof *step->ids) +
                                             score_bytes + plan_bytes + slack);
    if (error) {
        return error;
    }
    error = slots_open(&step->slots, &step->arena, bounds->slots, pages_max, page_tokens);
    must(!error);
    open_arrays(step);
    arena_seal(&step->arena);
    return 0;
}

void step_close(struct step *step)
{
    arena_close(&step->arena);
}

int step_attach(struct step *step, struct link *link, struct comm *comm)
{
    must(step->put == step->taken);
    step->link = link;
    step->comm = comm;
    engine_watch(step->engine, link_own_progress(link));
    step->bounds.epoch = link->epoch;
    step->bounds.group = link->group;
    step->end_us = 0;
    slots_reset(&step->slots);
    memset(step->plan_taken, 0, sizeof step->plan_taken);
    return engine_join(step->engine, comm);
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

static int take_rows(struct step *step, struct step_turn *turn, const struct record_step *head)
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
        turn->rows[i] = (struct step_row){.slot = slot,
                                          .slot_index = row->slot,
                                          .generation = row->generation,
                                          .source = row->source,
                                          .ids_first = row->ids_first,
                                          .score_first = row->score_first,
                                          .score_count = row->score_count,
                                          .next_id = row->next_id};
        turn->engine_rows[i] = (struct engine_row){.pages = slot->pages,
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

/* Token ids of the dense batch, and the list of rows that sample. */
static void gather_ids(struct step *step, struct step_turn *turn)
{
    turn->sampled_count = 0;
    for (uint32_t i = 0; i < turn->row_count; i++) {
        const struct step_row *row = &turn->rows[i];
        struct engine_row *engine_row = &turn->engine_rows[i];
        uint32_t *ids = step->ids + engine_row->first;
        if (row->source == RECORD_SOURCE_LISTED) {
            memcpy(ids, step->listed + row->ids_first, engine_row->tokens * sizeof *ids);
        } else {
            *ids = row->slot->last_id;
            engine_row->fed = 1 + row->slot_index;
        }
        if (engine_row->wants_logits) {
            turn->sampled[turn->sampled_count++] = i;
        }
    }
}

/* Lists what is judged, in the order of rows and positions. */
static void gather_scores(struct step *step, struct step_turn *turn)
{
    turn->score_count = 0;
    for (uint32_t i = 0; i < turn->row_count; i++) {
        const struct step_row *row = &turn->rows[i];
        const struct engine_row *engine_row = &turn->engine_rows[i];
        const uint32_t *ids = step->ids + engine_row->first;
        for (uint32_t t = row->score_first; t < row->score_first + row->score_count; t++) {
            step->score_tokens[turn->score_count] = engine_row->first + t;
            step->scores[turn->score_count++] =
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

/* As many at a time as there is room for logits. The step was put last. */
static void judge_tokens(struct step *step, const struct step_turn *turn)
{
    for (uint32_t first = 0; first < turn->score_count; first += step->bounds.rows) {
        const uint32_t rest = turn->score_count - first;
        const uint32_t count = rest < step->bounds.rows ? rest : step->bounds.rows;
        for (uint32_t i = 0; i < count; i++) {
            const struct step_score *score = &step->scores[first + i];
            const struct slot *slot = turn->rows[score->row].slot;
            step->asked[i] = (struct engine_choice){.params = &slot->sampling,
                                                    .pages = slot->pages,
                                                    .position = score->position,
                                                    .judged = true,
                                                    .id = score->id};
        }
        engine_head(step->engine, step->score_tokens + first, count);
        if (judges(step)) {
            engine_choose(step->engine, step->asked, count, step->judged + first);
            engine_take(step->engine);
        } else {
            engine_wait(step->engine); /* Hosts meet when their devices have. */
        }
    }
}

static void choose_tokens(struct step *step, const struct step_turn *turn)
{
    const uint32_t count = judges(step) ? turn->sampled_count : 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t row = turn->sampled[i];
        const struct slot *slot = turn->rows[row].slot;
        const struct engine_row *engine_row = &turn->engine_rows[row];
        step->asked[i] =
            (struct engine_choice){.params = &slot->sampling,
                                   .pages = slot->pages,
                                   .slot = turn->rows[row].slot_index,
                                   .position = engine_row->position + engine_row->tokens};
    }
    engine_choose(step->engine, step->asked, count, turn->results);
}

/* The next step goes on behind this one, whose ids may come later. */
static void advance_slots(const struct step_turn *turn)
{
    for (uint32_t i = 0; i < turn->row_count; i++) {
        const struct engine_row *engine_row = &turn->engine_rows[i];
        struct slot *slot = turn->rows[i].slot;
        slot->computed = engine_row->position + engine_row->tokens;
        slot->sampled = engine_row->wants_logits;
    }
}

static void put_step(struct step *step, struct step_turn *turn, const struct plan *plan)
{
    bool prefill = false;
    for (uint32_t i = 0; i < turn->row_count; i++) {
        prefill = prefill || turn->rows[i].source == RECORD_SOURCE_LISTED;
    }
    failpoint_pass(&step->failpoint, prefill ? "prefill" : "decode");
    const struct engine_batch batch = {
        .ids = step->ids, .rows = turn->engine_rows, .row_count = turn->row_count, .plan = plan};
    engine_run(step->engine, &batch);
    choose_tokens(step, turn);
    advance_slots(turn);
    step->put++;
}

/* Rank 0's choices become everybody's, before anybody needs them for the next embedding. */
static int share_choices(struct step *step, struct step_turn *turn)
{
    for (uint32_t i = 0; i < turn->sampled_count; i++) { /* Other ranks': overwritten. */
        step->choices[i] = (struct step_choice){turn->results[i].id, turn->results[i].invalid};
    }
    const int error =
        comm_broadcast(step->comm, step->choices, turn->sampled_count * sizeof *step->choices);
    for (uint32_t i = 0; i < turn->sampled_count && !error && step->link->rank != 0; i++) {
        if (step->choices[i].id >= step->bounds.vocab) {
            return -EBADMSG;
        }
        turn->results[i] = (struct sample_result){.id = step->choices[i].id,
                                                  .invalid = step->choices[i].invalid != 0};
    }
    return error;
}

/* What was sampled has come: unless the slot is another request's by now. */
static void keep_ids(const struct step_turn *turn)
{
    for (uint32_t i = 0; i < turn->sampled_count; i++) {
        const struct sample_result *result = &turn->results[i];
        const struct step_row *row = &turn->rows[turn->sampled[i]];
        if (row->slot->generation == row->generation) {
            row->slot->last_id = result->invalid ? 0 : result->id;
        }
    }
}

/* Waits for the oldest step that was put, and answers it. */
static int end_step(struct step *step)
{
    struct step_turn *turn = &step->turns[step->taken++ % ENGINE_AHEAD_MAX];
    engine_take(step->engine);
    turn->idle_us = engine_idle_us(step->engine);
    if (engine_failure(step->engine)) {
        return -EIO;
    }
    int error = step->comm ? share_choices(step, turn) : 0;
    if (!error) { /* Every rank: the head is cut between them. */
        judge_tokens(step, turn);
        error = step->comm ? comm_error(step->comm) : 0;
        error = engine_failure(step->engine) ? -EIO : error;
    }
    if (!error) {
        keep_ids(turn);
        reply_step(step, turn);
    } else if (error == -ETIMEDOUT) { /* Who is to blame for it decides the core. */
        reply_stalled(step, turn);
    }
    return error && error != -EBADMSG && error != -EIO ? -ECANCELED : error;
}

/* For the answers of all that was put, and this one's. 0, -ENOBUFS, -EBADMSG. */
static int check_room(const struct step *step, const struct step_turn *turn)
{
    const int64_t room = ring_room(&step->link->out);
    int64_t cells = reply_cells_max(turn);
    for (uint32_t i = step->taken; i != step->put; i++) {
        cells += reply_cells_max(&step->turns[i % ENGINE_AHEAD_MAX]);
    }
    return room < 0 ? -EBADMSG : room < cells ? -ENOBUFS : 0;
}

/* Puts a step behind the one that runs, if one does, and answers that. */
static int run_step(struct step *step, const struct record_step *head)
{
    struct step_turn *turn = &step->turns[step->put % ENGINE_AHEAD_MAX];
    turn->number = head->step;
    turn->start_us = clock_now_us();
    turn->row_count = head->row_count;
    const struct plan *plan = find_plan(step, head->plan_id, head->plan_hash);
    if (!plan || take_rows(step, turn, head) || take_ids(step, head->ids_count)) {
        return -EBADMSG;
    }
    ring_release(&step->link->in);
    gather_ids(step, turn);
    gather_scores(step, turn);
    int error = check_room(step, turn);
    if (error) {
        return error;
    }
    put_step(step, turn, plan);
    const uint32_t left = turn->score_count > 0 || step->comm ? 0 : ENGINE_AHEAD_MAX - 1;
    while (!error && step->put - step->taken > left) {
        error = end_step(step);
    }
    return error;
}

/* Whether the core's next record comes before the engine has ended the step it runs. */
static bool more_comes(const struct step *step)
{
    while (engine_busy(step->engine)) {
        if (ring_wait(&step->link->in, 0, WATCH_US) == 0) {
            return true;
        }
    }
    return false;
}

static int apply(struct step *step, const union record *record, const char **what)
{
    if (record->head.kind == RECORD_STEP) {
        *what = "sent a step that does not hold together";
        return run_step(step, &record->step);
    }
    if (record->head.kind == RECORD_COPY) {
        const struct record_copy *copy = &record->copy;
        engine_copy_pages(step->engine, copy->sources, copy->targets, copy->count);
        return 0;
    }
    *what = "sent a record that does not fit its slot";
    return slots_apply(&step->slots, record);
}

/* One record, or the end of the step that runs. -EAGAIN: there is neither. */
static int serve_next(struct step *step, const char **what)
{
    union record record;
    if (step->put != step->taken && !more_comes(step)) {
        return end_step(step);
    }
    *what = "sent a malformed record";
    const int error = take(step, &record);
    if (error == -EAGAIN && step->put != step->taken) {
        return 0; /* What came was of another epoch. */
    }
    return error ? error : apply(step, &record, what);
}

int step_serve(struct step *step)
{
    const char *what = "";
    int error;
    do {
        error = serve_next(step, &what);
    } while (!error);
    if (error == -EAGAIN) {
        ring_release(&step->link->in);
        return 0;
    }
    if (error != -ECANCELED && error != -EIO) { /* Else the epoch is over, or the device. */
        log_error("worker: the core %s", error == -ENOBUFS ? "does not read its results" : what);
    }
    return error;
}
