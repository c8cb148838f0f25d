/*
 * planfile.h - a plan on disk: for which model and device, for which regime, with what time it was
 * predicted and measured to take. sluice-tune writes one file a regime; the core reads those of
 * plan.dir at start (and on a reload), and serves with the sequential plan where one is refused.
 *
 *   {"plan": 1,
 *    "key": {...},
 *    "regime": {"tokens": 256, "decode": 192, "context": 400},
 *    "nano": [{"op": "kqv", "first": 0, "end": 32768, "lane": 0, "lag": 0, "units": 2}, ...],
 *    "edges": [{"after": 1, "before": 0, "offset": 0, "kind": "end"}, ...],
 *    "predicted_us": 5100.5, "measured_us": 5220, "sequential_us": 5400}
 */
#ifndef PLAN_PLANFILE_H
#define PLAN_PLANFILE_H

#include <stdint.h>

#include "base/json.h"
#include "base/must.h"
#include "plan/graph.h"
#include "plan/plan.h"
#include "plan/plankey.h"
#include "plan/regime.h"

enum {
    PLANFILE_VERSION = 1,
    PLANFILE_ERROR_BYTES_MAX = 400,
};

struct planfile {
    struct plankey key;
    struct regime regime;
    struct plan plan;     /* Its id is the reader's to give, with the hash after it. */
    double predicted_us;  /* Of one step; 0: not predicted, not measured. */
    double measured_us;   /* On the device of the key. */
    double sequential_us; /* The sequential plan's, measured in the same run. */
};

struct json *planfile_json(const struct planfile *file);

/* Form and ranges of numbers alone; every number fits its field. -EINVAL with one line in error,
 * and *file is garbage. */
int planfile_parse(struct planfile *file, const struct json *root,
                   char error[PLANFILE_ERROR_BYTES_MAX]) MUST_CHECK;

/* Whether it may serve here: -ESTALE where the key differs, with the first difference in words;
 * -EINVAL where plan/verify.h refuses the plan, with its reason. */
int planfile_check(const struct planfile *file, const struct plankey *key,
                   const struct graph *graph, char error[PLANFILE_ERROR_BYTES_MAX]) MUST_CHECK;

/* Reads, parses and checks. As above, or -errno of the file or -EFBIG. The reason does not name the
 * path. */
int planfile_load(struct planfile *file, const char *path, const struct plankey *key,
                  const struct graph *graph, char error[PLANFILE_ERROR_BYTES_MAX]) MUST_CHECK;

#endif /* PLAN_PLANFILE_H */
