/*
 * planfile.c - see planfile.h. Called by the core at start and by sluice-tune; owns nothing.
 * Invariant: what planfile_check() accepts may run: plan/verify.h proved it, on numbers that fit.
 */
#include "plan/planfile.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "plan/verify.h"

static const char *const kinds[] = {[PLAN_AFTER_END] = "end", [PLAN_AFTER_START] = "start"};

static struct json *text(const char *bytes)
{
    return json_new_string(bytes, strlen(bytes));
}

static struct json *regime_json(const struct regime *regime)
{
    struct json *object = json_new_object();
    json_add(object, "tokens", json_new_u64(regime->tokens));
    json_add(object, "decode", json_new_u64(regime->decode));
    json_add(object, "context", json_new_u64(regime->context));
    return object;
}

static struct json *nano_json(const struct plan_nano *nano)
{
    struct json *object = json_new_object();
    json_add(object, "op", text(plan_operation_name(nano->operation)));
    json_add(object, "first", json_new_u64(nano->first));
    json_add(object, "end", json_new_u64(nano->end));
    json_add(object, "lane", json_new_u64(nano->lane));
    json_add(object, "lag", json_new_u64(nano->lag));
    json_add(object, "units", json_new_u64(nano->units));
    return object;
}

static struct json *edge_json(const struct plan_edge *edge)
{
    struct json *object = json_new_object();
    json_add(object, "after", json_new_u64(edge->after));
    json_add(object, "before", json_new_u64(edge->before));
    json_add(object, "offset", json_new_u64(edge->offset));
    json_add(object, "kind", text(kinds[edge->kind]));
    return object;
}

struct json *planfile_json(const struct planfile *file)
{
    struct json *root = json_new_object(), *nano = json_new_array(), *edges = json_new_array();
    for (uint32_t i = 0; i < file->plan.nano_count; i++) {
        json_append(nano, nano_json(&file->plan.nano[i]));
    }
    for (uint32_t i = 0; i < file->plan.edge_count; i++) {
        json_append(edges, edge_json(&file->plan.edge[i]));
    }
    json_add(root, "plan", json_new_u64(PLANFILE_VERSION));
    json_add(root, "key", plankey_json(&file->key));
    json_add(root, "regime", regime_json(&file->regime));
    json_add(root, "nano", nano);
    json_add(root, "edges", edges);
    json_add(root, "predicted_us", json_new_f64(file->predicted_us));
    json_add(root, "measured_us", json_new_f64(file->measured_us));
    json_add(root, "sequential_us", json_new_f64(file->sequential_us));
    return root;
}

struct reader {
    char *error;
    char place[32]; /* "nano 3: "; empty at the top. */
    int code;       /* The first failure stays. */
};

static void refuse(struct reader *reader, const char *key, const char *why)
{
    if (!reader->code) {
        (void)snprintf(reader->error, PLANFILE_ERROR_BYTES_MAX, "%s%s %s", reader->place, key, why);
        reader->code = -EINVAL;
    }
}

static void enter(struct reader *reader, const char *list, size_t index)
{
    (void)snprintf(reader->place, sizeof reader->place, "%s %zu: ", list, index);
}

static uint32_t read_u32(struct reader *reader, const struct json *object, const char *key,
                         uint32_t max)
{
    uint64_t value;
    if (!json_u64(json_get(object, key), &value) || value > max) {
        char why[64];
        (void)snprintf(why, sizeof why, "must be an integer from 0 to %u", max);
        refuse(reader, key, why);
        return 0;
    }
    return (uint32_t)value;
}

static double read_us(struct reader *reader, const struct json *object, const char *key)
{
    double value;
    if (!json_f64(json_get(object, key), &value) || value < 0) {
        refuse(reader, key, "must be a number of microseconds");
        return 0;
    }
    return value;
}

static uint16_t read_word(struct reader *reader, const struct json *object, const char *key,
                          const char *(*word)(uint32_t index), uint32_t words)
{
    const char *bytes = "";
    size_t count = 0;
    (void)json_text(json_get(object, key), &bytes, &count);
    for (uint32_t i = 0; i < words; i++) {
        if (strlen(word(i)) == count && memcmp(word(i), bytes, count) == 0) {
            return (uint16_t)i;
        }
    }
    refuse(reader, key, "is no word that belongs there");
    return 0;
}

static const char *kind_name(uint32_t kind)
{
    return kinds[kind];
}

static void read_nano(struct reader *reader, const struct json *list, struct plan *plan)
{
    const size_t count = json_count(list);
    if (json_kind(list) != JSON_KIND_ARRAY || count == 0 || count > PLAN_NANO_MAX) {
        refuse(reader, "nano", "must be a list of 1 to 64 nano-operations");
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const struct json *item = json_at(list, i);
        enter(reader, "nano", i);
        plan->nano[plan->nano_count++] = (struct plan_nano){
            .operation = read_word(reader, item, "op", plan_operation_name, PLAN_OPERATION_COUNT),
            .lane = (uint16_t)read_u32(reader, item, "lane", PLAN_LANE_MAX - 1),
            .units = (uint16_t)read_u32(reader, item, "units", UINT16_MAX),
            .lag = (uint16_t)read_u32(reader, item, "lag", PLAN_LAG_MAX),
            .first = read_u32(reader, item, "first", PLAN_WHOLE),
            .end = read_u32(reader, item, "end", PLAN_WHOLE),
        };
    }
}

static void read_edges(struct reader *reader, const struct json *list, struct plan *plan)
{
    const size_t count = json_count(list);
    if (json_kind(list) != JSON_KIND_ARRAY || count > PLAN_EDGE_MAX) {
        refuse(reader, "edges", "must be a list of at most 256 edges");
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const struct json *item = json_at(list, i);
        enter(reader, "edge", i);
        plan->edge[plan->edge_count++] = (struct plan_edge){
            .after = (uint16_t)read_u32(reader, item, "after", PLAN_NANO_MAX - 1),
            .before = (uint16_t)read_u32(reader, item, "before", PLAN_NANO_MAX - 1),
            .offset = (uint16_t)read_u32(reader, item, "offset", PLAN_LAG_MAX),
            .kind = read_word(reader, item, "kind", kind_name, sizeof kinds / sizeof kinds[0]),
        };
    }
}

static void read_key(struct reader *reader, const struct json *object, struct plankey *key)
{
    char why[PLANKEY_ERROR_BYTES_MAX];
    if (plankey_read(key, object, why)) {
        refuse(reader, "key:", why);
    }
}

static void read_regime(struct reader *reader, const struct json *object, struct regime *regime)
{
    regime->tokens = read_u32(reader, object, "tokens", REGIME_TOKENS_MAX);
    regime->decode = read_u32(reader, object, "decode", REGIME_TOKENS_MAX);
    regime->context = read_u32(reader, object, "context", REGIME_CONTEXT_MAX);
    if (regime->tokens == 0 || regime->decode > regime->tokens) {
        refuse(reader, "regime", "must have tokens, and no more of decode than there are");
    }
}

int planfile_parse(struct planfile *file, const struct json *root,
                   char error[PLANFILE_ERROR_BYTES_MAX])
{
    struct reader reader = {.error = error};
    *file = (struct planfile){0};
    uint64_t version;
    if (!json_u64(json_get(root, "plan"), &version) || version != PLANFILE_VERSION) {
        refuse(&reader, "plan", "must be 1: this is no plan file of a kind known here");
    }
    read_key(&reader, json_get(root, "key"), &file->key);
    read_regime(&reader, json_get(root, "regime"), &file->regime);
    file->predicted_us = read_us(&reader, root, "predicted_us");
    file->measured_us = read_us(&reader, root, "measured_us");
    file->sequential_us = read_us(&reader, root, "sequential_us");
    if (!reader.code) {
        read_nano(&reader, json_get(root, "nano"), &file->plan);
    }
    if (!reader.code) {
        reader.place[0] = 0;
        read_edges(&reader, json_get(root, "edges"), &file->plan);
    }
    file->plan.hash = plan_hash(&file->plan);
    return reader.code;
}

int planfile_check(const struct planfile *file, const struct plankey *key,
                   const struct graph *graph, char error[PLANFILE_ERROR_BYTES_MAX])
{
    char reason[VERIFY_ERROR_BYTES_MAX];
    const int code = plankey_check(&file->key, key, error);
    if (!code && verify_plan(&file->plan, graph, key->units, reason)) {
        (void)snprintf(error, PLANFILE_ERROR_BYTES_MAX, "the plan is wrong: %s", reason);
        return -EINVAL;
    }
    return code;
}

int planfile_load(struct planfile *file, const char *path, const struct plankey *key,
                  const struct graph *graph, char error[PLANFILE_ERROR_BYTES_MAX])
{
    struct json_error reason;
    struct json *root = NULL;
    int code = json_parse_file(path, &root, &reason);
    if (code) {
        (void)snprintf(error, PLANFILE_ERROR_BYTES_MAX, "%s", reason.text);
        return code;
    }
    code = planfile_parse(file, root, error);
    json_free(root);
    return code ? code : planfile_check(file, key, graph, error);
}
