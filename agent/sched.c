/*
 * sched.c - see sched.h. Called by the core's loop and by tests, on one thread; its memory comes
 * from the caller's arena. Invariant: a request is in exactly one of: absent, the queue, the
 * running list (which is in order of age); only running ones have a slot and pages.
 */
#include "agent/sched.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "agent/enter.h"
#include "agent/match.h"
#include "ipc/record_slot.h"

static_assert(LIMIT_CONTEXT_MAX / LIMIT_PAGE_TOKENS_MIN / RECORD_PAGES_PER_CELL <
                  SCHED_PAGE_CELLS_MAX,
              "any request has a row when it is alone");

uint32_t sched_pages_for(const struct sched *sched, uint64_t tokens)
{
    const uint64_t page = sched->options.page_tokens;
    return (uint32_t)((tokens + page - 1) / page);
}

static uint32_t pages_per_request(const struct sched_options *options)
{
    return (options->context_max + options->page_tokens - 1) / options->page_tokens;
}

size_t sched_bytes(const struct sched_options *options)
{
    const size_t requests = options->requests_max;
    const size_t slots = options->slots_max;
    const size_t entry = sizeof(struct sched_entry) + pages_per_request(options) * sizeof(uint32_t);
    const size_t slot = 3 * sizeof(uint32_t) + 2 * sizeof(struct sched_slot);
    const size_t page = sizeof(struct page) + sizeof(uint32_t);
    return requests * entry + slots * slot + options->page_count * page +
           prefix_bytes(options->page_count, options->page_tokens) +
           fair_bytes(options->requests_max) + outlook_bytes() + 16 * (size_t)64;
}

int sched_open(struct sched *sched, struct arena *arena, const struct sched_options *options)
{
    const size_t slots = options->slots_max;
    const size_t table = pages_per_request(options);
    *sched = (struct sched){
        .options = *options,
        .entry = arena_alloc(arena, options->requests_max, sizeof(struct sched_entry)),
        .running = arena_alloc(arena, slots, sizeof(uint32_t)),
        .free_slots = arena_alloc(arena, slots, sizeof(uint32_t)),
        .generation = arena_alloc(arena, slots, sizeof(uint32_t)),
        .opens = arena_alloc(arena, slots, sizeof(struct sched_slot)),
        .closes = arena_alloc(arena, slots, sizeof(struct sched_slot)),
        .free_slot_count = options->slots_max,
        .dense = options->tokens_max,
    };
    uint32_t *tables = arena_alloc(arena, options->requests_max * table, sizeof(uint32_t));
    if (!sched->entry || !sched->running || !sched->free_slots || !sched->generation ||
        !sched->opens || !sched->closes || !tables) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < options->requests_max; i++) {
        sched->entry[i].pages = tables + i * table;
    }
    for (uint32_t i = 0; i < slots; i++) {
        sched->free_slots[i] = options->slots_max - 1 - i; /* Slot 0 is taken first. */
    }
    int code = prefix_open(&sched->prefix, arena, options->page_count, options->page_tokens,
                           &options->salt);
    code = code ? code : fair_open(&sched->fair, arena, options->requests_max);
    code = code ? code : outlook_open(&sched->outlook, arena);
    code = code ? code : flight_open(&sched->flight, arena, options->page_count);
    return code ? code : pages_open(&sched->pages, arena, options->page_count);
}

bool sched_fits(const struct sched *sched, uint64_t tokens)
{
    return tokens <= sched->options.context_max &&
           sched_pages_for(sched, tokens) <= sched->options.page_count;
}

/* One that has run waits again, at the place of its age. */
static void queue_again(struct sched *sched, uint32_t request)
{
    sched->entry[request].state = SCHED_WAITING;
    sched->waiting_tokens += sched->entry[request].tokens;
    fair_return(&sched->fair, request);
}

static void dequeue(struct sched *sched, uint32_t request)
{
    sched->waiting_tokens -= sched->entry[request].tokens;
    fair_take(&sched->fair, request);
}

void sched_add(struct sched *sched, uint32_t request, const uint32_t *ids, uint32_t tokens,
               const struct sched_terms *terms)
{
    static const struct sched_terms none;
    struct sched_entry *entry = &sched->entry[request];
    terms = terms ? terms : &none;
    must(entry->state == SCHED_ABSENT && tokens > 0 && tokens <= sched->options.context_max);
    must(terms->open_cells <= SCHED_OPEN_CELLS_MAX && terms->scores < tokens);
    const uint32_t room = sched->options.context_max - tokens;
    const uint32_t most = terms->answer_tokens_max;
    uint32_t *pages = entry->pages;
    *entry = (struct sched_entry){.tokens = tokens,
                                  .ids = ids,
                                  .pages = pages,
                                  .tail_page = PREFIX_NONE,
                                  .state = SCHED_WAITING,
                                  .prompt_tokens = tokens,
                                  .tokens_max = tokens + (most > 0 && most < room ? most : room),
                                  .tenant = terms->tenant,
                                  .order = fair_order(sched->next_order++, terms->priority),
                                  .open_cells = terms->open_cells,
                                  .score_end = terms->scores};
    sched->waiting_tokens += tokens;
    fair_join(&sched->fair, request, entry->tenant, entry->order);
}

/* Gives slot and pages back and takes the request off the running list. What steps in flight would
 * have told of it is lost. */
static void vacate(struct sched *sched, uint32_t request)
{
    struct sched_entry *entry = &sched->entry[request];
    uint32_t i = 0;
    while (sched->running[i] != request) {
        i++;
        must(i < sched->running_count);
    }
    memmove(&sched->running[i], &sched->running[i + 1],
            (sched->running_count - i - 1) * sizeof sched->running[0]);
    sched->running_count--;
    match_leave(sched, request);
    for (i = 0; i < entry->page_count; i++) {
        match_drop_page(sched, entry->pages[i]);
    }
    entry->page_count = 0;
    entry->shared_pages = 0;
    entry->pages_told = 0;
    entry->tokens -= entry->to_come;
    entry->to_come = 0;
    entry->score_next = entry->score_known;
    entry->computed = 0;
    entry->row_end = 0;
    entry->last_on_worker = false;
    sched->free_slots[sched->free_slot_count++] = entry->slot;
}

/* A slot whose opening was not told yet is not closed either. */
static void tell_close(struct sched *sched, const struct sched_entry *entry, uint32_t request)
{
    for (uint32_t i = 0; i < sched->open_count; i++) {
        if (sched->opens[i].slot == entry->slot) {
            sched->opens[i] = sched->opens[--sched->open_count];
            sched->open_cells -= entry->open_cells;
            return;
        }
    }
    sched->closes[sched->close_count++] =
        (struct sched_slot){request, entry->slot, sched->generation[entry->slot]};
}

static void leave(struct sched *sched, uint32_t request, bool cut)
{
    struct sched_entry *entry = &sched->entry[request];
    if (entry->state == SCHED_WAITING) {
        dequeue(sched, request);
    } else if (entry->state == SCHED_RUNNING) {
        tell_close(sched, entry, request);
        vacate(sched, request);
    }
    if (entry->state != SCHED_ABSENT) {
        outlook_learn(sched, request, cut);
        fair_leave(&sched->fair, request);
    }
    entry->state = SCHED_ABSENT;
}

void sched_remove(struct sched *sched, uint32_t request)
{
    leave(sched, request, true);
}

void sched_end(struct sched *sched, uint32_t request)
{
    leave(sched, request, false);
}

void sched_set_dense(struct sched *sched, uint32_t tokens)
{
    must(tokens > 0 && tokens <= sched->options.tokens_max);
    sched->dense = tokens;
}

void sched_hold(struct sched *sched, uint32_t request, bool held)
{
    sched->entry[request].held = held;
}

static void yield_pages(struct sched *sched, uint32_t request)
{
    struct sched_entry *entry = &sched->entry[request];
    sched->preemptions++;
    sched->recomputed_tokens += entry->computed;
    tell_close(sched, entry, request);
    vacate(sched, request);
    queue_again(sched, request);
}

/* Makes room for one more page of a running request; false when it had to yield itself, or when a
 * page is on its way back from the steps in flight: then it has no row in this step. */
static bool extend(struct sched *sched, uint32_t request)
{
    struct sched_entry *entry = &sched->entry[request];
    while (pages_take(&sched->pages, 1, &entry->pages[entry->page_count])) {
        if (flight_claim(&sched->flight)) {
            return false;
        }
        const uint32_t youngest = sched->running[sched->running_count - 1];
        yield_pages(sched, youngest);
        if (youngest == request) {
            return false;
        }
    }
    entry->page_count++;
    return true;
}

/* Position from which a row that begins here would be judged. */
static uint32_t score_first(const struct sched_entry *entry)
{
    return entry->score_next > entry->computed ? entry->score_next : entry->computed;
}

/* How many of the next tokens of an entry would be judged. */
static uint32_t scores_within(const struct sched_entry *entry, uint32_t tokens)
{
    const uint32_t end = entry->computed + tokens;
    const uint32_t most = end < entry->score_end ? end : entry->score_end;
    const uint32_t first = score_first(entry);
    return first < most ? most - first : 0;
}

/* So many of the next tokens that this step can still judge what is to be judged. */
static uint32_t bound_scores(const struct sched_entry *entry, const struct sched_step *step,
                             uint32_t tokens)
{
    const uint32_t room = LIMIT_STEP_SCORES_MAX - step->score_count;
    const uint32_t scores = scores_within(entry, tokens);
    return scores <= room ? tokens : score_first(entry) + room - entry->computed;
}

/* Records that tell the worker of an entry's new pages. */
static uint32_t page_cells(const struct sched_entry *entry)
{
    const uint32_t pages = entry->page_count - entry->pages_told;
    return (pages + RECORD_PAGES_PER_CELL - 1) / RECORD_PAGES_PER_CELL;
}

static bool ring_takes_row(const struct sched_step *step, const struct sched_entry *entry)
{
    return page_cells(entry) <= SCHED_PAGE_CELLS_MAX - step->page_cells;
}

static void add_row(struct sched *sched, struct sched_step *step, uint32_t request, uint32_t tokens)
{
    struct sched_entry *entry = &sched->entry[request];
    const bool sample = entry->computed + tokens == entry->tokens;
    const uint32_t score = score_first(entry);
    const uint32_t score_count = scores_within(entry, tokens);
    step->rows[step->row_count++] = (struct sched_row){
        .request = request,
        .slot = entry->slot,
        .generation = sched->generation[entry->slot],
        .position = entry->computed,
        .tokens = tokens,
        .from_last = sample && tokens == 1 && entry->last_on_worker,
        .sample = sample,
        .skips = entry->row_end != entry->computed,
        .pages_told = entry->pages_told,
        .score_first = score_count > 0 ? score - entry->computed : 0,
        .score_count = score_count,
    };
    step->score_count += score_count;
    step->page_cells += page_cells(entry);
    entry->pages_told = entry->page_count;
    entry->row_end = entry->computed + tokens;
    step->token_count += tokens;
}

/* Single tokens, oldest first: whoever yields its pages has not been looked at yet. */
static void form_decodes(struct sched *sched, struct sched_step *step)
{
    for (uint32_t i = 0; i < sched->running_count; i++) {
        const uint32_t request = sched->running[i];
        struct sched_entry *entry = &sched->entry[request];
        entry->waits = (entry->held && entry->last_on_worker) ||
                       step->token_count == sched->options.tokens_max ||
                       !match_settle(sched, step, request);
        if (entry->waits || entry->tokens - entry->computed != 1 ||
            entry->tokens == entry->tokens_max) {
            continue;
        }
        const bool room = entry->page_count >= sched_pages_for(sched, entry->tokens);
        if ((room || extend(sched, request)) && ring_takes_row(step, entry)) {
            add_row(sched, step, request, 1);
        }
    }
}

static void form_chunk(struct sched *sched, struct sched_step *step, uint32_t request)
{
    const struct sched_entry *entry = &sched->entry[request];
    if (entry->waits || step->token_count >= sched->dense) {
        return;
    }
    const uint32_t budget = sched->dense - step->token_count;
    const uint32_t left = match_claim(sched, request) - entry->computed;
    const uint32_t tokens = bound_scores(entry, step, left < budget ? left : budget);
    if (tokens == 0) { /* An older one has just claimed the page, or judges enough. */
        return;
    }
    if (ring_takes_row(step, entry)) {
        add_row(sched, step, request, tokens);
    }
}

/* Lets the queue's head in. When the step is full, only one that can borrow enters: whoever has the
 * pages may be gone by the next step. */
static bool admit_head(struct sched *sched, struct sched_step *step)
{
    const bool full = step->token_count >= sched->dense;
    const uint32_t request = enter_head(sched, full);
    if (request == SCHED_NONE) {
        return false;
    }
    sched->entry[request].waits = full || !match_settle(sched, step, request);
    form_chunk(sched, step, request);
    return true;
}

/* The formed step is in flight: what it will have done holds for all that comes after it. */
static void take_off(struct sched *sched, struct sched_step *step)
{
    step->number = flight_begin(&sched->flight);
    for (uint32_t i = 0; i < step->copy_count; i++) {
        match_drop_page(sched, step->copies[i].source); /* What the request owned it for. */
    }
    for (uint32_t i = 0; i < step->row_count; i++) {
        const struct sched_row *row = &step->rows[i];
        struct sched_entry *entry = &sched->entry[row->request];
        match_written(sched, row->request, row->position, row->tokens);
        entry->computed += row->tokens;
        if (row->score_count > 0) {
            entry->score_next = row->position + row->score_first + row->score_count;
        }
        entry->tokens += row->sample;
        entry->to_come += row->sample;
        entry->last_on_worker = row->sample;
    }
}

bool sched_form(struct sched *sched, struct sched_step *step)
{
    must(flight_steps(&sched->flight) < FLIGHT_STEPS_MAX);
    sched->flight.claims = 0;
    step->row_count = 0;
    step->token_count = 0;
    step->score_count = 0;
    step->page_cells = 0;
    step->copy_count = 0;
    form_decodes(sched, step);
    const uint32_t resident = sched->running_count;
    for (uint32_t i = 0; i < resident; i++) {
        if (sched->entry[sched->running[i]].tokens - sched->entry[sched->running[i]].computed > 1) {
            form_chunk(sched, step, sched->running[i]);
        }
    }
    if (sched->fair.waiting_count > 0) {
        outlook_begin(sched);
        while (admit_head(sched, step)) {
        }
    }
    if (step->row_count == 0) {
        must(step->copy_count == 0); /* A copy has a row behind it, or the budget is spent. */
        sched->resting = flight_steps(&sched->flight) == 0;
        return false;
    }
    step->rested = sched->resting;
    sched->resting = false;
    step->open_count = sched->open_count;
    memcpy(step->opens, sched->opens, sched->open_count * sizeof step->opens[0]);
    sched->open_count = 0;
    sched->open_cells = 0;
    step->close_count = sched->close_count;
    memcpy(step->closes, sched->closes, sched->close_count * sizeof step->closes[0]);
    sched->close_count = 0;
    take_off(sched, step);
    return true;
}

bool sched_row_current(const struct sched *sched, const struct sched_row *row)
{
    const struct sched_entry *entry = &sched->entry[row->request];
    return entry->state == SCHED_RUNNING && entry->slot == row->slot &&
           sched->generation[row->slot] == row->generation;
}

void sched_commit(struct sched *sched, const struct sched_step *step)
{
    flight_end(&sched->flight, &sched->pages);
    must(step->number == sched->flight.ended);
    for (uint32_t i = 0; i < step->row_count; i++) {
        const struct sched_row *row = &step->rows[i];
        struct sched_entry *entry = &sched->entry[row->request];
        if (sched_row_current(sched, row)) {
            if (row->score_count > 0) {
                entry->score_known = row->position + row->score_first + row->score_count;
            }
            entry->to_come -= row->sample;
            fair_charge(&sched->fair, row->request, row->sample ? FAIR_ANSWER_COST : 0);
        }
    }
}

void sched_reset(struct sched *sched)
{
    flight_lose(&sched->flight, &sched->pages);
    while (sched->running_count > 0) {
        const uint32_t request = sched->running[sched->running_count - 1];
        sched->recomputed_tokens += sched->entry[request].computed;
        vacate(sched, request);
        queue_again(sched, request);
    }
    sched->open_count = 0;
    sched->open_cells = 0;
    sched->close_count = 0; /* The next worker has no open slots. */
}

void sched_move(struct sched *from, struct sched *to, uint32_t request)
{
    struct sched_entry *entry = &to->entry[request];
    uint32_t *pages = entry->pages;
    must(from->entry[request].state == SCHED_WAITING && entry->state == SCHED_ABSENT);
    const bool returned = from->fair.node[request].returned;
    dequeue(from, request);
    fair_leave(&from->fair, request);
    *entry = from->entry[request];
    entry->pages = pages; /* Without any: it waits. */
    from->entry[request].state = SCHED_ABSENT;
    to->waiting_tokens += entry->tokens;
    fair_join(&to->fair, request, entry->tenant, entry->order);
    if (returned) {
        fair_take(&to->fair, request);
        fair_return(&to->fair, request);
    }
}

void sched_verify(const struct sched *sched)
{
    uint64_t owned = 0;
    uint64_t owners = 0;
    pages_verify(&sched->pages);
    fair_verify(&sched->fair);
    for (uint32_t i = 0; i < sched->running_count; i++) {
        const struct sched_entry *entry = &sched->entry[sched->running[i]];
        must(entry->state == SCHED_RUNNING && entry->computed < entry->tokens);
        must(entry->to_come <= flight_steps(&sched->flight));
        must(i == 0 || entry->order > sched->entry[sched->running[i - 1]].order);
        must(entry->page_count >= sched_pages_for(sched, entry->computed));
        owned += entry->page_count + (entry->tail_page != PREFIX_NONE);
    }
    for (uint32_t i = 0; i < sched->pages.count; i++) {
        const struct prefix_node *node = &sched->prefix.node[i];
        owners += sched->pages.page[i].owners;
        must(node->tokens == 0 || sched->pages.page[i].owners > 0);
        must(node->tokens == 0 || node->writer == PREFIX_NONE ||
             sched->entry[node->writer].state == SCHED_RUNNING);
    }
    must(owned == owners);
    must(sched->running_count + sched->free_slot_count == sched->options.slots_max);
}
