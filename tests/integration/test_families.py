"""test_families.py - one small model of every family through real processes: greedy answers equal
an independent float64 pass, alone, in a batch, and with the worker killed underneath."""
import os
import random
import subprocess
import sys

import numpy
import pytest

from agent_process import ROOT, SCALE
from sluice_client import Client

sys.path.insert(0, os.path.join(ROOT, "tests/golden"))
import reference  # pylint: disable=wrong-import-position

STREAMS, TOKENS, CHECKED = 8, 60, 12
GAP_MIN = 1e-3  # Where the two best logits are closer, a correct engine may take the other.
FAMILIES = {
    "qwen2": [], "qwen3": [], "mistral": ["--window", "20"], "mixtral": ["--window", "33"],
    "qwen3_moe": ["--experts", "12", "--experts-used", "3", "--gguf", "F16"],
}


def prompts():
    source = random.Random(5)
    return [[1] + [source.randrange(3, 500) for _ in range(9 + 7 * n)] for n in range(STREAMS)]


def check_reference(path, prompt, ids):
    numbers, tensors = reference.load(path)
    logits = reference.forward(numbers, tensors, prompt + ids[:CHECKED])
    for n, token in enumerate(ids[:CHECKED]):
        row = logits[len(prompt) - 1 + n]
        best = numpy.argsort(-row)[:2]
        if row[best[0]] - row[best[1]] < GAP_MIN:
            return n
        assert token == best[0], f"token {n}"
    return CHECKED


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_served(own_agent, tmp_path, family):
    path = tmp_path / "model"
    subprocess.run([sys.executable, os.path.join(ROOT, "tests/golden/make_model.py"), path,
                    "--family", family, *FAMILIES[family]], check=True, timeout=60 * SCALE)
    agent = own_agent({"model.path": str(path)})
    asked = [{"ids": prompt, "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True}
             for prompt in prompts()]
    with Client(agent.endpoint) as client:
        alone = [client.generate(**body).ids for body in asked]
        assert all(len(ids) == TOKENS for ids in alone)
        assert sum(check_reference(path, *pair) for pair in zip(prompts(), alone, strict=True)) \
            >= STREAMS * CHECKED // 2
        answers = [client.start(**body) for body in asked]
        assert client.pump(lambda: answers[0].ids), agent.log()
        agent.kill_one(agent.worker())
        client.finish(*answers)
        assert [answer.ids for answer in answers] == alone


def test_inspect_counts_experts_and_names_the_unknown(tmp_path):
    path = tmp_path / "model.gguf"
    subprocess.run([sys.executable, os.path.join(ROOT, "tests/golden/make_model.py"), path,
                    "--family", "qwen3_moe", "--gguf", "F16"], check=True, timeout=60 * SCALE)
    tool = os.path.join(os.environ["SLUICE_BIN"], "sluicectl")

    def inspect():
        return subprocess.run([tool, "inspect", path], capture_output=True, text=True, check=False,
                              timeout=60)
    described = dict(line.split(None, 1) for line in inspect().stdout.splitlines())
    _, tensors = reference.read_gguf(path)
    assert int(described["parameters"]) == sum(values.size for values in tensors.values())
    assert (described["experts"], described["experts_used"]) == ("5", "2")
    path.write_bytes(path.read_bytes().replace(b"qwen3moe", b"qwen9moe"))
    refused = inspect()
    assert refused.returncode == 1
    assert "general.architecture qwen9moe" in refused.stderr and "qwen3moe" in refused.stderr
