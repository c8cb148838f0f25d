#!/usr/bin/env python3
"""heap.py BUILD - proves that a request costs no heap: of the processes that serve, only the
objects named below refer to an allocator, the host's or a GPU's, each at start. Looks at the
symbols of the objects that BUILD has, those of sluice-worker-cuda included.
"""
import os
import subprocess
import sys

ALLOCATOR = {"malloc", "calloc", "realloc", "reallocarray", "strdup", "strndup", "asprintf",
             "aligned_alloc", "posix_memalign", "mmap", "mmap64",
             "cudaMalloc", "cudaMallocAsync", "cudaMallocHost", "cudaMallocManaged",
             "cudaMallocPitch", "cudaHostAlloc", "cudaHostRegister"}
FOLDERS = ("agent", "base", "ipc", "kernels", "kv", "plan", "wire", "workers")
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
    "main.c": "the struct worker",
    "engine_cuda.c": "the struct engine and its table of layers",
    "load_cuda.c": "row buffers while loading",
    "accel_cuda.c": "the device's arenas; a graph, once for each plan and bucket",
    "accel_cuda_lanes.c": "lanes, their workspaces, and a cut while it is dealt out",
    "accel_cuda_product.c": "the table of products",
    "accel_cuda_algorithms.c": "the table of algorithms",
    "comm_nccl.c": "the struct, for each epoch",
}
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def files(folder):
    return [os.path.join(at, name) for at, _, names in os.walk(folder) for name in names]


def objects(build, folder):
    """(source, symbols it wants) of each object whose source is still there."""
    sources = {os.path.basename(path) for path in files(os.path.join(ROOT, folder))}
    for path in files(os.path.join(build, folder)):
        source = os.path.basename(path)[:-len(".o")]
        if path.endswith(".o") and source in sources:
            text = subprocess.run(["nm", "-u", path], capture_output=True, text=True,
                                  check=True).stdout
            yield source, {line.split()[-1].split("@")[0] for line in text.splitlines()}


def main(build):
    bad, used, seen = [], set(), []
    for folder in FOLDERS:
        for source, symbols in objects(build, folder):
            seen.append(source)
            if symbols & ALLOCATOR:
                used.add(source)
                if source not in AT_START:
                    bad.append(f"{folder}/{source}: {', '.join(sorted(symbols & ALLOCATOR))}")
    names = {os.path.basename(path) for folder in FOLDERS
             for path in files(os.path.join(ROOT, folder))}
    for source in sorted(set(AT_START) - used):
        if source in seen or source not in names:  # Else: of another build.
            bad.append(f"{source}: named here, but takes no memory")
    print(*bad, f"heap: {len(seen)} objects, {len(used)} take memory, {len(bad)} findings",
          sep="\n")
    return 1 if bad or len(seen) < 40 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
