/* lanes_test.c - a picture shows what lies in its window, a trace holds all, in numbers. */
#include "tools/lanes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/json.h"

static const struct lanes_box boxes[] = {
    {"KQV", 0, 0, 0, 0, 128, 100, 200},  {"GEMV", 1, 1, -1, 0, 64, 150, 260},
    {"D<>", 0, 0, 0, 0, 128, 200, 4000}, {"late", 0, 0, 1, 0, 128, 900, 950},
    {"past", 1, 1, -1, 0, 128, 0, 100},
};

static struct lanes make_lanes(void)
{
    return (struct lanes){.title = "a title",
                          .summary = "a line",
                          .lane = {"compute", "memory"},
                          .lane_count = 2,
                          .box = boxes,
                          .box_count = sizeof boxes / sizeof boxes[0],
                          .from_us = 100,
                          .to_us = 800,
                          .interval_us = 300};
}

static char *read_all(const char *path)
{
    char *text = calloc(1, 1 << 16);
    FILE *file = fopen(path, "rb");
    assert_true(text && file);
    assert_true(fread(text, 1, (1 << 16) - 1, file) > 0);
    assert_int_equal(fclose(file), 0);
    return text;
}

static uint32_t count_words(const char *text, const char *word)
{
    uint32_t count = 0;
    for (const char *at = strstr(text, word); at; at = strstr(at + 1, word)) {
        count++;
    }
    return count;
}

static void picture_shows_its_window(void **state)
{
    (void)state;
    char path[] = "lanes_test_XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    (void)close(fd);
    const struct lanes lanes = make_lanes();
    assert_int_equal(lanes_draw(&lanes, path), 0);
    char *text = read_all(path);
    const char *group = strstr(text, "<g id=\"boxes\">");
    assert_non_null(group);
    assert_int_equal(count_words(group, "<rect "), 3);
    assert_int_equal(count_words(group, " pale\""), 1);
    assert_non_null(strstr(group, "D&lt;&gt;"));
    assert_null(strstr(group, "late"));
    assert_non_null(strstr(text, "after 300 us"));
    free(text);
    assert_int_equal(unlink(path), 0);
}

static void trace_holds_every_box(void **state)
{
    (void)state;
    char path[] = "lanes_test_XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    (void)close(fd);
    const struct lanes lanes = make_lanes();
    struct json_error error;
    struct json *root = NULL;
    double ts = 0, us = 0;
    assert_int_equal(lanes_trace(&lanes, path), 0);
    assert_int_equal(json_parse_file(path, &root, &error), 0);
    const struct json *events = json_get(root, "traceEvents");
    assert_int_equal(json_count(events), 2 + lanes.box_count);
    for (uint32_t i = 0; i < lanes.box_count; i++) {
        const struct json *event = json_at(events, 2 + i);
        assert_true(json_f64(json_get(event, "ts"), &ts) && json_f64(json_get(event, "dur"), &us));
        assert_true(ts == boxes[i].start_us - 100 && us == boxes[i].end_us - boxes[i].start_us);
    }
    json_free(root);
    assert_int_equal(unlink(path), 0);
}

static void unwritable_paths_are_told(void **state)
{
    (void)state;
    const struct lanes lanes = make_lanes();
    assert_true(lanes_draw(&lanes, "/nonexistent/x.svg") < 0);
    assert_true(lanes_trace(&lanes, "/nonexistent/x.json") < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(picture_shows_its_window),
        cmocka_unit_test(trace_holds_every_box),
        cmocka_unit_test(unwritable_paths_are_told),
    };
    return cmocka_run_group_tests_name("lanes", tests, NULL, NULL);
}
