"""test_tune_emu.py - sluice-tune with the worker of a GPU, on the emulated device: what it measures
and plans there an agent serves there, and nowhere else.

SLUICE_BIN holds sluice-tune, the agent, both workers: the emulated one as sluice-worker-cuda.
"""
import glob
import hashlib
import json
import os
import shutil
import subprocess
import sys

import pytest

from agent_process import ROOT, SCALE, binary
from sluice_client import PLANS, Client
from test_tools import assert_fails, run

TOKENS, DECODE, CONTEXT = 16, 8, 32
PROMPT = [1] + [3 + 7 * i % 250 for i in range(20)]


def tune(*words):
    return run(*words, tool="sluice-tune", timeout_s=300)


@pytest.fixture(scope="module", name="small")
def make_small(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "small"
    subprocess.run([sys.executable, os.path.join(ROOT, "tests/golden/make_model.py"), path,
                    "--positions", "96"], check=True, timeout=60 * SCALE)
    return str(path)


@pytest.fixture(scope="module", name="profile")
def make_profile(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("tune") / "profile.json"
    result = tune("profile", "--model", small, "--tokens-max", TOKENS, "--threads", 1, "--seconds",
                  1, "--dtype", "f32", "--json", path)
    assert result.returncode == 0, result
    return path


def hash_of_kernels():
    """Every file that a GPU's kernels are made of."""
    found = []
    for folder in ("kernels", "kernels/cuda"):
        found += sorted(name for kind in ("c", "h", "cu", "cuh")
                        for name in glob.glob(os.path.join(ROOT, folder, "*." + kind)))
    text = ""
    for name in found:
        with open(name, "rb") as file:
            text += " " + hashlib.sha256(file.read()).hexdigest()
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def test_the_key_is_the_device_s(profile, small, tmp_path):
    """auto takes the GPU's worker where it finds a device, as an agent does."""
    key = json.loads(profile.read_text())["key"]
    assert (key["device"], key["library"], key["units"]) == ("emulated", "none", 8)
    assert key["kernels"].split()[1] == hash_of_kernels()
    path = tmp_path / "cpu.json"
    result = tune("profile", "--model", small, "--tokens-max", TOKENS, "--threads", 1, "--seconds",
                  1, "--dtype", "f32", "--device", "cpu", "--json", path)
    assert result.returncode == 0, result
    other = json.loads(path.read_text())["key"]
    assert other["device"] != key["device"] and other["kernels"] != key["kernels"]


def start(own_agent, small, folder, device):
    return own_agent({"model.path": small, "plan.dir": str(folder), "plan.mode": "overlap",
                      "workers.device": device, "workers.threads": 1, "batch.tokens_max": TOKENS,
                      "batch.slots_max": 4, "kv.device_pages": 64,
                      "workers.step_timeout_ms": int(60000 * SCALE)})


def test_a_timed_plan_serves_where_it_was_made(own_agent, profile, small, tmp_path):
    folder = tmp_path / "plans"
    plan = ("plan", "--profile", profile, "--out", folder, "--regime",
            f"{TOKENS}:{DECODE}:{CONTEXT}", "--model", small, "--measure", 2)
    result = tune(*plan)
    assert result.returncode == 0, result
    assert_fails(tune(*plan, "--device", "cpu"), 1, "it was made for the device \"emulated\"")
    path = folder / f"{TOKENS}-{DECODE}-{CONTEXT}.json"
    made = json.loads(path.read_text())
    assert 0 < made["measured_us"] <= made["sequential_us"]
    answers, told = [], []
    for device, kernels in (("cuda", None), ("cpu", None), ("cuda", "0.1.0 0123456789ab")):
        made["key"]["kernels"] = kernels or made["key"]["kernels"]
        path.write_text(json.dumps(made))
        with Client(start(own_agent, small, folder, device).endpoint) as client:
            answers.append(client.generate(ids=PROMPT, temperature=0, ignore_eos=True,
                                           max_tokens=8).ids)
            told.append(client.ask(PLANS).body)
    assert answers[0] == answers[1] == answers[2]
    assert not told[0]["refused"] and len(told[0]["plans"]) == 2
    assert [row["reason"].split('"')[0] for body in told[1:] for row in body["refused"]] == [
        "it was made for the device ", "it was made for the kernels "]


def test_a_device_that_is_not_there_is_named(small, tmp_path):
    out = tmp_path / "out.json"
    words = ("profile", "--model", small, "--json", out, "--device")
    assert_fails(tune(*words, "tpu"), 2, "--device")
    beside = tmp_path / "bin"
    beside.mkdir()
    os.symlink(binary("sluice-worker-cpu"), beside / "sluice-worker-cpu")
    alone = str(beside / "sluice-tune")
    shutil.copy(binary("sluice-tune"), alone)
    result = subprocess.run([alone, *map(str, words), "cuda"], capture_output=True, text=True,
                            timeout=60 * SCALE, check=False)
    assert_fails(result, 1, "sluice-worker-cuda", "is not beside this program")
    blind = beside / "sluice-worker-cuda"  # auto: one that sees no device leaves it to the CPU's.
    blind.write_text("#!/bin/sh\nexit 3\n")
    blind.chmod(0o755)
    result = subprocess.run([alone, *map(str, words), "auto", "--tokens-max", str(TOKENS),
                             "--threads", "1", "--seconds", "1"], capture_output=True, text=True,
                            timeout=60 * SCALE, check=False)
    assert result.returncode == 0, result
    assert json.loads(out.read_text())["key"]["device"] != "emulated"
