/*
 * json_fuzz.c - texts of any bytes: what parses can be written and parsed again.
 * The corpus runs as a normal test in every build.
 */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    struct json_error error = {{0}};
    struct json *root = NULL;
    if (json_parse((const char *)bytes, count, &root, &error)) {
        must(error.text[0]);
        return 0;
    }
    char *line = json_dump(root);
    struct json *again = NULL;
    must(json_parse(line, strlen(line), &again, &error) == 0);
    must(json_kind(again) == json_kind(root) && json_count(again) == json_count(root));
    free(line);
    json_free(again);
    json_free(root);
    return 0;
}
