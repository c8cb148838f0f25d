/*
 * workload_fuzz.c - files of requests of any bytes, as batch and as trace: what is read fits the
 * context and comes in order, what is not says why in one line.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/must.h"
#include "tools/workload.h"

enum { CONTEXT = 700, ITEMS_MAX = 50 };

static void fuzz_read(const struct workload *workload)
{
    uint64_t last_us = 0;
    must(workload->count > 0 && workload->count <= ITEMS_MAX);
    must(workload->clipped <= workload->count);
    for (size_t i = 0; i < workload->count; i++) {
        const struct workload_item *item = &workload->items[i];
        must(item->in_tokens > 0 && item->out_tokens > 0);
        must(item->in_tokens + item->out_tokens <= CONTEXT);
        must(item->in_tokens <= workload->in_tokens_max);
        must(item->arrival_us >= last_us);
        must(item->block_count == 0 ||
             item->block_count * WORKLOAD_BLOCK_TOKENS >= item->in_tokens);
        must(item->block_first + item->block_count <= workload->block_count);
        last_us = item->arrival_us;
    }
}

static void fuzz_kind(enum workload_kind kind, const char *path)
{
    char error[WORKLOAD_ERROR_BYTES_MAX] = "";
    struct workload workload;
    const int status = workload_open(&workload, kind, path, CONTEXT, ITEMS_MAX, error);
    if (status == 0) {
        fuzz_read(&workload);
        workload_close(&workload);
    } else {
        must(status == -EBADMSG || status == -ENODATA);
        must(error[0] && !strchr(error, '\n') && !workload.items);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    char path[32];
    const int fd = memfd_create("fuzz", MFD_CLOEXEC);
    must(fd >= 0 && write(fd, bytes, count) == (ssize_t)count);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    fuzz_kind(WORKLOAD_BATCH, path);
    fuzz_kind(WORKLOAD_TRACE, path);
    must(close(fd) == 0);
    return 0;
}
