/*
 * trace.c - see trace.h. Called by sluice-bench and sluice-tune on their one thread; the file is
 * the caller's. Invariant: between start and end what is written is a JSON array without its end.
 */
#include "tools/trace.h"

#include <errno.h>
#include <inttypes.h>

void trace_start(struct trace *trace, FILE *file)
{
    *trace = (struct trace){.file = file};
    (void)fputs("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[", file);
}

static void separate(struct trace *trace)
{
    (void)fputs(trace->count++ > 0 ? ",\n" : "\n", trace->file);
}

void trace_name_row(struct trace *trace, uint32_t row, const char *name)
{
    separate(trace);
    (void)fprintf(trace->file,
                  "{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":1,\"tid\":%" PRIu32
                  ",\"args\":{\"name\":\"%s\"}}",
                  row, name);
}

void trace_add(struct trace *trace, const struct trace_span *span)
{
    separate(trace);
    (void)fprintf(trace->file,
                  "{\"name\":\"%s\",\"cat\":\"%s\",\"pid\":1,\"tid\":%" PRIu32 ",\"ts\":%.3f,",
                  span->name, span->kind, span->row, span->start_us);
    if (span->duration_us < 0) {
        (void)fputs("\"ph\":\"i\",\"s\":\"t\",", trace->file);
    } else {
        (void)fprintf(trace->file, "\"ph\":\"X\",\"dur\":%.3f,", span->duration_us);
    }
    (void)fputs("\"args\":{", trace->file);
    for (uint32_t i = 0; i < TRACE_FACTS_MAX && span->fact[i].name; i++) {
        (void)fprintf(trace->file, "%s\"%s\":%" PRId64, i > 0 ? "," : "", span->fact[i].name,
                      span->fact[i].value);
    }
    (void)fputs("}}", trace->file);
}

int trace_end(struct trace *trace)
{
    (void)fputs("\n]}\n", trace->file);
    return fflush(trace->file) == 0 && !ferror(trace->file) ? 0 : -EIO;
}
