/*
 * bytelevel.c - the alphabet of GPT-2's encoder (bytes_to_unicode in openai/gpt-2, encoder.py):
 * printable Latin-1 characters stand for themselves, the other 68 bytes, in order, for U+0100 on.
 * Called by the tokenizer's loaders at start; owns nothing.
 *
 *   bytes     21-7e  a1-ac  ae-ff   themselves
 *             00-20                 U+0100-U+0120
 *             7f-a0                 U+0121-U+0142
 *             ad                    U+0143
 */
#include "model/bytelevel.h"

#include <stdint.h>

#include "model/utf8.h"

static int byte_of(uint32_t codepoint)
{
    if ((codepoint >= 0x21 && codepoint <= 0x7e) || (codepoint >= 0xa1 && codepoint <= 0xac) ||
        (codepoint >= 0xae && codepoint <= 0xff)) {
        return (int)codepoint;
    }
    if (codepoint >= 0x100 && codepoint <= 0x120) {
        return (int)(codepoint - 0x100);
    }
    if (codepoint >= 0x121 && codepoint <= 0x142) {
        return (int)(codepoint - 0x121 + 0x7f);
    }
    return codepoint == 0x143 ? 0xad : -1;
}

bool bytelevel_decode(const char *text, size_t count, char *out, size_t *out_count)
{
    size_t written = 0;
    for (size_t at = 0; at < count;) {
        uint32_t codepoint = 0;
        const size_t bytes = utf8_next(text + at, count - at, &codepoint);
        const int byte = bytes > 0 ? byte_of(codepoint) : -1;
        if (byte < 0) {
            return false;
        }
        out[written++] = (char)byte;
        at += bytes;
    }
    *out_count = written;
    return true;
}
