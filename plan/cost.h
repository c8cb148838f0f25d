/*
 * cost.h - how fast a device could be at best: the equations of NanoFlow's analysis (Zhu et al.
 * 2024, section 3) for a model and a dense batch, and the same bounds summed over the operations of
 * plan/graph.h for a mix of prompts and answers. Searches and `sluice-tune report` call it. Pure.
 *
 * Peaks are what a device was measured or said to reach; the device's maker says which. Times are
 * in seconds here: they come from quotients, not from a clock.
 */
#ifndef PLAN_COST_H
#define PLAN_COST_H

#include <stdint.h>

#include "base/json.h"
#include "base/must.h"
#include "plan/graph.h"

enum { COST_POINTS_MAX = 16, COST_NAME_BYTES_MAX = 128, COST_ERROR_BYTES_MAX = 160 };

/* Interference, P(R): the part of its own speed that an operation keeps on a share R of the device
 * while a product has the rest. Through (0, 0) and (1, 1), linear between points. */
struct cost_curve {
    uint32_t count;
    double share[COST_POINTS_MAX]; /* Ascending, within (0, 1). */
    double speed[COST_POINTS_MAX]; /* Never falling, within [0, 1]. */
};

struct cost_device { /* One of them; ranks are as many. */
    char name[COST_NAME_BYTES_MAX];
    double flops; /* A second, as the next two. */
    double memory_bytes_s;
    double network_bytes_s; /* 0: it has no one to talk to. */
    double memory_bytes;    /* Weights and pages together. */
    double collective_s;    /* Before the first byte comes: alpha. */
    struct cost_curve memory_curve;
    struct cost_curve network_curve;
};

struct cost_bounds { /* Of one step. */
    double compute_s;
    double memory_s;
    double network_s;
};

/* {"name": "...", "flops": 312e12, "memory_bytes_s": 2e12, "memory_bytes": 80e9} with optional
 * "network_bytes_s", "collective_us", and curves "memory" and "network" in "interference" as
 * [[R, P], ...]. -EINVAL with one line in error. */
int cost_read(struct cost_device *device, const struct json *root,
              char error[COST_ERROR_BYTES_MAX]) MUST_CHECK;

double cost_curve_at(const struct cost_curve *curve, double share);

/* alpha + beta: a collective after which a rank has received so many bytes. */
double cost_collective(const struct cost_device *device, double bytes);

/* Equations 1 to 3: all memory is read once, 2 FLOPs a parameter and token, and four times the
 * activations of each layer go over the links. */
void cost_equations(struct cost_bounds *bounds, const struct cost_device *device,
                    const struct graph_shape *shape, double parameters, double tokens);

/* Equation 5: tokens a second that one device reaches if products were all there is. */
double cost_optimum(const struct cost_device *device, double parameters);

struct cost_mix {          /* A step of a steady state. */
    double tokens;         /* The dense batch. */
    double decode;         /* Of these. */
    double decode_context; /* Mean tokens that each attends to. */
    double prompt_context;
    double sequences; /* Rows that want logits. */
};

/* As many prompts of so many tokens as keep pace with answers of so many. */
void cost_mix_of(struct cost_mix *mix, double tokens, double input, double output);

/* What all layers and the head ask of each resource, were it never idle: FLOPs, weights and pages
 * (activations are taken to stay in a cache), and collectives. Every token takes the gathered form
 * of O. No step is shorter than the longest of the three. */
void cost_step(struct cost_bounds *bounds, const struct cost_device *device,
               const struct graph *graph, const struct graph_shape *shape,
               const struct cost_mix *mix);

/* The same, one operation after the other, each as long as its slowest resource. */
double cost_sequential(const struct cost_device *device, const struct graph *graph,
                       const struct graph_shape *shape, const struct cost_mix *mix);

/* What an operation of one layer does in such a step, on one rank. */
struct graph_work cost_work(const struct graph_operation *operation,
                            const struct graph_shape *shape, const struct cost_mix *mix);

/* The time of an operation alone by the roofline: the slower of FLOPs and of weights and pages,
 * then the links. */
double cost_operation(const struct cost_device *device, const struct graph_operation *operation,
                      const struct graph_shape *shape, const struct cost_mix *mix);

double cost_longest(const struct cost_bounds *bounds);

/* Of one token's keys and values, on one rank. */
double cost_token_bytes(const struct graph_shape *shape);

#endif /* PLAN_COST_H */
