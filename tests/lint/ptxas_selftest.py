#!/usr/bin/env python3
"""ptxas_selftest.py - one bad log for each rule of ptxas.py, and a good one that must pass."""
import sys

import ptxas


def log(target, registers=32, stack=0, spills=0, name="_Z9norm_rowsIfLi4EEvf"):
    return (f"ptxas info    : Compiling entry function '{name}' for '{target}'\n"
            f"ptxas info    : Function properties for {name}\n"
            f"    {stack} bytes stack frame, {spills} bytes spill stores, "
            f"{spills} bytes spill loads\n"
            f"ptxas info    : Used {registers} registers, used 1 barriers\n")


BUDGET = "# kernel sm_80 sm_90a\nnorm/norm_rows 40 40\n"
GOOD = log("sm_80", 40) + log("sm_90a") + log("sm_80", name="_Z9norm_rowsItLi1EEvf")
BAD = [
    ("8 bytes of stack", log("sm_80", stack=8) + log("sm_90a"), BUDGET),
    ("12 spilled", log("sm_80") + log("sm_90a", spills=6), BUDGET),
    ("41 registers, budget 40", GOOD + log("sm_80", 41, name="_Z9norm_rowsItLi1EEvf"), BUDGET),
    ("norm_rows<float,4> sm_90a: 41", GOOD + log("sm_90a", 41),
     BUDGET + "norm/norm_rows<float,4> 40 40\n"),
    ("not built", log("sm_80"), BUDGET),
    ("no budget", GOOD + log("sm_80", name="_Z5otherv"), BUDGET),
    ("a budget for no kernel", GOOD, BUDGET + "norm/gone 1 1\n"),
    ("no kernel in its log", "", ""),
    ("lacks a figure", GOOD.replace("Used", "used"), BUDGET),
]


def main():
    failures = 0
    for wanted, text, budgets in BAD:
        findings, _ = ptxas.check({"norm": text}, ptxas.read_budgets(budgets))
        if not any(wanted in finding for finding in findings):
            print(f"not caught: {wanted!r}; found {findings}")
            failures += 1
    findings, seen = ptxas.check({"norm": GOOD}, ptxas.read_budgets(BUDGET))
    if findings or seen != {"norm/norm_rows": {"sm_80": 40, "sm_90a": 32}}:
        print(f"a good log refused: {findings} {seen}")
        failures += 1
    print(f"ptxas self-test: {len(BAD)} bad, 1 good, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
