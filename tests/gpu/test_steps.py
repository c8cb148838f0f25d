"""test_steps.py - what of `make gpu-check` needs no GPU: its time, and its clocks."""
import os
import re
import subprocess

import clocks

FOLDER = os.path.dirname(os.path.abspath(__file__))


def script(name):
    with open(os.path.join(FOLDER, name), encoding="utf-8") as file:
        return file.read()


def test_the_steps_fit_the_time():
    """A build takes its time from what comes last."""
    check = script("check.sh")
    total = int(re.search(r"\bTOTAL_S=(\d+)", check).group(1))
    steps = re.findall(r"^step ([a-z-]+) (\d+) ", check, re.MULTILINE)
    assert len(steps) > 10 and sum(int(seconds) for _, seconds in steps) == total == 540


def test_every_measurement_is_taken():
    measured = set(re.findall(r'^        \{"([a-z-]+)", measure_', script("gauge.c"), re.MULTILINE))
    taken = set(re.findall(r"\bmeasure ([a-z]+)$", script("check.sh"), re.MULTILINE))
    loads = re.search(r"for kind in ([a-z ]+);", script("steps.sh")).group(1).split()
    assert len(measured) > 8 and measured == taken | {f"load-{kind}" for kind in loads}


def test_a_step_has_what_others_left(tmp_path):
    """Of 9 s, one step of 5 takes none: the next of 4 may take more than its own, not all."""
    text = script("check.sh")
    text = text[text.index("failed=0"):text.index("build() {")]
    run = subprocess.run(["bash", "-uo", "pipefail", "-c", f"out={tmp_path} TOTAL_S=9\n{text}\n"
                          "SECONDS=0; step a 5 true; step b 4 sleep 6; step c 2 sleep 20"],
                         capture_output=True, text=True, timeout=60, check=False)
    words = [line.split()[:2] for line in run.stdout.splitlines()]
    assert words == [["a", "ok"], ["b", "ok"], ["c", "skipped"]], run


def test_clocks_are_those_under_load():
    text = ("100.0, 345, 3201, 0, 700.0\n690.0, 1500, 3201, 100, 700.0\n[N/A], 1\n"
            "700.0, 1700, 3201, 98, 700.0\n360.5, 1980, 3201, 99, 700.0\n650.0, 17")
    row = clocks.row_of("x", clocks.samples_of(text))
    assert row == {"row": "clocks", "of": "x", "samples": 3, "power_w": 690.0,
                   "power_limit_w": 700.0, "sm_mhz": 1700, "sm_mhz_min": 1500, "memory_mhz": 3201,
                   "used_percent": 99}
    assert clocks.row_of("x", clocks.samples_of("No devices were found\n")) is None
