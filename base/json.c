/*
 * json.c - jansson behind bounds; the only file that includes jansson.h. Called at start by the
 * core and the workers, and by the tools; never on a request path. Owns what it parses until
 * json_free(). Invariant: jansson, which recurses, never sees a text deeper than
 * LIMIT_JSON_DEPTH_MAX, because a flat scan counted its brackets first.
 */
#include "base/json.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "base/limits.h"

/* struct json and struct json_member are never defined: they are jansson's own, by another name. */
static json_t *native(const struct json *value)
{
    return (json_t *)(uintptr_t)value;
}

static void json_error_set(struct json_error *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void json_error_set(struct json_error *error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(error->text, sizeof error->text, format, args);
    va_end(args);
}

/* Deepest nesting of brackets outside strings; a text that is not JSON only has to come out finite.
 */
static size_t depth_of(const char *bytes, size_t count)
{
    size_t depth = 0;
    size_t deepest = 0;
    bool in_string = false;
    for (size_t i = 0; i < count; i++) {
        const char c = bytes[i];
        if (in_string) {
            i += c == '\\';
            in_string = c != '"';
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            depth++;
            deepest = depth > deepest ? depth : deepest;
        } else if ((c == ']' || c == '}') && depth > 0) {
            depth--;
        }
    }
    return deepest;
}

/* Whether a run of digits is an integer that jansson would refuse for its size. */
static bool is_too_big(const char *digits, size_t count)
{
    static const char largest[] = "9223372036854775807";
    const size_t most = sizeof largest - 1;
    return count > most || (count == most && memcmp(digits, largest, most) > 0);
}

/*
 * The text with "e0" behind every integer that does not fit 64 bits, which makes it a real:
 * tokenizer_config.json files say 10^30, in full, for "no limit". malloc'd; NULL when there is no
 * memory. Each insertion stands behind 19 digits at least.
 */
static char *spell_big_integers(const char *bytes, size_t count, size_t *out_count)
{
    char *out = malloc(count + count / 8 + 1);
    size_t written = 0;
    bool in_string = false;
    bool in_real = false; /* Behind the point or the exponent's sign. */
    for (size_t i = 0; i < count && out;) {
        size_t digits = 0;
        while (!in_string && i + digits < count && bytes[i + digits] >= '0' &&
               bytes[i + digits] <= '9') {
            digits++;
        }
        const size_t step = digits > 0 ? digits : in_string && bytes[i] == '\\' ? 2 : 1;
        const size_t more = step < count - i ? step : count - i;
        memcpy(out + written, bytes + i, more);
        written += more;
        const char next = i + more < count ? bytes[i + more] : ' ';
        if (digits > 0 && !in_real && next != '.' && (next | ' ') != 'e' &&
            is_too_big(bytes + i, digits)) {
            out[written++] = 'e';
            out[written++] = '0';
        }
        if (digits == 0) {
            in_string = in_string != (bytes[i] == '"');
            in_real = bytes[i] == '.' || (bytes[i] | ' ') == 'e' ||
                      (in_real && (bytes[i] == '-' || bytes[i] == '+'));
        }
        i += more;
    }
    *out_count = written;
    return out;
}

static json_t *load(const char *bytes, size_t count, json_error_t *at)
{
    const size_t flags = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL;
    json_t *root = json_loadb(bytes, count, flags, at);
    if (root || json_error_code(at) != json_error_numeric_overflow) {
        return root;
    }
    size_t spelled_count;
    char *spelled = spell_big_integers(bytes, count, &spelled_count);
    if (spelled) {
        root = json_loadb(spelled, spelled_count, flags, at);
        free(spelled);
    }
    return root;
}

int json_parse(const char *bytes, size_t count, struct json **out, struct json_error *error)
{
    if (count > LIMIT_JSON_BYTES_MAX) {
        json_error_set(error, "%zu bytes, limit %d", count, (int)LIMIT_JSON_BYTES_MAX);
        return -EFBIG;
    }
    if (depth_of(bytes, count) > LIMIT_JSON_DEPTH_MAX) {
        json_error_set(error, "nested deeper than %d", (int)LIMIT_JSON_DEPTH_MAX);
        return -EINVAL;
    }
    if (count > 0 &&
        memchr(bytes, 0, count)) { /* jansson takes one behind the value for the end. */
        json_error_set(error, "a NUL byte is no JSON");
        return -EINVAL;
    }
    json_error_t at;
    json_t *root = load(bytes, count, &at);
    if (!root) {
        json_error_set(error, "line %d: %s", at.line, at.text);
        return json_error_code(&at) == json_error_out_of_memory ? -ENOMEM : -EINVAL;
    }
    *out = (struct json *)root;
    return 0;
}

/* The whole of a regular file, malloc'd. */
static int read_whole(int fd, char **out, size_t *count)
{
    struct stat info;
    if (fstat(fd, &info)) {
        return -errno;
    }
    if (!S_ISREG(info.st_mode)) {
        return -EINVAL;
    }
    if (info.st_size > LIMIT_JSON_BYTES_MAX) {
        return -EFBIG;
    }
    const size_t bytes = (size_t)info.st_size;
    char *text = malloc(bytes + 1);
    if (!text) {
        return -ENOMEM;
    }
    size_t have = 0;
    while (have < bytes) {
        const ssize_t got = read(fd, text + have, bytes - have);
        if (got <= 0) {
            const int code = got < 0 ? -errno : -EIO;
            free(text);
            return code;
        }
        have += (size_t)got;
    }
    *out = text;
    *count = bytes;
    return 0;
}

int json_parse_file(const char *path, struct json **out, struct json_error *error)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* A FIFO: do not wait. */
    if (fd < 0) {
        const int code = -errno;
        json_error_set(error, "%s", strerror(-code));
        return code;
    }
    char *text = NULL;
    size_t count = 0;
    int code = read_whole(fd, &text, &count);
    (void)close(fd);
    if (code) {
        json_error_set(error, "%s", strerror(-code));
        return code;
    }
    code = json_parse(text, count, out, error);
    free(text);
    return code;
}

void json_free(struct json *root)
{
    json_decref(native(root));
}

enum json_kind json_kind(const struct json *value)
{
    if (!value) {
        return JSON_KIND_ABSENT;
    }
    switch (json_typeof(native(value))) {
    case JSON_OBJECT:
        return JSON_KIND_OBJECT;
    case JSON_ARRAY:
        return JSON_KIND_ARRAY;
    case JSON_STRING:
        return JSON_KIND_STRING;
    case JSON_INTEGER:
        return JSON_KIND_INTEGER;
    case JSON_REAL:
        return JSON_KIND_REAL;
    case JSON_TRUE:
    case JSON_FALSE:
        return JSON_KIND_BOOL;
    case JSON_NULL:
        return JSON_KIND_NULL;
    }
    return JSON_KIND_ABSENT;
}

const struct json *json_get(const struct json *value, const char *key)
{
    return (const struct json *)json_object_get(native(value), key);
}

size_t json_count(const struct json *value)
{
    switch (json_kind(value)) {
    case JSON_KIND_ARRAY:
        return json_array_size(native(value));
    case JSON_KIND_OBJECT:
        return json_object_size(native(value));
    default:
        return 0;
    }
}

const struct json *json_at(const struct json *array, size_t index)
{
    return (const struct json *)json_array_get(native(array), index);
}

bool json_bool(const struct json *value, bool *out)
{
    if (json_kind(value) != JSON_KIND_BOOL) {
        return false;
    }
    *out = json_is_true(native(value));
    return true;
}

bool json_u64(const struct json *value, uint64_t *out)
{
    if (json_kind(value) != JSON_KIND_INTEGER || json_integer_value(native(value)) < 0) {
        return false;
    }
    *out = (uint64_t)json_integer_value(native(value));
    return true;
}

bool json_f64(const struct json *value, double *out)
{
    const enum json_kind kind = json_kind(value);
    if (kind != JSON_KIND_INTEGER && kind != JSON_KIND_REAL) {
        return false;
    }
    *out = json_number_value(native(value));
    return true;
}

bool json_text(const struct json *value, const char **bytes, size_t *count)
{
    if (json_kind(value) != JSON_KIND_STRING) {
        return false;
    }
    *bytes = json_string_value(native(value));
    *count = json_string_length(native(value));
    return true;
}

struct json_member *json_first(const struct json *object)
{
    return (struct json_member *)json_object_iter(native(object));
}

struct json_member *json_next(const struct json *object, struct json_member *member)
{
    return (struct json_member *)json_object_iter_next(native(object), member);
}

const char *json_member_key(const struct json_member *member)
{
    return json_object_iter_key((void *)(uintptr_t)member);
}

const struct json *json_member_value(const struct json_member *member)
{
    return (const struct json *)json_object_iter_value((void *)(uintptr_t)member);
}

/* A new value, or the end of the process: the tools build small answers. */
static struct json *made(json_t *value)
{
    must(value);
    return (struct json *)value;
}

struct json *json_new_object(void)
{
    return made(json_object());
}

struct json *json_new_array(void)
{
    return made(json_array());
}

struct json *json_new_u64(uint64_t value)
{
    must(value <= INT64_MAX);
    return made(json_integer((json_int_t)value));
}

struct json *json_new_f64(double value)
{
    return made(isfinite(value) ? json_real(value) : json_null());
}

struct json *json_new_bool(bool value)
{
    return made(json_boolean(value));
}

struct json *json_new_null(void)
{
    return made(json_null());
}

/* Bytes of the UTF-8 character at text[0..count), 0 where there is none. */
static size_t utf8_bytes(const unsigned char *text, size_t count)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    const size_t bytes = text[0] < 0x80             ? 1
                         : (text[0] & 0xe0) == 0xc0 ? 2
                         : (text[0] & 0xf0) == 0xe0 ? 3
                         : (text[0] & 0xf8) == 0xf0 ? 4
                                                    : 0;
    if (bytes < 2 || bytes > count) {
        return bytes == 1;
    }
    uint32_t point = text[0] & (0x7fu >> bytes);
    for (size_t i = 1; i < bytes; i++) {
        if ((text[i] & 0xc0) != 0x80) {
            return 0;
        }
        point = point << 6 | (text[i] & 0x3fu);
    }
    const bool whole =
        point >= smallest[bytes] && point <= 0x10ffff && (point < 0xd800 || point > 0xdfff);
    return whole ? bytes : 0;
}

struct json *json_new_string(const char *bytes, size_t count)
{
    json_t *value = json_stringn(bytes, count);
    if (value) {
        return made(value);
    }
    static const char replacement[] = "\xef\xbf\xbd";
    char *text = malloc(count * 3 + 1); /* Every byte could become U+FFFD. */
    must(text);
    size_t used = 0;
    for (size_t i = 0; i < count;) {
        const size_t whole = utf8_bytes((const unsigned char *)bytes + i, count - i);
        const char *from = whole ? bytes + i : replacement;
        const size_t step = whole ? whole : 3;
        memcpy(text + used, from, step);
        used += step;
        i += whole ? whole : 1;
    }
    value = json_stringn(text, used);
    free(text);
    return made(value);
}

void json_add(struct json *object, const char *key, struct json *value)
{
    must(json_object_set_new(native(object), key, native(value)) == 0);
}

void json_append(struct json *array, struct json *value)
{
    must(json_array_append_new(native(array), native(value)) == 0);
}

char *json_dump(const struct json *root)
{
    char *text = json_dumps(native(root), JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
    must(text);
    return text;
}

int json_write_file(const struct json *root, const char *path)
{
    FILE *file = fopen(path, "wb");
    if (!file) {
        return -errno;
    }
    char *text = json_dump(root);
    const bool good = fprintf(file, "%s\n", text) > 0;
    free(text);
    return fclose(file) == 0 && good ? 0 : -EIO;
}
