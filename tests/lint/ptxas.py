#!/usr/bin/env python3
"""ptxas.py FOLDER BUDGETS - what ptxas said of each kernel, against what it may say.

FOLDER holds STEM.ptxas, the output of `nvcc -Xptxas -v` for kernels/cuda/STEM.cu; BUDGETS has lines
`STEM/KERNEL REGISTERS REGISTERS`, one number for each of TARGETS; KERNEL<ARGUMENTS> is for that
instance alone. No instance may spill, use the stack, or take more registers than its budget; a
kernel without a budget, a budget without a kernel and a target that was not built are findings too.
Exits 1 when there is one.
"""
import glob
import os
import re
import subprocess
import sys

TARGETS = ("sm_80", "sm_90a")

ENTRY = re.compile(r"Compiling entry function '(\S+)' for '(\S+)'")
FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")


def parse(log):
    """Yields (mangled name, target, registers, stack bytes, spill bytes) of each entry function.

    A figure that the log lacks is None.
    """
    starts = list(ENTRY.finditer(log))
    for start, end in zip(starts, starts[1:] + [None]):
        text = log[start.end():end.start() if end else len(log)]
        frames = [[int(number) for number in match] for match in FRAME.findall(text)]
        used = USED.search(text)
        yield (start.group(1), start.group(2), int(used.group(1)) if used else None,
               max((frame[0] for frame in frames), default=None),
               max((frame[1] + frame[2] for frame in frames), default=None))


def demangle(names):
    """{mangled: (kernel, instance)}: without namespaces and parameters, and with the arguments of
    the template, as in (decode, decode<128>); the same twice where it is no template."""
    done = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True,
                          check=True)
    plain = {}
    for name, text in zip(names, done.stdout.split("\n")):
        text = text.replace("(anonymous namespace)::", "")
        head, arguments = re.match(r"([^<(]*)(<.*?>)?(?=\()", text).groups()
        kernel = re.split(r"[ :]+", head)[-1]
        plain[name] = kernel, kernel + (arguments or "").replace(" ", "")
    return plain


def read_budgets(text):
    """{kernel: {target: registers}}"""
    budgets = {}
    for line in text.splitlines():
        fields = line.split("#")[0].split()
        if fields:
            budgets[fields[0]] = dict(zip(TARGETS, map(int, fields[1:])))
    return budgets


def check(logs, budgets):
    """Findings, and {row of the table: {target: most registers}} as seen. logs: {stem: text}."""
    findings, seen = [], {}
    for stem, log in sorted(logs.items()):
        entries = list(parse(log))
        names = demangle([name for name, *_ in entries])
        if not entries:
            findings.append(f"{stem}: no kernel in its log")
        for name, target, registers, stack, spills in entries:
            kernel, instance = (f"{stem}/{spelled}" for spelled in names[name])
            if registers is None or stack is None or spills is None:
                findings.append(f"{instance} {target}: the log lacks a figure")
                continue
            if stack or spills:
                findings.append(f"{instance} {target}: {stack} bytes of stack, {spills} spilled")
            row = seen.setdefault(instance if instance in budgets else kernel, {})
            row[target] = max(registers, row.get(target, 0))
    for kernel, row in sorted(seen.items()):
        budget = budgets.get(kernel)
        if budget is None:
            findings.append(f"{kernel}: no budget; it uses {row}")
            continue
        for target in TARGETS:
            if target not in row or target not in budget:
                findings.append(f"{kernel} {target}: not built, or without a budget")
            elif row[target] > budget[target]:
                findings.append(f"{kernel} {target}: {row[target]} registers, budget "
                                f"{budget[target]}")
    findings += [f"{kernel}: a budget for no kernel" for kernel in sorted(set(budgets) - set(seen))]
    return findings, seen


def main():
    folder, table = sys.argv[1:]
    logs = {}
    for path in glob.glob(os.path.join(folder, "*.ptxas")):
        with open(path, encoding="utf-8") as file:
            logs[os.path.splitext(os.path.basename(path))[0]] = file.read()
    with open(table, encoding="utf-8") as file:
        budgets = read_budgets(file.read())
    findings, seen = check(logs, budgets)
    for kernel, row in sorted(seen.items()):
        print(f"{kernel:40} " + " ".join(f"{row.get(target, '-'):>7}" for target in TARGETS))
    for finding in findings:
        print(finding)
    print(f"ptxas: {len(seen)} kernels, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
