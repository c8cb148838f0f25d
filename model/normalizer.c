/*
 * normalizer.c - runs the list of changes, from one buffer to the other. Called by tokenizer.c for
 * each stretch of text between added tokens, on the core's tokenizer threads; the scratch belongs
 * to one caller. Unicode forms come from utf8proc's allocation-free calls. Invariant: a view given
 * back is valid UTF-8 when the one taken was.
 */
#include "model/normalizer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "model/utf8.h"

static bool is_form(enum normalizer_kind kind)
{
    return kind >= NORMALIZER_NFC;
}

bool normalizer_add(struct normalizer *normalizer, const struct normalizer_op *op)
{
    if (normalizer->count == NORMALIZER_OPS_MAX ||
        (op->kind == NORMALIZER_REPLACE && op->pattern.count == 0)) {
        return false;
    }
    normalizer->ops[normalizer->count++] = *op;
    return true;
}

/* Worst growth of a Unicode form, in UTF-8: UAX 15, "maximum expansion factor". */
static size_t form_growth(enum normalizer_kind kind)
{
    return kind == NORMALIZER_NFC || kind == NORMALIZER_NFD ? 3 : 11;
}

size_t normalizer_bytes_max(const struct normalizer *normalizer, size_t bytes)
{
    for (size_t i = 0; i < normalizer->count; i++) {
        const struct normalizer_op *op = &normalizer->ops[i];
        if (is_form(op->kind)) {
            bytes *= form_growth(op->kind);
        } else if (op->kind != NORMALIZER_REPLACE) {
            bytes += op->text.count;
        } else if (op->text.count > op->pattern.count) {
            bytes = (bytes / op->pattern.count) * op->text.count + op->pattern.count;
        }
    }
    return bytes;
}

int normalizer_scratch_open(struct normalizer_scratch *scratch, const struct normalizer *normalizer,
                            size_t text_bytes_max)
{
    *scratch = (struct normalizer_scratch){0};
    if (normalizer->count == 0) {
        return 0;
    }
    bool forms = false;
    for (size_t i = 0; i < normalizer->count; i++) {
        forms = forms || is_form(normalizer->ops[i].kind);
    }
    scratch->bytes_max = normalizer_bytes_max(normalizer, text_bytes_max) + 1;
    scratch->front = malloc(scratch->bytes_max);
    scratch->back = malloc(scratch->bytes_max);
    scratch->codepoints =
        forms ? malloc((scratch->bytes_max + 1) * sizeof *scratch->codepoints) : NULL;
    if (!scratch->front || !scratch->back || (forms && !scratch->codepoints)) {
        normalizer_scratch_close(scratch);
        return -ENOMEM;
    }
    return 0;
}

void normalizer_scratch_close(struct normalizer_scratch *scratch)
{
    free(scratch->front);
    free(scratch->back);
    free(scratch->codepoints);
    *scratch = (struct normalizer_scratch){0};
}

static int append(struct normalizer_scratch *scratch, size_t *count, const char *bytes, size_t more)
{
    if (more > scratch->bytes_max - *count) {
        return -E2BIG;
    }
    if (more > 0) {
        memcpy(scratch->back + *count, bytes, more);
    }
    *count += more;
    return 0;
}

/* The result is in back: makes it the view. */
static void publish(struct normalizer_scratch *scratch, struct normalizer_view *view, size_t count)
{
    char *result = scratch->back;
    scratch->back = scratch->front;
    scratch->front = result;
    view->bytes = result;
    view->count = count;
}

static bool starts_with(const struct normalizer_view *view, const struct normalizer_text *text)
{
    return view->count >= text->count && memcmp(view->bytes, text->bytes, text->count) == 0;
}

static int prepend(const struct normalizer_op *op, struct normalizer_scratch *scratch,
                   struct normalizer_view *view)
{
    const bool keeps = op->kind != NORMALIZER_PREPEND && starts_with(view, &op->text);
    if (view->count == 0 || keeps || (op->kind == NORMALIZER_PREPEND_FIRST && !view->first)) {
        return 0;
    }
    size_t count = 0;
    int error = append(scratch, &count, op->text.bytes, op->text.count);
    if (!error) {
        error = append(scratch, &count, view->bytes, view->count);
    }
    if (!error) {
        publish(scratch, view, count);
    }
    return error;
}

static int replace(const struct normalizer_op *op, struct normalizer_scratch *scratch,
                   struct normalizer_view *view)
{
    size_t count = 0;
    size_t done = 0;
    while (done < view->count) {
        const char *found =
            memmem(view->bytes + done, view->count - done, op->pattern.bytes, op->pattern.count);
        const size_t until = found ? (size_t)(found - view->bytes) : view->count;
        int error = append(scratch, &count, view->bytes + done, until - done);
        if (!error && found) {
            error = append(scratch, &count, op->text.bytes, op->text.count);
        }
        if (error) {
            return error;
        }
        done = found ? until + op->pattern.count : until;
    }
    publish(scratch, view, count);
    return 0;
}

/* Whether all is ASCII, which every form leaves alone; -E2BIG for a run of marks that is too long.
 */
static int survey(const struct normalizer_view *view, bool *ascii)
{
    size_t marks = 0;
    *ascii = true;
    for (size_t at = 0; at < view->count;) {
        uint32_t codepoint = 0;
        const size_t bytes = utf8_next(view->bytes + at, view->count - at, &codepoint);
        must(bytes > 0);
        *ascii = *ascii && bytes == 1;
        const bool mark =
            bytes > 1 && utf8proc_get_property((utf8proc_int32_t)codepoint)->combining_class != 0;
        marks = mark ? marks + 1 : 0;
        if (marks > NORMALIZER_MARKS_MAX) {
            return -E2BIG;
        }
        at += bytes;
    }
    return 0;
}

static int run_form(enum normalizer_kind kind, struct normalizer_scratch *scratch,
                    struct normalizer_view *view)
{
    bool ascii;
    const int error = survey(view, &ascii);
    if (error || ascii) {
        return error;
    }
    const bool compose = kind == NORMALIZER_NFC || kind == NORMALIZER_NFKC;
    const bool compat = kind == NORMALIZER_NFKC || kind == NORMALIZER_NFKD;
    const utf8proc_option_t options =
        (utf8proc_option_t)((int)UTF8PROC_STABLE |
                            (int)(compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
                            (compat ? (int)UTF8PROC_COMPAT : 0));
    const utf8proc_ssize_t room = (utf8proc_ssize_t)scratch->bytes_max;
    utf8proc_ssize_t points =
        utf8proc_decompose((const utf8proc_uint8_t *)view->bytes, (utf8proc_ssize_t)view->count,
                           scratch->codepoints, room, options);
    must(points >= 0); /* The text is valid and the options are. */
    if (points > room) {
        return -E2BIG;
    }
    points = utf8proc_normalize_utf32(scratch->codepoints, points, options);
    must(points >= 0);
    size_t count = 0;
    for (utf8proc_ssize_t i = 0; i < points; i++) {
        utf8proc_uint8_t bytes[UTF8_CHAR_BYTES_MAX];
        const utf8proc_ssize_t more = utf8proc_encode_char(scratch->codepoints[i], bytes);
        if (append(scratch, &count, (const char *)bytes, (size_t)more)) {
            return -E2BIG;
        }
    }
    publish(scratch, view, count);
    return 0;
}

int normalizer_run(const struct normalizer *normalizer, struct normalizer_scratch *scratch,
                   struct normalizer_view *view)
{
    int error = 0;
    for (size_t i = 0; i < normalizer->count && !error; i++) {
        const struct normalizer_op *op = &normalizer->ops[i];
        if (is_form(op->kind)) {
            error = run_form(op->kind, scratch, view);
        } else if (op->kind == NORMALIZER_REPLACE) {
            error = replace(op, scratch, view);
        } else {
            error = prepend(op, scratch, view);
        }
    }
    return error;
}
