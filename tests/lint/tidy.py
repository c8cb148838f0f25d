#!/usr/bin/env python3
"""tidy.py [ROOT] - checks of the code's shape that no compiler makes; ctest runs it as `tidy`.

Prints `path:line: what` for each finding and exits 1 when there is one. The rules are those of
docs/path.md (layers, owners of foreign headers) and of the project's style; there is no list of
exceptions. tidy_selftest.py shows one bad snippet for every rule.
"""
import ast
import os
import re
import sys

LINES_MAX, HEADER_LINES_MAX, FUNCTION_LINES_MAX = 800, 200, 70
WIDTH_MAX, PARAMETERS_MAX, NESTING_MAX = 100, 6, 4
OPENING_LINES_MIN, OPENING_LINES_MAX = 3, 17  # 3 to 15 of text; /* and */ may stand alone.

# Who may include whom. A folder may always include itself; tests may include everything.
LAYERS = {
    "agent": {"wire", "ipc", "kv", "disk", "plan", "model", "base"},
    "workers": {"ipc", "plan", "model", "kernels", "base"},
    "gateway": {"wire", "model", "base"},
    "tools": {"wire", "plan", "model", "kernels", "base"},
    "wire": {"base"},
    "ipc": {"base"},
    "kv": {"base"},
    "disk": {"base"},
    "plan": {"base"},
    "model": {"base"},
    "kernels": {"base"},
    "base": set(),
}

# A foreign header (or folder of headers) has one owner: a file with the parts it was cut into
# (codec.c, codec_encode.c), or a folder that ends in a slash. Tests may include any of them.
OWNERS = {
    "zmq.h": ("agent/front.c", "wire/client.c"),
    "msgpack.h": ("wire/codec.c",),
    "jansson.h": ("base/json.c",),
    "yaml.h": ("base/config.c",),
    "pcre2.h": ("model/",),
    "utf8proc.h": ("model/",),
    "systemd/": ("agent/notify.c",),
    "numa.h": ("base/numa.c",),
    "liburing.h": ("disk/uring.c",),
    "openssl/": ("disk/seal.c",),
    "sodium.h": ("base/hash.c", "tools/"),
    "microhttpd.h": ("gateway/http.c",),
    "oneapi/dnnl/": ("kernels/x86/matmul_onednn.c",),
    "omp.h": ("kernels/x86/matmul_onednn.c",),
    "cuda.h": ("workers/accel_cuda.c",),
    "cuda_runtime.h": ("kernels/cuda/",),
    "cuda_bf16.h": ("kernels/cuda/",),
    "cuda_runtime_api.h": ("workers/accel_cuda.c", "workers/presence_cuda.c"),
    "cublasLt.h": ("workers/accel_cuda.c",),
    "nccl.h": ("workers/comm_nccl.c",),
    "cmocka.h": ("tests/",),
    "sanitizer/": ("tests/",),
}

# Headers of the C library, the kernel and the compiler: they need no owner.
LIBC_FOLDERS = ("sys/", "linux/", "asm/", "net/", "netinet/", "arpa/")
LIBC = set(
    "assert complex cpuid ctype dirent dlfcn endian errno fcntl fenv float getopt glob grp"
    " immintrin inttypes libgen limits link locale malloc math netdb poll pthread pwd sched"
    " semaphore setjmp signal spawn stdalign stdarg stdatomic stdbool stddef stdint stdio stdlib"
    " stdnoreturn string strings syslog termios threads time uchar ucontext unistd wchar wctype"
    " x86intrin".split()
)

BANNED_STEMS = {"common", "util", "utils", "misc", "helper", "helpers", "internal"}
SHARED_STEMS = {"main", "loop"}  # Each process has one.

BANNED_CODE = {
    r"\b(strcpy|strcat|stpcpy|v?sprintf|gets|strtok(_r)?)\s*\(": "use the bounded form",
    r"\b(atoi|atol|atoll|atof)\s*\(": "it cannot report an error: use strtoull and the like",
    r"\balloca\s*\(": "the stack does not grow with input",
    r"(?<!\w)assert\s*\(": "must() stays on in release",
    r"\btypedef\s+(struct|union)\b": "no typedef for structs",
    r"\b_Thread_local\b|\b__thread\b": "state is passed, not hidden in a thread",
}
CLOCK_CALL = r"(?<![\w.>])(clock_gettime|gettimeofday|time|clock)\s*\("
CLOCK_OWNER = "base/clock.c"

# Any text file. The brackets keep a pattern from finding itself.
BANNED_TEXT = {
    r"\b([T]ODO|[F]IXME|[X]XX|[H]ACK)\b": "do it, or leave it out",
    r"(?<![\w.$}])/([w]ork|[h]ome|[r]oot)/": "a path of one machine",
    r"[p]ypi\.org|[p]ythonhosted\.org|[n]pmjs\.(org|com)|[c]rates\.io|[p]roxy\.golang\.org"
    r"|[h]uggingface\.co|[d]eb\.debian\.org": "a registry host: use its client",
}

# What nvcc and the emulator of tests/kern/emu must agree on is said in one place.
GPU_ONLY = r"\basm\b|\b__CUDACC__\b|\b__shared__\b|<<<"
GPU_OWNER = "kernels/cuda/gpu.cuh"

C_SUFFIXES = (".c", ".h", ".cu", ".cuh")
TEXT_SUFFIXES = C_SUFFIXES + (".py", ".sh", ".cmake", ".txt", ".yaml", ".yml", ".md", ".service")
TEXT_NAMES = {"Makefile", "run", "pre-commit"}
SKIPPED_FOLDERS = {"build", "__pycache__", "corpus"}

DECLARATORS = r"\b(__attribute__|_Alignas|_Static_assert|static_assert|__declspec)\s*\("
NOT_NAMES = {"void", "int", "char", "bool", "unsigned", "long", "short", "float", "double", "if"}


def files(root):
    """Yields (path from root, text) of every text file that the rules are about."""
    for folder, names, entries in os.walk(root):
        names[:] = sorted(n for n in names if n not in SKIPPED_FOLDERS and
                          (not n.startswith(".") or n == ".ci"))
        for name in sorted(entries):
            if name.endswith(TEXT_SUFFIXES) or name in TEXT_NAMES:
                path = os.path.join(folder, name)
                with open(path, encoding="utf-8") as file:
                    yield os.path.relpath(path, root), file.read()


def blanked(text):
    """The same text, line for line and column for column, without comments and string contents."""
    def blank(match):
        found = match.group(0)
        inner = re.sub(r"[^\n]", " ", found)
        return found[0] + inner[1:-1] + found[-1] if found[0] in "\"'" else inner
    pattern = r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'"
    return re.sub(pattern, blank, text, flags=re.DOTALL)


def without_directives(code):
    """Blanks preprocessor lines, continued ones included."""
    lines, continued = [], False
    for line in code.split("\n"):
        directive = continued or line.lstrip().startswith("#")
        continued = directive and line.endswith("\\")
        lines.append(" " * len(line) if directive else line)
    return "\n".join(lines)


def without_cpp(code):
    """Blanks what C++ puts around declarations: linkage in headers for C, template parameters."""
    def blank(match):
        return re.sub(r"[^\n]", " ", match.group(0))
    linkage = r'#ifdef __cplusplus\n(extern "C" \{|extern " " \{|\})\n#endif'
    code = re.sub(linkage, blank, code)
    return re.sub(r"(?m)^template <[^;{}()]*>(?=[ \n])", blank, code)


def closing(code, start, pair):
    """Index of the bracket that closes the one at start, or the end of the code."""
    depth = 0
    for index in range(start, len(code)):
        depth += (code[index] == pair[0]) - (code[index] == pair[1])
        if depth == 0:
            return index
    return len(code) - 1


def without_attributes(head):
    match = re.search(DECLARATORS, head)
    while match:
        end = closing(head, match.end() - 1, "()")
        head = head[:match.start()] + " " + head[end + 1:]
        match = re.search(DECLARATORS, head)
    return head.strip()


def top_level(code):
    """Yields (start, head, body) of each declaration or definition at file scope; head has empty
    braces, body is (open, close) of a function."""
    start = index = 0
    parts = []
    while index < len(code):
        if code[index] == "{":
            close = closing(code, index, "{}")
            parts.append(code[start if not parts else after:index])
            head = without_attributes("{}".join(parts))
            if "=" not in head and "{" not in head and signature(head):
                yield start, head, (index, close)
                start, parts = close + 1, []
            index, after = close, close + 1
        elif code[index] == ";":
            parts.append(code[start if not parts else after:index])
            yield start, without_attributes("{}".join(parts)), None
            start, parts = index + 1, []
        index += 1


def signature(head):
    """(name, parameter count) of a function's head, or None when it is something else."""
    match = re.search(r"\b(\w+)\s*\((?!\s*\*)", head)
    if not match or match.group(1) in NOT_NAMES or re.match(r"(typedef|extern\s+\")", head):
        return None
    inside = head[match.end():closing(head, match.end() - 1, "()")]
    inside = re.sub(r"\s+", " ", inside).strip()
    depth, count = 0, 0 if inside in ("", "void") else 1
    for char in inside:
        depth += (char in "([{") - (char in ")]}")
        count += char == "," and depth == 0
    return match.group(1), count


def is_mutable(declaration):
    """Whether an object declared so can be written: const must qualify the object itself."""
    pointer = re.search(r"\(\s*\*([^()]*)\)", declaration)
    if pointer:
        return not re.search(r"\bconst\b", pointer.group(1))
    return not re.search(r"\bconst\b", declaration.rsplit("*", 1)[-1])


def nesting(body):
    """Levels of blocks inside a function's body; initialisers and compound literals are none."""
    stack, deepest = [], 0
    for index, char in enumerate(body):
        if char == "{":
            before = body[:index].rstrip()
            spaced = len(before) < index
            opens = not before or before.endswith(("else", "do", ";", "{", "}", ":")) or (
                before.endswith(")") and spaced)
            stack.append(opens and all(stack))
            deepest = max(deepest, sum(stack))
        elif char == "}" and stack:
            stack.pop()
    return deepest - 1


def line_of(code, index):
    return code.count("\n", 0, index) + 1


def check_static(code, body):
    """Static objects inside a function. Tests may keep big buffers so."""
    for match in re.finditer(r"(?m)^[ ]+(static\s[^;={]*)", code[body[0]:body[1]]):
        if is_mutable(match.group(1)):
            yield line_of(code, body[0] + match.start()), "mutable static state: pass it"


def check_function(code, start, head, body):
    name, parameters = signature(head)
    number = line_of(code, start + len(code[start:]) - len(code[start:].lstrip()))
    if parameters > PARAMETERS_MAX:
        yield number, f"{name}() has {parameters} parameters, limit {PARAMETERS_MAX}"
    if not body:
        return
    text = code[body[0]:body[1] + 1]
    lines = text.count("\n") - 1
    if lines > FUNCTION_LINES_MAX:
        yield number, f"{name}() has {lines} lines, limit {FUNCTION_LINES_MAX}"
    levels = nesting(text)
    if levels > NESTING_MAX:
        yield number, f"{name}() nests {levels} levels, limit {NESTING_MAX}"
    if re.search(rf"(?<![\w.>]){name}\s*\(", text):
        yield number, f"{name}() calls itself: use a loop with a bound"


def check_shapes(code, shipped):
    """Functions and objects at file scope."""
    for start, head, body in top_level(code):
        flat = re.sub(r"\s+", " ", head)
        number = line_of(code, start + len(code[start:]) - len(code[start:].lstrip()))
        if "=" not in flat and "{" not in flat and signature(flat):
            yield from check_function(code, start, head, body)
            if body and shipped:
                yield from check_static(code, body)
        elif not flat or re.match(r"(typedef|extern)\b", flat):
            continue
        elif re.fullmatch(r"(template <[^<>]*> )?(struct|union|enum)( \w+)?( ?\{\})?", flat):
            continue
        elif is_mutable(flat.split("=")[0]):
            yield number, "mutable file-scope state: pass it"


def owner_of(header):
    for name, owners in OWNERS.items():
        if header == name or name.endswith("/") and header.startswith(name):
            return owners
    return None


def owns(path, owners):
    stem = path.rsplit(".", 1)[0]
    return path.startswith("tests/") or any(
        path.startswith(owner) if owner.endswith("/") else (stem + "_").startswith(owner[:-2] + "_")
        for owner in owners)


def is_libc(header):
    return header.startswith(LIBC_FOLDERS) or header.endswith(".h") and header[:-2] in LIBC


def check_foreign(path, header):
    """(block of the include, complaint or None)"""
    owners = owner_of(header)
    if owners:
        return 2, None if owns(path, owners) else f"<{header}> belongs to {' and '.join(owners)}"
    if is_libc(header):
        return 1, None
    return 2, f"<{header}> is in no table: a new library needs a decision record"


def check_own(path, target):
    """Complaint about an include from the root, or None."""
    top, target_top = path.split("/")[0], target.split("/")[0]
    if "/" not in target or target_top not in LAYERS.keys() | {"tests"}:
        return "write the include from the root: folder/file.h"
    if top != "tests" and target_top != top and target_top not in LAYERS.get(top, set()):
        return f"{top} may not include {target_top}"
    return None


def is_own(path, header, paths):
    """x.c owns folder/x.h, x.cu folder/x_cuda.h, and without one a header of its folder that it
    helps to fill; a test of x, wherever it stands, treats x.h as its own."""
    stem = re.sub(r"\.cu?$", "", path)
    own_header = stem + ("_cuda.h" if path.endswith(".cu") else ".h")
    if path.startswith("tests/") and not path.endswith(".cu"):
        return os.path.basename(header) == re.sub(r"_test$", "", os.path.basename(stem)) + ".h"
    if own_header in paths:
        return header == own_header
    return path.endswith((".c", ".cu")) and os.path.dirname(header) == os.path.dirname(path)


def check_includes(path, lines, code_lines, paths):
    blocks = []  # (block, header, line)
    for number, (line, code) in enumerate(zip(lines, code_lines), 1):
        match = code.startswith("#include") and re.match(r"#include ([<\"])([^>\"]+)[>\"]", line)
        if not match:
            continue
        header = match.group(2)
        if match.group(1) == "<":
            block, complaint = check_foreign(path, header)
        else:
            own = not blocks and is_own(path, header, paths)
            block, complaint = 0 if own else 3, check_own(path, header)
        if complaint:
            yield number, complaint
        blocks.append((block, header, number))
    for before, after in zip(blocks, blocks[1:]):
        if after[:2] <= before[:2]:
            yield after[2], "includes: own header, libc, foreign, ours; each block sorted"
    own_header = re.sub(r"\.c$", ".h", re.sub(r"\.cu$", "_cuda.h", path))
    if own_header != path and own_header in paths and (not blocks or blocks[0][0] != 0):
        yield 1, f"include {own_header} first"


def check_opening(path, lines):
    name = os.path.basename(path)
    if not lines[0].startswith("/*"):
        yield 1, "no opening comment: say what this file is for"
        return
    end = next((i for i, line in enumerate(lines) if "*/" in line), len(lines)) + 1
    first = " ".join(lines[:2])
    if not re.match(r"/\*\s*(\*\s*)?" + re.escape(name) + " - ", first):
        yield 1, f"the opening comment starts with `{name} - `"
    shipped = path.endswith((".c", ".cu")) and not path.startswith("tests/")
    if shipped and not OPENING_LINES_MIN <= end <= OPENING_LINES_MAX:
        yield 1, f"opening comment of {end} lines: want {OPENING_LINES_MIN} to {OPENING_LINES_MAX}"


def check_guard(path, lines):
    guard = re.sub(r"[^A-Z0-9]", "_", path.upper())
    wanted = [f"#ifndef {guard}", f"#define {guard}", f"#endif /* {guard} */"]
    if any(line not in lines for line in wanted):
        yield 1, f"guard should be {guard}, with its name behind #endif"


def check_c(path, text, paths):
    lines, code = text.split("\n"), blanked(text)
    code_lines = code.split("\n")
    header = path.endswith((".h", ".cuh"))
    limit = HEADER_LINES_MAX if header else LINES_MAX
    if len(lines) - 1 > limit:
        yield 1, f"{len(lines) - 1} lines, limit {limit}"
    yield from check_opening(path, lines)
    if header:
        yield from check_guard(path, lines)
    yield from check_includes(path, lines, code_lines, paths)
    shapes = without_directives(without_cpp(code))
    yield from check_shapes(shapes, not path.startswith("tests/"))
    for number, line in enumerate(code_lines, 1):
        for pattern, why in BANNED_CODE.items():
            match = re.search(pattern, line)
            if match:
                yield number, f"{match.group(0).rstrip('( ')}: {why}"
        match = path != GPU_OWNER and path.endswith((".cu", ".cuh")) and re.search(GPU_ONLY, line)
        if match:
            yield number, f"{match.group(0)} belongs in {GPU_OWNER}"
        if path != CLOCK_OWNER and re.search(CLOCK_CALL, line):
            yield number, f"time comes from {CLOCK_OWNER} alone"


def python_nesting(node):
    """Levels of blocks below a Python function; an elif is no deeper than its if."""
    blocks = (ast.If, ast.For, ast.While, ast.With, ast.Try)
    deepest, pending = 0, [(child, 0) for child in ast.iter_child_nodes(node)]
    while pending:
        child, level = pending.pop()
        inside = level + isinstance(child, blocks)
        deepest = max(deepest, inside)
        for below in ast.iter_child_nodes(child):
            is_elif = isinstance(child, ast.If) and isinstance(below, ast.If) and \
                child.orelse == [below]
            pending.append((below, level if is_elif else inside))
    return deepest


def check_python(text):
    lines = text.split("\n")
    if len(lines) - 1 > LINES_MAX:
        yield 1, f"{len(lines) - 1} lines, limit {LINES_MAX}"
    tree = ast.parse(text)
    if text.strip() and not ast.get_docstring(tree):
        yield 1, "no opening docstring: say what this file is for"
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef):
            continue
        arguments = node.args
        count = len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs)
        lines_of = node.end_lineno - node.lineno
        if count > PARAMETERS_MAX:
            yield node.lineno, f"{node.name}() has {count} parameters, limit {PARAMETERS_MAX}"
        if lines_of > FUNCTION_LINES_MAX:
            yield node.lineno, f"{node.name}() has {lines_of} lines, limit {FUNCTION_LINES_MAX}"
        if python_nesting(node) > NESTING_MAX:
            yield node.lineno, f"{node.name}() nests deeper than {NESTING_MAX} levels"


def check_text(path, text):
    lines = text.split("\n")
    if text and not text.endswith("\n"):
        yield len(lines), "no newline at the end"
    for number, line in enumerate(lines, 1):
        if len(line) > WIDTH_MAX and not path.endswith(".md"):
            yield number, f"{len(line)} columns, limit {WIDTH_MAX}"
        if line != line.rstrip() or "\t" in line and not path.endswith("Makefile"):
            yield number, "tab or trailing space"
        for pattern, why in BANNED_TEXT.items():
            match = re.search(pattern, line)
            if match:
                yield number, f"{match.group(0)}: {why}"


def check_names(paths):
    """Stems name one thing in the whole tree."""
    seen = {}
    for path in sorted(paths):
        folder, name = os.path.split(path)
        stem = name.split(".")[0]
        if not path.endswith(C_SUFFIXES + (".py",)):
            continue
        if BANNED_STEMS & set(stem.split("_")):
            yield path, 1, f"{stem} says nothing: name the thing"
        if folder.startswith("tests/unit") and path.endswith(".c") and not (
                stem.endswith("_test") or path[:-2] + ".h" in paths):
            yield path, 1, "a unit test is named <stem>_test.c"
        if path.endswith(".py") or stem in SHARED_STEMS:
            continue
        family = "kernels" if folder.startswith("kernels") else folder
        other = seen.setdefault(stem, (family, path))
        if other[0] != family:
            yield path, 1, f"the stem {stem} is taken by {other[1]}"


def check_built(tree):
    """A source that no CMake file names is dead."""
    cmake = "\n".join(text for path, text in tree.items()
                      if path.endswith(("CMakeLists.txt", ".cmake")))
    named = set(re.findall(r"[\w.]+\.c\b", cmake))
    for path in tree:
        if cmake and path.endswith(".c") and os.path.basename(path) not in named:
            yield path, 1, "no CMakeLists.txt names this file"


def check_tree(tree):
    """All findings for {path: text} as sorted (path, line, what)."""
    findings = list(check_names(tree)) + list(check_built(tree))
    for path, text in tree.items():
        found = list(check_text(path, text))
        if path.endswith(C_SUFFIXES):
            found += check_c(path, text, tree.keys())
        elif path.endswith(".py"):
            found += check_python(text)
        findings += [(path, number, what) for number, what in found]
    return sorted(findings)


def main(root):
    tree = dict(files(root))
    findings = check_tree(tree)
    for path, number, what in findings:
        print(f"{path}:{number}: {what}")
    print(f"tidy: {len(tree)} files, {len(findings)} findings")
    return 1 if findings or not tree else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "."))
