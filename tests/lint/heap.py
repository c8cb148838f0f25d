#!/usr/bin/env python3
"""heap.py BUILD - proves that a request costs no heap: of the processes that serve, only the
objects named below refer to the allocator, each at start. Looks at the symbols of the libraries.
"""
import glob
import re
import subprocess
import sys

ALLOCATOR = {"malloc", "calloc", "realloc", "reallocarray", "strdup", "strndup", "asprintf",
             "aligned_alloc", "posix_memalign", "mmap", "mmap64"}
LIBRARIES = ("agent", "base", "ipc", "kernels", "kv", "plan", "wire", "workers")
AT_START = {
    "core.c": "the struct core", "front.c": "sockets", "supervisor.c": "the struct supervisor",
    "config.c": "the file", "json.c": "model files", "arena.c": "the one mapping of a process",
    "death.c": "the watch", "segment.c": "shared memory, for each start of a worker",
    "comm_shm.c": "the ways to sibling ranks, for each epoch",
    "matmul_onednn.c": "shapes and packed weights", "kvpool.c": "the page pool",
    "codec.c": "the codec; the core reserves its largest reply",
    "client.c": "the tools' client",
    "search.c": "the tools' search", "crew.c": "threads", "engine.c": "the struct engine",
    "load_llama.c": "row buffers while loading",
    "plans.c": "one file of plan.dir at a time",
    "rehearse.c": "a measuring run", "rig.c": "a measuring run",
    "choose.c": "the tools' search", "measure.c": "a measuring run, which serves nobody",
}


def objects(library):
    """(object, symbols it wants) of one archive."""
    text = subprocess.run(["nm", "-A", "-u", library], capture_output=True, text=True,
                          check=True).stdout
    found = {}
    for line in text.splitlines():
        match = re.match(r"[^:]*:([^:]+)\.o:\s+[Uw] (\w+)", line)
        if match:
            found.setdefault(match.group(1), set()).add(match.group(2))
    return found


def main(build):
    bad, used, seen = [], set(), 0
    for folder in LIBRARIES:
        found = {}
        for library in glob.glob(f"{build}/{folder}/*.a"):
            found |= objects(library)
        seen += len(found)
        for stem, symbols in found.items():
            if symbols & ALLOCATOR:
                used.add(stem)
                if stem not in AT_START:
                    bad.append(f"{folder}/{stem}: {', '.join(sorted(symbols & ALLOCATOR))}")
    bad += [f"{stem}: named here, but takes no memory" for stem in sorted(set(AT_START) - used)]
    print(*bad, f"heap: {seen} objects, {len(used)} take memory, {len(bad)} findings", sep="\n")
    return 1 if bad or seen < 40 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
