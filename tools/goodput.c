/*
 * goodput.c - parses and applies the limits of --goodput. Called by sluice-bench and by report.c
 * for each request; no state.
 */
#include "tools/goodput.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int parse_word(struct goodput *goodput, const char *word,
                      char error[GOODPUT_ERROR_BYTES_MAX])
{
    const struct {
        const char *name;
        double *limit_ms;
    } rows[] = {
        {"ttft:", &goodput->ttft_ms}, {"tpot:", &goodput->tpot_ms}, {"e2el:", &goodput->e2el_ms}};

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const size_t count = strlen(rows[i].name);
        char *end;
        double limit_ms;
        if (strncmp(word, rows[i].name, count) != 0) {
            continue;
        }
        limit_ms = strtod(word + count, &end);
        if (end == word + count || *end != '\0' || !isfinite(limit_ms) || limit_ms <= 0) {
            (void)snprintf(error, GOODPUT_ERROR_BYTES_MAX,
                           "--goodput: '%.48s' has no limit in ms above 0", word);
            return -EINVAL;
        }
        if (*rows[i].limit_ms != 0) {
            (void)snprintf(error, GOODPUT_ERROR_BYTES_MAX, "--goodput: '%.48s' comes twice", word);
            return -EINVAL;
        }
        *rows[i].limit_ms = limit_ms;
        return 0;
    }
    (void)snprintf(error, GOODPUT_ERROR_BYTES_MAX,
                   "--goodput takes ttft:MS, tpot:MS and e2el:MS, not '%.48s'", word);
    return -EINVAL;
}

int goodput_parse(struct goodput *goodput, const char *const *words, size_t count,
                  char error[GOODPUT_ERROR_BYTES_MAX])
{
    *goodput = (struct goodput){0};
    for (size_t i = 0; i < count; i++) {
        const int status = parse_word(goodput, words[i], error);
        if (status != 0) {
            return status;
        }
    }
    return 0;
}

bool goodput_given(const struct goodput *goodput)
{
    return goodput->ttft_ms > 0 || goodput->tpot_ms > 0 || goodput->e2el_ms > 0;
}

static bool within(double value_ms, double limit_ms)
{
    return limit_ms == 0 || value_ms <= limit_ms;
}

bool goodput_met(const struct goodput *goodput, double ttft_ms, double tpot_ms, double e2el_ms)
{
    return within(ttft_ms, goodput->ttft_ms) && within(tpot_ms, goodput->tpot_ms) &&
           within(e2el_ms, goodput->e2el_ms);
}
