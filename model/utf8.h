/*
 * utf8.h - walking, checking and assembling UTF-8. Only what RFC 3629 allows is valid: no overlong
 * form, no surrogate, nothing above U+10FFFF.
 */
#ifndef MODEL_UTF8_H
#define MODEL_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { UTF8_CHAR_BYTES_MAX = 4 };

/* Bytes of the character that text[0..count) starts with, 0 when it is invalid or cut; count > 0.
 * *codepoint is set when the character is valid. */
size_t utf8_next(const char *text, size_t count, uint32_t *codepoint);

bool utf8_valid(const char *text, size_t count);

/* Start of the character that ends at text[end), in a valid text; end > 0. */
size_t utf8_back(const char *text, size_t end);

/* Bytes of the character that this lead byte announces; 0 for a byte that cannot lead. */
unsigned utf8_lead(uint8_t byte);

/* Whether byte can come next after the incomplete but so far valid head[0..count), count > 0. */
bool utf8_continues(const uint8_t *head, unsigned count, uint8_t byte);

bool utf8_is_space(uint32_t codepoint); /* White_Space of Unicode. */
bool utf8_is_word(uint32_t codepoint);  /* Letters, marks, digits, connectors. */

#endif /* MODEL_UTF8_H */
