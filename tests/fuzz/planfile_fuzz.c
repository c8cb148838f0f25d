/*
 * planfile_fuzz.c - plan files of any bytes: what parses can be judged for every family, and
 * written and parsed again to the same. The corpus runs as a normal test in every build.
 */
#include <stdlib.h>
#include <string.h>

#include "plan/planfile.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

static void judge(const struct planfile *file)
{
    for (uint32_t kind = 0; kind < 6; kind++) {
        struct graph graph;
        char error[PLANFILE_ERROR_BYTES_MAX] = "";
        graph_build(&graph, kind % 2, kind < 2 ? 1 : 4, kind < 4 ? GRAPH_INSIDE : GRAPH_SCATTER);
        must(planfile_check(file, &file->key, &graph, error) == 0 || error[0]);
    }
}

/* Takes over the second. */
static void expect_same(const struct json *one, struct json *other)
{
    char *line = json_dump(one), *other_line = json_dump(other);
    must(strcmp(line, other_line) == 0);
    free(line);
    free(other_line);
    json_free(other);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    struct json_error reason;
    char error[PLANFILE_ERROR_BYTES_MAX] = "";
    struct json *root = NULL;
    struct planfile *file = malloc(2 * sizeof *file);
    must(file);
    if (json_parse((const char *)bytes, count, &root, &reason) == 0) {
        if (planfile_parse(file, root, error) == 0) {
            judge(file);
            struct json *again = planfile_json(file);
            must(planfile_parse(file + 1, again, error) == 0);
            must(file[0].plan.hash == file[1].plan.hash);
            expect_same(again, planfile_json(file + 1));
            json_free(again);
        } else {
            must(error[0]);
        }
        json_free(root);
    }
    free(file);
    return 0;
}
