/*
 * cost.c - see cost.h. Called by sluice-tune and tests; pure, owns nothing. Invariant: a bound is
 * never above what one operation after the other takes.
 */
#include "plan/cost.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static int refuse(char *error, const char *key, const char *why)
{
    (void)snprintf(error, COST_ERROR_BYTES_MAX, "%s %s", key, why);
    return -EINVAL;
}

static int read_rate(double *rate, const struct json *root, const char *key, bool optional,
                     char *error)
{
    const struct json *value = json_get(root, key);
    if (!value && optional) {
        *rate = 0;
        return 0;
    }
    if (!json_f64(value, rate) || *rate < 0 || (*rate <= 0 && !optional)) {
        return refuse(error, key, "must be a positive number");
    }
    return 0;
}

static int read_curve(struct cost_curve *curve, const struct json *list, const char *key,
                      char *error)
{
    const size_t count = json_count(list);
    double last_share = 0, last_speed = 0;
    if (list && (json_kind(list) != JSON_KIND_ARRAY || count > COST_POINTS_MAX)) {
        return refuse(error, key, "must be a list of at most 16 points [R, P]");
    }
    for (size_t i = 0; i < count; i++) {
        const struct json *point = json_at(list, i);
        double share, speed;
        if (!json_f64(json_at(point, 0), &share) || !json_f64(json_at(point, 1), &speed) ||
            share <= last_share || share >= 1 || speed < last_speed || speed > 1) {
            return refuse(error, key, "must have points [R, P] that rise within 0 and 1");
        }
        curve->share[i] = last_share = share;
        curve->speed[i] = last_speed = speed;
        curve->count++;
    }
    return 0;
}

int cost_read(struct cost_device *device, const struct json *root, char error[COST_ERROR_BYTES_MAX])
{
    const struct json *curves = json_get(root, "interference");
    const char *bytes;
    size_t count;
    *device = (struct cost_device){0};
    if (!json_text(json_get(root, "name"), &bytes, &count) || count >= COST_NAME_BYTES_MAX ||
        memchr(bytes, 0, count)) {
        return refuse(error, "name", "must be a text of at most 127 bytes");
    }
    memcpy(device->name, bytes, count);
    int code = read_rate(&device->flops, root, "flops", false, error);
    code = code ? code : read_rate(&device->memory_bytes_s, root, "memory_bytes_s", false, error);
    code = code ? code : read_rate(&device->memory_bytes, root, "memory_bytes", false, error);
    code = code ? code : read_rate(&device->network_bytes_s, root, "network_bytes_s", true, error);
    code = code ? code : read_rate(&device->collective_s, root, "collective_us", true, error);
    device->collective_s /= 1e6;
    code = code ? code
                : read_curve(&device->memory_curve, json_get(curves, "memory"), "memory", error);
    return code ? code
                : read_curve(&device->network_curve, json_get(curves, "network"), "network", error);
}

double cost_curve_at(const struct cost_curve *curve, double share)
{
    double low_share = 0, low_speed = 0, high_share = 1, high_speed = 1;
    for (uint32_t i = 0; i < curve->count; i++) {
        if (curve->share[i] > share) {
            high_share = curve->share[i];
            high_speed = curve->speed[i];
            break;
        }
        low_share = curve->share[i];
        low_speed = curve->speed[i];
    }
    const double at = (share - low_share) / (high_share - low_share);
    const double speed = low_speed + at * (high_speed - low_speed);
    return speed < 0 ? 0 : speed > 1 ? 1 : speed;
}

double cost_collective(const struct cost_device *device, double bytes)
{
    return bytes > 0 && device->network_bytes_s > 0
               ? device->collective_s + bytes / device->network_bytes_s
               : 0;
}

void cost_equations(struct cost_bounds *bounds, const struct cost_device *device,
                    const struct graph_shape *shape, double parameters, double tokens)
{
    const double rows_bytes = tokens * shape->hidden * shape->act_bytes * shape->layers;
    const double received = 4 * rows_bytes * (shape->ranks - 1) / shape->ranks;
    *bounds = (struct cost_bounds){
        .compute_s = 2 * tokens * parameters / (shape->ranks * device->flops),
        .memory_s = device->memory_bytes / device->memory_bytes_s,
        .network_s = device->network_bytes_s > 0 ? received / device->network_bytes_s : 0,
    };
}

double cost_optimum(const struct cost_device *device, double parameters)
{
    return device->flops / (2 * parameters);
}

void cost_mix_of(struct cost_mix *mix, double tokens, double input, double output)
{
    const double decode = tokens * output / (input + output);
    *mix = (struct cost_mix){
        .tokens = tokens,
        .decode = decode,
        .decode_context = input + output / 2,
        .prompt_context = (input + 1) / 2,
        .sequences = decode + (tokens - decode) / input,
    };
}

struct graph_work cost_work(const struct graph_operation *operation,
                            const struct graph_shape *shape, const struct cost_mix *mix)
{
    const bool prompt = operation->operation == PLAN_PREFILL_ATTENTION;
    const struct graph_tokens_of of = {
        .tokens = mix->tokens,
        .decode = mix->decode,
        .context = prompt ? mix->prompt_context : mix->decode_context,
    };
    return graph_work(operation, shape, &of);
}

double cost_operation(const struct cost_device *device, const struct graph_operation *operation,
                      const struct graph_shape *shape, const struct cost_mix *mix)
{
    const struct graph_work work = cost_work(operation, shape, mix);
    const double compute_s = work.flops / device->flops;
    const double memory_s = work.bytes / device->memory_bytes_s;
    return (compute_s > memory_s ? compute_s : memory_s) + cost_collective(device, work.net_bytes);
}

/* Of the rank's part of the last product; final norms are nothing beside it. */
static struct cost_bounds head(const struct cost_device *device, const struct graph_shape *shape,
                               const struct cost_mix *mix)
{
    const double numbers = (double)shape->vocab * shape->hidden / shape->ranks;
    return (struct cost_bounds){
        .compute_s = 2 * mix->sequences * numbers / device->flops,
        .memory_s = numbers * shape->weight_bytes / device->memory_bytes_s,
    };
}

void cost_step(struct cost_bounds *bounds, const struct cost_device *device,
               const struct graph *graph, const struct graph_shape *shape,
               const struct cost_mix *mix)
{
    *bounds = head(device, shape, mix);
    for (uint32_t i = 0; i < graph->count; i++) {
        const struct graph_operation *operation = &graph->operation[i];
        if (operation->tokens == GRAPH_O_REDUCED) {
            continue;
        }
        const struct graph_work work = cost_work(operation, shape, mix);
        bounds->compute_s += shape->layers * work.flops / device->flops;
        bounds->memory_s += shape->layers * work.bytes / device->memory_bytes_s;
        bounds->network_s += shape->layers * cost_collective(device, work.net_bytes);
    }
}

double cost_sequential(const struct cost_device *device, const struct graph *graph,
                       const struct graph_shape *shape, const struct cost_mix *mix)
{
    const struct cost_bounds last = head(device, shape, mix);
    double sum_s = cost_longest(&last);
    for (uint32_t i = 0; i < graph->count; i++) {
        if (graph->operation[i].tokens != GRAPH_O_REDUCED) {
            sum_s += shape->layers * cost_operation(device, &graph->operation[i], shape, mix);
        }
    }
    return sum_s;
}

double cost_longest(const struct cost_bounds *bounds)
{
    const double local_s =
        bounds->compute_s > bounds->memory_s ? bounds->compute_s : bounds->memory_s;
    return local_s > bounds->network_s ? local_s : bounds->network_s;
}

double cost_token_bytes(const struct graph_shape *shape)
{
    return 2.0 * shape->layers * shape->kv_heads * shape->head_dim * shape->kv_bytes / shape->ranks;
}
