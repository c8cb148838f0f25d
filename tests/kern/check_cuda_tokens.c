/*
 * check_cuda_tokens.c - ids of a step and the history beside their pages, against a plain loop.
 * Runs in the process of check_cuda.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cuda/tokens_cuda.h"
#include "tests/kern/check_cuda.h"

enum { ROUNDS = 4, SLOTS = 7, SPARE = 5 };

struct step { /* Token t is in page t / page_tokens, from the last page on down. */
    uint32_t tokens;
    uint32_t pages;
    uint32_t page_tokens;
    uint32_t last_ids[SLOTS];
    uint32_t *given;
    uint32_t *page;
    uint32_t *position;
    uint32_t *ids;
    uint32_t *history;
};

static void fill_step(struct check_random *random, struct step *step)
{
    step->tokens = check_between(random, 0, 600);
    step->page_tokens = 16u << check_between(random, 0, 2);
    step->pages = step->tokens / step->page_tokens + 1;
    const size_t bytes = (step->tokens + SPARE) * sizeof *step->given;
    step->given = check_alloc(bytes);
    step->page = check_alloc(bytes);
    step->position = check_alloc(bytes);
    step->ids = check_alloc(bytes);
    step->history = check_alloc((size_t)step->pages * step->page_tokens * sizeof *step->history);
    for (uint32_t i = 0; i < SLOTS; i++) {
        step->last_ids[i] = check_between(random, 0, 99999);
    }
    for (uint32_t t = 0; t < step->tokens; t++) {
        step->given[t] = check_between(random, 0, 1)
                             ? check_between(random, 0, 99999)
                             : CUDA_TOKENS_LAST | check_between(random, 0, SLOTS - 1);
        step->page[t] = step->pages - 1 - t / step->page_tokens;
        step->position[t] = t + 3 * step->page_tokens;
    }
}

static void tokens_round(struct check_cuda *check)
{
    struct step step = {0};
    fill_step(&check->random, &step);
    const struct cuda_tokens_args args = {.given = step.given,
                                          .last_ids = step.last_ids,
                                          .page = step.page,
                                          .position = step.position,
                                          .ids = step.ids,
                                          .history = step.history,
                                          .tokens = &step.tokens,
                                          .tokens_max = step.tokens + SPARE,
                                          .page_tokens = step.page_tokens};
    assert_int_equal(cuda_tokens(&args, check->stream), 0);
    check_cuda_result(check, step.ids, (step.tokens + SPARE) * sizeof *step.ids);
    for (uint32_t t = 0; t < step.pages * step.page_tokens; t++) {
        const uint32_t page = t / step.page_tokens;
        const uint32_t at = (step.pages - 1 - page) * step.page_tokens + t % step.page_tokens;
        const uint32_t given = t < step.tokens ? step.given[t] : UINT32_MAX;
        const bool last = t < step.tokens && (given & CUDA_TOKENS_LAST) != 0;
        const uint32_t want = last ? step.last_ids[given & ~CUDA_TOKENS_LAST] : given;
        assert_int_equal(step.history[at], want); /* Untouched past the last token. */
        if (t < step.tokens + SPARE) {
            assert_int_equal(step.ids[t], want);
        }
    }
    free(step.given);
    free(step.page);
    free(step.position);
    free(step.ids);
    free(step.history);
}

void check_cuda_tokens(void **state)
{
    (void)state;
    check_cuda_schedules(tokens_round, ROUNDS);
}
