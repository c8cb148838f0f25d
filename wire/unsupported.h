/* unsupported.h - keys of other servers' requests that change the answer and are not served. */
#ifndef WIRE_UNSUPPORTED_H
#define WIRE_UNSUPPORTED_H

#include <stddef.h>

/* A text that names the key, or NULL where it is none of these. */
const char *unsupported_message(const char *key, size_t count);

#endif /* WIRE_UNSUPPORTED_H */
