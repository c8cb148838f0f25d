"""test_emu.py - the worker of a GPU without one: its kernels run under the emulator, the rest is as
it ships. In f32 a greedy answer is the CPU worker's, alone, in a batch, with a shared
beginning, under a plan, and with the worker killed underneath.

SLUICE_BIN holds the agent, sluice-worker-cpu, and the emulated worker as sluice-worker-cuda.
"""
import json
import os
import random
import re
import struct
import subprocess
import sys

import pytest

from agent_process import ROOT, SCALE
from sluice_client import STATS, Client, assert_error

STREAMS, TOKENS = 6, 16
FAMILIES = {
    "llama": [], "qwen2": [], "qwen3": [], "mistral": ["--window", "20"],
    "mixtral": ["--window", "33"], "qwen3_moe": ["--experts", "12", "--experts-used", "3"],
}
SETTINGS = {"kv.device_pages": 256, "batch.tokens_max": 64, "batch.slots_max": 16,
            "workers.step_timeout_ms": int(60000 * SCALE)}
KV_POOL = re.compile(r"KV pool (\d+) MB")
FAULTS = ("fence:150", "launch:400")
SPOILT = 300  # A token that no prompt of prompts() has, and nobody is given.
GREEDY = {"temperature": 0, "ignore_eos": True, "max_tokens": TOKENS}


def prompts():
    """Of one page and of several, longer than a step, and two with a beginning in common."""
    source = random.Random(5)
    found = [[1] + [source.randrange(3, 259) for _ in range(5 + 17 * n)] for n in range(STREAMS)]
    return found + [found[4][:40] + [7, 8, 9]]


def made(folder, family):
    path = folder / family
    subprocess.run([sys.executable, os.path.join(ROOT, "tests/golden/make_model.py"), path,
                    "--family", family, *FAMILIES[family]], check=True, timeout=60 * SCALE)
    return str(path)


def spoil_embedding(path, row):
    """Writes NaN over a row of the embedding in place."""
    with open(os.path.join(path, "model.safetensors"), "r+b") as file:
        length, = struct.unpack("<Q", file.read(8))
        told = json.loads(file.read(length))["model.embed_tokens.weight"]
        columns = told["shape"][1]
        assert told["dtype"] == "F32"
        file.seek(8 + length + told["data_offsets"][0] + 4 * columns * row)
        file.write(struct.pack("<f", float("nan")) * columns)


def ask_alone(agent):
    with Client(agent.endpoint) as client:
        return [client.generate(ids=prompt, **GREEDY).ids for prompt in prompts()]


def check_company(agent, expected):
    """Alone, in a batch whose worker is killed, and as several answers to one prompt."""
    assert ask_alone(agent) == expected
    with Client(agent.endpoint) as client:
        answers = [client.start(ids=prompt, **GREEDY) for prompt in prompts()]
        assert client.pump(lambda: answers[0].ids), agent.log()
        agent.kill_one(agent.worker())
        client.finish(*answers, timeout_s=120 * SCALE)
        assert [answer.ids for answer in answers] == expected
        before = client.ask(STATS).body["shared_tokens_total"]
        choices = client.start_choices(3, ids=prompts()[2], **GREEDY)
        client.finish(choices, timeout_s=120 * SCALE)
        assert [answer.ids for answer in choices.answers] == [expected[2]] * 3
        assert client.ask(STATS).body["shared_tokens_total"] > before


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_are_those_of_the_cpu(own_agent, tmp_path, family):
    model = {"model.path": made(tmp_path, family), **SETTINGS}
    expected = ask_alone(own_agent({**model, "workers.device": "cpu"}))
    check_company(own_agent({**model, "workers.device": "cuda"}), expected)


def test_pages_of_bytes_change_no_token_in_company(own_agent, tmp_path):
    """e4m3 holds a page in a quarter of the memory of f32. Its tokens are its own, the same in any
    batch, with shared pages and replayed."""
    model = {"model.path": made(tmp_path, "qwen2"), **SETTINGS, "workers.device": "cuda",
             "kv.device_pages": 4096}
    agents = [own_agent(model), own_agent({**model, "kv.dtype": "fp8_e4m3"})]
    pools = [int(KV_POOL.search(agent.log()).group(1)) for agent in agents]
    assert pools[1] == pools[0] // 4 > 0
    check_company(agents[1], ask_alone(agents[1]))


def test_weights_of_bytes_change_no_token_in_company(own_agent, tmp_path):
    agent = own_agent({"model.path": made(tmp_path, "qwen2"), **SETTINGS, "workers.device": "cuda",
                       "model.weights": "fp8"})
    check_company(agent, ask_alone(agent))


def test_experts_in_bytes_are_refused(make_agent, tmp_path):
    agent = make_agent({"model.path": made(tmp_path, "mixtral"), **SETTINGS,
                        "workers.device": "cuda", "model.weights": "fp8"})
    assert agent.spawn().wait(30) != 0
    assert "model.weights fp8" in agent.log() and "experts" in agent.log()


def test_a_failed_device_costs_nobody_a_token(own_agent, tmp_path):
    """It fails again and again: each worker ends with the reason, which the supervisor logs, and
    the next one replays."""
    model = {"model.path": made(tmp_path, "llama"), "workers.device": "cuda", **SETTINGS}
    expected = ask_alone(own_agent(model))
    for fault in FAULTS:
        agent = own_agent(model, {"SLUICE_EMU_FAULT": fault})
        assert ask_alone(agent) == expected
        reasons = [line for line in agent.errors if "emulated: told to fail" in line]
        assert reasons and all("starting it again" in line for line in reasons), agent.log()
        agent.first = None  # Those that were there at the beginning ended as they should.


def test_a_device_that_hangs_costs_nobody_a_token(own_agent, tmp_path):
    """Its worker is killed at a step's deadline, or tells of it first."""
    model = {"model.path": made(tmp_path, "llama"), "workers.device": "cuda", **SETTINGS}
    asked = {"ids": prompts()[0], **GREEDY}
    with Client(own_agent(model).endpoint) as client:
        expected = client.generate(**asked).ids
    agent = own_agent({**model, "workers.step_timeout_ms": int(4000 * SCALE)},
                      {"SLUICE_EMU_FAULT": "hang:40"})
    with Client(agent.endpoint) as client:
        assert client.generate(**asked, timeout_s=60 * SCALE).ids == expected
    for words in ("workers.step_timeout_ms", "starting it again"):
        assert [line for line in agent.errors if words in line], agent.log()
    agent.first = None


def test_a_token_that_is_not_a_number_fails_alone(own_agent, tmp_path):
    """A row of the embedding is NaN: whoever's prompt has that token fails, alone and beside others
    in one step, and nobody else; nor does whoever gets the pages afterwards."""
    path = made(tmp_path, "llama")
    expected = ask_alone(own_agent({"model.path": path, **SETTINGS, "workers.device": "cuda"}))
    spoil_embedding(path, SPOILT)
    agent = own_agent({"model.path": path, **SETTINGS, "workers.device": "cuda"})
    with Client(agent.endpoint) as client:
        for _ in range(2):
            good = [client.start(ids=prompt, **GREEDY) for prompt in prompts()]
            bad = [client.start(ids=[1, 5, SPOILT, 7], **GREEDY),
                   client.start(ids=[1] + [9] * 40 + [SPOILT], **GREEDY)]
            client.finish(*good, *bad, timeout_s=120 * SCALE)
            assert [answer.ids for answer in good] == expected
            for answer in bad:
                assert_error(answer.error, "internal", answer.id)
    assert not [line for line in agent.errors if "starting it again" in line], agent.log()


def test_seeded_answers_are_those_of_the_cpu(own_agent, tmp_path):
    """Sampling, with what a worker keeps of a request and counts over its tokens: also on a device
    that is slow, so that steps stand behind each other, with the worker killed underneath."""
    model = {"model.path": made(tmp_path, "llama"), **SETTINGS}
    asked = [{"ids": prompt, "ignore_eos": True, "max_tokens": TOKENS, "seed": 31 * n,
              "temperature": 0.8, "top_p": 0.95, "top_k": 40 + n, "frequency_penalty": 0.3,
              "repetition_penalty": 1.15, "logit_bias": {str(40 + n): 2.5}, "bad_ids": [50],
              "top_logprobs": 2, "prompt_logprobs": n % 3} for n, prompt in enumerate(prompts())]
    found = []
    for device, slow in (("cpu", {}), ("cuda", {}), ("cuda", {"SLUICE_EMU_SEED": "11"})):
        agent = own_agent({**model, "workers.device": device}, slow)
        with Client(agent.endpoint) as client:
            answers = [client.start(**body) for body in asked]
            if slow:
                assert client.pump(lambda: len(answers[0].ids) > 3, 120 * SCALE), agent.log()
                agent.kill_one(agent.worker())
            client.finish(*answers, timeout_s=120 * SCALE)
            found.append([answer.ids for answer in answers])
    assert found[0] == found[1] == found[2]


def test_no_order_of_lanes_changes_a_token(own_agent, tmp_path):
    """Nothing runs before the host waits for it, then in an order that only events restrict."""
    model = {"model.path": made(tmp_path, "qwen3"), **SETTINGS, "workers.device": "cuda"}
    found = []
    for seed in ("0", "7"):
        agent = own_agent(model, {"SLUICE_EMU_SEED": seed})
        with Client(agent.endpoint) as client:
            answers = [client.start(ids=prompt, **GREEDY) for prompt in prompts()]
            client.finish(*answers, timeout_s=120 * SCALE)
            found.append([answer.ids for answer in answers])
    assert found[0] == found[1]


@pytest.mark.parametrize("settings, device, words", [
    ({"kv.device_pages": 4000000}, {}, ("KV pool", "MB", "kv.device_pages to")),
    ({"kv.device_pages": 16, "batch.tokens_max": 8192}, {"SLUICE_EMU_MEMORY_MB": "9"},
     ("buffers of", "MB", "batch.tokens_max")),
    ({}, {"SLUICE_EMU_MEMORY_MB": "0"}, ("weights need", "MB")),
    ({}, {"SLUICE_EMU_FAULT": "arena:1"}, ("a step's buffers on the GPU", "batch.tokens_max")),
    ({}, {"SLUICE_EMU_FAULT": "arena:2"}, ("pinned buffers", "LimitMEMLOCK")),
    ({}, {"SLUICE_EMU_FAULT": "arena:3"}, ("the KV pool", "lower kv.device_pages")),
    ({}, {"SLUICE_EMU_FAULT": "arena:4"}, ("the weights", "lower kv.device_pages")),
])
def test_what_does_not_fit_is_named(make_agent, tmp_path, settings, device, words):
    """With what would make it fit, and before anything is served."""
    agent = make_agent({"model.path": made(tmp_path, "llama"), **SETTINGS,
                        "workers.device": "cuda", **settings}, device)
    assert agent.spawn().wait(30 * SCALE) != 0
    assert all(word in agent.log() for word in words), agent.log()
