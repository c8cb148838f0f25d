"""test_systemd.py - the unit as shipped, under a systemd of its own (container.py): its start, its
sandbox, every death that it must survive, its stop. The settings are the shipped ones, but for f32,
in which a replay gives the same tokens; the model is a seeded one. Order does not matter: a test
begins with a unit that serves.
"""
import contextlib
import os
import shutil
import signal
import tempfile
import time

import pytest

from agent_process import ROOT, wait_until
from container import MODEL, UNIT, Container, missing
from sluice_client import CREDIT, Client, assert_error

ABSENT = missing()
pytestmark = pytest.mark.skipif(ABSENT is not None, reason=f"no container here: {ABSENT}")

SETTINGS = "/etc/sluice/sluice.yaml"
SOCKET = "/run/sluice/api.sock"
WINDOW = 1024  # stream.credit_tokens
LONG = {"ids": list(range(3, 23)), "max_tokens": WINDOW + 200, "temperature": 0,
        "ignore_eos": True, "stream": True}
WATCHDOG_S = 10  # Of the unit.


class Service:
    """The unit in the container, seen from the host."""

    def __init__(self, container):
        self.container = container

    def systemctl(self, *words):
        done = self.container.inside("systemctl", *words)
        assert done.returncode == 0, f"{words}: {done.stderr}{self.journal()}"
        return done.stdout

    def show(self, name):
        return self.systemctl("show", UNIT, f"--property={name}", "--value").strip()

    def journal(self):
        return self.container.inside("journalctl", "--unit", UNIT, "--no-pager").stdout

    def restarts(self):
        return int(self.show("NRestarts"))

    def _pid(self, condition):
        found = wait_until(lambda: [p for p in self.container.processes() if condition(p)], 10)
        assert len(found) == 1, f"{found}\n{self.journal()}"
        return found[0].pid

    def supervisor(self):
        return self._pid(lambda p: p.executable == "sluice-agent" and
                         p.parent == self.container.leader)

    def core(self):
        parent = self.supervisor()
        return self._pid(lambda p: p.executable == "sluice-agent" and p.parent == parent)

    def worker(self):
        return self._pid(lambda p: p.executable == "sluice-worker-cpu")

    def processes(self):
        return [p for p in self.container.processes() if p.executable.startswith("sluice-")]

    def endpoint(self):
        return f"ipc:///proc/{self.container.leader}/root{SOCKET}"

    def serves(self, timeout_s=20):
        """Waits until the unit is active and says that it serves."""
        assert wait_until(lambda: self.show("ActiveState") == "active" and
                          self.show("StatusText").startswith("serving"), timeout_s), self.journal()

    def answer(self):
        with Client(self.endpoint()) as client:
            return client.generate(**LONG).ids


@contextlib.contextmanager
def a_held_stream(service):
    """A client and its answer, which stands still until credit comes."""
    with Client(service.endpoint()) as client:
        answer = client.start(**LONG)
        client.send(CREDIT, {"tokens": 1}, answer.id)
        assert client.pump(lambda: len(answer.ids) == WINDOW + 1, 20), service.journal()
        yield client, answer


def the_rest(client, answer, timeout_s=20):
    """All ids of a held answer, the last of them computed from here on."""
    client.send(CREDIT, {"tokens": WINDOW}, answer.id)
    return client.finish(answer, timeout_s=timeout_s).ids


def rewrite(container, change):
    """Changes the settings; returns what they were."""
    path = container.root + SETTINGS
    with open(path, encoding="utf-8") as file:
        text = file.read()
    assert change(text) != text
    with open(path, "w", encoding="utf-8") as file:
        file.write(change(text))
    return text


@pytest.fixture(scope="module")
def booted():
    container = Container(tempfile.mkdtemp(prefix="sluice-machine-"))
    try:
        container.build()
        rewrite(container, lambda text: text.replace("dtype: auto", "dtype: f32"))
        container.boot()
        service = Service(container)
        service.serves()  # Enabled, so that the boot starts it.
        yield service
    finally:
        container.close()


@pytest.fixture(scope="module")
def alone(booted):
    """What LONG gives undisturbed."""
    return booted.answer()


@pytest.fixture
def service(booted):
    booted.systemctl("reset-failed", UNIT)  # Also the count of starts, which has a limit.
    booted.systemctl("start", UNIT)
    booted.serves()
    return booted


def test_the_boot_makes_it_active(service):
    assert service.show("Type") == "notify" and service.show("NRestarts") == "0"
    status = service.systemctl("status", UNIT)
    assert 'Status: "serving, 0 running, 0 waiting"' in status
    assert "enabled" in status and "active (running)" in status
    assert not service.systemctl("--failed", "--plain", "--no-legend").strip()


def test_it_is_not_root_and_cannot_write_the_model(service):
    container = service.container
    sluice = int(container.inside("id", "--user", "sluice").stdout)
    assert sluice != 0
    for process in service.processes():
        with open(f"/proc/{process.pid}/status", encoding="utf-8") as file:
            status = dict(line.rstrip().split(":\t", 1) for line in file if ":\t" in line)
        assert set(status["Uid"].split()) == {str(sluice)}
        assert (status["NoNewPrivs"], status["CapBnd"].strip("0"), status["Seccomp"]) == \
            ("1", "", "2")
    for path in (MODEL, "/usr/bin", "/etc/sluice", "/var/lib"):
        tried = container.inside("touch", f"{path}/mark", mounts_of=service.worker())
        assert "Read-only file system" in tried.stderr, path  # Even for root in there.
    tried = container.inside("setpriv", f"--reuid={sluice}", "--clear-groups", "touch",
                             f"{MODEL}/config.json")
    assert "Permission denied" in tried.stderr


def sluicectl(service, group):
    """One request of another user, of this group, inside."""
    return service.container.inside(
        "setpriv", "--reuid=nobody", f"--regid={group}", "--clear-groups", "timeout", "5",
        "sluicectl", "generate", "--endpoint", f"ipc://{SOCKET}", "--ids", "3,4,5",
        "--max-tokens", "4", "--ignore-eos", "--json")


def test_local_clients_are_answered(service, alone):
    assert len(alone) == LONG["max_tokens"]  # From outside, as a bind mount of /run/sluice would.
    member = sluicectl(service, "sluice")
    assert member.returncode == 0 and '"finish_reason"' in member.stdout, member.stderr
    assert sluicectl(service, "nogroup").returncode != 0


def test_a_killed_worker_costs_nothing(service, alone):
    before = (service.restarts(), service.supervisor(), service.core())
    with a_held_stream(service) as (client, answer):
        killed = service.worker()
        os.kill(killed, signal.SIGKILL)
        assert the_rest(client, answer) == alone
    assert service.show("ActiveState") == "active" and service.worker() != killed
    assert service.answer() == alone
    assert (service.restarts(), service.supervisor(), service.core()) == before


def test_a_hung_worker_is_replaced_before_the_watchdog(service, alone):
    """The shipped step deadline, against the shipped watchdog."""
    before = (service.restarts(), service.supervisor(), service.core())
    os.kill(service.worker(), signal.SIGSTOP)  # Before the request: it may not end before this.
    with Client(service.endpoint()) as client:
        assert client.generate(timeout_s=WATCHDOG_S, **LONG).ids == alone
    assert (service.restarts(), service.supervisor(), service.core()) == before
    why = "a step got no further within workers.step_timeout_ms"
    assert wait_until(lambda: why in service.journal(), 10)


def comes_back(service, before, timeout_s):
    """The unit restarts by itself, once, with no process of its former life."""
    restarts, old = before
    assert wait_until(lambda: service.restarts() == restarts + 1, timeout_s), service.journal()
    service.serves()
    assert not {p.pid for p in service.processes()} & {p.pid for p in old}
    assert service.restarts() == restarts + 1


def test_a_killed_main_process_is_restarted(service, alone):
    before = (service.restarts(), service.processes())
    os.kill(service.supervisor(), signal.SIGKILL)
    comes_back(service, before, 10)
    assert service.answer() == alone


@pytest.mark.parametrize("name", ["core", "supervisor"])
def test_the_watchdog_restarts_what_hangs(service, alone, name):
    before = (service.restarts(), service.processes())
    barks = service.journal().count("Watchdog timeout")
    os.kill(getattr(service, name)(), signal.SIGSTOP)
    comes_back(service, before, WATCHDOG_S + 10)
    assert service.journal().count("Watchdog timeout") == barks + 1
    assert service.answer() == alone


def test_a_stop_is_clean_and_quick(service):
    with a_held_stream(service) as (client, answer):
        began = time.monotonic()
        service.systemctl("stop", UNIT)
        assert time.monotonic() - began < 5
        client.finish(answer, timeout_s=5)
    assert_error(answer.error, "draining", answer.id)
    assert service.show("ActiveState") == "inactive"
    assert (service.show("Result"), service.show("ExecMainStatus")) == ("success", "0")
    assert not service.processes()
    assert not os.path.exists(f"/proc/{service.container.leader}/root{SOCKET}")


def test_it_serves_with_what_a_gpu_needs(service, alone):
    """The drop-in of a build with CUDA, on a machine that has no GPU: nothing else is taken away,
    and there is a place for what is measured."""
    folder = f"{service.container.root}/etc/systemd/system/{UNIT}.d"
    os.makedirs(folder)
    shutil.copy(f"{ROOT}/systemd/sluice-agent-gpu.conf", f"{folder}/gpu.conf")
    try:
        service.systemctl("daemon-reload")
        service.systemctl("restart", UNIT)
        service.serves()
        assert service.answer() == alone
        with open(f"/proc/{service.worker()}/environ", encoding="utf-8") as file:
            environment = dict(line.split("=", 1) for line in file.read().split("\0") if line)
        assert environment["CACHE_DIRECTORY"] == "/var/cache/sluice"
        assert environment["CUDA_CACHE_PATH"].startswith("/var/cache/sluice/")
        assert service.container.inside("touch", "/var/cache/sluice/mark",
                                        mounts_of=service.worker()).returncode == 0
        assert "nvidia" in service.show("DeviceAllow")
    finally:
        shutil.rmtree(folder)
        service.systemctl("daemon-reload")
        service.systemctl("restart", UNIT)


def test_a_mistake_in_the_settings_is_in_the_journal(service):
    service.systemctl("stop", UNIT)
    mistake = "batch:\n  tokens_max: 8\n  slots_max: 9\n"
    text = rewrite(service.container, lambda text: text + mistake)
    try:
        service.systemctl("start", "--no-block", UNIT)
        line = text.count("\n") + 3
        wanted = f"{SETTINGS}:{line}: batch.slots_max: must be at most batch.tokens_max"
        assert wait_until(lambda: wanted in service.journal(), 10), service.journal()
        assert wait_until(lambda: service.show("ActiveState") == "failed", 20), service.journal()
    finally:
        rewrite(service.container, lambda _: text)
