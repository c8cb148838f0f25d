/*
 * plot.c - lays a benchmark run out as a picture. Called by sluice-bench once after a run; owns
 * nothing. From top to bottom:
 *
 *   title, load, totals
 *   latencies: share of requests (ITL: of gaps) over time, on a scale of powers | table of figures
 *   throughput: tokens in and out a second
 *   requests under way
 *
 * Groups of the SVG have ids, so that a test, or a style of the reader's, finds them.
 */
#include "tools/plot.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "tools/axis.h"
#include "tools/svg.h"

enum {
    WIDTH = 960,
    HEIGHT = 900,
    LEFT = 76,
    RIGHT = 928,
    LATENCY_RIGHT = 580,
    LATENCY_TOP = 138,
    LATENCY_BOTTOM = 398,
    TABLE_LEFT = 614,
    TOKENS_TOP = 500,
    TOKENS_BOTTOM = 660,
    LIVE_TOP = 730,
    LIVE_BOTTOM = 840,
    CURVE_POINTS = 200,
    TIME_POINTS = 80, /* Fewer points than pixels: a curve, not noise. */
    TEXT_BYTES = 160,
};

/* The place of a panel. */
struct panel {
    struct axis across;
    struct axis up;
};

static const double latency_floor_ms = 0.01; /* Below it a logarithm shows clocks, not agents. */

static struct svg_point at(double x, double y)
{
    return (struct svg_point){x, y};
}

static struct svg_point place(const struct panel *panel, double x, double y)
{
    return at(axis_place(&panel->across, x), axis_place(&panel->up, y));
}

/* A duration with its unit: a tick's, as short as it can be. */
static void name_tick(double ms, char text[TEXT_BYTES])
{
    (void)snprintf(text, TEXT_BYTES, ms >= 1e3 ? "%.6g s" : "%.6g ms", ms >= 1e3 ? ms / 1e3 : ms);
}

/* A measured one, in three digits. */
static void name_figure(double ms, char text[TEXT_BYTES])
{
    const double value = ms >= 1e3 ? ms / 1e3 : ms;
    const int digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;

    (void)snprintf(text, TEXT_BYTES, "%.*f %s", digits, value, ms >= 1e3 ? "s" : "ms");
}

static void draw_up_axis(FILE *out, const struct panel *panel, const char *unit, const char *title)
{
    struct axis_tick ticks[AXIS_TICKS_MAX];
    const size_t count = axis_ticks(&panel->up, ticks);
    const double left = panel->across.from_px, right = panel->across.to_px;
    const double middle = (panel->up.from_px + panel->up.to_px) / 2;
    char text[TEXT_BYTES];

    for (size_t i = 0; i < count; i++) {
        const double y = axis_place(&panel->up, ticks[i].value);
        svg_line(out, at(left, y), at(right, y), ticks[i].value == 0 ? "axis" : "grid");
        (void)snprintf(text, sizeof text, "%.10g%s", ticks[i].value, unit);
        svg_text(out, at(left - 8, y + 4), SVG_RIGHT, "label", text);
    }
    svg_text_upright(out, at(24, middle), "label", title);
}

static void draw_across_axis(FILE *out, const struct panel *panel, const char *title)
{
    struct axis_tick ticks[AXIS_TICKS_MAX];
    const size_t count = axis_ticks(&panel->across, ticks);
    const double top = panel->up.to_px, bottom = panel->up.from_px;
    char text[TEXT_BYTES];

    for (size_t i = 0; i < count; i++) {
        const double x = axis_place(&panel->across, ticks[i].value);
        svg_line(out, at(x, top), at(x, bottom), "grid");
        if (!ticks[i].labelled) {
            continue;
        }
        if (panel->across.logarithmic) {
            name_tick(ticks[i].value, text);
        } else {
            (void)snprintf(text, sizeof text, "%.10g", ticks[i].value);
        }
        svg_text(out, at(x, bottom + 18), SVG_MIDDLE, "label", text);
    }
    svg_text(out, at((panel->across.from_px + panel->across.to_px) / 2, bottom + 36), SVG_MIDDLE,
             "label", title);
}

/* The scale that holds every latency but the smallest thousandth. */
static struct axis scale_latencies(const struct report *report)
{
    double low = INFINITY, high = 0;

    for (size_t i = 0; i < REPORT_INTERVALS; i++) {
        const struct report_values *values = &report->values[i];
        if (values->count > 0) {
            low = fmin(low, report_quantile(values, 0.001));
            high = fmax(high, report_quantile(values, 1));
        }
    }
    low = fmax(isfinite(low) ? low : 1, latency_floor_ms);
    return axis_logarithmic(low, fmax(high, low), LEFT, LATENCY_RIGHT);
}

static void draw_distribution(FILE *out, const struct panel *panel,
                              const struct report_values *values, size_t series)
{
    struct svg_point points[CURVE_POINTS + 1];
    char classes[TEXT_BYTES];

    if (values->count == 0) {
        return;
    }
    for (size_t i = 0; i <= CURVE_POINTS; i++) {
        const double share = (double)i / CURVE_POINTS;
        points[i] = place(panel, report_quantile(values, share), 100 * share);
    }
    (void)snprintf(classes, sizeof classes, "line s%zu", series);
    svg_curve(out, points, CURVE_POINTS + 1, classes);
}

/* A dashed line where --goodput draws it. */
static void draw_limit(FILE *out, const struct panel *panel, double limit_ms, size_t series)
{
    char classes[TEXT_BYTES];

    if (limit_ms > panel->across.low && limit_ms < panel->across.high) {
        (void)snprintf(classes, sizeof classes, "limit s%zu", series);
        svg_line(out, place(panel, limit_ms, 0), place(panel, limit_ms, 100), classes);
    }
}

/* The legend, which is a table of the figures too. */
static void draw_table(FILE *out, struct report *report)
{
    static const double columns[] = {736, 800, 864, RIGHT};
    static const char *const heads[] = {"median", "mean", "p99", "max"};
    static const char *const long_names[] = {"time to first token", "time per further token",
                                             "gap between messages", "end to end"};
    char text[TEXT_BYTES];

    for (size_t i = 0; i < 4; i++) {
        svg_text(out, at(columns[i], LATENCY_TOP + 4), SVG_RIGHT, "small", heads[i]);
    }
    for (size_t i = 0; i < REPORT_INTERVALS; i++) {
        const struct report_values *values = &report->values[i];
        const struct report_figures figures = report_figures(&report->values[i]);
        const double max = values->count ? report_quantile(values, 1) : 0;
        const double row[] = {figures.median, figures.mean, figures.p99, max};
        const double y = LATENCY_TOP + 32 + 44 * (double)i;
        (void)snprintf(text, sizeof text, "s%zu", i);
        svg_box(out, at(TABLE_LEFT, y - 7), at(12, 4), text);
        svg_text(out, at(TABLE_LEFT + 20, y), SVG_LEFT, "strong",
                 report_name((enum report_interval)i));
        svg_text(out, at(TABLE_LEFT + 20, y + 15), SVG_LEFT, "small", long_names[i]);
        for (size_t j = 0; j < 4 && values->count > 0; j++) {
            name_figure(row[j], text);
            svg_text(out, at(columns[j], y), SVG_RIGHT, "label", text);
        }
    }
}

static void name_goodput(const struct report *report, char text[TEXT_BYTES])
{
    const struct goodput *goodput = &report->goodput;
    const struct {
        const char *name;
        double limit_ms;
    } rows[] = {{"TTFT", goodput->ttft_ms}, {"TPOT", goodput->tpot_ms}, {"E2EL", goodput->e2el_ms}};
    size_t count =
        (size_t)snprintf(text, TEXT_BYTES, "%u of %u within", report->good, report->completed);

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].limit_ms > 0) {
            count += (size_t)snprintf(text + count, TEXT_BYTES - count, " %s %.6g ms", rows[i].name,
                                      rows[i].limit_ms);
        }
    }
}

static void draw_latencies(FILE *out, struct report *report)
{
    struct panel panel;
    char text[TEXT_BYTES];

    for (size_t i = 0; i < REPORT_INTERVALS; i++) {
        (void)report_figures(&report->values[i]); /* Sorts. */
    }
    panel = (struct panel){scale_latencies(report), {0, 100, LATENCY_BOTTOM, LATENCY_TOP, false}};
    svg_group_begin(out, "latencies");
    svg_text(out, at(LEFT, LATENCY_TOP - 16), SVG_LEFT, "strong", "Latencies");
    draw_across_axis(out, &panel, "latency (logarithmic)");
    draw_up_axis(out, &panel, " %", "share at most so long");
    draw_limit(out, &panel, report->goodput.ttft_ms, REPORT_TTFT);
    draw_limit(out, &panel, report->goodput.tpot_ms, REPORT_TPOT);
    draw_limit(out, &panel, report->goodput.e2el_ms, REPORT_E2EL);
    for (size_t i = 0; i < REPORT_INTERVALS; i++) {
        draw_distribution(out, &panel, &report->values[i], i);
    }
    draw_table(out, report);
    if (goodput_given(&report->goodput)) {
        name_goodput(report, text);
        svg_text(out, at(TABLE_LEFT, LATENCY_BOTTOM - 18), SVG_LEFT, "strong", "Goodput (dashed)");
        svg_text(out, at(TABLE_LEFT, LATENCY_BOTTOM), SVG_LEFT, "label", text);
    }
    svg_group_end(out);
}

/* The series over time, by points. */
struct series {
    size_t count;
    double seconds[TIME_POINTS];
    double in_rate[TIME_POINTS];
    double out_rate[TIME_POINTS];
    double live[TIME_POINTS];
};

/* So many bins of the timeline make one point: a round number of tenths of a second. */
static size_t bins_of_point(const struct timeline *timeline)
{
    static const size_t rounds[] = {1, 2, 5, 10, 20, 50, 100, 150, 300, 600, 1200, 3000, 6000};
    const size_t bins = timeline->bin_count;

    for (size_t i = 0; i < sizeof rounds / sizeof rounds[0]; i++) {
        if (bins <= rounds[i] * TIME_POINTS) {
            return rounds[i];
        }
    }
    return (bins + TIME_POINTS - 1) / TIME_POINTS;
}

static void sum_series(const struct timeline *timeline, size_t width, struct series *series)
{
    const double end_s = (double)(timeline->seen_us - timeline->start_us) / 1e6;
    const double width_s = (double)width * TIMELINE_BIN_US / 1e6;

    must((timeline->bin_count + width - 1) / width <= TIME_POINTS);
    for (size_t i = 0; i * width < timeline->bin_count; i++) {
        const struct timeline_bin sum = timeline_sum(timeline, i * width, width);
        const double from_s = (double)i * width_s;
        const double span_s = fmin(width_s, end_s - from_s);
        const size_t at = series->count;
        if (i > 0 && span_s < width_s / 2) {
            break; /* A rate over so short a rest says nothing. */
        }
        series->seconds[at] = from_s + span_s / 2;
        series->in_rate[at] = sum.in_tokens / span_s;
        series->out_rate[at] = sum.out_tokens / span_s;
        series->live[at] = sum.live_us / 1e6 / span_s;
        series->count++;
    }
}

static double find_max(const double *values, size_t count)
{
    double max = 0;

    for (size_t i = 0; i < count; i++) {
        max = fmax(max, values[i]);
    }
    return max;
}

/* A line over time and the area below it. */
static void draw_series(FILE *out, const struct panel *panel, const struct series *series,
                        const double *values, size_t colour)
{
    struct svg_point points[TIME_POINTS + 2];
    char classes[TEXT_BYTES];

    for (size_t i = 0; i < series->count; i++) {
        points[i] = place(panel, series->seconds[i], values[i]);
    }
    points[series->count] = at(points[series->count - 1].x, panel->up.from_px);
    points[series->count + 1] = at(points[0].x, panel->up.from_px);
    (void)snprintf(classes, sizeof classes, "area s%zu", colour);
    svg_curve(out, points, series->count + 2, classes);
    (void)snprintf(classes, sizeof classes, "line s%zu", colour);
    svg_curve(out, points, series->count, classes);
}

static void draw_legend(FILE *out, double right, double y, size_t colour, const char *name)
{
    char classes[TEXT_BYTES];

    (void)snprintf(classes, sizeof classes, "s%zu", colour);
    svg_box(out, at(right - 120, y - 7), at(12, 4), classes);
    svg_text(out, at(right - 102, y), SVG_LEFT, "label", name);
}

static void draw_tokens(FILE *out, const struct axis *across, const struct series *series,
                        double point_s)
{
    const double high =
        fmax(find_max(series->in_rate, series->count), find_max(series->out_rate, series->count));
    const struct panel panel = {*across, axis_linear(high, TOKENS_BOTTOM, TOKENS_TOP)};
    char text[TEXT_BYTES];

    svg_group_begin(out, "throughput");
    (void)snprintf(text, sizeof text, "Throughput, mean of each %.10g s", point_s);
    svg_text(out, at(LEFT, TOKENS_TOP - 16), SVG_LEFT, "strong", text);
    draw_legend(out, RIGHT - 130, TOKENS_TOP - 16, 0, "prompt tokens");
    draw_legend(out, RIGHT, TOKENS_TOP - 16, 1, "output tokens");
    draw_across_axis(out, &panel, "");
    draw_up_axis(out, &panel, "", "tokens/s");
    draw_series(out, &panel, series, series->in_rate, 0);
    draw_series(out, &panel, series, series->out_rate, 1);
    svg_group_end(out);
}

static void draw_live(FILE *out, const struct axis *across, const struct series *series)
{
    const double high = find_max(series->live, series->count);
    const struct panel panel = {*across, axis_linear(high, LIVE_BOTTOM, LIVE_TOP)};

    svg_group_begin(out, "live");
    svg_text(out, at(LEFT, LIVE_TOP - 16), SVG_LEFT, "strong", "Requests under way");
    draw_across_axis(out, &panel, "time since the start (s)");
    draw_up_axis(out, &panel, "", "requests");
    draw_series(out, &panel, series, series->live, 2);
    svg_group_end(out);
}

static void draw_time(FILE *out, const struct timeline *timeline)
{
    const size_t width = bins_of_point(timeline);
    const double end_s = (double)(timeline->seen_us - timeline->start_us) / 1e6;
    struct axis across = axis_linear(end_s, LEFT, RIGHT);
    struct series *series = calloc(1, sizeof *series);

    must(series);
    across.high = fmax(end_s, 1e-3); /* No empty rest on the right. */
    sum_series(timeline, width, series);
    if (series->count > 0) {
        draw_tokens(out, &across, series, (double)width * TIMELINE_BIN_US / 1e6);
        draw_live(out, &across, series);
    }
    free(series);
}

static void draw_head(FILE *out, const struct plot *plot)
{
    const struct report *report = plot->report;
    const double seconds = report->duration_s > 0 ? report->duration_s : 1;
    char text[TEXT_BYTES];

    svg_text(out, at(LEFT, 42), SVG_LEFT, "title", plot->title);
    svg_text(out, at(LEFT, 64), SVG_LEFT, "label", plot->subtitle);
    (void)snprintf(text, sizeof text,
                   "%u requests in %.1f s, %u failed; %.2f requests/s, %.0f prompt + %.0f output "
                   "tokens/s",
                   report->completed, report->duration_s, report->failed,
                   report->completed / seconds, (double)report->input_tokens / seconds,
                   (double)report->output_tokens / seconds);
    svg_text(out, at(LEFT, 82), SVG_LEFT, "label", text);
}

int plot_write(const struct plot *plot, FILE *out)
{
    svg_begin(out, WIDTH, HEIGHT, plot->title);
    draw_head(out, plot);
    draw_latencies(out, plot->report);
    draw_time(out, plot->timeline);
    svg_end(out);
    errno = 0;
    if (fflush(out) != 0 || ferror(out)) {
        return errno ? -errno : -EIO;
    }
    return 0;
}
