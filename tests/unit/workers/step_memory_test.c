/*
 * step_memory_test.c - a worker that serves takes no memory: from the first record to the last, in
 * our code; what libraries do inside is theirs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/workers/caller.h"

enum { GENERATED = 20 };

/* Calls of our own objects to the allocator: the linker sends them here (--wrap). */
static size_t *calls(void)
{
    static size_t count;
    return &count;
}

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *block, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *block, size_t bytes);

void *__wrap_malloc(size_t bytes)
{
    (*calls())++;
    return __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    (*calls())++;
    return __real_calloc(count, bytes);
}

void *__wrap_realloc(void *block, size_t bytes)
{
    (*calls())++;
    return __real_realloc(block, bytes);
}
static void steps_take_no_memory(void **state)
{
    struct caller *caller = *state;
    assert_true(*calls() > 0); /* The counter counts: opening took some. */
    const size_t before = *calls();
    caller_push_open(caller, 1, &(struct sample_params){.temperature = 1, .logprobs = true});
    caller_push_pages(caller, 1, 4);
    caller_push(caller, caller_step(caller, 1, CALLER_PROMPT, CALLER_PROMPT));
    caller_push(caller, caller_row(1, 0, CALLER_PROMPT, 0));
    caller_push_ids(caller, caller_prompt, CALLER_PROMPT);
    for (uint32_t i = 0; i < GENERATED; i++) {
        assert_int_equal(caller_serve(caller), 0);
        caller_take(caller, RECORD_RESULT);
        caller_take(caller, RECORD_LOGPROBS);
        caller_take(caller, RECORD_DONE);
        caller_push(caller, caller_step(caller, 1, 1, 0));
        caller_push(caller, caller_last_row(1, CALLER_PROMPT + i));
    }
    assert_int_equal(*calls(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(steps_take_no_memory, caller_set_up, caller_tear_down),
    };
    return cmocka_run_group_tests_name("step_memory", tests, NULL, NULL);
}
