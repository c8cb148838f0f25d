/*
 * mooncake.h - one line of a trace in the form of Mooncake: a JSON object with timestamp (ms),
 * input_length, output_length and hash_ids, one for each 512 tokens of the prompt. Prompts whose
 * ids begin alike begin with the same tokens.
 */
#ifndef TOOLS_MOONCAKE_H
#define TOOLS_MOONCAKE_H

#include "base/must.h"
#include "tools/workload.h"

/* -EBADMSG: malformed, error says how. Other keys are left alone; without hash_ids the prompt
 * shares nothing. */
int mooncake_read(const char *line, struct workload_line *out,
                  char error[WORKLOAD_ERROR_BYTES_MAX]) MUST_CHECK;

#endif /* TOOLS_MOONCAKE_H */
