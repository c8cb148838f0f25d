/*
 * request_test.c - the request table: every transition, legal or not (those in a child process),
 * which entry is taken, and who is found by address and id.
 */
#include "agent/request.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { COUNT = 3, CONTEXT = 16, STATES = REQUEST_ENDING + 1 };

struct table {
    struct arena arena;
    struct requests requests;
};

static int open_table(void **state)
{
    static struct table table;
    if (arena_open(&table.arena, requests_bytes(COUNT, CONTEXT)) ||
        requests_open(&table.requests, &table.arena, COUNT, CONTEXT)) {
        return -1;
    }
    *state = &table;
    return 0;
}

static int close_table(void **state)
{
    struct table *table = *state;
    arena_close(&table->arena);
    return 0;
}

/* True when request_move() from one state to the other ends its process. */
static bool move_dies(struct requests *requests, enum request_state from, enum request_state to)
{
    int status = 0;
    (void)fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        (void)signal(SIGABRT, SIG_DFL); /* cmocka's own handler would go on. */
        (void)close(STDERR_FILENO);
        requests->request[0].state = from;
        request_move(requests, &requests->request[0], to);
        _exit(requests->request[0].state == to ? 0 : 2);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 2);
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

static void moves_by_the_table_alone(void **state)
{
    static const char legal[STATES][STATES + 1] = {
        /* to: FREE, TEXT, ACTIVE, ENDING */
        [REQUEST_FREE] = "-++-",
        [REQUEST_TEXT] = "+-++",
        [REQUEST_ACTIVE] = "---+",
        [REQUEST_ENDING] = "+---",
    };
    struct requests *requests = &((struct table *)*state)->requests;
    for (int from = 0; from < STATES; from++) {
        for (int to = 0; to < STATES; to++) {
            assert_int_equal(move_dies(requests, (enum request_state)from, (enum request_state)to),
                             legal[from][to] == '-');
        }
    }
}

static void takes_lowest_free_first(void **state)
{
    struct requests *requests = &((struct table *)*state)->requests;
    for (uint32_t i = 0; i < COUNT; i++) {
        struct request *request = requests_take(requests, REQUEST_ACTIVE);
        assert_non_null(request);
        assert_int_equal(request_index(requests, request), i);
        assert_int_equal(requests->live, i + 1);
    }
    assert_null(requests_take(requests, REQUEST_ACTIVE));
    struct request *middle = &requests->request[1];
    uint32_t *ids = middle->ids;
    middle->answer_tokens = 7;
    request_move(requests, middle, REQUEST_ENDING);
    assert_int_equal(middle->generation, 0);
    request_move(requests, middle, REQUEST_FREE);
    assert_int_equal(middle->generation, 1);
    assert_int_equal(requests->live, COUNT - 1);
    assert_ptr_equal(requests_take(requests, REQUEST_TEXT), middle);
    assert_int_equal(middle->state, REQUEST_TEXT);
    assert_int_equal(middle->generation, 1); /* Cleared but for its memory and this. */
    assert_int_equal(middle->answer_tokens, 0);
    assert_ptr_equal(middle->ids, ids);
}

static void memory_does_not_overlap(void **state)
{
    struct requests *requests = &((struct table *)*state)->requests;
    for (uint32_t i = 0; i < COUNT; i++) {
        struct request *request = &requests->request[i];
        memset(request->ids, (int)i + 1, CONTEXT * sizeof request->ids[0]);
        memset(request->logprobs, (int)i + 1, CONTEXT * sizeof request->logprobs[0]);
        memset(request->text, (int)i + 1, requests->text_bytes_max);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        const struct request *request = &requests->request[i];
        const char own = (char)(i + 1);
        assert_int_equal(request->text[0], own);
        assert_int_equal(request->text[requests->text_bytes_max - 1], own);
        assert_int_equal(((const char *)request->ids)[0], own);
        assert_int_equal(((const char *)(request->ids + CONTEXT))[-1], own);
        assert_int_equal(((const char *)request->logprobs)[0], own);
        assert_int_equal(((const char *)(request->logprobs + CONTEXT))[-1], own);
    }
}

static struct request_address address_of(const char *peer, const char *id, bool admin)
{
    struct request_address address = {.admin = admin};
    address.routing_bytes = (uint8_t)strlen(peer);
    memcpy(address.routing, peer, strlen(peer));
    address.id.count = (uint8_t)strlen(id);
    memcpy(address.id.bytes, id, strlen(id));
    return address;
}

static void finds_by_peer_and_id(void **state)
{
    struct requests *requests = &((struct table *)*state)->requests;
    const struct request_address ann = address_of("ann", "1", false);
    const struct request_address bob = address_of("bob", "1", false);
    const struct request_address bob_admin = address_of("bob", "1", true);
    const struct request_address bob_next = address_of("bob", "12", false);
    const struct request_address bobby = address_of("bobby", "1", false);
    assert_null(requests_find(requests, &ann));
    struct request *first = requests_take(requests, REQUEST_TEXT);
    struct request *second = requests_take(requests, REQUEST_ACTIVE);
    struct request *third = requests_take(requests, REQUEST_ACTIVE);
    first->address = ann;
    second->address = bob; /* The same id of another peer is another request. */
    third->address = bob_admin;
    assert_ptr_equal(requests_find(requests, &ann), first);
    assert_ptr_equal(requests_find(requests, &bob), second);
    assert_ptr_equal(requests_find(requests, &bob_admin), third);
    assert_null(requests_find(requests, &bob_next));
    assert_null(requests_find(requests, &bobby));
    request_move(requests, first, REQUEST_FREE);
    assert_null(requests_find(requests, &ann));
    assert_ptr_equal(requests_find(requests, &bob_admin), third); /* Behind a free one. */
    request_move(requests, second, REQUEST_ENDING);
    assert_ptr_equal(requests_find(requests, &bob), second); /* Until DONE has left. */
}

static void waits_for_credit_while_ending(void **state)
{
    struct requests *requests = &((struct table *)*state)->requests;
    struct request *request = requests_take(requests, REQUEST_ACTIVE);
    request->params.stream = true;
    request->answer_tokens = 2;
    request->sent_tokens = 1;
    assert_false(request_waits_for_credit(request));
    request_move(requests, request, REQUEST_ENDING);
    assert_true(request_waits_for_credit(request));
    request->error.code = WIRE_INTERNAL;
    assert_false(request_waits_for_credit(request));
    request->error.code = WIRE_OK;
    request->sent_tokens = 2;
    assert_false(request_waits_for_credit(request));
    request->sent_tokens = 1;
    request->params.stream = false;
    assert_false(request_waits_for_credit(request));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(moves_by_the_table_alone, open_table, close_table),
        cmocka_unit_test_setup_teardown(takes_lowest_free_first, open_table, close_table),
        cmocka_unit_test_setup_teardown(memory_does_not_overlap, open_table, close_table),
        cmocka_unit_test_setup_teardown(finds_by_peer_and_id, open_table, close_table),
        cmocka_unit_test_setup_teardown(waits_for_credit_while_ending, open_table, close_table),
    };
    return cmocka_run_group_tests_name("request", tests, NULL, NULL);
}
