/*
 * bytelevel.h - the printable alphabet in which byte-level vocabularies are written. Loaders take
 * it off, so that everything after them works on plain bytes.
 */
#ifndef MODEL_BYTELEVEL_H
#define MODEL_BYTELEVEL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/must.h"

/*
 * Bytes that text[0..count), in the alphabet, stands for, to out[0..*out_count); out holds count
 * bytes. False when a character is not of the alphabet (an added token's literal text, mostly).
 */
bool bytelevel_decode(const char *text, size_t count, char *out, size_t *out_count) MUST_CHECK;

#endif /* MODEL_BYTELEVEL_H */
