"""test_refusal.py - sluice-worker-cuda where there is no GPU, and what it is linked with."""
import os
import re
import subprocess
import time

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.path.abspath(os.environ.get("SLUICE_BIN", os.path.join(ROOT, "build/cuda/bin")))
WORKER = os.path.join(BIN, "sluice-worker-cuda")
PROGRAMS = ["sluice-agent", "sluice-worker-cpu", "sluice-worker-cuda", "sluicectl", "sluice-bench",
            "sluice-tune"]
EXIT_ABSENT = 3

# No driver is visible to these runs, also on a machine that has one.
ENVIRONMENT = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}


def start(*arguments):
    """Exit status, stdout, stderr."""
    done = subprocess.run([WORKER, *arguments], env=ENVIRONMENT, capture_output=True, text=True,
                          timeout=30, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("arguments", [["--probe"], [], ["--measure", "x", "1", "1", "1"]])
def test_says_that_there_is_no_device(arguments):
    status, out, errors = start(*arguments)
    assert status == EXIT_ABSENT and out == ""
    assert re.search(r"\bno CUDA device\b", errors) and errors.count("\n") == 1


def test_the_large_libraries_wait_for_a_device():
    """What a cold cache would make slow is not loaded; the time itself only has a wide bound."""
    traced = subprocess.run([WORKER, "--probe"], env={**ENVIRONMENT, "LD_DEBUG": "files"},
                            capture_output=True, text=True, timeout=30, check=False)
    assert "libc.so.6" in traced.stderr
    assert "cublas" not in traced.stderr and "nccl" not in traced.stderr
    begin = time.monotonic()
    start("--probe")
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_program_needs_the_driver(name):
    listed = subprocess.run(["readelf", "-d", os.path.join(BIN, name)], capture_output=True,
                            text=True, check=True).stdout
    needed = re.findall(r"NEEDED.*\[(.*)\]", listed)
    assert "libc.so.6" in needed
    assert not [library for library in needed if "libcuda" in library or "stdc++" in library]


def test_the_gpu_check_says_that_it_cannot(tmp_path):
    check = subprocess.run([os.path.join(ROOT, "tests/gpu/check.sh"), tmp_path / "out"],
                           env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False)
    assert check.returncode == EXIT_ABSENT, check.stdout + check.stderr
    assert re.fullmatch(r"gpu +none +.*\bno CUDA device\b.*\n", check.stdout)
    assert (tmp_path / "out" / "summary").read_text(encoding="utf-8") == check.stdout
