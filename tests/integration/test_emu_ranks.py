"""test_emu_ranks.py - ranks on emulated GPUs answer as one CPU worker does, whatever a request asks
for and whichever of them dies meanwhile.

SLUICE_BIN as in test_emu.py.
"""
import signal

import pytest

from agent_process import SCALE, wait_until
from sluice_client import STATS, Client
from test_emu import GREEDY, SETTINGS, made, prompts
from test_groups import ASKED
from test_plans import STALE, said, steps_by_plans, write_plans

RANKS = {"workers.device": "cuda", "workers.count": 2, "workers.tp": 2}


def ask(agent):
    asked = [GREEDY] * 4 + [{**GREEDY, **body} for body in ASKED]
    with Client(agent.endpoint) as client:
        started = [client.start(ids=prompts()[n % 7], **body) for n, body in enumerate(asked)]
        client.finish(*started, timeout_s=120 * SCALE)
        return [(answer.ids, answer.finish) for answer in started]


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3_moe"])
def test_ranks_answer_as_the_cpu_does(own_agent, tmp_path, family):
    model = {"model.path": made(tmp_path, family), **SETTINGS}
    expected = ask(own_agent({**model, "workers.device": "cpu"}))
    agent = own_agent({**model, **RANKS})
    assert ask(agent) == expected
    with Client(agent.endpoint) as client:
        assert client.ask(STATS).body["workers_ready"] == 2


def test_no_order_of_lanes_changes_a_token_of_ranks(own_agent, tmp_path):
    model = {"model.path": made(tmp_path, "mixtral"), **SETTINGS}
    expected = ask(own_agent({**model, "workers.device": "cpu"}))
    assert ask(own_agent({**model, **RANKS}, {"SLUICE_EMU_SEED": "5"})) == expected


def started_with_plans(make_agent, folder, settings):
    """An agent whose plans fit it: each refusal names one thing that differs."""
    key = {"model": "m", "dtype": "d", "weights": "w", "kv": "k", "tp": 9, "device": "none",
           "units": 99, "library": "none 0", "kernels": "0"}
    for _ in range(2 * len(key)):
        write_plans(folder, key, ranks=True)
        agent = make_agent({"plan.dir": str(folder), "plan.mode": "overlap", **settings}).start()
        assert wait_until(lambda: said(agent, "files serve"), 10), agent.log()
        refused = [STALE.search(line) for line in said(agent, "is refused")]
        if not refused:
            return agent
        agent.stop()
        name, _, here = refused[0].groups()
        key[name] = type(key[name])(here)
    raise AssertionError(agent.log())


def test_ranks_run_plans(make_agent, tmp_path):
    """Nano-batches on two lanes; what meets the other rank is on one of them."""
    model = {"model.path": made(tmp_path, "llama"), **SETTINGS}
    alone = make_agent({**model, "workers.device": "cpu"}).start()
    expected = ask(alone)
    alone.stop()
    folder = tmp_path / "plans"
    folder.mkdir()
    agent = started_with_plans(make_agent, folder, {**model, **RANKS})
    assert ask(agent) == expected
    with Client(agent.endpoint) as client:
        assert steps_by_plans(client) > 0
    agent.stop()


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_rank_costs_nobody_a_token(own_agent, tmp_path, killed):
    """The other one gives its step up, keeps its weights and meets the new one."""
    model = {"model.path": made(tmp_path, "qwen3"), **SETTINGS}
    with Client(own_agent({**model, "workers.device": "cpu"}).endpoint) as client:
        expected = [client.generate(ids=prompt, **GREEDY).ids for prompt in prompts()]
    agent = own_agent({**model, **RANKS})
    for again in range(2):
        ranks = sorted(process.pid for process in agent.workers())
        with Client(agent.endpoint) as client:
            answers = [client.start(ids=prompt, **GREEDY) for prompt in prompts()]
            assert client.pump(lambda: any(answer.ids for answer in answers)), agent.log()
            agent.kill_one(ranks[killed])
            client.finish(*answers, timeout_s=120 * SCALE)
            assert [answer.ids for answer in answers] == expected, again
        left = [process.pid for process in agent.workers()]
        assert ranks[1 - killed] in left and ranks[killed] not in left


def test_a_stopped_rank_is_replaced(own_agent, tmp_path):
    """Who waits for it says so, and keeps its weights."""
    model = {"model.path": made(tmp_path, "llama"), **SETTINGS,
             "workers.step_timeout_ms": int(16000 * SCALE)}
    expected = ask(own_agent({**model, "workers.device": "cpu"}))
    agent = own_agent({**model, **RANKS})
    ranks = sorted(process.pid for process in agent.workers())
    agent.kill_one(ranks[1], signal.SIGSTOP)
    assert ask(agent) == expected
    left = [process.pid for process in agent.workers()]
    assert ranks[0] in left and ranks[1] not in left, agent.log()


def test_a_failed_device_among_two_costs_nobody_a_token(own_agent, tmp_path):
    model = {"model.path": made(tmp_path, "llama"), **SETTINGS}
    expected = ask(own_agent({**model, "workers.device": "cpu"}))
    agent = own_agent({**model, **RANKS}, {"SLUICE_EMU_FAULT": "fence:60"})
    assert ask(agent) == expected
    assert wait_until(lambda: "told to fail" in agent.log(), 5)
    agent.first = None


def test_fewer_devices_than_workers_are_refused_with_both_numbers(make_agent, tmp_path):
    agent = make_agent({"model.path": made(tmp_path, "llama"), **SETTINGS, **RANKS},
                       {"SLUICE_EMU_DEVICES": "1"})
    assert agent.spawn().wait(30) != 0
    assert "device 1 is wanted and there are 1" in agent.log()
    assert "workers.count" in agent.log()
