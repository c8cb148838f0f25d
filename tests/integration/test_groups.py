"""test_groups.py - layouts of workers answer as one worker does, whatever a request asks for."""
import pytest

from sluice_client import STATS, Client

PROMPT = [1, 5, 9, 33, 21, 7, 110, 64, 12, 90, 41, 17, 203, 88, 150, 31, 8, 77, 140, 25]
LAYOUTS = {"replicas": {"workers.count": 2, "workers.threads": 1},
           "ranks": {"workers.count": 2, "workers.tp": 2, "workers.threads": 1}}
ASKED = [
    {"temperature": 0},
    {"temperature": 1.1, "seed": 7, "top_k": 40, "top_p": 0.9},
    {"temperature": 0, "logprobs": True, "top_logprobs": 5},
    {"temperature": 0, "prompt_logprobs": 4},
    {"temperature": 0.8, "seed": 3, "presence_penalty": 0.7, "repetition_penalty": 1.3},
]


def answers(agent):
    with Client(agent.endpoint) as client:
        started = [client.start(ids=PROMPT[:12 + n], max_tokens=30, ignore_eos=True, **asked)
                   for n, asked in enumerate(ASKED * 2)]
        client.finish(*started)
        told = [(answer.ids, answer.finish, answer.logprobs, answer.prompt_logprobs)
                for answer in started]
        return told, client.ask(STATS).body


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_answers_as_one_worker(agent, own_agent, layout):
    alone, _ = answers(agent)
    shared, stats = answers(own_agent(LAYOUTS[layout]))
    assert shared == alone
    assert all(len(ids) == 30 for ids, *_ in alone)
    assert len(alone[2][2]) == 30 and len(alone[3][3]) == 14
    assert stats["workers_ready"] == 2 and stats["lane_sharing"] == 1
