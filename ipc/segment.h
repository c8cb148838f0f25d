/*
 * segment.h - shared memory with one writer: a memfd without a name that its creator maps
 * read-write and then seals, so that its size is final and nobody, the creator included, can ever
 * map it writable again. What a peer offers is checked for just that before it is mapped.
 */
#ifndef IPC_SEGMENT_H
#define IPC_SEGMENT_H

#include <stddef.h>

#include "base/must.h"

enum { SEGMENT_PAGE_BYTES = 4096 };

/* Zeroed, mapped at *out, sealed. The descriptor, the caller's, or -errno. bytes: whole pages. */
int segment_create(const char *name, size_t bytes, void **out) MUST_CHECK;

/* Maps a peer's segment read-only at *out. 0; -EBADMSG where seals or size are not as they must
 * be; or another -errno. The descriptor stays the caller's. */
int segment_map(int fd, size_t bytes, const void **out) MUST_CHECK;

void segment_unmap(const void *segment, size_t bytes); /* NULL is allowed. */

#endif /* IPC_SEGMENT_H */
