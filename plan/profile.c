/*
 * profile.c - reads measured profiles and looks durations up. Called by searches, on one thread;
 * owns nothing. Invariant: in a profile that was read, every operation of the model has a duration
 * above 0 everywhere, and every keep is above 0.
 */
#include "plan/profile.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const class_names[PROFILE_CLASSES] = {"compute", "memory"};

struct reader {
    const struct json *root;
    struct profile *profile;
    char *error;
    int code; /* The first failure stays. */
};

static void refuse(struct reader *reader, const char *key, const char *why)
{
    if (!reader->code) {
        (void)snprintf(reader->error, PROFILE_ERROR_BYTES_MAX, "%s %s", key, why);
        reader->code = -EINVAL;
    }
}

enum profile_class profile_class(enum plan_operation operation)
{
    return operation == PLAN_DECODE_ATTENTION || operation == PLAN_PREFILL_ATTENTION
               ? PROFILE_MEMORY
               : PROFILE_COMPUTE;
}

/* Of a worker alone: ranks together are not measured. */
static void read_key(struct reader *reader)
{
    struct plankey *key = &reader->profile->key;
    char why[PLANKEY_ERROR_BYTES_MAX];
    if (plankey_read(key, json_get(reader->root, "key"), why)) {
        refuse(reader, "key:", why);
    } else if (key->tp != 1 || key->units < 1 || key->units > PROFILE_UNITS_MAX) {
        refuse(reader, "key:", "tp must be 1 and units from 1 to 1024");
    }
}

static uint32_t read_u32(struct reader *reader, const char *key, uint32_t max)
{
    uint64_t value;
    if (!json_u64(json_get(reader->root, key), &value) || value < 1 || value > max) {
        refuse(reader, key, "must be a positive integer of a sane size");
        return 1;
    }
    return (uint32_t)value;
}

/* Ascending integers above 0. */
static uint32_t read_knots(struct reader *reader, const char *key, uint32_t *knot,
                           uint32_t count_max)
{
    const struct json *list = json_get(reader->root, key);
    const size_t count = json_count(list);
    if (count < 1 || count > count_max) {
        refuse(reader, key, "has none or too many entries");
        return 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint64_t value;
        if (!json_u64(json_at(list, i), &value) || value < 1 || value > 1 << 24 ||
            (i > 0 && value <= knot[i - 1])) {
            refuse(reader, key, "must be ascending integers above 0");
            return 0;
        }
        knot[i] = (uint32_t)value;
    }
    return (uint32_t)count;
}

static bool read_times(const struct json *list, double *us, uint32_t count)
{
    bool good = json_count(list) == count;
    for (uint32_t i = 0; good && i < count; i++) {
        good = json_f64(json_at(list, i), &us[i]) && us[i] > 0 && isfinite(us[i]);
    }
    return good;
}

static void read_operation(struct reader *reader, enum plan_operation operation)
{
    struct profile *profile = reader->profile;
    const struct json *shares =
        json_get(json_get(reader->root, "duration_us"), plan_operation_name(operation));
    bool good = json_count(shares) == profile->share_count;
    for (uint32_t s = 0; good && s < profile->share_count; s++) {
        const struct json *contexts = json_at(shares, s);
        good = json_count(contexts) == profile->context_count;
        for (uint32_t c = 0; good && c < profile->context_count; c++) {
            good = read_times(json_at(contexts, c), profile->duration_us[operation][s][c],
                              profile->token_count);
        }
    }
    if (!good) {
        refuse(reader, plan_operation_name(operation),
               "must have a duration for each share, context and size");
    }
}

static void read_keep(struct reader *reader)
{
    struct profile *profile = reader->profile;
    const struct json *keep = json_get(reader->root, "keep");
    for (uint32_t a = 0; a < PROFILE_CLASSES; a++) {
        for (uint32_t b = 0; b < PROFILE_CLASSES; b++) {
            const struct json *list = json_get(json_get(keep, class_names[a]), class_names[b]);
            if (!read_times(list, profile->keep[a][b], profile->share_count)) {
                refuse(reader, "keep", "must have a part above 0 for two classes and each share");
            }
        }
    }
}

int profile_read(struct profile *profile, const struct json *root,
                 char error[PROFILE_ERROR_BYTES_MAX])
{
    struct reader reader = {.root = root, .profile = profile, .error = error};
    uint64_t version;
    struct plan *whole = &(struct plan){0};
    memset(profile, 0, sizeof *profile);
    if (!json_u64(json_get(root, "profile"), &version) || version != 1) {
        refuse(&reader, "profile", "must be 1: this is no profile, or one of another version");
        return reader.code;
    }
    read_key(&reader);
    profile->layers = read_u32(&reader, "layers", 1024);
    profile->share_count = read_knots(&reader, "shares", profile->share, PROFILE_SHARES_MAX);
    profile->context_count =
        read_knots(&reader, "contexts", profile->context, PROFILE_CONTEXTS_MAX);
    profile->token_count = read_knots(&reader, "tokens", profile->token, PROFILE_TOKENS_MAX);
    if (!reader.code && profile->share[profile->share_count - 1] != profile->key.units) {
        refuse(&reader, "shares", "must end with all units");
    }
    profile->experts =
        json_get(json_get(root, "duration_us"), plan_operation_name(PLAN_ROUTE)) != NULL;
    plan_sequential(whole, profile->experts);
    for (uint32_t i = 0; i < whole->nano_count && !reader.code; i++) {
        read_operation(&reader, whole->nano[i].operation);
    }
    read_keep(&reader);
    return reader.code;
}

static struct json *knots_json(const uint32_t *knot, uint32_t count)
{
    struct json *list = json_new_array();
    for (uint32_t i = 0; i < count; i++) {
        json_append(list, json_new_u64(knot[i]));
    }
    return list;
}

static struct json *numbers_json(const double *number, uint32_t count)
{
    struct json *list = json_new_array();
    for (uint32_t i = 0; i < count; i++) {
        json_append(list, json_new_f64(number[i]));
    }
    return list;
}

static struct json *operation_json(const struct profile *profile, uint32_t operation)
{
    struct json *shares = json_new_array();
    for (uint32_t s = 0; s < profile->share_count; s++) {
        struct json *list = json_new_array();
        for (uint32_t c = 0; c < profile->context_count; c++) {
            json_append(list,
                        numbers_json(profile->duration_us[operation][s][c], profile->token_count));
        }
        json_append(shares, list);
    }
    return shares;
}

struct json *profile_json(const struct profile *profile)
{
    struct json *root = json_new_object(), *durations = json_new_object();
    struct json *keep = json_new_object();
    struct plan *whole = &(struct plan){0};
    json_add(root, "profile", json_new_u64(1));
    json_add(root, "key", plankey_json(&profile->key));
    json_add(root, "layers", json_new_u64(profile->layers));
    json_add(root, "shares", knots_json(profile->share, profile->share_count));
    json_add(root, "contexts", knots_json(profile->context, profile->context_count));
    json_add(root, "tokens", knots_json(profile->token, profile->token_count));
    plan_sequential(whole, profile->experts);
    for (uint32_t i = 0; i < whole->nano_count; i++) {
        const uint16_t operation = whole->nano[i].operation;
        json_add(durations, plan_operation_name(operation), operation_json(profile, operation));
    }
    for (uint32_t a = 0; a < PROFILE_CLASSES; a++) {
        struct json *row = json_new_object();
        for (uint32_t b = 0; b < PROFILE_CLASSES; b++) {
            json_add(row, class_names[b], numbers_json(profile->keep[a][b], profile->share_count));
        }
        json_add(keep, class_names[a], row);
    }
    json_add(root, "duration_us", durations);
    json_add(root, "keep", keep);
    return root;
}

uint32_t profile_share(const struct profile *profile, uint32_t units)
{
    uint32_t share = profile->share_count - 1;
    while (units > 0 && share > 0 && profile->share[share] > units) {
        share--;
    }
    return share;
}

/* Knots around a value and how far it is from the first to the second; below the first it is 0,
 * beyond the last above 1. */
static uint32_t find_knot(const uint32_t *knot, uint32_t count, uint32_t value, double *part)
{
    uint32_t at = 0;
    *part = 0;
    if (count < 2 || value <= knot[0]) {
        return 0;
    }
    while (at + 2 < count && value > knot[at + 1]) {
        at++;
    }
    *part = ((double)value - knot[at]) / ((double)knot[at + 1] - knot[at]);
    return at;
}

static double between(double left, double right, double part)
{
    return part > 0 ? fmax(left + part * (right - left), 0) : left;
}

double profile_duration(const struct profile *profile, enum plan_operation operation,
                        uint32_t share, uint32_t context, uint32_t tokens)
{
    if (tokens == 0) {
        return 0;
    }
    double context_part, token_part;
    const uint32_t c = find_knot(profile->context, profile->context_count, context, &context_part);
    const uint32_t t = find_knot(profile->token, profile->token_count, tokens, &token_part);
    const double *low = profile->duration_us[operation][share][c];
    const double *high = profile->duration_us[operation][share][context_part > 0 ? c + 1 : c];
    const uint32_t next = token_part > 0 ? t + 1 : t;
    return between(between(low[t], low[next], token_part), between(high[t], high[next], token_part),
                   context_part);
}
