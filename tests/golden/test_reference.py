#!/usr/bin/env python3
"""test_reference.py ENGINE_DUMP CASE - the engine's f32 logits against reference.py.

CASE is generated (models of make_model.py in every type and in odd shapes; needs nothing), families
(the same for every family), golden
(reference.py itself against logits computed elsewhere), q8_0 (these two of the test data) or
smollm2 (SLUICE_SMOLLM2, or build/models/ where make run puts it). Exit 77: its model is not here.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy

import reference

HERE = pathlib.Path(__file__).parent
TOLERANCE = 1e-3  # Largest |difference| of two logits, ...
RELATIVE = 1e-4  # ... and of the largest |logit| for models in f32.
SKIPPED = 77
IDS = [1, 5, 270, 82, 113, 3, 299, 41, 275, 275, 12, 260]
LONG_IDS = [1] + [3 + 89 * i % 290 for i in range(150)]  # Longer than blocks of attention.
SMOLLM2_IDS = [1, 9690, 198, 2683, 359, 260, 5575, 282, 4649, 30, 504, 1234, 22, 99, 17, 49151]
ODD = ["--hidden", "40", "--head-dim", "10", "--ffn", "52", "--vocab", "300"]
GENERATED = {
    "f32": [], "bf16": ["--dtype", "bf16"], "odd": ODD, "odd-tied-bf16-shards":
    [*ODD, "--tied", "--dtype", "bf16", "--shards", "3"],
    "odd-gguf": [*ODD, "--gguf", "F16"], "tied-gguf": ["--tied", "--gguf", "Q8_0"],
    "wide-heads": ["--heads", "3", "--kv-heads", "1", "--head-dim", "34"],
    **{kind: ["--gguf", kind]
       for kind in ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"]},
    **{kind: ["--gguf", kind, "--hidden", "256", "--heads", "8", "--head-dim", "32", "--ffn", "512"]
       for kind in ["Q4_K", "Q5_K", "Q6_K"]},
}
QWEN2, QWEN3 = ["--family", "qwen2"], ["--family", "qwen3"]
MISTRAL, MIXTRAL = ["--family", "mistral"], ["--family", "mixtral"]
QWEN3_MOE = ["--family", "qwen3_moe"]
FAMILIES = {
    "mixtral": MIXTRAL, "mixtral-odd": [*MIXTRAL, *ODD, "--experts-used", "1", "--tied"],
    "mixtral-all": [*MIXTRAL, "--experts-used", "5", "--window", "33", "--dtype", "bf16"],
    "mixtral-gguf": [*MIXTRAL, "--gguf", "F32"], "mixtral-q5": [*MIXTRAL, "--gguf", "Q5_1"],
    "qwen3-moe": [*QWEN3_MOE, "--experts", "40", "--experts-used", "8", "--shards", "2"],
    "qwen3-moe-raw": [*QWEN3_MOE, *ODD, "--raw-weights"],
    "qwen3-moe-gguf": [*QWEN3_MOE, "--gguf", "F16"],
    "qwen3-moe-gguf-raw": [*QWEN3_MOE, "--gguf", "Q8_0", "--raw-weights"],
    "mistral": [*MISTRAL, "--window", "20"], "mistral-one": [*MISTRAL, "--window", "1"],
    "mistral-block": [*MISTRAL, "--window", "64", *ODD], "mistral-none": MISTRAL,
    "mistral-gguf": [*MISTRAL, "--window", "70", "--gguf", "F16"],
    "qwen2": QWEN2, "qwen2-odd-tied": [*QWEN2, *ODD, "--tied"],
    "qwen2-gguf": [*QWEN2, "--gguf", "F32"], "qwen2-q8": [*QWEN2, "--tied", "--gguf", "Q8_0"],
    "qwen3": QWEN3, "qwen3-wide": [*QWEN3, "--head-dim", "34", "--tied"],
    "qwen3-odd": [*QWEN3, *ODD], "qwen3-gguf": [*QWEN3, "--gguf", "F16"],
}


def report(name, actual, expected, relative=None):
    """Prints the difference; true when it is small enough."""
    if actual.shape != expected.shape or not numpy.isfinite(actual).all():
        print(f"{name}: shape {actual.shape}, expected {expected.shape}, or not finite")
        return False
    difference = numpy.abs(actual - expected).max()
    print(f"{name}: largest difference {difference:.2e} of {numpy.abs(expected).max():.1f}")
    return difference <= min(TOLERANCE, (relative or 1) * numpy.abs(expected).max())


def compare(dump, name, path, ids, relative=None):
    command = [dump, str(path)] + [str(i) for i in ids]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=600).stdout
    expected = reference.forward(*reference.load(path), ids)
    return report(name, numpy.array(json.loads(printed)["logits"]), expected, relative)


def generated(dump, models, ids, relative=None):
    passed = []
    with tempfile.TemporaryDirectory(prefix="sluice-golden-") as folder:
        for seed, (name, options) in enumerate(models.items()):
            path = pathlib.Path(folder, name)
            command = [sys.executable, HERE / "make_model.py", path, "--seed", str(seed), *options]
            subprocess.run(command, check=True, timeout=120)
            passed.append(compare(dump, name, path, ids, relative))
    return all(passed)


def refuses_foreign_bias(dump):
    """The biases of a Qwen2 under a Llama's name: no silent sum without them."""
    with tempfile.TemporaryDirectory(prefix="sluice-golden-") as folder:
        command = [sys.executable, HERE / "make_model.py", folder, "--family", "qwen2"]
        subprocess.run(command, check=True, timeout=120)
        config = pathlib.Path(folder, "config.json")
        config.write_text(config.read_text().replace("Qwen2ForCausalLM", "LlamaForCausalLM"))
        ended = subprocess.run([dump, folder, "1"], stderr=subprocess.PIPE, timeout=60,
                               stdout=subprocess.DEVNULL, check=False)
        print(f"refused: {ended.stderr.decode().strip()}")
        return ended.returncode != 0 and b".bias: this bias is not supported" in ended.stderr


def golden(data):
    """Both fixtures were computed by other programs than this project's."""
    passed = []
    path = data / "models/stories260K-hf"
    model = reference.load(path)
    for number, case in enumerate(json.loads((path / "golden.json").read_text())["cases"]):
        logits = reference.forward(*model, case["prompt_ids"])[-1]
        passed.append(report(f"stories260K {number}", logits, numpy.array(case["last_logits"])))
    path = data / "models/neural-api-tiny"
    model = reference.load(path / "tiny_llama_f32.gguf")
    fixture = json.loads((path / "tiny_llama_logits.json").read_text())
    for ids, rows in zip(fixture["sequences"], fixture["logits"], strict=True):
        passed.append(report("tiny_llama", reference.forward(*model, ids), numpy.array(rows)))
    with tempfile.TemporaryDirectory(prefix="sluice-golden-") as folder:
        for name, target in (("config.json", "tiny_mixtral_config.json"),
                             ("model.safetensors", "tiny_mixtral.safetensors")):
            pathlib.Path(folder, name).symlink_to((path / target).absolute())
        model = reference.load(folder)
        fixture = json.loads((path / "tiny_mixtral_logits.json").read_text())
        for ids, rows in zip(fixture["sequences"], fixture["logits"], strict=True):
            passed.append(report("tiny_mixtral", reference.forward(*model, ids), numpy.array(rows)))
    return all(passed)


def smollm2_path():
    given = os.environ.get("SLUICE_SMOLLM2")
    path = pathlib.Path(given or "build/models/SmolLM2-135M-Instruct.Q4_1.gguf")
    return path if given or path.exists() else None


def main():
    dump, case = sys.argv[1:]
    data = os.environ.get("SLUICE_TEST_DATA")
    if case == "generated":
        return 0 if generated(dump, GENERATED, IDS) else 1
    if case == "families":
        passed = generated(dump, FAMILIES, LONG_IDS, RELATIVE)
        return 0 if refuses_foreign_bias(dump) and passed else 1
    if case == "smollm2":
        path = smollm2_path()
        if path is None:
            print("1 skipped: SLUICE_SMOLLM2 is not set")
            return SKIPPED
        return 0 if compare(dump, path.name, path, SMOLLM2_IDS) else 1
    if not data:
        print("1 skipped: SLUICE_TEST_DATA is not set")
        return SKIPPED
    if case == "golden":
        return 0 if golden(pathlib.Path(data)) else 1
    path = pathlib.Path(data, "models/neural-api-tiny/tiny_llama_q8.gguf")
    return 0 if compare(dump, case, path, [1, 2, 3, 4, 5, 6, 7]) else 1


if __name__ == "__main__":
    sys.exit(main())
