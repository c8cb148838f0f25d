/*
 * json.h - bounded JSON: size, depth, UTF-8 and duplicate keys are checked before anything is
 * handed out. A thin face on jansson, which only json.c sees. Accessors borrow; json_free() of the
 * root ends all of them. Not for request paths: it allocates.
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/must.h"

struct json; /* A value: object, array, string, number, bool or null. */

enum json_kind {
    JSON_KIND_ABSENT, /* The kind of NULL: a missing key. */
    JSON_KIND_NULL,
    JSON_KIND_BOOL,
    JSON_KIND_INTEGER,
    JSON_KIND_REAL,
    JSON_KIND_STRING,
    JSON_KIND_ARRAY,
    JSON_KIND_OBJECT,
};

enum { JSON_ERROR_BYTES_MAX = 256 };

struct json_error {
    char text[JSON_ERROR_BYTES_MAX]; /* "line 3: ..." */
};

/*
 * Parses exactly bytes[0..count). Refuses (-EINVAL, error filled) trailing bytes, depth above
 * LIMIT_JSON_DEPTH_MAX (found by a scan before jansson recurses), duplicate keys and invalid UTF-8;
 * -EFBIG above LIMIT_JSON_BYTES_MAX; -ENOMEM. Any kind of value may be the root. \u0000 in strings
 * is allowed, and json_text() gives its count; in keys it is refused. An integer beyond 64 bits is
 * a real; a real beyond a double is refused.
 */
int json_parse(const char *bytes, size_t count, struct json **out,
               struct json_error *error) MUST_CHECK;

/* Reads a whole regular file and parses it. Adds -errno of open and read. */
int json_parse_file(const char *path, struct json **out, struct json_error *error) MUST_CHECK;

void json_free(struct json *root); /* NULL is allowed. */

enum json_kind json_kind(const struct json *value);

/* Member of an object; NULL if value is not an object or has no such key. */
const struct json *json_get(const struct json *value, const char *key);

/* Elements of an array or members of an object; 0 for anything else. */
size_t json_count(const struct json *value);
const struct json *json_at(const struct json *array, size_t index);

/* Each returns false and leaves *out untouched when the kind or the range does not fit. */
bool json_bool(const struct json *value, bool *out);
bool json_u64(const struct json *value, uint64_t *out); /* A non-negative integer. */
bool json_f64(const struct json *value, double *out);   /* Integers too. Always finite. */
bool json_text(const struct json *value, const char **bytes, size_t *count);

/* Walks an object in file order: for (i = json_first(o); i; i = json_next(o, i)). */
struct json_member; /* Opaque cursor. */
struct json_member *json_first(const struct json *object);
struct json_member *json_next(const struct json *object, struct json_member *member);
const char *json_member_key(const struct json_member *member);
const struct json *json_member_value(const struct json_member *member);

/* Building, for the tools. Out of memory is must(). add takes over value; the key is copied. */
struct json *json_new_object(void);
struct json *json_new_array(void);
struct json *json_new_u64(uint64_t value);
struct json *json_new_f64(double value); /* Not finite: null. */
struct json *json_new_bool(bool value);
struct json *json_new_null(void);
struct json *json_new_string(const char *bytes, size_t count); /* Invalid UTF-8: U+FFFD. */
void json_add(struct json *object, const char *key, struct json *value);
void json_append(struct json *array, struct json *value);

/* One line, no trailing newline; malloc'd, the caller frees. */
char *json_dump(const struct json *root);

/* That line as a file. 0, or -errno. */
int json_write_file(const struct json *root, const char *path) MUST_CHECK;

#endif /* BASE_JSON_H */
