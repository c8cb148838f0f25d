"""test_tune.py - sluice-tune measures a model, chooses plans, times them, and draws them."""
import json
import pathlib
import shutil
import xml.etree.ElementTree

import pytest

from test_tools import assert_fails, run

TOKENS, DECODE, CONTEXT = 64, 32, 64


def tune(command, *words, timeout_s=120):
    """Of the CPU's worker; test_tune_emu.py has the other."""
    return run(command, "--device", "cpu", *words, tool="sluice-tune", timeout_s=timeout_s)


@pytest.fixture(scope="module")
def profile(model, tmp_path_factory):
    """The profile of the test model, measured in haste."""
    path = tmp_path_factory.mktemp("tune") / "profile.json"
    result = tune("profile", "--model", model, "--tokens-max", TOKENS, "--threads", 2,
                  "--seconds", 2, "--json", path)
    assert result.returncode == 0, result
    return path


def test_profile_has_every_operation(profile):
    root = json.loads(profile.read_text())
    assert root["key"]["units"] == 2 and root["key"]["library"] and root["key"]["kernels"]
    assert root["shares"] == [1, 2] and root["tokens"][-1] == TOKENS
    assert set(root["duration_us"]) >= {"kqv", "output", "prefill-attention", "decode-attention"}
    for shares in root["duration_us"].values():
        assert len(shares) == 2
        assert all(us > 0 for contexts in shares for sizes in contexts for us in sizes)
    assert all(0 < part <= 1 for row in root["keep"].values() for parts in row.values()
               for part in parts)


def test_plan_is_timed_and_drawn(profile, model, tmp_path):
    regime = f"{TOKENS}:{DECODE}:{CONTEXT}"
    result = tune("plan", "--profile", profile, "--out", tmp_path / "plans", "--regime", regime,
                  "--model", model, "--measure", 2, "--timeline", tmp_path / "plan.svg",
                  "--trace", tmp_path / "plan.json")
    assert result.returncode == 0, result
    files = list((tmp_path / "plans").iterdir())
    assert [file.name for file in files] == [f"{TOKENS}-{DECODE}-{CONTEXT}.json"]
    plan = json.loads(files[0].read_text())
    assert plan["regime"] == {"tokens": TOKENS, "decode": DECODE, "context": CONTEXT}
    assert plan["predicted_us"] > 0 and 0 < plan["measured_us"] <= plan["sequential_us"]
    assert xml.etree.ElementTree.parse(tmp_path / "plan.svg").getroot().tag.endswith("svg")
    assert len(json.loads((tmp_path / "plan.json").read_text())["traceEvents"]) > 10


def test_eight_bit_weights_are_measured_and_planned(model, tmp_path):
    """The plan files are for such workers alone, and timed on one."""
    if "avx512_vnni" not in pathlib.Path("/proc/cpuinfo").read_text(encoding="ascii"):
        pytest.skip("needs AVX512_VNNI")
    path = tmp_path / "profile.json"
    result = tune("profile", "--model", model, "--tokens-max", 32, "--threads", 1, "--seconds", 1,
                  "--dtype", "f32", "--weights", "int8", "--json", path)
    assert result.returncode == 0, result
    key = json.loads(path.read_text())["key"]
    assert (key["dtype"], key["weights"]) == ("f32", "int8")
    result = tune("plan", "--profile", path, "--out", tmp_path / "plans", "--regime", "32:16:64",
                  "--model", model, "--measure", 2)
    assert result.returncode == 0, result
    plan = json.loads((tmp_path / "plans" / "32-16-64.json").read_text())
    assert plan["key"] == key and plan["measured_us"] > 0


def test_shapes_are_enough(model, tmp_path):
    """Of a model whose weights are not there."""
    shapes, path = tmp_path / "shapes", tmp_path / "profile.json"
    shapes.mkdir()
    shutil.copy(f"{model}/config.json", shapes)
    words = ("--model", shapes, "--random-weights", 7)
    assert_fails(tune("profile", "--model", shapes, "--json", path), 1, "the model")
    result = tune("profile", *words, "--tokens-max", 16, "--threads", 1, "--seconds", 1, "--json",
                  path)
    assert result.returncode == 0, result
    result = tune("plan", "--profile", path, "--out", tmp_path / "plans", "--regime", "16:8:64",
                  *words, "--measure", 1)
    assert result.returncode == 0, result
    plan = json.loads((tmp_path / "plans" / "16-8-64.json").read_text())
    assert plan["measured_us"] > 0 and plan["key"] == json.loads(path.read_text())["key"]


def test_every_regime_gets_a_plan(profile, tmp_path):
    result = tune("plan", "--profile", profile, "--out", tmp_path, timeout_s=300)
    assert result.returncode == 0, result
    regimes = [json.loads(file.read_text())["regime"] for file in tmp_path.iterdir()]
    contexts = json.loads(profile.read_text())["contexts"]
    assert sorted((r["tokens"], r["decode"], r["context"]) for r in regimes) == sorted(
        (tokens, tokens * quarter // 4, context)
        for tokens in (64, 32) for quarter in range(5) for context in contexts)


def test_what_is_wrong_is_named(profile, model, tmp_path):
    out = tmp_path / "out.json"
    assert_fails(tune("profile", "--model", "/nonexistent", "--json", out), 1, "/nonexistent")
    assert_fails(tune("profile", "--model", model), 2, "--json")
    assert_fails(tune("profile", "--model", model, "--json", out, "--tp", 2), 2, "not measured")
    assert_fails(tune("profile", "--model", model, "--json", out, "--dtype", "int8"), 2, "--dtype")
    assert_fails(tune("profile", "--model", model, "--json", out, "--kv", "int8"), 2, "--kv")
    out.write_text("{}")
    assert_fails(tune("plan", "--profile", out, "--out", tmp_path), 1, "profile")
    assert_fails(tune("plan", "--profile", profile, "--out", tmp_path, "--regime", "1:2:3"), 2,
                 "TOKENS:DECODE:CONTEXT")
    assert_fails(tune("plan", "--profile", profile, "--out", tmp_path, "--measure", 2), 2,
                 "--model")
    root = json.loads(profile.read_text())
    root["duration_us"]["kqv"][0][0][0] = 0
    out.write_text(json.dumps(root))
    assert_fails(tune("plan", "--profile", out, "--out", tmp_path), 1, "kqv")
