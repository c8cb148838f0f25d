/*
 * pretoken.c - splits through PCRE2's interpreter. Called by tokenizer.c on the core's tokenizer
 * threads; expressions are shared, a scratch belongs to one caller.
 *
 * No JIT: pages that are writable and executable have no place in the process that reads clients'
 * bytes (and systemd's MemoryDenyWriteExecute forbids them). Matching takes its memory from the
 * scratch through PCRE2's own allocator hook, so that it cannot grow the process.
 * Invariant: spans ascend and do not overlap.
 */
#include "model/pretoken.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "model/utf8.h"

enum {
    /* Backtracking frames of one match: the expressions in use need one frame (about 150 bytes) a
     * nested group, a hostile one gets -E2BIG. PCRE2 doubles its vector and holds both for a
     * moment. */
    MATCH_MEMORY_BYTES = 256 << 10,
    /* Steps of one match beyond two for each byte of the text: PCRE2's own default. */
    MATCH_STEPS_MIN = 10 * 1000 * 1000,
};

struct step {
    pcre2_code *code;
    enum pretoken_behavior behavior;
    bool invert;
};

struct pretoken {
    struct step steps[PRETOKEN_STEPS_MAX];
    size_t count;
};

/* A bump allocator that a match grows its frames from; only the newest block is really freed. */
struct pool {
    _Alignas(16) uint8_t bytes[MATCH_MEMORY_BYTES];
    size_t used;
    size_t newest; /* Offset of the newest block. */
};

struct pretoken_scratch {
    struct pretoken_span *spans; /* [text_bytes_max + 1] The result. */
    struct pretoken_span *next;  /* [text_bytes_max + 1] What the current step makes of it. */
    pcre2_general_context *general;
    pcre2_match_context *match;
    pcre2_match_data *data;
    size_t text_bytes_max;
    struct pool pool;
};

int pretoken_open(struct pretoken **out)
{
    struct pretoken *pretoken = calloc(1, sizeof *pretoken);
    if (!pretoken) {
        return -ENOMEM;
    }
    *out = pretoken;
    return 0;
}

void pretoken_close(struct pretoken *pretoken)
{
    if (!pretoken) {
        return;
    }
    for (size_t i = 0; i < pretoken->count; i++) {
        pcre2_code_free(pretoken->steps[i].code);
    }
    free(pretoken);
}

/*
 * Two things are spelled otherwise for PCRE2. Oniguruma's \s is White_Space; PCRE2's also holds
 * U+180E, which is no space since Unicode 6.3 and is common in Mongolian. And DeepSeek's \s+$ costs
 * the square of a run of spaces that ends elsewhere: where it fails at the first space of a run, it
 * fails at the others too, so that it need be tried at the first alone. out holds OUT_BYTES_MAX for
 * PRETOKEN_PATTERN_BYTES_MAX.
 */
enum { OUT_BYTES_MAX = 8 * PRETOKEN_PATTERN_BYTES_MAX };

static const char SPACES_LAST[] = "\\s+$";
static const char FIRST_SPACE[] = "(?<!\\p{White_Space})";

static size_t translate(const struct pretoken_rule *rule, char *out)
{
    static const char name[] = "p{White_Space}";
    size_t count = 0;
    if (rule->bytes == sizeof SPACES_LAST - 1 &&
        memcmp(rule->pattern, SPACES_LAST, rule->bytes) == 0) {
        memcpy(out, FIRST_SPACE, sizeof FIRST_SPACE - 1);
        count = sizeof FIRST_SPACE - 1;
    }
    for (size_t i = 0; i < rule->bytes; i++) {
        out[count++] = rule->pattern[i];
        if (rule->pattern[i] != '\\' || i + 1 == rule->bytes) {
            continue;
        }
        i++; /* The escaped character, so that \\s stays a backslash and an s. */
        if (rule->pattern[i] == 's' || rule->pattern[i] == 'S') {
            memcpy(out + count, name, sizeof name - 1);
            out[count] = rule->pattern[i] == 's' ? 'p' : 'P';
            count += sizeof name - 1;
        } else {
            out[count++] = rule->pattern[i];
        }
    }
    return count;
}

static pcre2_code *compile(const struct pretoken_rule *rule, int *code, size_t *offset)
{
    if (rule->literal) {
        return pcre2_compile((PCRE2_SPTR)rule->pattern, rule->bytes, PCRE2_UTF | PCRE2_LITERAL,
                             code, offset, NULL);
    }
    char *pattern = malloc(OUT_BYTES_MAX);
    if (!pattern) {
        *code = PCRE2_ERROR_NOMEMORY;
        return NULL;
    }
    const size_t bytes = translate(rule, pattern);
    /* In Oniguruma's Ruby syntax $ and ^ match at line ends. \C could split a character. */
    const uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)pattern, bytes, options, code, offset, NULL);
    free(pattern);
    return compiled;
}

int pretoken_add(struct pretoken *pretoken, const struct pretoken_rule *rule,
                 struct model_error *error)
{
    if (pretoken->count == PRETOKEN_STEPS_MAX || rule->bytes > PRETOKEN_PATTERN_BYTES_MAX) {
        return model_error_set(error, -ENOTSUP,
                               "pre-tokenizer: more than %d splits or %d bytes of pattern",
                               PRETOKEN_STEPS_MAX, PRETOKEN_PATTERN_BYTES_MAX);
    }
    int code = 0;
    size_t offset = 0;
    pcre2_code *compiled = compile(rule, &code, &offset);
    if (!compiled) {
        char text[128];
        (void)pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof text);
        return model_error_set(error, code == PCRE2_ERROR_NOMEMORY ? -ENOMEM : -EINVAL,
                               "pre-tokenizer: regular expression '%.*s': %s",
                               rule->bytes > 200 ? 200 : (int)rule->bytes, rule->pattern, text);
    }
    pretoken->steps[pretoken->count++] =
        (struct step){.code = compiled, .behavior = rule->behavior, .invert = rule->invert};
    return 0;
}

static void *pool_malloc(size_t bytes, void *context)
{
    struct pool *pool = context;
    const size_t rounded = (bytes + 15) & ~(size_t)15;
    if (rounded < bytes || rounded > sizeof pool->bytes - pool->used) {
        return NULL;
    }
    pool->newest = pool->used;
    pool->used += rounded;
    return pool->bytes + pool->newest;
}

static void pool_free(void *block, void *context)
{
    struct pool *pool = context;
    if (block == pool->bytes + pool->newest) {
        pool->used = pool->newest;
    }
}

int pretoken_scratch_open(struct pretoken_scratch **out, size_t text_bytes_max)
{
    if (text_bytes_max >= UINT32_MAX / 4) {
        return -ENOMEM;
    }
    struct pretoken_scratch *scratch = calloc(1, sizeof *scratch);
    if (!scratch) {
        return -ENOMEM;
    }
    scratch->text_bytes_max = text_bytes_max;
    scratch->spans = malloc((text_bytes_max + 1) * sizeof *scratch->spans);
    scratch->next = malloc((text_bytes_max + 1) * sizeof *scratch->next);
    scratch->general = pcre2_general_context_create(pool_malloc, pool_free, &scratch->pool);
    must(scratch->general); /* These three need a few hundred bytes of the pool. */
    scratch->match = pcre2_match_context_create(scratch->general);
    scratch->data = pcre2_match_data_create(1, scratch->general);
    must(scratch->match && scratch->data);
    if (!scratch->spans || !scratch->next) {
        pretoken_scratch_close(scratch);
        return -ENOMEM;
    }
    const uint32_t steps = (uint32_t)MATCH_STEPS_MIN + 2 * (uint32_t)text_bytes_max;
    must(pcre2_set_match_limit(scratch->match, steps) == 0);
    *out = scratch;
    return 0;
}

void pretoken_scratch_close(struct pretoken_scratch *scratch)
{
    if (!scratch) {
        return;
    }
    free(scratch->spans); /* PCRE2's objects lie in the pool. */
    free(scratch->next);
    free(scratch);
}

/* The pieces that a step makes of one piece. */
struct cutter {
    const struct step *step;
    struct pretoken_span *spans;
    size_t count;
    bool started; /* There is a piece that the next one may join. */
    bool matched; /* The last one was a match. */
};

static void cut(struct cutter *cutter, size_t start, size_t end, bool is_match)
{
    if (start == end) {
        return;
    }
    const bool match = is_match != cutter->step->invert;
    bool joins = false;
    switch (cutter->step->behavior) {
    case PRETOKEN_ISOLATED:
        break;
    case PRETOKEN_REMOVED:
        if (match) {
            return;
        }
        break;
    case PRETOKEN_CONTIGUOUS:
        joins = match == cutter->matched;
        break;
    case PRETOKEN_MERGED_PREVIOUS:
        joins = match && !cutter->matched;
        break;
    case PRETOKEN_MERGED_NEXT:
        joins = !match && cutter->matched;
        break;
    }
    if (joins && cutter->started) {
        cutter->spans[cutter->count - 1].end = (uint32_t)end;
    } else {
        cutter->spans[cutter->count++] = (struct pretoken_span){(uint32_t)start, (uint32_t)end};
    }
    cutter->started = true;
    cutter->matched = match;
}

/* Cuts one piece of text. Its neighbours do not exist for the expression. */
static int cut_piece(struct cutter *cutter, const struct pretoken_scratch *scratch,
                     const char *text, struct pretoken_span piece)
{
    PCRE2_SPTR subject = (PCRE2_SPTR)text + piece.start;
    const size_t bytes = piece.end - piece.start;
    size_t done = 0; /* Cut so far. */
    size_t from = 0; /* Where the search goes on. */
    cutter->started = false;
    while (from < bytes) {
        const int found = pcre2_match(cutter->step->code, subject, bytes, from, PCRE2_NO_UTF_CHECK,
                                      scratch->data, scratch->match);
        if (found == PCRE2_ERROR_NOMATCH) {
            break;
        }
        if (found < 0) { /* A limit: nothing else can go wrong with a checked text. */
            return -E2BIG;
        }
        const size_t *ends = pcre2_get_ovector_pointer(scratch->data);
        if (ends[1] <= ends[0]) { /* Empty: a place to cut, then on to the next character. */
            must(ends[0] >= from && ends[0] <= bytes);
            if (ends[0] > done) {
                cut(cutter, piece.start + done, piece.start + ends[0], false);
                cutter->started = false;
                done = ends[0];
            }
            from = ends[0] < bytes ? ends[0] + utf8_lead(subject[ends[0]]) : bytes;
            continue;
        }
        cut(cutter, piece.start + done, piece.start + ends[0], false);
        cut(cutter, piece.start + ends[0], piece.start + ends[1], true);
        done = ends[1];
        from = ends[1];
    }
    cut(cutter, piece.start + done, piece.end, false);
    return 0;
}

int pretoken_split(const struct pretoken *pretoken, struct pretoken_scratch *scratch,
                   const char *text, size_t bytes, const struct pretoken_span **spans,
                   size_t *count)
{
    size_t pieces = 0;
    must(bytes <= scratch->text_bytes_max);
    if (bytes > 0) {
        scratch->spans[pieces++] = (struct pretoken_span){0, (uint32_t)bytes};
    }
    for (size_t i = 0; i < pretoken->count; i++) {
        struct cutter cutter = {.step = &pretoken->steps[i], .spans = scratch->next};
        for (size_t piece = 0; piece < pieces; piece++) {
            const int error = cut_piece(&cutter, scratch, text, scratch->spans[piece]);
            if (error) {
                return error;
            }
        }
        scratch->next = scratch->spans;
        scratch->spans = cutter.spans;
        pieces = cutter.count;
    }
    *spans = scratch->spans;
    *count = pieces;
    return 0;
}
