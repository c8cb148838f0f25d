/*
 * order.h - what sluice-bench was asked to do: its command line, checked.
 */
#ifndef TOOLS_ORDER_H
#define TOOLS_ORDER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/must.h"
#include "tools/dataset.h"
#include "tools/goodput.h"
#include "tools/options.h"

#define ORDER_COMMAND "sluice-bench"

struct order {
    const char *endpoint;
    const char *dataset_spec;
    enum dataset_kind kind; /* Of dataset_spec. */
    const char *json_path;  /* NULL: not asked for. */
    const char *plot_path;
    const char *trace_path;
    struct options_texts goodput_words;
    struct goodput goodput;
    uint32_t requests;
    uint32_t warmup;
    uint32_t concurrency;
    double rate; /* Infinite: all at once. */
    double burstiness;
    double speed; /* Of a trace. */
    bool ignore_eos;
    uint64_t seed;
    uint32_t max_tokens; /* 0: not given. */
    const char *tenant;  /* NULL: not given. */
    int32_t priority;
    uint32_t flags; /* Which options were there. */
};

/* True: go on. False: it is answered, and *status is the exit status. */
bool order_parse(struct order *order, int argc, char **argv, int *status) MUST_CHECK;

#endif /* TOOLS_ORDER_H */
