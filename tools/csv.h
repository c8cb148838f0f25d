/*
 * csv.h - lines of a CSV of request lengths. The header names the columns, in any order, others
 * between them: TIMESTAMP, ContextTokens, GeneratedTokens as in the traces of Azure, or
 * num_prefill_tokens, num_decode_tokens. Without a header, and without times, IN,OUT.
 */
#ifndef TOOLS_CSV_H
#define TOOLS_CSV_H

#include <stdbool.h>
#include <stdint.h>

#include "base/must.h"
#include "tools/workload.h"

/* Which column holds what. */
struct csv {
    uint32_t time_column;
    uint32_t in_column;
    uint32_t out_column;
    bool timed;
    bool headed; /* The first line was a header. */
};

/* Reads the first line of a file. -EBADMSG: no header where one is needed; error says why. */
int csv_open(struct csv *csv, const char *line, bool timed,
             char error[WORKLOAD_ERROR_BYTES_MAX]) MUST_CHECK;

/* Reads a line of values. -EBADMSG: malformed, error says how. */
int csv_read(const struct csv *csv, const char *line, struct workload_line *out,
             char error[WORKLOAD_ERROR_BYTES_MAX]) MUST_CHECK;

#endif /* TOOLS_CSV_H */
