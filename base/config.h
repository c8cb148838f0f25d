/*
 * config.h - the agent's settings: one plain struct, filled from a YAML file, --set overrides and
 * one key table that also gives bounds, defaults and the documentation.
 *
 * The supervisor reads it once and passes the struct itself, by value in a sealed memfd, to every
 * child: no pointers, and no second reading of a file that may have changed.
 */
#ifndef BASE_CONFIG_H
#define BASE_CONFIG_H

#include <stdint.h>
#include <stdio.h>

#include "base/limits.h"
#include "base/must.h"

enum config_dtype { CONFIG_DTYPE_AUTO, CONFIG_DTYPE_BF16, CONFIG_DTYPE_F32 };
enum config_weights { CONFIG_WEIGHTS_AUTO, CONFIG_WEIGHTS_INT8, CONFIG_WEIGHTS_FP8 };
enum config_kv_dtype { CONFIG_KV_DTYPE_AUTO, CONFIG_KV_DTYPE_E4M3 };
enum config_device { CONFIG_DEVICE_AUTO, CONFIG_DEVICE_CPU, CONFIG_DEVICE_CUDA };
enum config_plan_mode {
    CONFIG_PLAN_AUTO,
    CONFIG_PLAN_SEQUENTIAL,
    CONFIG_PLAN_NANO,
    CONFIG_PLAN_OVERLAP
};

struct config {
    struct {
        char path[LIMIT_PATH_BYTES_MAX]; /* Required. */
        char name[LIMIT_NAME_BYTES_MAX]; /* Empty: the last part of the path. */
        uint32_t dtype;                  /* enum config_dtype */
        uint32_t weights;                /* enum config_weights */
        uint32_t context_tokens_max;     /* 0: the model's own. */
        uint32_t random_weights;         /* A seed; 0: the model's own. */
    } model;
    struct {
        char template[LIMIT_NAME_BYTES_MAX]; /* chatml, none */
    } chat;
    struct {
        char bind[LIMIT_BINDS_MAX][LIMIT_PATH_BYTES_MAX];
        uint32_t bind_count;
        uint32_t message_bytes_max; /* ZMQ_MAXMSGSIZE. */
        uint32_t send_messages_max; /* ZMQ_SNDHWM per peer. */
        uint32_t recv_messages_max; /* ZMQ_RCVHWM per peer. */
    } zmq;
    struct {
        char bind[LIMIT_PATH_BYTES_MAX]; /* Empty: the first ipc bind + ".admin". */
    } admin;
    struct {
        uint32_t count;
        uint32_t tp;
        uint32_t threads; /* 0: all cores of the affinity mask / count. */
        uint32_t device;  /* enum config_device */
        uint32_t start_timeout_ms;
        uint32_t step_timeout_ms; /* A step past this is a hang: the worker is killed. */
    } workers;
    struct {
        uint32_t tokens_max;       /* Dense batch of one step. */
        uint32_t slots_max;        /* Requests running at one time. */
        uint32_t forecast_percent; /* Quantile of answers' lengths; 0: known tokens alone. */
        uint32_t steps_in_flight;  /* Of a group: formed and not answered. */
    } batch;
    struct {
        uint32_t page_tokens; /* 16, 32 or 64. */
        uint32_t device_pages;
        uint32_t dtype; /* enum config_kv_dtype */
    } kv;
    struct {
        uint32_t mode;                  /* enum config_plan_mode */
        char dir[LIMIT_PATH_BYTES_MAX]; /* Empty: no plan files. */
    } plan;
    struct {
        uint32_t requests_max;   /* Waiting; above it: overloaded. */
        uint32_t tokens_max;     /* Prompt tokens waiting; above it: overloaded. */
        uint32_t retry_after_ms; /* Told to a refused client. */
        uint32_t timeout_ms;     /* Default and upper bound of a request's life. */
    } queue;
    struct {
        uint32_t ttft_ms; /* Targets of a step's size; 0: none. */
        uint32_t tpot_ms;
    } slo;
    struct {
        uint32_t credit_tokens;    /* Window of a client that never sends CREDIT. */
        uint32_t stall_timeout_ms; /* A reader that takes nothing for so long is cut. */
    } stream;
};

enum { CONFIG_ERROR_BYTES_MAX = 512 };

/*
 * Fills *config from defaults, then the file (NULL: none), then each "key=value" of overrides.
 * -EINVAL with one line in error that names file, line and key (or the override); -errno where the
 * file cannot be read. *config is unspecified on failure.
 */
int config_load(struct config *config, const char *path, const char *const *overrides,
                uint32_t override_count, char error[CONFIG_ERROR_BYTES_MAX]) MUST_CHECK;

/* The key table as a Markdown table: key, type, range, default, what it means. */
void config_print_keys(FILE *out);

#endif /* BASE_CONFIG_H */
