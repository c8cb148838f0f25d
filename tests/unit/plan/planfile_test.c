/*
 * planfile_test.c - plan files go out and come back the same; stale, malformed and wrong ones are
 * refused with the reason; the nearest regime is chosen.
 */
#include "plan/planfile.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/prng.h"
#include "plan/split.h"

enum { SEED = 4, CHOICES = 2000 };

static struct graph make_graph(void)
{
    struct graph graph;
    graph_build(&graph, false, 1, GRAPH_INSIDE);
    return graph;
}

static struct planfile make_file(const struct graph *graph)
{
    struct planfile file = {
        .key = {.model = "a \"model\"",
                .dtype = "bf16",
                .weights = "int8",
                .kv = "e4m3",
                .device = "cpu",
                .library = "products 3.1",
                .kernels = "0.1 abc",
                .tp = 1,
                .units = 2},
        .regime = {256, 192, 400},
        .predicted_us = 5100.25,
        .measured_us = 5200.5,
        .sequential_us = 5400,
    };
    struct split_cuts cuts;
    split_even(&cuts, graph, 3);
    assert_int_equal(split_plan(&file.plan, graph, &cuts), 0);
    file.plan.nano[29].lane = 1;
    file.plan.nano[28].units = 2;
    file.plan.edge[file.plan.edge_count++] = (struct plan_edge){9, 3, 0, PLAN_AFTER_START};
    file.plan.hash = plan_hash(&file.plan);
    return file;
}

static char *dump(const struct planfile *file)
{
    struct json *root = planfile_json(file);
    char *line = json_dump(root);
    json_free(root);
    return line;
}

static int parse(struct planfile *file, const char *line, char *error)
{
    struct json_error reason;
    struct json *root = NULL;
    assert_int_equal(json_parse(line, strlen(line), &root, &reason), 0);
    const int code = planfile_parse(file, root, error);
    json_free(root);
    return code;
}

static void goes_out_and_comes_back(void **state)
{
    (void)state;
    const struct graph graph = make_graph();
    const struct planfile file = make_file(&graph);
    struct planfile again;
    char error[PLANFILE_ERROR_BYTES_MAX] = "";
    char *line = dump(&file);
    assert_int_equal(parse(&again, line, error), 0);
    free(line);
    assert_memory_equal(&again, &file, sizeof file);
    assert_int_equal(planfile_check(&again, &file.key, &graph, error), 0);
}

/* The text with the first `from` made `to`. */
static void expect_malformed(const char *line, const char *from, const char *to, const char *part)
{
    struct planfile file;
    char error[PLANFILE_ERROR_BYTES_MAX] = "";
    const char *at = strstr(line, from);
    assert_non_null(at);
    const size_t bytes = strlen(line) + strlen(to) + 1;
    char *changed = malloc(bytes);
    assert_non_null(changed);
    (void)snprintf(changed, bytes, "%.*s%s%s", (int)(at - line), line, to, at + strlen(from));
    assert_int_equal(parse(&file, changed, error), -EINVAL);
    if (!strstr(error, part)) {
        fail_msg("\"%s\" does not say \"%s\"", error, part);
    }
    free(changed);
}

static void refuses_what_is_malformed(void **state)
{
    (void)state;
    const struct graph graph = make_graph();
    const struct planfile file = make_file(&graph);
    char *line = dump(&file);
    expect_malformed(line, "\"plan\":1", "\"plan\":2", "plan must be 1");
    expect_malformed(line, "\"plan\"", "\"plans\"", "plan must be 1");
    expect_malformed(line, "\"dtype\"", "\"type\"", "dtype must be a text");
    expect_malformed(line, "\"weights\"", "\"w\"", "weights must be a text");
    expect_malformed(line, "\"kv\"", "\"k\"", "kv must be a text");
    expect_malformed(line, "\"library\"", "\"l\"", "library must be a text");
    expect_malformed(line, "\"kernels\"", "\"k\"", "kernels must be a text");
    expect_malformed(line, "\"key\"", "\"keys\"", "key: model must be a text");
    expect_malformed(line, "\"units\":2", "\"units\":65536", "units must be an integer from 0");
    expect_malformed(line, "\"cpu\"", "7", "device must be a text");
    expect_malformed(line, "\"cpu\"", "\"c\\u0000u\"", "device must be a text");
    expect_malformed(line, "\"tp\":1", "\"tp\":-1", "tp must be an integer from 0");
    expect_malformed(line, "\"tokens\":256", "\"tokens\":191", "regime must have");
    expect_malformed(line, "\"tokens\":256", "\"tokens\":0", "regime must have");
    expect_malformed(line, "\"nano\":[", "\"nano\":{}, \"n\":[", "nano must be a list");
    expect_malformed(line, "\"nano\":[", "\"nano\":[7, ", "nano 0: op is no word");
    expect_malformed(line, "\"kqv\"", "\"kqw\"", "nano 3: op is no word");
    expect_malformed(line, "\"lane\":1", "\"lane\":4", "lane must be an integer from 0 to 3");
    expect_malformed(line, "\"end\":65536", "\"end\":65537", "nano 2: end must be");
    expect_malformed(line, "\"kind\":\"start\"", "\"kind\":1", "kind is no word");
    expect_malformed(line, "\"edges\"", "\"edge\"", "edges must be a list");
    expect_malformed(line, "\"offset\":0", "\"offset\":9", "edge 0: offset must be");
    expect_malformed(line, "5100.25", "-1", "predicted_us must be a number");
    expect_malformed(line, "5200.5", "null", "measured_us must be a number");
    free(line);
}

static void expect_refused(const struct planfile *file, const struct plankey *key, int code,
                           const char *part)
{
    const struct graph graph = make_graph();
    char error[PLANFILE_ERROR_BYTES_MAX] = "";
    assert_int_equal(planfile_check(file, key, &graph, error), code);
    if (!strstr(error, part)) {
        fail_msg("\"%s\" does not say \"%s\"", error, part);
    }
}

static void refuses_what_is_stale(void **state)
{
    (void)state;
    const struct graph graph = make_graph();
    const struct planfile file = make_file(&graph);
    struct plankey key = file.key;
    key.model[0] = 'b', expect_refused(&file, &key, -ESTALE, "the model \"a \"model\"\", this");
    key = file.key, key.dtype[0] = 'c', expect_refused(&file, &key, -ESTALE, "dtype \"bf16\"");
    key = file.key, key.weights[0] = 0, expect_refused(&file, &key, -ESTALE, "weights \"int8\"");
    key = file.key, key.kv[1] = '5', expect_refused(&file, &key, -ESTALE, "kv \"e4m3\"");
    key = file.key, key.device[0] = 'g', expect_refused(&file, &key, -ESTALE, "is \"gpu\"");
    key = file.key, key.library[9] = '2';
    expect_refused(&file, &key, -ESTALE, "the library \"products 3.1\", this is \"products 2.1\"");
    key = file.key, key.kernels[6] = 'd';
    expect_refused(&file, &key, -ESTALE, "the kernels \"0.1 abc\", this is \"0.1 abd\"");
    key = file.key, key.tp = 2, expect_refused(&file, &key, -ESTALE, "tp 1, this is 2");
    key = file.key, key.units = 4, expect_refused(&file, &key, -ESTALE, "units 2, this is 4");
}

static void refuses_what_the_verifier_refuses(void **state)
{
    (void)state;
    const struct graph graph = make_graph();
    struct planfile file = make_file(&graph);
    file.plan.edge_count = 1;
    expect_refused(&file, &file.key, -EINVAL, "the plan is wrong: ");
    file = make_file(&graph);
    file.plan.nano[4].units = 3;
    expect_refused(&file, &file.key, -EINVAL, "units are too many");
}

static void loads_from_disk(void **state)
{
    (void)state;
    const struct graph graph = make_graph();
    const struct planfile file = make_file(&graph);
    struct planfile again;
    char error[PLANFILE_ERROR_BYTES_MAX] = "";
    char path[] = "/tmp/planfile-XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    char *line = dump(&file);
    assert_int_equal(write(fd, line, strlen(line)), strlen(line));
    assert_int_equal(planfile_load(&again, path, &file.key, &graph, error), 0);
    assert_memory_equal(&again, &file, sizeof file);
    assert_int_equal(ftruncate(fd, 40), 0);
    assert_int_equal(planfile_load(&again, path, &file.key, &graph, error), -EINVAL);
    assert_true(error[0]);
    assert_int_equal(close(fd), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(planfile_load(&again, path, &file.key, &graph, error), -ENOENT);
    free(line);
}

static void chooses_the_nearest_regime(void **state)
{
    (void)state;
    const struct regime regimes[] = {
        {64, 64, 300}, {256, 64, 300}, {256, 256, 300}, {256, 256, 3000}, {1024, 0, 500},
    };
    const uint32_t count = sizeof regimes / sizeof regimes[0];
    const struct {
        struct regime step;
        uint32_t choice;
    } cases[] = {
        {{64, 64, 300}, 0},       {{80, 80, 300}, 0},       {{31, 31, 300}, REGIME_NONE},
        {{32, 32, 300}, 0},       {{250, 70, 280}, 1},      {{250, 240, 310}, 2},
        {{256, 255, 2500}, 3},    {{2048, 2048, 100}, 4},   {{2049, 0, 500}, REGIME_NONE},
        {{0, 0, 0}, REGIME_NONE}, {{1, 1, 1}, REGIME_NONE}, {{600, 0, 500}, 4},
    };
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(regime_nearest(regimes, count, &cases[i].step), cases[i].choice);
        assert_int_equal(regime_nearest(regimes, 0, &cases[i].step), REGIME_NONE);
    }
}

/* A regime that a plan was made for finds that plan, or the first of the same regime. */
static void finds_every_regime_itself(void **state)
{
    (void)state;
    struct regime regimes[32];
    for (uint32_t round = 0; round < CHOICES; round++) {
        for (uint32_t i = 0; i < 32; i++) {
            const uint64_t bits = prng_bits(SEED, round, i);
            const uint32_t tokens = 1 + (uint32_t)(bits & 1023);
            regimes[i] = (struct regime){tokens, (uint32_t)(bits >> 10) % (tokens + 1),
                                         (uint32_t)(bits >> 40) & 4095};
        }
        const struct regime *step = &regimes[round % 32];
        const uint32_t found = regime_nearest(regimes, 32, step);
        assert_in_range(found, 0, 31);
        assert_memory_equal(&regimes[found], step, sizeof *step);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goes_out_and_comes_back),
        cmocka_unit_test(refuses_what_is_malformed),
        cmocka_unit_test(refuses_what_is_stale),
        cmocka_unit_test(refuses_what_the_verifier_refuses),
        cmocka_unit_test(loads_from_disk),
        cmocka_unit_test(chooses_the_nearest_regime),
        cmocka_unit_test(finds_every_regime_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
