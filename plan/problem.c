/*
 * problem.c - reads planning problems. Called by sluice-tune and tests; owns nothing. Invariant: on
 * success every range lies in the batch, every operation has a duration for some size, and indices
 * are in range.
 */
#include "plan/problem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const names[PROBLEM_OPERATIONS] = {
    [PROBLEM_KQV] = "KQV",       [PROBLEM_GEMV] = "GEMV", [PROBLEM_PF] = "PF",
    [PROBLEM_AG_ATT] = "AG_ATT", [PROBLEM_O] = "O",       [PROBLEM_AG_O] = "AG_O",
    [PROBLEM_O2] = "O2",         [PROBLEM_AR_O] = "AR_O", [PROBLEM_UG] = "UG",
    [PROBLEM_D] = "D",           [PROBLEM_AR_D] = "AR_D",
};

static const char *const streams[PROBLEM_STREAMS] = {"compute", "memory", "net"};

struct reader {
    const struct json *root;
    struct problem *problem;
    const char *durations; /* Which of the two tables. */
    char *error;
    int code; /* The first failure stays. */
};

static void refuse(struct reader *reader, const char *key, const char *why)
{
    if (!reader->code) {
        (void)snprintf(reader->error, PROBLEM_ERROR_BYTES_MAX, "%s %s", key, why);
        reader->code = -EINVAL;
    }
}

const char *problem_name(enum problem_operation operation)
{
    return names[operation];
}

/* Place of a text among words; count when it is none of them. */
static uint32_t word_of(const struct json *value, const char *const *words, uint32_t count)
{
    const char *bytes;
    size_t length;
    uint32_t i = 0;
    if (!json_text(value, &bytes, &length)) {
        return count;
    }
    while (i < count && (strlen(words[i]) != length || memcmp(words[i], bytes, length) != 0)) {
        i++;
    }
    return i;
}

/* A number of tokens on the grid, in units. */
static uint32_t read_units(struct reader *reader, const struct json *value, const char *key)
{
    uint64_t tokens;
    if (!json_u64(value, &tokens) || tokens % reader->problem->grid != 0 ||
        tokens / reader->problem->grid > PROBLEM_UNITS_MAX) {
        refuse(reader, key, "must be a multiple of grid, at most 64 of them");
        return 0;
    }
    return (uint32_t)(tokens / reader->problem->grid);
}

static void read_range(struct reader *reader, const char *key, enum problem_operation operation)
{
    const struct json *range = json_get(reader->root, key);
    struct problem *problem = reader->problem;
    const uint32_t first = read_units(reader, json_at(range, 0), key);
    const uint32_t end = read_units(reader, json_at(range, 1), key);
    if (first > end || end > problem->units) {
        refuse(reader, key, "is no range of the batch");
    }
    problem->operation[operation].first = first;
    problem->operation[operation].end = end;
}

static void read_batch(struct reader *reader)
{
    struct problem *problem = reader->problem;
    uint64_t grid;
    if (!json_u64(json_get(reader->root, "grid"), &grid) || grid < 1 || grid > 1 << 20) {
        refuse(reader, "grid", "must be a positive integer");
        return;
    }
    problem->grid = (uint32_t)grid;
    problem->units = read_units(reader, json_get(reader->root, "batch"), "batch");
    if (problem->units == 0) {
        refuse(reader, "batch", "is empty");
    }
    for (uint32_t i = 0; i < PROBLEM_OPERATIONS; i++) {
        problem->operation[i].end = problem->units;
    }
    read_range(reader, "decode", PROBLEM_GEMV);
    read_range(reader, "prefill", PROBLEM_PF);
}

static void read_durations(struct reader *reader, enum problem_operation operation)
{
    const struct json *class = json_get(json_get(reader->root, "duration_class"), names[operation]);
    const char *bytes = "";
    size_t count = 0;
    char name[32];
    bool any = false;
    (void)json_text(class, &bytes, &count);
    (void)snprintf(name, sizeof name, "%.*s", (int)(count < sizeof name ? count : 0), bytes);
    const struct json *table = json_get(json_get(reader->root, reader->durations), name);
    for (uint32_t units = 1; units <= reader->problem->units; units++) {
        char size[16];
        double duration_us = 0;
        (void)snprintf(size, sizeof size, "%u", units * reader->problem->grid);
        if (json_f64(json_get(table, size), &duration_us) && duration_us > 0) {
            reader->problem->operation[operation].duration_us[units] = duration_us;
            any = true;
        }
    }
    if (!any) {
        refuse(reader, names[operation], "has no duration for any size of the batch");
    }
}

static void read_operation(struct reader *reader, enum problem_operation operation)
{
    const char *limit =
        operation == PROBLEM_O || operation == PROBLEM_O2 ? "O_plus_O2" : names[operation];
    const uint32_t stream = word_of(json_get(json_get(reader->root, "stream"), names[operation]),
                                    streams, PROBLEM_STREAMS);
    uint64_t pieces;
    if (stream == PROBLEM_STREAMS) {
        refuse(reader, names[operation], "has no stream: compute, memory or net");
        return;
    }
    if (!json_u64(json_get(json_get(reader->root, "max_pieces"), limit), &pieces) || pieces < 1 ||
        pieces > PROBLEM_PIECES_MAX) {
        refuse(reader, limit, "must have max_pieces from 1 to 4");
        return;
    }
    reader->problem->operation[operation].stream = (enum problem_stream)stream;
    reader->problem->operation[operation].pieces_max = (uint32_t)pieces;
    read_durations(reader, operation);
}

static void read_deps(struct reader *reader)
{
    const struct json *list = json_get(reader->root, "deps");
    const size_t count = json_count(list);
    if (count > PROBLEM_DEPS_MAX || count == 0) {
        refuse(reader, "deps", "must list 1 to 64 dependencies");
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const struct json *item = json_at(list, i);
        const uint32_t after = word_of(json_at(item, 0), names, PROBLEM_OPERATIONS);
        const uint32_t before = word_of(json_at(item, 1), names, PROBLEM_OPERATIONS);
        uint64_t offset;
        if (after == PROBLEM_OPERATIONS || before == PROBLEM_OPERATIONS ||
            !json_u64(json_at(item, 2), &offset) || offset > 1) {
            refuse(reader, "deps", "must hold [operation, operation, 0 or 1]");
            return;
        }
        reader->problem->dep[reader->problem->dep_count++] =
            (struct problem_dep){after, before, (uint32_t)offset, false};
    }
}

int problem_read(struct problem *problem, const struct json *root, bool given_sizes,
                 char error[PROBLEM_ERROR_BYTES_MAX])
{
    struct reader reader = {.root = root,
                            .problem = problem,
                            .durations = given_sizes ? "given_us" : "duration_us",
                            .error = error};
    *problem = (struct problem){0};
    if (json_kind(root) != JSON_KIND_OBJECT) {
        refuse(&reader, "the problem", "is not a map");
    }
    if (given_sizes && json_kind(json_get(root, "given_us")) != JSON_KIND_OBJECT) {
        refuse(&reader, "given_us", "is missing: this problem has no given sizes");
    }
    if (!reader.code) {
        read_batch(&reader);
    }
    for (uint32_t i = 0; i < PROBLEM_OPERATIONS && !reader.code; i++) {
        read_operation(&reader, i);
    }
    if (!reader.code) {
        read_deps(&reader);
    }
    return reader.code;
}
