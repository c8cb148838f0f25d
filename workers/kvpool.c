/*
 * kvpool.c - see kvpool.h. Opened and closed by the engine on a worker's main thread; owns the
 * mapping. Invariant: layer l, page p stands at l * layer_bytes + p * page_bytes for good.
 */
#include "workers/kvpool.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/checked.h"

int kvpool_open(struct kvpool *pool, uint32_t layers, uint32_t pages, size_t page_bytes)
{
    uint64_t layer_bytes;
    uint64_t bytes;
    if (!checked_mul(pages, page_bytes, &layer_bytes) ||
        !checked_mul(layers, layer_bytes, &bytes) || bytes == 0) {
        return -ENOMEM;
    }
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        return -ENOMEM;
    }
    (void)madvise(base, bytes, MADV_HUGEPAGE); /* An advice: 4 KiB pages work too. */
    (void)madvise(base, bytes, MADV_DONTDUMP); /* Prompts and answers; and a dump of gigabytes. */
    *pool = (struct kvpool){.base = base,
                            .bytes = bytes,
                            .layer_bytes = layer_bytes,
                            .page_bytes = page_bytes,
                            .layers = layers};
    return 0;
}

void kvpool_close(struct kvpool *pool)
{
    if (pool->base) {
        must(munmap(pool->base, pool->bytes) == 0);
    }
    *pool = (struct kvpool){0};
}

void *kvpool_layer(const struct kvpool *pool, uint32_t layer)
{
    return pool->base + layer * pool->layer_bytes;
}

void kvpool_copy(const struct kvpool *pool, uint32_t source, uint32_t target)
{
    for (uint32_t layer = 0; layer < pool->layers && source != target; layer++) {
        uint8_t *pages = kvpool_layer(pool, layer);
        memcpy(pages + target * pool->page_bytes, pages + source * pool->page_bytes,
               pool->page_bytes);
    }
}
