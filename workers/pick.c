/*
 * pick.c - see pick.h. Called by the engine on a worker's main thread; rows are spread over the
 * crew. Owns nothing but its places in the arena. Invariant: a row's token depends on its own
 * logits, parameters and history alone.
 */
#include "workers/pick.h"

#include <errno.h>

static size_t thread_bytes(uint32_t vocab)
{
    return (sample_work_bytes(vocab) + 63) / 64 * 64;
}

size_t pick_bytes(const struct engine_options *options, uint32_t threads, uint32_t vocab)
{
    const size_t slack = 128; /* Alignment of the two. */
    return history_bytes(options->device_pages, options->page_tokens) +
           threads * thread_bytes(vocab) + slack;
}

int pick_open(struct pick *pick, struct arena *arena, const struct engine_options *options,
              uint32_t vocab)
{
    pick->vocab = vocab;
    pick->work_bytes = thread_bytes(vocab);
    pick->work = arena_alloc(arena, crew_threads(pick->crew), pick->work_bytes);
    const int error =
        history_open(&pick->history, arena, options->device_pages, options->page_tokens);
    return pick->work ? error : -ENOMEM;
}

void pick_learn(const struct pick *pick, const struct engine_batch *batch)
{
    for (uint32_t i = 0; i < batch->row_count; i++) {
        const struct engine_row *row = &batch->rows[i];
        history_write(&pick->history, row->pages, row->position, batch->ids + row->first,
                      row->tokens);
    }
}

static void run_choices(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    struct pick *pick = context;
    for (uint32_t i = first; i < first + count; i++) {
        const struct engine_choice *choice = &pick->choices[i];
        const struct sample_row row = {
            .logits = pick->logits + (size_t)i * pick->vocab,
            .vocab = pick->vocab,
            .position = choice->position,
            .params = choice->params,
            .past = {.history = &pick->history, .pages = choice->pages, .tokens = choice->position},
            .ops = pick->ops,
            .work = pick->work + thread * pick->work_bytes,
        };
        if (choice->judged) {
            sample_score(&row, choice->id, &pick->results[i]);
        } else {
            sample_run(&row, &pick->results[i]);
        }
    }
}

void pick_run(struct pick *pick, const float *logits, const struct engine_choice *choices,
              uint32_t count, struct sample_result *results)
{
    const struct crew_job job = {.run = run_choices, .context = pick, .units = count, .grain = 1};
    pick->logits = logits;
    pick->choices = choices;
    pick->results = results;
    crew_run(pick->crew, &job);
}
