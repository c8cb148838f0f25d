"""test_kill.py - kill -9 of the worker under load: every greedy stream equals its undisturbed run.

At random instants, and at the failpoints that base/failpoint.h names. SLUICE_KILLS is the number of
kills of each of the two (default 6; `make soak` asks for more), SLUICE_SEED repeats a run. Each
stream is checked token by token as it arrives: no gap, no token twice, none lost.
"""
import os
import random
import signal
import time

import pytest

from agent_process import SCALE, wait_until
from sluice_client import STATS, Client, pump_all

KILLS = int(os.environ.get("SLUICE_KILLS", "6"))
SEED = int(os.environ.get("SLUICE_SEED", str(random.SystemRandom().randrange(1 << 32))))
STREAMS, LIVE_MIN, TOKENS = 40, 32, 240
OPTIONS = {"temperature": 0, "ignore_eos": True, "max_tokens": TOKENS}


def prompts():
    source = random.Random(11)
    return [[1] + [source.randrange(3, 259) for _ in range(source.randrange(1, 60))]
            for _ in range(STREAMS)]


@pytest.fixture(scope="module")
def undisturbed(make_agent):
    """What each stream gives alone on the machine, and how long all of them take together."""
    agent = make_agent().start()
    with Client(agent.endpoint) as client:
        alone = [client.generate(ids=prompt, **OPTIONS).ids for prompt in prompts()]
        began = time.monotonic()
        client.finish(*[client.start(ids=prompt, **OPTIONS) for prompt in prompts()])
        took_s = time.monotonic() - began
    agent.stop()
    return alone, took_s


def bodies():
    return [{"ids": prompt, **OPTIONS} for prompt in prompts()]


def sampled_bodies():
    """Everything that a worker keeps of a request, or counts over its tokens."""
    return [{"ids": prompt, "ignore_eos": True, "max_tokens": TOKENS, "seed": 31 * n,
             "temperature": 0.8, "top_p": 0.95, "min_p": 0.01, "frequency_penalty": 0.3,
             "presence_penalty": (0, 0.4)[n % 2], "repetition_penalty": (1.0, 1.15)[n % 3 == 0],
             "logit_bias": {str(40 + n): 2.5, "300": -100}, "bad_ids": [50, 60 + n],
             "prompt_logprobs": n % 4, "top_logprobs": 2}
            for n, prompt in enumerate(prompts())]


def percentiles(values):
    ranked = sorted(values)
    return " ".join(f"p{p} {1000 * ranked[min(len(ranked) - 1, len(ranked) * p // 100)]:.0f}"
                    for p in (50, 90, 99))


def drain(client, until):
    """Dispatches what arrives until the time is there; returns the longest silence."""
    longest, last = 0.0, time.monotonic()
    while time.monotonic() < until:
        message = client.receive(until - time.monotonic())
        if message:
            client.dispatch(message)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
    return longest


def kill_once(agent, client, source, took_s, asked):
    """One round: streams, a kill at a random instant, all streams to their end. Returns the
    answers and the longest silence after the kill, or None when too few were live just then."""
    answers = [client.start(**body) for body in asked]
    drain(client, time.monotonic() + source.random() * took_s * 0.8)
    live = sum(not answer.ended for answer in answers)
    if live >= LIVE_MIN:
        agent.kill_one(agent.worker())
    last, longest = time.monotonic(), 0.0
    while not all(answer.ended for answer in answers):
        message = client.receive(60)
        assert message, f"silence for 60 s after a kill with {live} live streams\n{agent.log()}"
        client.dispatch(message)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    return answers, longest if live >= LIVE_MIN else None


def test_kills_at_random_instants(own_agent, undisturbed):
    alone, took_s = undisturbed
    source = random.Random(SEED)
    agent = own_agent()
    silences, rounds = [], 0
    with Client(agent.endpoint) as client:
        while len(silences) < KILLS:
            rounds += 1
            assert rounds <= 3 * KILLS + 10, f"only {len(silences)} kills found {LIVE_MIN} live"
            answers, silence = kill_once(agent, client, source, took_s, bodies())
            wrong = [n for n, answer in enumerate(answers) if answer.ids != alone[n]]
            assert not wrong, f"seed {SEED}, kill {len(silences)}: streams {wrong}\n{agent.log()}"
            silences += [silence] if silence is not None else []
    print(f"\nkilled in {len(silences)} of {rounds} rounds, {LIVE_MIN} or more of {STREAMS} "
          f"streams live, seed {SEED}; longest silence in ms: {percentiles(silences)}")


def test_kills_while_penalties_count(own_agent):
    """A replay counts tokens anew: sampled streams go on as they would have, and nothing that was
    said of the prompt is said again."""
    source = random.Random(SEED)
    agent = own_agent()
    with Client(agent.endpoint) as client:
        alone = [client.generate(**body) for body in sampled_bodies()]
        began = time.monotonic()
        client.finish(*[client.start(**body) for body in sampled_bodies()])
        took_s = time.monotonic() - began
        kills = rounds = 0
        while kills < max(2, KILLS // 2):
            rounds += 1
            assert rounds <= 3 * KILLS + 10, f"only {kills} kills found {LIVE_MIN} live"
            answers, silence = kill_once(agent, client, source, took_s, sampled_bodies())
            for n, (answer, wanted) in enumerate(zip(answers, alone)):
                assert answer.ids == wanted.ids, f"seed {SEED}, kill {kills}: {n}\n{agent.log()}"
                assert answer.prompt_logprobs == wanted.prompt_logprobs
                assert answer.logprobs == wanted.logprobs
            kills += silence is not None
    print(f"\n{kills} kills in {rounds} rounds, sampled, seed {SEED}")


def deaths_after(agent, alone, tokens):
    """One round of streams, each with a client of its own; how many workers died so far."""
    clients = [Client(agent.endpoint) for _ in range(STREAMS)]
    answers = [client.start(ids=prompt, **{**OPTIONS, "max_tokens": tokens})
               for client, prompt in zip(clients, prompts())]
    pump_all(clients, answers, timeout_s=120)
    wrong = [n for n, answer in enumerate(answers) if answer.ids != alone[n][:tokens]]
    assert not wrong, f"seed {SEED}: streams {wrong}\n{agent.environment}\n{agent.log()}"
    deaths = clients[0].ask(STATS).body["worker_losses_total"]
    for client in clients:
        client.close()
    return deaths


# Tokens of a stream, and the steps until death: a round has about 3 steps with a prompt in them, a
# replay of 40 tokens a stream up to 6, and every token is a step that decodes.
ROUNDS = {"prefill": (40, 7, 14), "decode": (TOKENS, 60, 160), "publish": (TOKENS, 60, 160)}


@pytest.mark.parametrize("failpoint", ROUNDS)
def test_kills_at_failpoints(make_agent, undisturbed, failpoint):
    """Every worker that starts dies at its Nth pass, until the kills are done: the streams go on
    through all of those lives."""
    source = random.Random(SEED)
    tokens, fewest, most = ROUNDS[failpoint]
    deaths = rounds = 0
    while deaths < max(1, KILLS // 3):
        passes = source.randrange(fewest, most)
        agent = make_agent(environment={"SLUICE_FAILPOINT": f"{failpoint}:{passes}"}).start()
        agent.first = None
        died = 0
        while died == 0:
            rounds += 1
            assert rounds <= 20 * KILLS + 20, f"{failpoint}:{passes} was never reached"
            died = deaths_after(agent, undisturbed[0], tokens)
        deaths += died
        agent.stop()
    print(f"\n{failpoint}: {deaths} deaths in {rounds} rounds, {STREAMS} streams of {tokens}, "
          f"seed {SEED}")


def test_a_worker_that_hangs_is_replaced(own_agent, undisturbed):
    """SIGSTOP: the step's deadline declares it dead, and a later SIGCONT finds nothing to hurt."""
    alone, _ = undisturbed
    agent = own_agent({"workers.step_timeout_ms": int(1000 * SCALE)})
    with Client(agent.endpoint) as client:
        answers = [client.start(ids=prompt, **OPTIONS) for prompt in prompts()]
        assert client.pump(lambda: all(answer.ids for answer in answers))
        stopped = agent.worker()
        agent.kill_one(stopped, signal.SIGSTOP)
        client.finish(*answers, timeout_s=60)
        assert [answer.ids for answer in answers] == alone
        assert wait_until(lambda: stopped not in [p.pid for p in agent.workers()], 5)


def test_a_core_that_stood_still_does_not_blame_its_worker(own_agent, undisturbed):
    """The step in flight was answered in time; that nobody looked is no fault of the worker's."""
    alone, _ = undisturbed
    agent = own_agent({"workers.step_timeout_ms": int(1000 * SCALE)})
    with Client(agent.endpoint) as client:
        answers = [client.start(ids=prompt, **OPTIONS) for prompt in prompts()]
        assert client.pump(lambda: all(answer.ids for answer in answers))
        core = agent.core()
        os.kill(core, signal.SIGSTOP)
        time.sleep(1.5 * SCALE)
        os.kill(core, signal.SIGCONT)
        client.finish(*answers, timeout_s=60)
        assert [answer.ids for answer in answers] == alone
        assert client.ask(STATS).body["worker_losses_total"] == 0


def test_no_worker_means_waiting_not_failing(own_agent, undisturbed):
    """Requests that arrive while the worker is down are answered once it is back."""
    alone, _ = undisturbed
    agent = own_agent()
    with Client(agent.endpoint) as client:
        for round_number in range(3):
            agent.kill_one(agent.worker())
            answers = [client.start(ids=prompt, **OPTIONS) for prompt in prompts()[:4]]
            client.finish(*answers, timeout_s=30)
            assert [answer.ids for answer in answers] == alone[:4], round_number
