/*
 * kvpool.h - the KV pages of this device: one mapping, layer by layer, page by page.
 *
 *   [layer 0: page 0, page 1, ...][layer 1: page 0, ...]...
 *
 * A page becomes resident when it is first written. Who owns which page is the core's business
 * (kv/pages.h); here a page is only a place.
 */
#ifndef WORKERS_KVPOOL_H
#define WORKERS_KVPOOL_H

#include <stddef.h>
#include <stdint.h>

#include "base/must.h"

struct kvpool {
    uint8_t *base;
    size_t bytes;
    size_t layer_bytes;
    size_t page_bytes;
    uint32_t layers;
};

/* 0 or -ENOMEM (also when the product overflows). */
int kvpool_open(struct kvpool *pool, uint32_t layers, uint32_t pages, size_t page_bytes) MUST_CHECK;
void kvpool_close(struct kvpool *pool); /* An all-zero pool is allowed. */

/* Pages of one layer. */
void *kvpool_layer(const struct kvpool *pool, uint32_t layer);

/* Copies one page of every layer over another. */
void kvpool_copy(const struct kvpool *pool, uint32_t source, uint32_t target);

#endif /* WORKERS_KVPOOL_H */
