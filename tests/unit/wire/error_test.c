/* error_test.c - the table of errors equals that of the protocol, and gives nothing away. */
#include "wire/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const struct {
    enum wire_error_code code;
    const char *name;
    uint16_t status;
    bool retryable;
} wanted[] = {
    {WIRE_INVALID_ARGUMENT, "invalid_argument", 400, false},
    {WIRE_CONTEXT_EXCEEDED, "context_exceeded", 400, false},
    {WIRE_UNSUPPORTED, "unsupported", 400, false},
    {WIRE_UNAUTHENTICATED, "unauthenticated", 401, false},
    {WIRE_PERMISSION_DENIED, "permission_denied", 403, false},
    {WIRE_NOT_FOUND, "not_found", 404, false},
    {WIRE_DUPLICATE_ID, "duplicate_id", 409, false},
    {WIRE_TOO_LARGE, "too_large", 413, false},
    {WIRE_OVERLOADED, "overloaded", 429, true},
    {WIRE_CANCELLED, "cancelled", 499, false},
    {WIRE_INTERNAL, "internal", 500, false},
    {WIRE_WORKER_LOST, "worker_lost", 502, true},
    {WIRE_DRAINING, "draining", 503, true},
    {WIRE_DEADLINE_EXCEEDED, "deadline_exceeded", 504, false},
};

static void every_code_has_its_row(void **state)
{
    (void)state;
    assert_int_equal(sizeof wanted / sizeof wanted[0], WIRE_ERROR_COUNT - 1);
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        const struct wire_error_row *row = wire_error_row(wanted[i].code);
        assert_string_equal(row->code, wanted[i].name);
        assert_int_equal(row->status, wanted[i].status);
        assert_int_equal(row->retryable, wanted[i].retryable);
        assert_true(strlen(row->message) > 10);
        assert_null(strchr(row->message, '/'));
        assert_null(strchr(row->message, '%'));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_code_has_its_row)};
    return cmocka_run_group_tests_name("error", tests, NULL, NULL);
}
