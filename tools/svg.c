/*
 * svg.c - the words of SVG that plots need. Called by plot.c; no state, and no error of its own:
 * the caller looks at the stream when all is written. The file needs nothing from outside: fonts
 * are the reader's.
 */
#include "tools/svg.h"

#include <stdint.h>
#include <string.h>

#include "model/utf8.h"

static const char style[] =
    "text{font-family:'Inter','Segoe UI','Helvetica Neue','DejaVu Sans',Arial,sans-serif;"
    "font-size:12px;fill:#4a4f57}\n"
    ".title{font-size:19px;font-weight:600;fill:#1d2127}\n"
    ".strong{font-size:13px;font-weight:600;fill:#1d2127}\n"
    ".small{font-size:11px;fill:#6b717a}\n"
    ".page{fill:#ffffff}\n"
    ".grid{stroke:#e6e8eb;stroke-width:1}\n"
    ".axis{stroke:#9aa0a8;stroke-width:1}\n"
    ".line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}\n"
    ".area{fill-opacity:.16;stroke:none}\n"
    ".pale{fill-opacity:.25}\n"
    ".limit{stroke-width:1.5;stroke-dasharray:5 4}\n"
    ".s0{stroke:#2f6bd0;fill:#2f6bd0}.s1{stroke:#d9731a;fill:#d9731a}\n"
    ".s2{stroke:#15917c;fill:#15917c}.s3{stroke:#8553c4;fill:#8553c4}\n"
    ".line.s0,.line.s1,.line.s2,.line.s3{fill:none}\n"
    ".box.s0,.box.s1,.box.s2,.box.s3{stroke:none}.inside{fill:#ffffff}\n"
    ".area.s0,.area.s1,.area.s2,.area.s3{stroke:none}\n"
    "@media (prefers-color-scheme:dark){\n"
    "text{fill:#b4bac3}.title,.strong{fill:#eceff3}.small{fill:#949ba5}\n"
    ".page{fill:#16181d}.grid{stroke:#2a2e35}.axis{stroke:#666d77}\n"
    ".inside{fill:#16181d}"
    ".s0{stroke:#7aa7f5;fill:#7aa7f5}.s1{stroke:#f2a25c;fill:#f2a25c}\n"
    ".s2{stroke:#52c9b3;fill:#52c9b3}.s3{stroke:#bb95f0;fill:#bb95f0}\n"
    "}\n";

static void write_text(FILE *out, const char *text)
{
    const size_t count = strlen(text);

    for (size_t at = 0; at < count;) {
        uint32_t codepoint;
        const size_t bytes = utf8_next(text + at, count - at, &codepoint);
        if (bytes == 0 || codepoint < 0x20 || codepoint == 0xFFFE || codepoint == 0xFFFF) {
            (void)fputs("\xEF\xBF\xBD", out); /* U+FFFD */
        } else if (codepoint == '<') {
            (void)fputs("&lt;", out);
        } else if (codepoint == '&') {
            (void)fputs("&amp;", out);
        } else if (codepoint == '>') {
            (void)fputs("&gt;", out);
        } else {
            (void)fwrite(text + at, 1, bytes, out);
        }
        at += bytes ? bytes : 1;
    }
}

void svg_begin(FILE *out, double width, double height, const char *title)
{
    (void)fprintf(out,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
                  "viewBox=\"0 0 %.0f %.0f\" role=\"img\">\n<title>",
                  width, height, width, height);
    write_text(out, title);
    (void)fprintf(out, "</title>\n<style>\n%s</style>\n", style);
    svg_box(out, (struct svg_point){0, 0}, (struct svg_point){width, height}, "page");
}

void svg_end(FILE *out)
{
    (void)fputs("</svg>\n", out);
}

void svg_group_begin(FILE *out, const char *id)
{
    (void)fprintf(out, "<g id=\"%s\">\n", id);
}

void svg_group_end(FILE *out)
{
    (void)fputs("</g>\n", out);
}

void svg_box(FILE *out, struct svg_point corner, struct svg_point size, const char *classes)
{
    (void)fprintf(out,
                  "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>\n",
                  classes, corner.x, corner.y, size.x, size.y);
}

void svg_line(FILE *out, struct svg_point from, struct svg_point to, const char *classes)
{
    (void)fprintf(out, "<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n",
                  classes, from.x, from.y, to.x, to.y);
}

void svg_curve(FILE *out, const struct svg_point *points, size_t count, const char *classes)
{
    (void)fprintf(out, "<path class=\"%s\" d=\"", classes);
    for (size_t i = 0; i < count; i++) {
        (void)fprintf(out, "%c%.1f %.1f", i == 0 ? 'M' : 'L', points[i].x, points[i].y);
    }
    (void)fputs("\"/>\n", out);
}

void svg_text(FILE *out, struct svg_point at, enum svg_anchor anchor, const char *classes,
              const char *text)
{
    static const char *const anchors[] = {"start", "middle", "end"};

    (void)fprintf(out, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", classes,
                  at.x, at.y, anchors[anchor]);
    write_text(out, text);
    (void)fputs("</text>\n", out);
}

void svg_text_upright(FILE *out, struct svg_point at, const char *classes, const char *text)
{
    (void)fprintf(out,
                  "<text class=\"%s\" text-anchor=\"middle\" transform=\"translate(%.1f %.1f) "
                  "rotate(-90)\">",
                  classes, at.x, at.y);
    write_text(out, text);
    (void)fputs("</text>\n", out);
}
