/*
 * utf8.c - UTF-8 through utf8proc. Called by the tokenizer's files, at load and in the request
 * path, on any thread; owns nothing, allocates nothing.
 */
#include "model/utf8.h"

#include <utf8proc.h>

#include "base/must.h"

size_t utf8_next(const char *text, size_t count, uint32_t *codepoint)
{
    must(count > 0);
    if ((uint8_t)text[0] < 0x80) {
        *codepoint = (uint8_t)text[0];
        return 1;
    }
    const utf8proc_ssize_t window = count < UTF8_CHAR_BYTES_MAX
                                        ? (utf8proc_ssize_t)count
                                        : (utf8proc_ssize_t)UTF8_CHAR_BYTES_MAX;
    utf8proc_int32_t value;
    const utf8proc_ssize_t bytes = utf8proc_iterate((const utf8proc_uint8_t *)text, window, &value);
    if (bytes <= 0) {
        return 0;
    }
    *codepoint = (uint32_t)value;
    return (size_t)bytes;
}

bool utf8_valid(const char *text, size_t count)
{
    for (size_t at = 0; at < count;) {
        uint32_t codepoint;
        const size_t bytes = utf8_next(text + at, count - at, &codepoint);
        if (bytes == 0) {
            return false;
        }
        at += bytes;
    }
    return true;
}

size_t utf8_back(const char *text, size_t end)
{
    must(end > 0);
    size_t at = end - 1;
    while (at > 0 && ((uint8_t)text[at] & 0xc0) == 0x80) {
        at--;
    }
    return at;
}

unsigned utf8_lead(uint8_t byte)
{
    if (byte < 0x80) {
        return 1;
    }
    if (byte < 0xc2 || byte > 0xf4) {
        return 0;
    }
    return byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}

bool utf8_continues(const uint8_t *head, unsigned count, uint8_t byte)
{
    uint8_t low = 0x80;
    uint8_t high = 0xbf;
    if (count == 1) { /* Table 3-7 of the Unicode standard: second bytes. */
        low = head[0] == 0xe0 ? 0xa0 : head[0] == 0xf0 ? 0x90 : low;
        high = head[0] == 0xed ? 0x9f : head[0] == 0xf4 ? 0x8f : high;
    }
    return byte >= low && byte <= high;
}

bool utf8_is_space(uint32_t codepoint)
{
    return (codepoint >= 0x09 && codepoint <= 0x0d) || codepoint == 0x20 || codepoint == 0x85 ||
           codepoint == 0xa0 || codepoint == 0x1680 ||
           (codepoint >= 0x2000 && codepoint <= 0x200a) || codepoint == 0x2028 ||
           codepoint == 0x2029 || codepoint == 0x202f || codepoint == 0x205f || codepoint == 0x3000;
}

bool utf8_is_word(uint32_t codepoint)
{
    const utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)codepoint);
    return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_ND) ||
           category == UTF8PROC_CATEGORY_PC;
}
