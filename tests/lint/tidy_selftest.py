#!/usr/bin/env python3
"""tidy_selftest.py - one bad snippet for every rule of tidy.py, and good code that must pass.

Run by ctest before the tree is judged: a rule that catches nothing is worse than none.
"""
import sys

import tidy

OPENING = "/*\n * part.c - a part. Called by the loop; owns nothing.\n */\n"
HEADER = "/* part.h - a part. */\n#ifndef BASE_PART_H\n#define BASE_PART_H\n%s" \
    "#endif /* BASE_PART_H */\n"


def part(code):
    return {"base/part.c": OPENING + code}


def function(body, head="int part_run(int a)"):
    return part(f"{head}\n{{\n{body}}}\n")


def kernel(code):
    return {"kernels/cuda/part.cu": OPENING.replace("part.c", "part.cu") + code}


GOOD = OPENING + """#include "base/part.h"

#include <stdint.h>
#include <stdio.h>

#define PART_DO(x) \\
    do {           \\
        (void)(x); \\
    } while (0)

struct part_row {
    const char *name; /* strcpy(a, b) in a comment, and "TO" "DO". */
    int (*run)(int a, int b, int c);
};

enum { PART_ROWS = 2 };
static_assert(sizeof(struct part_row) == 16, "two pointers, (a, b, c, d, e, f, g)");

static const struct part_row rows[PART_ROWS] = {
    {"sprintf(", NULL},
    {.name = "b", .run = NULL},
};
static const char *const names[] = {"a", "b"};
static int (*const table[])(int a) = {NULL};
_Alignas(64) static const uint8_t zeros[64];
static const struct {
    const char *name;
    int (*run)(const char *name);
} verbs[] = {
    {"run", NULL},
};

static int four_levels(const struct part_row *const *grid, int a, int b, int c, int d, int e)
{
    static const int steps[] = {1, 2};
    for (int i = 0; i < a; i++) {
        while (b) {
            if (c) {
                switch (d) {
                case 1:
                    *e = (struct part_row){{{0}}};
                    break;
                }
            } else if (a) {
                b--;
            } else if (b) {
                b--;
            }
        }
    }
    return steps[0] + (grid != NULL) + snapshot.four_levels(1);
}

uint64_t part_run(void (*visit)(int a, int b, int c), const char *text) MUST_CHECK;
"""

DEEP = """    for (;;) {
        for (;;) {
            if (a) {
                while (a) {
                    if (a) {
                        a--;
                    }
                }
            }
        }
    }
"""

BAD = [
    ("803 lines", part("int a(void);\n" * 800)),
    ("204 lines", {"base/part.h": HEADER % ("int a(void);\n" * 200)}),
    ("no opening comment", {"base/part.c": "int a(void);\n"}),
    ("the opening comment starts with", {"base/part.c": "/*\n * words\n */\nint a(void);\n"}),
    ("opening comment of 1 lines", {"base/part.c": "/* part.c - a part. */\nint a(void);\n"}),
    ("opening comment of 31", {"base/part.c": "/*\n * part.c - a" + "\n * b" * 28 + "\n */\n"}),
    ("guard should be BASE_PART_H", {"base/part.h": "/* part.h - a part. */\n#pragma once\n"}),
    ("guard should be BASE_PART_H", {"base/part.h": (HEADER % "").replace("if /*", "if /* X")}),
    ("has 71 lines, limit 70", function("    a++;\n" * 71)),
    ("has 7 parameters", function("    return a;\n", "int f(int a, int b, int c,\n      int d, "
                                  "int e, int f,\n      int g)")),
    ("has 7 parameters", {"base/part.h": HEADER % "int f(int a, int b, int c, int d, int e,\n"
                                                  "      int f, int (*g)(int, int));\n"}),
    ("nests 5 levels", function(DEEP)),
    ("calls itself", function("    return part_run(a - 1);\n")),
    ("mutable file-scope", part("static int count;\n")),
    ("mutable file-scope", part("static const char *name;\n")),
    ("mutable file-scope", part("static const char *names[] = {\"a\"};\n")),
    ("mutable file-scope", part("int table[4] = {0};\n")),
    ("mutable file-scope", part("static struct {\n    int a;\n} state;\n")),
    ("mutable file-scope", part("static int (*hook)(int a);\n")),
    ("mutable file-scope", part("static struct {\n    const int a;\n} s[] = {{0}};\n")),
    ("mutable file-scope", part("struct part {\n    int a;\n} part;\n")),
    ("mutable file-scope", part("static _Atomic uint32_t stopped;\n")),
    ("mutable static state", function("    static int calls;\n    return calls++;\n")),
    ("no typedef for structs", part("typedef struct part {\n    int a;\n} part;\n")),
    ("hidden in a thread", part("static _Thread_local int a;\n")),
    ("use the bounded form", function("    strcpy(a, b);\n")),
    ("use the bounded form", function("    (void)sprintf(a, \"%d\", b);\n")),
    ("use the bounded form", function("    strtok (a, b);\n")),
    ("it cannot report an error", function("    return atoi(a);\n")),
    ("the stack does not grow", function("    return alloca(a);\n")),
    ("must() stays on", function("    assert(a);\n")),
    ("time comes from base/clock.c", function("    clock_gettime(CLOCK_REALTIME, &a);\n")),
    ("time comes from base/clock.c", function("    return time(NULL);\n")),
    ("do it, or leave it out", part("/* TO" "DO: later */\n")),
    ("do it, or leave it out", {"docs/page.md": "FIX" "ME\n"}),
    ("a path of one machine", {"tests/a.sh": "cd /ho" "me/me/x\n"}),
    ("a path of one machine", {"docs/page.md": "see /wo" "rk/x\n"}),
    ("a registry host", {"tools/a.sh": "curl https://py" "pi.org/x\n"}),
    ("101 columns", part("/* " + "x" * 95 + " */\n")),
    ("tab or trailing space", part("int a;\t\n")),
    ("tab or trailing space", {"cmake/a.cmake": "\tset(a)\n"}),
    ("no newline at the end", {"docs/page.md": "words"}),
    ("base may not include wire", part('#include "wire/frame.h"\n')),
    ("agent may not include workers", {"agent/part.c": OPENING + '#include "workers/engine.h"\n'}),
    ("kernels may not include tests", {"kernels/part.c": OPENING + '#include "tests/kern/a.h"\n'}),
    ("from the root", part('#include "must.h"\n')),
    ("from the root", part('#include "../base/must.h"\n')),
    ("<zmq.h> belongs to", {"agent/part.c": OPENING + "#include <zmq.h>\n"}),
    ("<systemd/a.h> belongs", {"agent/part.c": OPENING + "#include <systemd/a.h>\n"}),
    ("<cmocka.h> belongs to", {"wire/part.c": OPENING + "#include <cmocka.h>\n"}),
    ("<msgpack.h> belongs to", {"wire/codecs.c": OPENING + "#include <msgpack.h>\n"}),
    ("is in no table", part("#include <curl/curl.h>\n")),
    ("each block sorted", part("#include <string.h>\n#include <stdio.h>\n")),
    ("each block sorted", part('#include "base/a.h"\n#include "base/b.h"\n#include <stdio.h>\n')),
    ("each block sorted", part("#include <stdio.h>\n#include <stdio.h>\n")),
    ("each block sorted", {"model/part.c": OPENING + "#include <pcre2.h>\n#include <stdio.h>\n"}),
    ("include base/part.h first", {"base/part.c": OPENING + '#include "base/log.h"\n',
                                   "base/part.h": HEADER % ""}),
    ("include base/part.h first", {"base/part.c": OPENING + '#include <stdio.h>\n'
                                   '#include "base/part.h"\n', "base/part.h": HEADER % ""}),
    ("says nothing", {"wire/wire_utils.c": OPENING.replace("part.c", "wire_utils.c")}),
    ("says nothing", {"tests/integration/helpers.py": '"""Words."""\n'}),
    ("is taken by base/part.c", {"base/part.c": OPENING, "wire/part.c": OPENING}),
    ("is named <stem>_test.c", {"tests/unit/base/part.c": OPENING}),
    ("no CMakeLists.txt names", {"base/part.c": OPENING, "base/CMakeLists.txt": "add(parts.c)\n"}),
    ("has 71 lines, limit 70", kernel("template <class Act, int Width>\nstatic __global__ void "
                                      "__launch_bounds__(256)\n    part_rows(const struct part p)\n"
                                      "{\n" + "    a++;\n" * 71 + "}\n")),
    ("has 7 parameters", kernel("template <int W> GPU_DEVICE int f(int a, int b, int c, int d,\n"
                                "    int e, int f, int g)\n{\n    return a;\n}\n")),
    ("nests 5 levels", kernel("GPU_DEVICE int f(int a)\n{\n" + DEEP + "}\n")),
    ("mutable file-scope", kernel("static __device__ int count;\n")),
    ("mutable static state", kernel("static int f(int a)\n{\n    static int calls;\n}\n")),
    ("opening comment of 1 lines", {"kernels/cuda/part.cu": "/* part.cu - a part. */\n"}),
    ("include kernels/cuda/part_cuda.h first", {
        **kernel('#include "kernels/cuda/gpu.cuh"\n'),
        "kernels/cuda/part_cuda.h": (HEADER % "").replace("part.h", "part_cuda.h").replace(
            "BASE_PART", "KERNELS_CUDA_PART_CUDA")}),
    ("204 lines", {"kernels/cuda/part.cuh": HEADER.replace("part.h", "part.cuh").replace(
        "BASE_PART_H", "KERNELS_CUDA_PART_CUH") % ("int a(void);\n" * 200)}),
    ("guard should be KERNELS_CUDA_PART_CUH", {"kernels/cuda/part.cuh": "/* part.cuh - a. */\n"}),
    ("has 7 parameters", {"base/part.h": HEADER % (
        '#ifdef __cplusplus\nextern "C" {\n#endif\n\nint f(int a, int b, int c, int d,\n'
        '      int e, int f, int g);\n\n#ifdef __cplusplus\n}\n#endif\n')}),
    ("asm belongs in", kernel('GPU_DEVICE void f()\n{\n    asm volatile("");\n}\n')),
    ("__CUDACC__ belongs in", kernel("#ifdef __CUDACC__\n#endif\n")),
    ("__shared__ belongs in", kernel("GPU_DEVICE void f()\n{\n    __shared__ int a[2];\n}\n")),
    ("<<< belongs in", kernel("static void f(int a)\n{\n    run<<<1, 2>>>(a);\n}\n")),
    ("no opening docstring", {"tests/a.py": "x = 1\n"}),
    ("limit 6", {"tests/a.py": '"""A."""\ndef f(a, b, c, d, e, f, g):\n    pass\n'}),
    ("limit 70", {"tests/a.py": '"""A."""\ndef f():\n' + "    x = 1\n" * 71}),
    ("deeper than 4", {"tests/a.py": '"""A."""\ndef f():\n' + "".join(
        "    " * level + "if x:\n" for level in range(1, 6)) + " " * 24 + "pass\n"}),
]

FINE = [
    {"base/part.c": GOOD.replace('"TO" "DO"', "x"),
     "base/part.h": HEADER % '\n#include <stdint.h>\n\n#include "base/must.h"\n\n'},
    {"kernels/ref/norm.c": OPENING.replace("part", "norm"),
     "kernels/cuda/norm.cu": OPENING.replace("part.c", "norm.cu")},
    {"agent/loop.c": OPENING.replace("part", "loop"),
     "workers/loop.c": OPENING.replace("part", "loop")},
    {"kernels/cuda/part_cuda.h": HEADER.replace("part.h", "part_cuda.h").replace(
        "BASE_PART", "KERNELS_CUDA_PART_CUDA") % (
            '#ifdef __cplusplus\nextern "C" {\n#endif\n\nint part(int a);\n\n'
            '#ifdef __cplusplus\n}\n#endif\n\n'),
     **kernel('#include "kernels/cuda/part_cuda.h"\n\ntemplate <class Act> struct part {\n'
              "    Act a;\n};\n\ntemplate <class Act, int Width = 4>\nstatic __global__ void "
              "__launch_bounds__(256) part_rows(const struct part p)\n{\n"
              "    GPU_SHARED_ARRAY(float, sum, 8);\n    sum[0] = 0;\n}\n\n"
              "template <> __device__ float part_of<float>(float a)\n{\n    return a;\n}\n")},
    {"tests/unit/base/part_test.c": OPENING.replace("part", "part_test") +
     '#include "base/part.h"\n\n#include <setjmp.h>\n\n#include <cmocka.h>\n\n'
     '#include "wire/frame.h"\n'},
    {"base/part.c": OPENING, "base/CMakeLists.txt": "add(SOURCES a.c x86/part.c)\n"},
    {"tests/unit/base/part_test.c": OPENING.replace("part.c", "part_test.c") +
     "static void calls(void **state)\n{\n    static char big[65536];\n}\n",
     "tests/unit/base/tiny.c": OPENING.replace("part.c", "tiny.c") +
     '#include "tests/unit/base/tiny.h"\n',
     "tests/unit/base/tiny.h": (HEADER % "").replace("part.h", "tiny.h").replace(
         "BASE_PART", "TESTS_UNIT_BASE_TINY")},
    {"wire/codec_part.c": OPENING.replace("part.c", "codec_part.c") +
     '#include "wire/codec.h"\n\n#include <stdio.h>\n\n#include <msgpack.h>\n'},
    {"Makefile": "all:\n\ttrue\n"},
]


def main():
    failures = 0
    for wanted, tree in BAD:
        found = [what for _, _, what in tidy.check_tree(tree)]
        if not any(wanted in what for what in found):
            print(f"not caught: {wanted!r} in {list(tree)}; found {found}")
            failures += 1
    for tree in FINE:
        for path, line, what in tidy.check_tree(tree):
            print(f"good code refused: {path}:{line}: {what}")
            failures += 1
    print(f"tidy self-test: {len(BAD)} bad, {len(FINE)} good, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
