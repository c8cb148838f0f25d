/*
 * sched_worker.c - see sched_worker.h. Used by sched_property.c alone; owns nothing beyond the
 * struct. Invariant: what a slot knows came in a step of its residency.
 */
#include "tests/property/sched_worker.h"

#include "base/prng.h"

enum { FAMILIES = 3 };

uint32_t worker_token(uint64_t prompt, uint32_t position)
{
    const uint64_t alike = (prompt >> 8) % (CONTEXT_MAX + 1);
    const uint64_t sequence = position < alike ? prompt % FAMILIES : prompt;
    return (uint32_t)prng_bits(sequence, position, 1) | 1u; /* Never 0: an empty place of the KV. */
}

void worker_start(struct worker *worker, const struct sched_options *options)
{
    *worker = (struct worker){.options = *options};
}

static void close_slots(struct worker *worker, const struct worker_step *step)
{
    for (uint32_t i = 0; i < step->close_count; i++) {
        must(step->closes[i].slot < worker->options.slots_max);
        struct worker_slot *slot = &worker->slot[step->closes[i].slot];
        must(slot->open && slot->generation == step->closes[i].generation);
        slot->open = false;
    }
}

static void open_slots(struct worker *worker, const struct worker_step *step)
{
    for (uint32_t i = 0; i < step->open_count; i++) {
        must(step->opens[i].slot < worker->options.slots_max);
        struct worker_slot *slot = &worker->slot[step->opens[i].slot];
        must(!slot->open && step->opens[i].generation > slot->generation);
        *slot = (struct worker_slot){
            .open = true,
            .generation = step->opens[i].generation,
            .prompt = step->prompts[i],
        };
    }
}

static void add_pages(struct worker *worker, const struct worker_step *step, uint32_t row)
{
    struct worker_slot *slot = &worker->slot[step->rows[row].slot];
    for (uint32_t i = 0; i < step->new_page_count[row]; i++) {
        const uint32_t page = step->new_pages[row][i];
        must(page < worker->options.page_count);
        must(slot->page_count < CONTEXT_MAX);
        slot->pages[slot->page_count++] = page;
    }
}

static uint32_t *place(struct worker *worker, const struct worker_slot *slot, uint32_t position)
{
    const uint32_t page_tokens = worker->options.page_tokens;
    must(position / page_tokens < slot->page_count);
    return &worker->kv[slot->pages[position / page_tokens]][position % page_tokens];
}

/* Somebody else reads this place: what is written there must be what it holds. */
static bool read_elsewhere(const struct worker *worker, const struct worker_slot *self,
                           uint32_t page, uint32_t in_page)
{
    for (uint32_t i = 0; i < worker->options.slots_max; i++) {
        const struct worker_slot *slot = &worker->slot[i];
        for (uint32_t p = 0; slot->open && slot != self && p < slot->page_count; p++) {
            if (slot->pages[p] == page &&
                p * worker->options.page_tokens + in_page < slot->computed) {
                return true;
            }
        }
    }
    return false;
}

static void put(struct worker *worker, const struct worker_slot *slot, uint32_t position,
                uint32_t id)
{
    const uint32_t page_tokens = worker->options.page_tokens;
    must(
        !read_elsewhere(worker, slot, slot->pages[position / page_tokens], position % page_tokens));
    *place(worker, slot, position) = id;
}

static void copy_pages(struct worker *worker, const struct worker_step *step)
{
    for (uint32_t i = 0; i < step->copy_count; i++) {
        const struct sched_copy *copy = &step->copies[i];
        must(copy->source < worker->options.page_count &&
             copy->target < worker->options.page_count);
        for (uint32_t t = 0; t < worker->options.page_tokens; t++) {
            must(!read_elsewhere(worker, NULL, copy->target, t));
            worker->kv[copy->target][t] = worker->kv[copy->source][t];
        }
    }
}

static void run_row(struct worker *worker, struct worker_step *step, uint32_t index)
{
    const struct sched_row *row = &step->rows[index];
    struct worker_slot *slot = &worker->slot[row->slot];
    must(slot->open && slot->generation == row->generation);
    must(row->tokens > 0);
    must(row->skips ? row->position > slot->computed && !slot->has_last
                    : row->position == slot->computed);
    must(row->position + row->tokens <= worker->options.context_max);
    must(!row->from_last || (row->tokens == 1 && slot->has_last));
    for (uint32_t t = 0; t < row->tokens; t++) {
        put(worker, slot, row->position + t, row->from_last ? slot->last : step->ids[index][t]);
    }
    worker->computed_tokens += row->tokens;
    slot->computed = row->position + row->tokens;
    slot->has_last = false;
    if (row->sample) { /* Reads the whole context, as attention does. */
        for (uint32_t p = 0; p < slot->computed; p++) {
            must(*place(worker, slot, p) == worker_token(slot->prompt, p));
        }
        slot->last = worker_token(slot->prompt, slot->computed);
        slot->has_last = true;
        step->results[index] = slot->last;
    }
}

void worker_run(struct worker *worker, struct worker_step *step)
{
    bool has_row[SLOTS_MAX] = {false};
    uint32_t tokens = 0;
    close_slots(worker, step);
    open_slots(worker, step);
    for (uint32_t i = 0; i < step->row_count; i++) {
        must(step->rows[i].slot < worker->options.slots_max && !has_row[step->rows[i].slot]);
        has_row[step->rows[i].slot] = true;
        tokens += step->rows[i].tokens;
        add_pages(worker, step, i);
    }
    must(tokens > 0 && tokens <= worker->options.tokens_max);
    copy_pages(worker, step);
    for (uint32_t i = 0; i < step->row_count; i++) {
        run_row(worker, step, i);
    }
}
