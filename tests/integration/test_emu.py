"""test_emu.py - the worker of a GPU without one: its kernels run under the emulator, the rest is as
it ships. In f32 a greedy answer is the CPU worker's, alone, in a batch, with a shared
beginning, under a plan, and with the worker killed underneath.

SLUICE_BIN holds the agent, sluice-worker-cpu, and the emulated worker as sluice-worker-cuda.
"""
import os
import random
import re
import subprocess
import sys

import pytest

from agent_process import ROOT, SCALE
from sluice_client import STATS, Client

STREAMS, TOKENS = 6, 16
FAMILIES = {
    "llama": [], "qwen2": [], "qwen3": [], "mistral": ["--window", "20"],
    "mixtral": ["--window", "33"], "qwen3_moe": ["--experts", "12", "--experts-used", "3"],
}
SETTINGS = {"kv.device_pages": 256, "batch.tokens_max": 64, "batch.slots_max": 16,
            "workers.step_timeout_ms": int(60000 * SCALE)}
KV_POOL = re.compile(r"KV pool (\d+) MB")
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


def test_a_failed_device_costs_nobody_a_token(own_agent, tmp_path):
    """It fails again and again: each worker ends with the reason, which the supervisor logs, and
    the next one replays."""
    model = {"model.path": made(tmp_path, "llama"), "workers.device": "cuda", **SETTINGS}
    expected = ask_alone(own_agent(model))
    agent = own_agent(model, {"SLUICE_EMU_FENCES": "150"})
    assert ask_alone(agent) == expected
    reasons = [line for line in agent.errors if "emulated: a step: told to fail" in line]
    assert reasons and all("starting it again" in line for line in reasons), agent.log()
    agent.first = None  # Those that were there at the beginning ended as they should.


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


def test_a_pool_beyond_the_device_is_refused(make_agent, tmp_path):
    agent = make_agent({"model.path": made(tmp_path, "llama"), **SETTINGS,
                        "workers.device": "cuda", "kv.device_pages": 4000000})
    assert agent.spawn().wait(30) != 0
    assert "kv.device_pages" in agent.log() and "MB" in agent.log()
