"""test_plans.py - plan files from the directory to the worker: what is stale is refused with the
reason, and with two lanes side by side the answers are those of sequential steps, to the token."""
import json
import os
import re

from agent_process import wait_until
from sluice_client import PLANS, STATS, Client

OPERATIONS = ["attention-norm", "kqv", "rope-append", "prefill-attention", "decode-attention",
              "output", "ffn-norm", "up-gate", "silu-mul", "down"]
MEET = {"decode-attention", "output", "silu-mul", "down"}  # The other ranks.
RANKS = {"workers.count": 2, "workers.tp": 2, "workers.threads": 1}
WHOLE = 65536
STALE = re.compile(r'refused: it was made for (?:the )?(\w+) "?([^"]*?)"?, this is "?([^"]*?)"?$')


def two_lanes(ranks):
    """Two nano-batches, each with a lane; what one wants of the other is its keys and values. Of
    ranks, what meets the others is on the first lane."""
    count = len(OPERATIONS)
    nano, edges = [], []
    for lane in range(2):
        for index, operation in enumerate(OPERATIONS):
            at = lane * count + index
            nano.append({"op": operation, "first": lane * WHOLE // 2,
                         "end": (lane + 1) * WHOLE // 2,
                         "lane": 0 if ranks and operation in MEET else lane, "lag": 0, "units": 0})
            before = at - 1 if index else at + count - 1
            edges.append({"after": at, "before": before, "offset": int(index == 0), "kind": "end"})
    edges.append({"after": count + 3, "before": 2, "offset": 0, "kind": "end"})
    return nano, edges


def write_plans(folder, key, edges_less=0, ranks=False):
    nano, edges = two_lanes(ranks)
    for tokens in (1, 4, 16, 64, 256):
        plan = {"plan": 1, "key": key, "nano": nano, "edges": edges[:len(edges) - edges_less],
                "regime": {"tokens": tokens, "decode": 0, "context": 16},
                "predicted_us": 0, "measured_us": 0, "sequential_us": 0}
        with open(os.path.join(folder, f"{tokens:03}.json"), "w", encoding="utf-8") as file:
            json.dump(plan, file)


def ran_by(agent):
    """Of each file the steps and the time, and what is refused; told twice, they agree."""
    with Client(agent.endpoint) as client:
        told, stats = client.ask(PLANS).body, client.ask(STATS).body
    assert set(told) == {"plans", "refused"} and told["plans"][0]["file"] == ""
    assert stats["plans"] == len(told["plans"]) - 1
    assert stats["plans_refused"] == len(told["refused"])
    assert stats["steps_total"] == sum(row["steps_total"] for row in told["plans"]) > 0
    assert stats["compute_us_total"] == sum(row["compute_us_total"] for row in told["plans"])
    return told


def prompts():
    return [[1] + [3 + (seed * 37 + i * 11) % 200 for i in range(5 + 40 * seed)]
            for seed in range(4)]


def answers_of(agent):
    with Client(agent.endpoint) as client:
        return [client.generate(ids=prompt, max_tokens=30, temperature=0, ignore_eos=True).ids
                for prompt in prompts()]


def start(make_agent, folder, mode, layout=None):
    return make_agent({"plan.dir": str(folder), "plan.mode": mode, **(layout or {})}).start()


def said(agent, words):
    return [line for line in agent.errors + agent.lines if words in line]


def key_of_this_machine(make_agent, folder, layout=None):
    """Each refusal names one thing that differs, and what it should be."""
    key = {"model": "m", "dtype": "d", "weights": "w", "kv": "k", "tp": 9, "device": "none",
           "units": 99, "library": "none 0", "kernels": "0"}
    expected = None
    while True:
        write_plans(folder, key, ranks=layout is not None)
        agent = start(make_agent, folder, "overlap", layout)
        answers = answers_of(agent)
        told = ran_by(agent)
        agent.stop()
        expected = expected or answers
        assert answers == expected
        refused = [STALE.search(line) for line in said(agent, "is refused")]
        if not refused:
            return key, expected
        assert len(refused) == 5 and all(refused), agent.errors
        assert [row["file"] for row in told["refused"]] == [
            f"{tokens:03}.json" for tokens in (1, 4, 16, 64, 256)]
        assert "refused: " + told["refused"][0]["reason"] in said(agent, "001.json is refused")[0]
        name, had, here = refused[0].groups()
        assert str(key[name]) == had
        key[name] = type(key[name])(here)
        assert str(key[name]) != had


def test_lanes_give_the_tokens_of_sequential_steps(make_agent, tmp_path):
    key, expected = key_of_this_machine(make_agent, tmp_path)
    for mode, count in (("auto", 5), ("overlap", 5), ("nano", 5), ("sequential", None)):
        agent = start(make_agent, tmp_path, mode)
        assert answers_of(agent) == expected, mode
        told = ran_by(agent)
        assert len(told["plans"]) == 1 + (count or 0) and not told["refused"]
        by_plans = sum(row["steps_total"] for row in told["plans"] if row["plan"] > 0)
        assert (by_plans > 0) == (count is not None), told
        agent.stop()
        line = said(agent, f"plans: {count} of 5 files serve, {count} of them not sequentially")
        assert len(line) == (count is not None), agent.errors
    write_plans(tmp_path, key, edges_less=1)
    agent = start(make_agent, tmp_path, "overlap")
    assert answers_of(agent) == expected
    agent.stop()
    assert len(said(agent, "is refused: the plan is wrong")) == 5


def steps_by_plans(client):
    return sum(row["steps_total"] for row in client.ask(PLANS).body["plans"] if row["plan"] > 0)


def test_ranks_run_plans_and_live_through_kills(make_agent, tmp_path):
    """Two ranks with lanes side by side give one worker's tokens, whoever dies meanwhile."""
    alone = make_agent().start()
    expected = answers_of(alone)
    alone.stop()
    _, shared = key_of_this_machine(make_agent, tmp_path, RANKS)
    assert shared == expected
    agent = start(make_agent, tmp_path, "overlap", RANKS)
    with Client(agent.endpoint) as client:
        for kill in range(4):
            assert wait_until(lambda: client.ask(STATS).body["workers_ready"] == 2, 30)
            before = steps_by_plans(client)
            answers = [client.start(ids=prompt, max_tokens=30, temperature=0, ignore_eos=True)
                       for prompt in prompts()]
            assert client.pump(lambda: all(answer.ids for answer in answers))
            agent.kill_one(sorted(process.pid for process in agent.workers())[kill % 2])
            client.finish(*answers, timeout_s=60)
            assert [answer.ids for answer in answers] == expected, agent.log()
            assert steps_by_plans(client) > before
        assert client.ask(STATS).body["worker_losses_total"] == 4
    agent.stop()
