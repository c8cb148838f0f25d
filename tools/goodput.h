/*
 * goodput.h - limits that a request must meet to count as good, as `vllm bench serve --goodput`
 * takes them: ttft:MS, tpot:MS, e2el:MS.
 */
#ifndef TOOLS_GOODPUT_H
#define TOOLS_GOODPUT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/must.h"

enum { GOODPUT_ERROR_BYTES_MAX = 128 };

/* Milliseconds; 0: no limit. */
struct goodput {
    double ttft_ms;
    double tpot_ms;
    double e2el_ms;
};

/* Reads "ttft:200" and the like. -EINVAL: unknown, twice, or not above 0; error says which. */
int goodput_parse(struct goodput *goodput, const char *const *words, size_t count,
                  char error[GOODPUT_ERROR_BYTES_MAX]) MUST_CHECK;

/* Whether any limit is set. */
bool goodput_given(const struct goodput *goodput);

/* Whether a request keeps every limit, itself included. A request of one token has TPOT 0. */
bool goodput_met(const struct goodput *goodput, double ttft_ms, double tpot_ms, double e2el_ms);

#endif /* TOOLS_GOODPUT_H */
