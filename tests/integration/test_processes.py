"""test_processes.py - start, stop, bad starts, deaths of the core and the supervisor, memory."""
import os
import resource
import signal
import socket
import subprocess
import time

import pytest

from agent_process import ROOT, SCALE, binary, resident_bytes, wait_until
from sluice_client import CREDIT, HELLO, PING, PONG, STATS, Client, assert_error
from test_generate import PROMPT
from test_streams import LONG


def test_processes_keep_the_names_of_their_binaries(agent):
    found = agent.processes()
    assert sorted(p.executable for p in found) == ["sluice-agent", "sluice-agent",
                                                   "sluice-worker-cpu"]
    assert all(p.name == p.executable[:15] for p in found), found


def hang_up(agent):
    """As a terminal does: whoever was started there gets the signal."""
    for process in agent.processes():
        os.kill(process.pid, signal.SIGHUP)


def test_a_hang_up_of_all_processes_ends_every_stream(own_agent):
    agent = own_agent({"stream.credit_tokens": 8})
    with Client(agent.endpoint) as client:
        answer = client.start(ids=PROMPT, **LONG)
        assert client.pump(lambda: answer.ids), agent.log()
        agent.first = None  # From here on processes may end.
        hang_up(agent)
        client.finish(answer, timeout_s=10)
        assert_error(answer.error, "draining", answer.id)
        assert agent.wait() == 0, agent.log()


def test_a_hang_up_under_nohup_stops_nothing(own_agent):
    """nohup starts its program with the signal ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        agent = own_agent()
    finally:
        signal.signal(signal.SIGHUP, before)
    with Client(agent.endpoint) as client:
        answer = client.start(ids=PROMPT, **LONG)
        assert client.pump(lambda: answer.ids), agent.log()
        hang_up(agent)
        assert client.finish(answer).finish == "length", answer.error


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stop_under_load_ends_every_stream(make_agent, number):
    agent = make_agent({"stream.credit_tokens": 8}).start()
    clients = [Client(agent.endpoint) for _ in range(32)]
    answers = [client.start(ids=PROMPT, **{**LONG, "max_tokens": 12 if n >= 24 else 400})
               for n, client in enumerate(clients)]
    for client, answer in zip(clients[16:], answers[16:]):
        client.send(CREDIT, {"tokens": 1}, answer.id)  # Half stand still, some of them computed.
    assert clients[-1].pump(lambda: len(answers[-1].ids) == 9)
    time.sleep(0.3)
    began = time.monotonic()
    agent.first = None  # From here on processes may end.
    agent.terminate(number)
    for client, answer in zip(clients, answers):
        client.finish(answer, timeout_s=10)
        assert answer.finish == "length" or answer.error, answer.finish
        if answer.error:
            assert_error(answer.error, "draining", answer.id)
        client.close()
    assert sum(1 for answer in answers if answer.error) >= 16
    agent.stop()
    assert time.monotonic() - began < 15


def test_a_stop_tells_requests_whose_text_waits(make_agent):
    agent = make_agent().start()
    with Client(agent.endpoint) as client:  # More than the tokenizer takes at one time.
        text = "a" * int(1500000 / SCALE)
        answers = [client.start(prompt=text, max_tokens=4) for _ in range(64)]
        client.ask(PING, timeout_s=60)  # All are read now, and half of them wait.
        agent.terminate()
        client.finish(*answers)
    for answer in answers:
        if answer.error["code"] != "context_exceeded":
            assert_error(answer.error, "draining", answer.id)
    agent.stop()


def test_a_second_signal_ends_all_at_once(make_agent):
    agent = make_agent().start()
    agent.terminate(signal.SIGTERM)
    agent.terminate(signal.SIGINT)
    assert agent.wait() == 0
    assert wait_until(lambda: not agent.processes(), 1), agent.processes()


def test_a_stop_before_ready(make_agent):
    agent = make_agent().spawn()
    time.sleep(0.05)
    agent.stop()


def test_two_endpoints_serve_one_agent(own_agent, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        tcp = "tcp://127.0.0.1:%d" % probe.getsockname()[1]
    ipc = f"ipc://{tmp_path}/api.sock"
    agent = own_agent({"zmq.bind": f"[{ipc}, '{tcp}']"})
    with Client(ipc) as one, Client(tcp) as other:
        assert one.ask(HELLO).body["instance"] == other.ask(HELLO).body["instance"]
    assert os.stat(f"{tmp_path}/api.sock").st_mode & 0o777 == 0o660
    assert os.stat(f"{tmp_path}/api.sock.admin").st_mode & 0o777 == 0o600
    assert len(agent.workers()) == 1


def test_the_loopback_of_ipv6_serves(make_agent):
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        endpoint = "tcp://[::1]:%d" % probe.getsockname()[1]
    agent = make_agent()
    agent.settings["zmq.bind"] = f"[{agent.endpoint}, '{endpoint}']"
    agent.start()
    status = subprocess.run([binary("sluicectl"), "status", "--endpoint", endpoint],
                            capture_output=True, text=True, timeout=60, check=False)
    assert status.returncode == 0, status
    agent.stop()


def refused(make_agent, settings, *words):
    """Such a start ends by itself, with a status and one line that holds the words."""
    agent = make_agent(settings)
    agent.spawn()
    status = agent.wait(20)
    assert status not in (0, None) and status > 0, agent.log()
    assert "ready" not in agent.lines
    assert len(agent.errors) == 1, agent.log()
    for word in words:
        assert word in agent.errors[0], agent.errors
    assert wait_until(lambda: not agent.processes(), 2), agent.processes()


@pytest.mark.parametrize("settings, words", [
    ({"model.path": "/nowhere/model"}, ["/nowhere/model"]),
    ({"model.path": ROOT}, ["config.json"]),
    ({"model.colour": "blue"}, ["model.colour"]),
    ({"kv.device_pages": "many"}, ["kv.device_pages"]),
    ({"kv.page_tokens": 17}, ["kv.page_tokens"]),
    ({"batch.slots_max": 9, "batch.tokens_max": 8}, ["batch.slots_max", "batch.tokens_max"]),
    ({"kv.device_pages": 0}, ["kv.device_pages"]),
    ({"kv.dtype": "fp8_e5m2"}, ["kv.dtype", "fp8_e4m3"]),
    ({"kv.dtype": "fp8_e4m3"}, ["kv.dtype", "for GPUs", "auto"]),
    ({"workers.tp": 3}, ["workers.tp"]),
    ({"workers.count": 3, "workers.tp": 3}, ["workers.tp 3", "KV heads"]),
    ({"model.dtype": "int3"}, ["model.dtype"]),
    ({"model.weights": "int4"}, ["model.weights", "int8"]),
    ({"model.weights": "fp8"}, ["model.weights", "for GPUs", "auto"]),
    ({"chat.template": "baroque"}, ["chat.template"]),
    ({"zmq.bind": "tcp://0.0.0.0:5999"}, ["0.0.0.0"]),
    ({"zmq.bind": "tcp://*:5999"}, ["tcp://*:5999"]),
    ({"zmq.bind": "pigeon://roof"}, ["pigeon://roof"]),
    ({"zmq.bind": "ipc:///dev/null/api.sock"}, ["/dev/null"]),
    ({"zmq.bind": "ipc:///tmp/" + "x" * 120}, ["ipc:///tmp/xxx"]),
    ({"kv.device_pages": 16000000}, ["kv.device_pages"]),
])
def test_a_bad_start_says_why_in_one_line(make_agent, settings, words):
    refused(make_agent, settings, *words)


def has_vnni():
    with open("/proc/cpuinfo", encoding="ascii") as file:
        return "avx512_vnni" in file.read().split()


def test_eight_bit_weights_answer_the_same_in_company(make_agent):
    """Or are refused in one line on a CPU that has no such products."""
    if not has_vnni():
        refused(make_agent, {"model.weights": "int8"}, "model.weights", "AVX512_VNNI")
        return
    agent = make_agent({"model.weights": "int8"}).start()
    body = {"max_tokens": 40, "temperature": 0, "ignore_eos": True}
    with Client(agent.endpoint) as client:
        prompts = [PROMPT[:1 + n % 5] for n in range(24)]
        alone = [client.generate(ids=prompt, **body).ids for prompt in prompts[:5]]
        together = [client.start(ids=prompt, **body) for prompt in prompts]
        for n, answer in enumerate(together):
            assert client.finish(answer).ids == alone[n % 5]
    assert all(len(ids) == 40 for ids in alone)
    agent.stop()


def test_a_port_in_use_is_named(make_agent):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused(make_agent, {"zmq.bind": f"tcp://127.0.0.1:{port}"}, str(port))


def test_a_socket_that_another_agent_serves_is_in_use(agent, make_agent):
    refused(make_agent, {"zmq.bind": agent.endpoint}, agent.endpoint)
    with Client(agent.endpoint) as client:
        assert client.ask(PING).command == PONG


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_no_permission_is_said(make_agent, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    refused(make_agent, {"zmq.bind": f"ipc://{tmp_path}/closed/api.sock"}, "closed")


def run(*arguments):
    return subprocess.run([binary("sluice-agent"), *arguments], capture_output=True, text=True,
                          timeout=60, stdin=subprocess.DEVNULL, check=False)


def test_check_reads_the_config_and_starts_nothing(tmp_path, model):
    config = tmp_path / "agent.yaml"
    config.write_text(f"model:\n  path: {model}\nzmq:\n  bind: ipc://{tmp_path}/a.sock\n")
    assert run("--config", str(config), "--check").returncode == 0
    assert not (tmp_path / "a.sock").exists()
    config.write_text(f"model:\n  path: {model}\n  colour: blue\n")
    bad = run("--config", str(config), "--check")
    assert bad.returncode not in (0, 2) and bad.stderr.count("\n") == 1
    for word in (str(config), "3", "colour"):
        assert word in bad.stderr
    config.write_text(f"model: {{path: {model}}}\nbatch:\n  slots_max: 9\n  tokens_max: 8\n")
    bad = run("--config", str(config), "--check")
    assert bad.returncode == 1 and bad.stdout == ""
    assert bad.stderr.count("\n") == 1 and f"{config}:3: batch.slots_max" in bad.stderr
    config.write_text("model: [unclosed\n")
    assert run("--config", str(config), "--check").returncode not in (0, 2)


def test_wrong_usage_is_status_2():
    assert run("--colour").returncode == 2
    assert run("--help").returncode == 0
    assert run("--version").returncode == 0
    missing = run("--config", "/nowhere/a.yaml")
    assert missing.returncode not in (0, 2) and "/nowhere/a.yaml" in missing.stderr


def test_a_killed_core_comes_back_as_a_new_instance(own_agent):
    agent = own_agent()
    with Client(agent.endpoint) as client:
        wanted = client.generate(ids=PROMPT, **LONG)
        before = client.ask(HELLO).body["instance"]
    workers = {p.pid for p in agent.workers()}
    for _ in range(3):
        with Client(agent.endpoint) as client:
            client.start(ids=PROMPT, **LONG)
            assert client.pump(lambda: any(a.ids for a in client.answers.values()))
            agent.kill_one(agent.core())
        with Client(agent.endpoint) as client:
            after = client.ask(HELLO, timeout_s=30).body["instance"]
            assert after != before
            assert client.generate(ids=PROMPT, **LONG).ids == wanted.ids
            before = after
    assert {p.pid for p in agent.workers()} == workers, "workers keep their weights"


def test_clients_cannot_use_up_the_descriptors_of_the_core(make_agent):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))  # Inherited; often 1,024.
    try:
        agent = make_agent().start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    core = agent.core()
    with Client(agent.endpoint) as client:
        answer = client.start(ids=PROMPT, **LONG)
        held = [socket.socket(socket.AF_UNIX) for _ in range(400)]
        for one in held:
            one.connect(f"{agent.folder}/api.sock")
        client.finish(answer)
        assert client.ask(PING).command == PONG
    for one in held:
        one.close()
    assert agent.core() == core
    agent.stop()


def test_a_killed_supervisor_leaves_no_process(make_agent):
    agent = make_agent().start()
    with Client(agent.endpoint) as client:
        client.start(ids=PROMPT, **LONG)
        agent.kill_one(agent.process.pid)
        assert agent.wait() == -signal.SIGKILL
        assert wait_until(lambda: not agent.processes(), 5), agent.processes()
    after = make_agent({"zmq.bind": agent.endpoint}).start()  # The stale socket is no obstacle.
    with Client(agent.endpoint) as client:
        assert client.generate(ids=PROMPT, max_tokens=3).finish
    after.endpoint, after.folder = agent.endpoint, agent.folder
    after.stop()


@pytest.mark.skipif("SLUICE_TEST_SCALE" in os.environ, reason="sanitizers keep freed memory")
def test_500_requests_do_not_grow_the_processes(own_agent):
    agent = own_agent({"queue.requests_max": 20})  # Its 100 places have all been used once then.
    pids = [agent.core(), agent.worker(), agent.process.pid]
    with Client(agent.endpoint) as client:
        def some(count):
            for _ in range(count // 20):
                client.answers.clear()
                client.finish(*[client.start(prompt="Once upon a time there was", max_tokens=20,
                                             stop=["never"], top_logprobs=3) for _ in range(20)])
        some(200)
        before = [resident_bytes(pid) for pid in pids]
        some(500)
        after = [resident_bytes(pid) for pid in pids]
        stats = client.ask(STATS).body
    grown = [b - a for a, b in zip(before, after)]
    assert max(grown) <= 1 << 20, grown
    assert stats["requests_running"] == 0
