"""test_tune_report.py - sluice-tune report as a person runs it: figures and refusals."""
import json

from test_tools import assert_fails, run

DEVICE = {"name": "a device", "flops": 1e12, "memory_bytes_s": 1e10, "memory_bytes": 1e9,
          "interference": {"memory": [[0.5, 0.7]]}}


def report(model, device, *words):
    return run("report", "--model", model, "--device", device, *words, tool="sluice-tune")


def write_device(tmp_path, **changes):
    path = tmp_path / "device.json"
    path.write_text(json.dumps({**DEVICE, **changes}))
    return path


def test_report_prints_the_bounds(model, tmp_path):
    path = write_device(tmp_path)
    result = report(model, path, "--tokens", 640, "--mix", "512:128", "--mix", "8:8")
    assert result.returncode == 0 and result.stderr == "", result
    said = " ".join(result.stdout.split())
    assert "1 TFLOP/s, memory 10 GB/s and 1 GB" in said
    assert "T_mem 100 ms" in said  # 1 GB at 10 GB/s.
    assert "memory 0.14 0.28 0.42 0.56 0.70 0.76 0.82 0.88 0.94" in said
    assert "mix 512:128: 512 tokens of prompts and 128 of decode, which attend to 576" in said
    assert "mix 8:8: 320 tokens of prompts and 320 of decode, which attend to 12" in said
    assert "decode-attention" in said and "up-gate" in said and "gather" not in said
    assert "overlapped at best" in said


def test_report_measures_this_machine(model):
    result = report(model, "auto", "--threads", 1, "--dtype", "f32")
    assert result.returncode == 0 and "1 thread, measured" in result.stdout, result


def test_report_refuses(model, tmp_path):
    path = write_device(tmp_path)
    assert_fails(report(tmp_path / "none", path), 1, "none")
    assert_fails(report(model, tmp_path / "none"), 1, "none")
    assert_fails(report(model, path, "--mix", "512"), 2, "--mix")
    assert_fails(report(model, path, "--mix", "0:8"), 2, "--mix")
    assert_fails(report(model, path, "--dtype", "int4"), 2, "--dtype")
    assert_fails(report(model, path, "--collectives", "x"), 2, "--collectives")
    assert_fails(report(model, path, "--tokens", 0), 2, "--tokens")
    assert_fails(run("report", tool="sluice-tune"), 2, "--model")
    assert_fails(report(model, write_device(tmp_path, flops=0)), 1, "flops")
    assert_fails(report(model, write_device(tmp_path, interference={"memory": 7})), 1, "memory")
