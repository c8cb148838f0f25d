/*
 * sched_worker.c - see sched_worker.h. Used by sched_property.c alone; owns nothing beyond the
 * struct. Invariant: what a slot knows came in a step of its residency.
 */
#include "tests/property/sched_worker.h"

#include "base/prng.h"

uint32_t worker_token(uint64_t prompt, uint32_t position)
{
    return (uint32_t)prng_bits(prompt, position, 1) | 1u; /* Never 0: an empty place of the KV. */
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

static bool page_in_use(const struct worker *worker, uint32_t page)
{
    for (uint32_t i = 0; i < worker->options.slots_max; i++) {
        const struct worker_slot *slot = &worker->slot[i];
        for (uint32_t p = 0; slot->open && p < slot->page_count; p++) {
            if (slot->pages[p] == page) {
                return true;
            }
        }
    }
    return false;
}

static void add_pages(struct worker *worker, const struct worker_step *step, uint32_t row)
{
    struct worker_slot *slot = &worker->slot[step->rows[row].slot];
    for (uint32_t i = 0; i < step->new_page_count[row]; i++) {
        const uint32_t page = step->new_pages[row][i];
        must(page < worker->options.page_count && !page_in_use(worker, page));
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

static void run_row(struct worker *worker, struct worker_step *step, uint32_t index)
{
    const struct sched_row *row = &step->rows[index];
    struct worker_slot *slot = &worker->slot[row->slot];
    must(slot->open && slot->generation == row->generation);
    must(row->tokens > 0 && row->position == slot->computed);
    must(row->position + row->tokens <= worker->options.context_max);
    must(!row->from_last || (row->tokens == 1 && slot->has_last));
    for (uint32_t t = 0; t < row->tokens; t++) {
        *place(worker, slot, row->position + t) = row->from_last ? slot->last : step->ids[index][t];
    }
    slot->computed += row->tokens;
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
    for (uint32_t i = 0; i < step->row_count; i++) {
        run_row(worker, step, i);
    }
}
