/*
 * workload.h - the requests that a file describes: when each arrives, how long its prompt and its
 * answer are, and which blocks of its prompt others share. A trace has times; a batch has none.
 *
 * Lengths are fitted to the context that the server keeps. In a trace every arrival counts, so a
 * prompt that is too long is cut. In a batch a pair of which one length alone fills the context is
 * an outlier and unusable; else the answer is cut. A length of 0 is unusable in both.
 */
#ifndef TOOLS_WORKLOAD_H
#define TOOLS_WORKLOAD_H

#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/must.h"

enum {
    WORKLOAD_ERROR_BYTES_MAX = 256,
    WORKLOAD_BLOCK_TOKENS = 512, /* Of Mooncake's traces. */
    WORKLOAD_BLOCKS_MAX = LIMIT_CONTEXT_MAX / WORKLOAD_BLOCK_TOKENS,
};

/* What one line of a file says. */
struct workload_line {
    uint64_t arrival_us; /* From any origin. */
    uint32_t in_tokens;
    uint32_t out_tokens;
    uint32_t block_count; /* 0: the prompt shares nothing. */
    uint64_t blocks[WORKLOAD_BLOCKS_MAX];
};

struct workload_item {
    uint64_t arrival_us; /* After the first one's. */
    uint32_t in_tokens;
    uint32_t out_tokens;
    uint32_t block_count; /* Enough for in_tokens, or 0. */
    size_t block_first;
};

struct workload {
    struct workload_item *items;
    size_t count;
    size_t room;
    uint64_t *blocks; /* Of all items. */
    size_t block_count;
    size_t block_room;
    size_t clipped; /* Items that the context made shorter. */
    size_t skipped; /* Lines that are not usable, up to the last item. */
    uint32_t in_tokens_max;
};

enum workload_kind {
    WORKLOAD_BATCH, /* CSV of lengths */
    WORKLOAD_TRACE, /* CSV with times, or JSON lines of Mooncake */
};

/*
 * Reads the first items_max usable lines of a file; later lines are not looked at. -ENODATA: none
 * is usable; -EBADMSG: a line is malformed; -errno of the file; error names file and line.
 */
int workload_open(struct workload *workload, enum workload_kind kind, const char *path,
                  uint32_t context_tokens_max, size_t items_max,
                  char error[WORKLOAD_ERROR_BYTES_MAX]) MUST_CHECK;
void workload_close(struct workload *workload);

#endif /* TOOLS_WORKLOAD_H */
