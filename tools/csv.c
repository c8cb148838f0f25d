/*
 * csv.c - takes lines of lengths, and of times where they matter, out of CSV. Called by workload.c
 * line by line; owns nothing. Fields hold no quotes, commas or breaks: a quote is malformed.
 *
 * Times are "YYYY-MM-DD HH:MM:SS" with a fraction of any length, in UTC; they become microseconds
 * from the year 0, of which only differences are used.
 */
#include "tools/csv.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { COLUMNS_MAX = 64, SECONDS_OF_DAY = 86400 };

/* A field of a line. */
struct csv_field {
    const char *bytes;
    size_t count;
};

static int refuse(char error[WORKLOAD_ERROR_BYTES_MAX], const char *what)
{
    (void)snprintf(error, WORKLOAD_ERROR_BYTES_MAX, "%s", what);
    return -EBADMSG;
}

/* Field number index of a line. False: the line is shorter. */
static bool find_field(const char *line, uint32_t index, struct csv_field *out)
{
    for (; index > 0; index--) {
        line = strchr(line, ',');
        if (!line) {
            return false;
        }
        line++;
    }
    *out = (struct csv_field){line, strcspn(line, ",")};
    return true;
}

static bool is_one_of(const struct csv_field *field, const char *const names[], size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strlen(names[i]) == field->count && memcmp(names[i], field->bytes, field->count) == 0) {
            return true;
        }
    }
    return false;
}

/* The column of a name, or COLUMNS_MAX. */
static uint32_t find_column(const char *line, const char *const names[], size_t count)
{
    struct csv_field field;

    for (uint32_t i = 0; i < COLUMNS_MAX && find_field(line, i, &field); i++) {
        if (is_one_of(&field, names, count)) {
            return i;
        }
    }
    return COLUMNS_MAX;
}

int csv_open(struct csv *csv, const char *line, bool timed, char error[WORKLOAD_ERROR_BYTES_MAX])
{
    static const char *const times[] = {"TIMESTAMP"};
    static const char *const ins[] = {"ContextTokens", "num_prefill_tokens"};
    static const char *const outs[] = {"GeneratedTokens", "num_decode_tokens"};

    if (!timed && isdigit((unsigned char)line[0])) {
        *csv = (struct csv){.in_column = 0, .out_column = 1};
        return 0;
    }
    *csv = (struct csv){
        .time_column = find_column(line, times, 1),
        .in_column = find_column(line, ins, 2),
        .out_column = find_column(line, outs, 2),
        .timed = timed,
        .headed = true,
    };
    if (csv->in_column == COLUMNS_MAX || csv->out_column == COLUMNS_MAX) {
        return refuse(error, "the header names no ContextTokens or no GeneratedTokens");
    }
    if (timed && csv->time_column == COLUMNS_MAX) {
        return refuse(error, "the header names no TIMESTAMP");
    }
    return 0;
}

/* A whole decimal number that fills the field. */
static bool read_count(const struct csv_field *field, uint32_t *out)
{
    uint64_t value = 0;

    for (size_t i = 0; i < field->count; i++) {
        if (!isdigit((unsigned char)field->bytes[i]) || value > UINT32_MAX) {
            return false;
        }
        value = 10 * value + (uint64_t)(field->bytes[i] - '0');
    }
    *out = (uint32_t)value;
    return field->count > 0 && value <= UINT32_MAX;
}

static int read_lengths(const struct csv *csv, const char *line, struct workload_line *out,
                        char error[WORKLOAD_ERROR_BYTES_MAX])
{
    struct csv_field in_field, out_field;

    if (!find_field(line, csv->in_column, &in_field) ||
        !find_field(line, csv->out_column, &out_field)) {
        return refuse(error, "a column is missing");
    }
    if (!read_count(&in_field, &out->in_tokens) || !read_count(&out_field, &out->out_tokens)) {
        return refuse(error, "a length is not a whole number of tokens");
    }
    return 0;
}

/* Days since the first of March of the year 0 in the Gregorian calendar: years that start in March
 * have their leap day last, and (153 m + 2) / 5 is the sum of the months before m. */
static uint64_t count_days(uint32_t year, uint32_t month, uint32_t day)
{
    const uint64_t years = month > 2 ? year : year - 1;
    const uint64_t months = month > 2 ? month - 3 : month + 9;

    return 365 * years + years / 4 - years / 100 + years / 400 + (153 * months + 2) / 5 + day - 1;
}

/* Digits behind the seconds as microseconds; *at moves behind them. */
static uint64_t read_fraction(const char **at)
{
    uint64_t micros = 0, weight = 100000;

    if (**at != '.') {
        return 0;
    }
    for ((*at)++; isdigit((unsigned char)**at); (*at)++) {
        micros += (uint64_t)(**at - '0') * weight;
        weight /= 10;
    }
    return micros;
}

/* A number of exactly so many digits with one character behind it that is one of ends, or the end
 * of the field where ends is empty. */
static bool read_part(const char **at, int digits, const char *ends, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < digits; i++, (*at)++) {
        if (!isdigit((unsigned char)**at)) {
            return false;
        }
        *out = 10 * *out + (uint32_t)(**at - '0');
    }
    if (ends[0] == '\0') {
        return true;
    }
    return **at != '\0' && strchr(ends, *(*at)++) != NULL;
}

static bool read_time(const struct csv_field *field, uint64_t *out_us)
{
    const char *at = field->bytes;
    uint32_t year, month, day, hour, minute, second;
    uint64_t micros;

    if (!read_part(&at, 4, "-", &year) || !read_part(&at, 2, "-", &month) ||
        !read_part(&at, 2, " T", &day) || !read_part(&at, 2, ":", &hour) ||
        !read_part(&at, 2, ":", &minute) || !read_part(&at, 2, "", &second)) {
        return false;
    }
    micros = read_fraction(&at);
    if (strncmp(at, "+00:00", 6) == 0) {
        at += 6;
    }
    if (at != field->bytes + field->count || year == 0 || month - 1 > 11 || day - 1 > 30 ||
        hour > 23 || minute > 59 || second > 60) {
        return false;
    }
    *out_us = 1000000 * (SECONDS_OF_DAY * count_days(year, month, day) + 3600 * (uint64_t)hour +
                         60 * (uint64_t)minute + second) +
              micros;
    return true;
}

int csv_read(const struct csv *csv, const char *line, struct workload_line *out,
             char error[WORKLOAD_ERROR_BYTES_MAX])
{
    struct csv_field field;

    out->arrival_us = 0;
    out->block_count = 0;
    if (csv->timed &&
        (!find_field(line, csv->time_column, &field) || !read_time(&field, &out->arrival_us))) {
        return refuse(error, "TIMESTAMP is not YYYY-MM-DD HH:MM:SS.fraction in UTC");
    }
    return read_lengths(csv, line, out, error);
}
