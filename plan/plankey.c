/*
 * plankey.c - see plankey.h. Called at start by the core and by sluice-tune; pure, owns nothing.
 * Invariant: one table names the texts, so that none is written and not compared.
 */
#include "plan/plankey.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

struct field {
    const char *name;
    const char *words; /* In a refusal. */
    size_t offset;
    size_t bytes;
};

#define PLACE(name) offsetof(struct plankey, name), sizeof((struct plankey *)NULL)->name

/* In the order in which files have them and refusals look at them. */
static const struct field texts[] = {
    {"model", "the model", PLACE(model)},       {"dtype", "dtype", PLACE(dtype)},
    {"weights", "weights", PLACE(weights)},     {"kv", "kv", PLACE(kv)},
    {"device", "the device", PLACE(device)},    {"library", "the library", PLACE(library)},
    {"kernels", "the kernels", PLACE(kernels)},
};

static const struct field counts[] = {
    {"tp", "tp", PLACE(tp)},
    {"units", "units", PLACE(units)},
};

#undef PLACE

enum { TEXTS = sizeof texts / sizeof texts[0], COUNTS = sizeof counts / sizeof counts[0] };

static const char *text_of(const struct plankey *key, const struct field *field)
{
    return (const char *)key + field->offset;
}

static uint32_t count_of(const struct plankey *key, const struct field *field)
{
    uint32_t count;
    memcpy(&count, (const char *)key + field->offset, sizeof count);
    return count;
}

struct json *plankey_json(const struct plankey *key)
{
    struct json *object = json_new_object();
    for (uint32_t i = 0; i < TEXTS; i++) {
        const char *text = text_of(key, &texts[i]);
        json_add(object, texts[i].name, json_new_string(text, strlen(text)));
    }
    for (uint32_t i = 0; i < COUNTS; i++) {
        json_add(object, counts[i].name, json_new_u64(count_of(key, &counts[i])));
    }
    return object;
}

static int read_text(struct plankey *key, const struct field *field, const struct json *object,
                     char *error)
{
    const char *bytes;
    size_t count;
    if (!json_text(json_get(object, field->name), &bytes, &count) || count >= field->bytes ||
        memchr(bytes, 0, count)) {
        (void)snprintf(error, PLANKEY_ERROR_BYTES_MAX, "%s must be a text of at most %zu bytes",
                       field->name, field->bytes - 1);
        return -EINVAL;
    }
    memcpy((char *)key + field->offset, bytes, count);
    return 0;
}

static int read_count(struct plankey *key, const struct field *field, const struct json *object,
                      char *error)
{
    uint64_t value;
    if (!json_u64(json_get(object, field->name), &value) || value > UINT16_MAX) {
        (void)snprintf(error, PLANKEY_ERROR_BYTES_MAX, "%s must be an integer from 0 to %u",
                       field->name, UINT16_MAX);
        return -EINVAL;
    }
    const uint32_t count = (uint32_t)value;
    memcpy((char *)key + field->offset, &count, sizeof count);
    return 0;
}

int plankey_read(struct plankey *key, const struct json *object,
                 char error[PLANKEY_ERROR_BYTES_MAX])
{
    int code = 0;
    memset(key, 0, sizeof *key);
    for (uint32_t i = 0; i < TEXTS && !code; i++) {
        code = read_text(key, &texts[i], object, error);
    }
    for (uint32_t i = 0; i < COUNTS && !code; i++) {
        code = read_count(key, &counts[i], object, error);
    }
    return code;
}

int plankey_check(const struct plankey *theirs, const struct plankey *ours,
                  char error[PLANKEY_ERROR_BYTES_MAX])
{
    for (uint32_t i = 0; i < TEXTS; i++) {
        const char *had = text_of(theirs, &texts[i]), *here = text_of(ours, &texts[i]);
        if (strcmp(had, here) != 0) {
            (void)snprintf(error, PLANKEY_ERROR_BYTES_MAX,
                           "it was made for %s \"%s\", this is \"%s\"", texts[i].words, had, here);
            return -ESTALE;
        }
    }
    for (uint32_t i = 0; i < COUNTS; i++) {
        const uint32_t had = count_of(theirs, &counts[i]), here = count_of(ours, &counts[i]);
        if (had != here) {
            (void)snprintf(error, PLANKEY_ERROR_BYTES_MAX, "it was made for %s %u, this is %u",
                           counts[i].words, had, here);
            return -ESTALE;
        }
    }
    return 0;
}

bool plankey_sound(const struct plankey *key)
{
    for (uint32_t i = 0; i < TEXTS; i++) {
        if (!memchr(text_of(key, &texts[i]), 0, texts[i].bytes)) {
            return false;
        }
    }
    return true;
}
