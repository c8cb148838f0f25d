"""test_kill_group.py - kill -9 and SIGSTOP among several workers: replicas, and the ranks of a
tensor-parallel group. Every greedy stream equals the one that a lone worker gives.

SLUICE_KILLS is the number of kills of each case (default 6), SLUICE_SEED repeats a run.
"""
import random
import signal
import time

import pytest

from agent_process import wait_until
from sluice_client import STATS, Client
from test_kill import KILLS, OPTIONS, SEED, drain, percentiles, prompts
from test_kill import undisturbed  # noqa: F401  A fixture.

LAYOUTS = {"replicas": {"workers.count": 2, "workers.threads": 1},
           "ranks": {"workers.count": 2, "workers.tp": 2, "workers.threads": 1}}


def ranked(agent):
    """Pids of the two workers by age, both serving."""
    found = wait_until(lambda: len(agent.workers()) == 2 and agent.workers(), 20)
    assert found, agent.log()
    return sorted(p.pid for p in found)


def everybody_ready(client):
    assert wait_until(lambda: client.ask(STATS).body["workers_ready"] == 2, 30)


@pytest.fixture(params=LAYOUTS)
def layout(request):
    return LAYOUTS[request.param]


def test_kills_of_either_worker(own_agent, undisturbed, layout):  # noqa: F811
    alone, took_s = undisturbed
    source = random.Random(SEED)
    agent = own_agent(layout)
    silences = []
    with Client(agent.endpoint) as client:
        for kill in range(KILLS):
            everybody_ready(client)
            answers = [client.start(ids=prompt, **OPTIONS) for prompt in prompts()]
            drain(client, time.monotonic() + source.random() * took_s * 0.5)
            live = sum(not answer.ended for answer in answers)
            agent.kill_one(ranked(agent)[kill % 2])
            last, longest = time.monotonic(), 0.0
            while not all(answer.ended for answer in answers):
                message = client.receive(60)
                assert message, f"silence for 60 s, {live} live streams\n{agent.log()}"
                client.dispatch(message)
                longest, last = max(longest, time.monotonic() - last), time.monotonic()
            wrong = [n for n, answer in enumerate(answers) if answer.ids != alone[n]]
            assert not wrong, f"seed {SEED}, kill {kill}: streams {wrong}\n{agent.log()}"
            silences.append(longest)
        everybody_ready(client)
        losses = client.ask(STATS).body["worker_losses_total"]
    assert losses == KILLS, agent.log()
    print(f"\n{KILLS} kills, seed {SEED}; longest silence in ms: {percentiles(silences)}")


def test_status_tells_of_each_worker(own_agent, layout):
    agent = own_agent(layout)
    with Client(agent.endpoint) as client:
        stats = client.ask(STATS).body
    assert stats["worker_0_ready"] == stats["worker_1_ready"] == 1
    groups = [key for key in stats if key.startswith("group_") and key.endswith("_steps_total")]
    assert len(groups) == 2 // layout.get("workers.tp", 1)
    assert sum(stats[f"group_{n}_pages_free"] for n in range(len(groups))) == stats["pages_free"]


def test_a_stopped_worker_is_replaced(own_agent, undisturbed, layout):  # noqa: F811
    """SIGSTOP of one: it alone is declared dead, by a deadline."""
    alone, _ = undisturbed
    agent = own_agent({**layout, "workers.step_timeout_ms": 1000})
    with Client(agent.endpoint) as client:
        for victim in range(2):
            everybody_ready(client)
            answers = [client.start(ids=prompt, **OPTIONS) for prompt in prompts()]
            assert client.pump(lambda: all(answer.ids for answer in answers))
            pids = ranked(agent)
            agent.kill_one(pids[victim], signal.SIGSTOP)
            client.finish(*answers, timeout_s=60)
            assert [answer.ids for answer in answers] == alone
            everybody_ready(client)
            left = ranked(agent)
            assert pids[1 - victim] in left and pids[victim] not in left, agent.log()
