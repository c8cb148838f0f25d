/* frame_test.c - what the first three frames may be, and what is read of those that are wrong. */
#include "wire/frame.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

struct message {
    struct wire_bytes frames[WIRE_FRAMES];
};

static struct wire_bytes bytes_of(const char *text, size_t count)
{
    return (struct wire_bytes){(const uint8_t *)text, count};
}

static struct message good(void)
{
    return (struct message){
        {bytes_of("SLCE\x01\x00", 6), bytes_of("\x02", 1), bytes_of("id", 2), bytes_of("\x80", 1)}};
}

static void reads_a_head(void **state)
{
    (void)state;
    const struct message message = good();
    struct wire_head head;
    assert_int_equal(wire_head_parse(message.frames, &head), 0);
    assert_int_equal(head.major, 1);
    assert_int_equal(head.minor, 0);
    assert_int_equal(head.command, WIRE_GENERATE);
    assert_int_equal(head.id.count, 2);
    assert_memory_equal(head.id.bytes, "id", 2);
}

static void a_later_minor_is_welcome(void **state)
{
    (void)state;
    struct message message = good();
    struct wire_head head;
    message.frames[0] = bytes_of("SLCE\x01\x63", 6);
    assert_int_equal(wire_head_parse(message.frames, &head), 0);
    assert_int_equal(head.minor, 0x63);
}

static void another_major_is_told_apart(void **state)
{
    (void)state;
    struct message message = good();
    struct wire_head head;
    message.frames[0] = bytes_of("SLCE\x02\x00", 6);
    assert_int_equal(wire_head_parse(message.frames, &head), -ENOTSUP);
    assert_int_equal(head.major, 2);
    assert_int_equal(head.id.count, 2);
}

static void a_wrong_magic_keeps_the_id(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t count;
    } magics[] = {{"", 0}, {"SLCE\x01", 5}, {"SLCE\x01\x00\x00", 7}, {"HTTP\x01\x00", 6}};
    for (size_t i = 0; i < sizeof magics / sizeof magics[0]; i++) {
        struct message message = good();
        struct wire_head head;
        message.frames[0] = bytes_of(magics[i].bytes, magics[i].count);
        assert_int_equal(wire_head_parse(message.frames, &head), -EINVAL);
        assert_int_equal(head.id.count, 2);
        assert_int_equal(head.command, WIRE_GENERATE);
    }
}

static void a_command_is_one_byte(void **state)
{
    (void)state;
    struct message message = good();
    struct wire_head head;
    message.frames[1] = bytes_of("", 0);
    assert_int_equal(wire_head_parse(message.frames, &head), -EINVAL);
    message.frames[1] = bytes_of("\x02\x02", 2);
    assert_int_equal(wire_head_parse(message.frames, &head), -EINVAL);
    assert_int_equal(head.command, 0);
    assert_int_equal(head.id.count, 2);
}

static void an_id_has_1_to_64_bytes(void **state)
{
    (void)state;
    char id[65];
    struct message message = good();
    struct wire_head head;
    memset(id, 'x', sizeof id);
    message.frames[2] = bytes_of(id, 64);
    assert_int_equal(wire_head_parse(message.frames, &head), 0);
    assert_int_equal(head.id.count, 64);
    assert_memory_equal(head.id.bytes, id, 64);
    message.frames[2] = bytes_of(id, 65);
    assert_int_equal(wire_head_parse(message.frames, &head), -EINVAL);
    assert_int_equal(head.id.count, 0);
    message.frames[2] = bytes_of(id, 0);
    assert_int_equal(wire_head_parse(message.frames, &head), -EINVAL);
    assert_int_equal(head.id.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_head),
        cmocka_unit_test(a_later_minor_is_welcome),
        cmocka_unit_test(another_major_is_told_apart),
        cmocka_unit_test(a_wrong_magic_keeps_the_id),
        cmocka_unit_test(a_command_is_one_byte),
        cmocka_unit_test(an_id_has_1_to_64_bytes),
    };
    return cmocka_run_group_tests_name("frame", tests, NULL, NULL);
}
