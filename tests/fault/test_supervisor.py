"""test_supervisor.py - the real supervisor with stand-ins for core and worker (stub_*.c).

The stand-ins write what they do to a log and take their mode at start from a file, so that each
fault can be had at will. SLUICE_KILLS is the number of kills in a row (default 8: the back-off has
then reached its bound of 1 s; `make soak` asks for more).
"""
import os
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest

from agent_process import MARK, ROOT, SCALE, marked, wait_until

STUB_BIN = os.path.abspath(os.environ.get("SLUICE_STUB_BIN",
                                          os.path.join(ROOT, "build/release/stub")))
KILLS = int(os.environ.get("SLUICE_KILLS", "8"))


class Stub:
    """One agent with stand-ins, in folder."""

    def __init__(self, folder, binaries=STUB_BIN):
        self.folder, self.binaries = str(folder), str(binaries)
        self.process = None

    def mode(self, name, word):
        path = os.path.join(self.folder, name + ".mode")
        with open(path + ".new", "w", encoding="ascii") as file:
            file.write(word)
        os.rename(path + ".new", path)

    def spawn(self, settings=None, environment=None, **popen):
        config = os.path.join(self.folder, "config.yaml")
        with open(config, "w", encoding="ascii") as file:
            file.write(f"model: {{path: {self.folder}}}\nworkers: {{device: cpu}}\n")
        command = [os.path.join(self.binaries, "sluice-agent"), "--config", config]
        for key, value in (settings or {}).items():
            command += ["--set", f"{key}={value}"]
        popen = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
                 "text": True, **popen}
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            command, env={**os.environ, MARK: self.folder, "SLUICE_STUB": self.folder,
                          **(environment or {})}, **popen)
        return self

    def start(self, settings=None, environment=None, **popen):
        self.spawn(settings, environment, **popen)
        assert self.process.stdout.readline() == "ready\n", self.process.communicate(timeout=30)
        return self

    def log(self):
        """(pid, what) of everything that the stand-ins did."""
        try:
            with open(os.path.join(self.folder, "log"), encoding="ascii") as file:
                return [(int(line.split()[0]), line.split(maxsplit=1)[1].strip()) for line in file]
        except FileNotFoundError:
            return []

    def said(self, pattern):
        """Matches of pattern in the log, in order."""
        return [match for _, what in self.log() if (match := re.fullmatch(pattern, what))]

    def joined(self):
        """The newest epoch of each worker that a core has joined."""
        return {int(m[1]): int(m[2])
                for m in self.said(r"core joined (\d+) epoch (\d+) group \d+ rank \d+")}

    def processes(self):
        return marked(self.folder)

    def children(self, name):
        return [p.pid for p in self.processes()
                if p.executable == name and p.parent == self.process.pid]

    def core(self):
        return self.children("sluice-agent")[0]

    def worker(self):
        return self.children("sluice-worker-cpu")[0]

    def end(self, status=0):
        """Waits; nobody is left. What was written to stderr, line by line."""
        output, errors = self.process.communicate(timeout=5 * SCALE)
        assert not output, output  # After the one line that start() took.
        assert self.process.returncode == status, errors
        assert wait_until(lambda: not self.processes(), 1), self.processes()
        return errors.splitlines()

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.end()

    def clean_up(self):
        for process in self.processes():
            os.kill(process.pid, signal.SIGKILL)


@pytest.fixture
def stub(tmp_path):
    made = Stub(tmp_path)
    yield made
    made.clean_up()


def zombies(parent):
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat", encoding="ascii", errors="replace") as file:
                state, its_parent = file.read().rsplit(")", 1)[1].split()[:2]
        except OSError:
            continue
        if state == "Z" and int(its_parent) == parent:
            found.append(entry)
    return found


def open_fds(pid):
    return sorted(os.readlink(f"/proc/{pid}/fd/{fd}").split(":")[0]
                  for fd in os.listdir(f"/proc/{pid}/fd"))


def test_children_inherit_what_they_should(stub, tmp_path):
    with open(tmp_path / "open", "w", encoding="ascii") as extra:
        stub.start(pass_fds=[extra.fileno()])
    assert sorted((p.name, p.executable) for p in stub.processes()) == [
        ("sluice-agent", "sluice-agent"), ("sluice-agent", "sluice-agent"),
        ("sluice-worker-c", "sluice-worker-cpu")]
    assert stub.said("core start fds 0") and stub.said("worker start fds 0")
    for pid in (stub.core(), stub.worker()):
        assert os.getpgid(pid) == pid, "Ctrl-C must reach the supervisor alone"
        assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            status = dict(line.split(":\t") for line in file if ":\t" in line)
        own = 3 << 31  # Signals 32 and 33 are glibc's own: nobody can reset them.
        assert int(status["SigBlk"], 16) == 0 and int(status["SigIgn"], 16) & ~own == 0
    assert stub.stop() == []


def test_every_worker_is_linked_with_its_group_and_rank(stub):
    stub.start({"workers.count": 4, "workers.tp": 2})
    found = {m.groups() for m in stub.said(r"core joined (\d) epoch \d+ group (\d) rank (\d)")}
    assert found == {("0", "0", "0"), ("1", "0", "1"), ("2", "1", "0"), ("3", "1", "1")}
    epochs = stub.joined()  # One of each group.
    assert epochs[0] == epochs[1] != epochs[2] == epochs[3]
    stub.stop()


def test_a_killed_rank_means_new_links_for_its_group(stub):
    stub.start({"workers.count": 4, "workers.tp": 2})
    before = stub.joined()
    workers = set(stub.children("sluice-worker-cpu"))
    victim = [pid for pid, what in stub.log() if what.startswith("worker 1 linked")][-1]
    os.kill(victim, signal.SIGKILL)
    assert wait_until(lambda: min(stub.joined()[0], stub.joined()[1]) > max(before.values()), 10)
    now = stub.joined()
    assert now[0] == now[1] and (now[2], now[3]) == (before[2], before[3])
    assert workers - {victim} <= set(stub.children("sluice-worker-cpu"))
    assert len(stub.stop()) == 1


def test_a_killed_worker_comes_back_each_time(stub):
    stub.start({"workers.count": 2})
    fds = open_fds(stub.process.pid)
    core, others = stub.core(), set(stub.children("sluice-worker-cpu"))
    for _ in range(KILLS):
        before = stub.joined()
        victim = [pid for pid, what in stub.log() if what.startswith("worker 0 linked")][-1]
        others.discard(victim)
        os.kill(victim, signal.SIGKILL)
        assert wait_until(lambda: stub.joined()[0] > max(before.values()), 10), stub.log()
        assert stub.joined()[1] == before[1], "the other worker's link must stay"
    assert stub.core() == core and others <= set(stub.children("sluice-worker-cpu"))
    assert not zombies(stub.process.pid)
    assert open_fds(stub.process.pid) == fds
    lines = stub.stop()
    assert len(lines) == KILLS and all("worker 0: ended by SIGKILL" in line for line in lines)


def test_a_killed_core_finds_the_workers_again(stub):
    stub.start({"workers.count": 2})
    fds = open_fds(stub.process.pid)
    workers = sorted(stub.children("sluice-worker-cpu"))
    for _ in range(3):
        before = stub.joined()
        os.kill(stub.core(), signal.SIGKILL)
        assert wait_until(lambda: min(stub.joined().values()) > max(before.values()), 10)
    assert sorted(stub.children("sluice-worker-cpu")) == workers
    assert open_fds(stub.process.pid) == fds and not zombies(stub.process.pid)
    assert len(stub.stop()) == 3


def test_core_and_worker_killed_together(stub):
    stub.start()
    before = stub.joined()[0]
    os.kill(stub.core(), signal.SIGKILL)
    os.kill(stub.worker(), signal.SIGKILL)
    assert wait_until(lambda: stub.joined()[0] > before and stub.children("sluice-agent"), 10)
    stub.stop()


def test_a_killed_supervisor_leaves_no_child(stub):
    stub.start({"workers.count": 3})
    stub.process.kill()
    stub.process.wait(5)
    assert wait_until(lambda: not stub.processes(), 5), stub.processes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_core_then_workers(stub, number):
    stub.start({"workers.count": 2})
    assert stub.stop(number) == []
    stops = [what for _, what in stub.log() if what.endswith("stop")]
    assert stops == ["core stop", "worker stop", "worker stop"]


def test_a_stop_before_ready(stub):
    stub.mode("worker", "hang")
    stub.spawn()
    assert wait_until(lambda: stub.said("worker start.*"), 10)
    assert stub.stop() == []


def test_who_ignores_the_stop_is_killed(stub):
    stub.mode("core", "deaf")
    stub.mode("worker", "deaf")
    stub.start({"workers.count": 2})
    stub.stop()
    assert len(stub.said("worker stop")) == 2


def test_a_second_signal_ends_all_at_once(stub):
    stub.mode("core", "deaf")
    stub.start()
    stub.process.send_signal(signal.SIGTERM)
    assert wait_until(lambda: stub.said("core stop"), 2)
    stub.stop()
    assert not stub.said("worker stop"), "killed, not told"


def test_an_ignored_sigint_still_stops(stub):
    """A shell starts its background jobs with SIGINT ignored."""
    stub.start(preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    assert stub.stop(signal.SIGINT) == []


def test_a_closed_stdout_is_no_reason_to_end(stub):
    stub.spawn()
    stub.process.stdout.close()
    assert wait_until(lambda: len(stub.joined()) == 1, 10)
    time.sleep(0.2)
    stub.process.stdout = None
    assert stub.stop() == []


def test_missing_standard_descriptors(stub):
    def close_all():
        for fd in (0, 1, 2):
            os.close(fd)
    stub.spawn(stdin=None, stdout=None, stderr=None, preexec_fn=close_all)
    assert wait_until(lambda: len(stub.joined()) == 1, 10)
    assert stub.said("core start fds 0")
    stub.process.terminate()
    assert stub.process.wait(5) == 0


@pytest.mark.parametrize("name, mode, words", [
    ("core", "fail", "core: cannot bind tcp://127.0.0.1:1: in use, choose another"),
    ("worker", "fail", "worker 0: model.safetensors: no tensor blk.0; fetch it again"),
    ("worker", "exit", "worker 0: ended with status 3 before it was ready"),
])
def test_a_child_that_never_was_ready_ends_the_agent(stub, name, mode, words):
    stub.mode(name, mode)
    stub.spawn()
    lines = stub.end(1)
    assert len(lines) == 1 and lines[0].endswith(words), lines
    assert "ready" not in lines


def test_a_worker_that_is_not_ready_in_time_is_killed(stub):
    stub.mode("worker", "hang")
    stub.spawn({"workers.start_timeout_ms": 300})
    lines = stub.end(1)
    assert len(lines) == 1 and "workers.start_timeout_ms" in lines[0], lines


def test_who_was_ready_once_is_never_given_up(stub):
    stub.start()
    before = stub.joined()[0]
    stub.mode("worker", "fail")
    os.kill(stub.worker(), signal.SIGKILL)
    starts = len(stub.said("worker start.*"))
    assert wait_until(lambda: len(stub.said("worker start.*")) >= starts + 4, 10)
    assert stub.process.poll() is None
    stub.mode("worker", "")
    assert wait_until(lambda: stub.joined()[0] > before, 10)
    lines = stub.stop()
    assert sum("no tensor blk.0; fetch it again; starting it again" in line for line in lines) >= 4


def test_a_suspect_is_killed_and_replaced(stub):
    stub.mode("core", "suspect")
    stub.start()
    assert wait_until(lambda: len(stub.said("core joined 0.*")) >= 2, 10)
    lines = stub.stop()
    assert len(lines) == 1 and "worker 0: ended by SIGKILL" in lines[0]


def test_a_suspicion_of_another_epoch_is_stale(stub):
    stub.mode("core", "stale")
    stub.start()
    assert wait_until(lambda: stub.said("core suspects.*"), 10)
    time.sleep(0.2)
    assert stub.stop() == [] and len(stub.said("worker start.*")) == 1


def test_the_service_manager_is_told(stub, tmp_path):
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(10)
        stub.start(environment={"NOTIFY_SOCKET": address})
        heard = [manager.recv(4096).decode()]
        while "WATCHDOG=1" not in heard[heard.index("READY=1"):] if "READY=1" in heard else True:
            heard.append(manager.recv(4096).decode())
        stub.process.terminate()
        while not any("STOPPING=1" in text for text in heard):
            heard.append(manager.recv(4096).decode())
    stub.end()
    assert heard.count("READY=1") == 1
    assert not any("MAINPID" in line.split("=")[0] for text in heard for line in text.split("\n"))


def copied(folder, *names):
    os.makedirs(folder, exist_ok=True)
    for name in names:
        shutil.copy(os.path.join(STUB_BIN, name), folder)


def test_binaries_are_found_beside_and_in_libexec(stub, tmp_path):
    copied(tmp_path / "bin", "sluice-agent")
    alone = Stub(tmp_path, tmp_path / "bin").spawn()
    lines = alone.end(1)
    assert len(lines) == 1 and "sluice-worker-cpu" in lines[0] and "install it" in lines[0]
    copied(tmp_path / "libexec/sluice", "sluice-worker-cpu")
    installed = Stub(tmp_path, tmp_path / "bin").start()
    assert installed.stop() == []
    assert stub.process is None


@pytest.mark.parametrize("status, device, taken", [(0, "auto", True), (1, "auto", False),
                                                   (0, "cpu", False)])
def test_auto_takes_a_gpu_worker_whose_probe_succeeds(tmp_path, status, device, taken):
    copied(tmp_path / "bin", "sluice-agent", "sluice-worker-cpu")
    script = tmp_path / "bin/sluice-worker-cuda"
    script.write_text(f"#!/bin/sh\n[ \"$1\" = --probe ] && exit {status}\n"
                      f"touch {tmp_path}/taken\nexec {tmp_path}/bin/sluice-worker-cpu\n")
    script.chmod(0o755)
    agent = Stub(tmp_path, tmp_path / "bin").start({"workers.device": device})
    assert (tmp_path / "taken").exists() == taken
    assert agent.stop() == []


def test_a_binary_that_cannot_run_is_named(tmp_path):
    copied(tmp_path / "bin", "sluice-agent")
    broken = tmp_path / "bin/sluice-worker-cpu"
    broken.write_bytes(b"\x7fELF broken")
    broken.chmod(0o755)
    lines = Stub(tmp_path, tmp_path / "bin").spawn().end(1)
    assert len(lines) == 1 and str(broken) in lines[0] and "Exec format error" in lines[0], lines


def run(*arguments):
    return subprocess.run([os.path.join(STUB_BIN, "sluice-agent"), *arguments], timeout=60,
                          capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)


def test_the_command_line(tmp_path):
    config = tmp_path / "agent.yaml"
    config.write_text(f"model:\n  path: {tmp_path}\n")
    assert run("--help").returncode == 0 and "| `kv.page_tokens` |" in run("--help").stdout
    assert run("--version").stdout.startswith("sluice-agent ")
    for wrong in ([], ["--colour"], ["--config"], ["--config", str(config), "extra"]):
        done = run(*wrong)
        assert done.returncode == 2 and done.stderr, wrong
    assert run("--config", str(config), "--check").returncode == 0
    assert run("--core").returncode == 1, "without the supervisor's descriptors"


@pytest.mark.parametrize("setting, words", [
    ("model.path=/nowhere/m.gguf", ["model.path", "/nowhere/m.gguf", "No such file"]),
    ("kv.page_tokens=17", ["kv.page_tokens=17", "16, 32 or 64"]),
    ("kv.page_tokens", ["key=value"]),
])
def test_what_cannot_start_says_so_in_one_line(tmp_path, setting, words):
    config = tmp_path / "agent.yaml"
    config.write_text(f"model:\n  path: {tmp_path}\n")
    for more in ([], ["--check"]):
        done = run("--config", str(config), "--set", setting, *more)
        assert done.returncode == 1 and done.stderr.count("\n") == 1 and not done.stdout
        assert all(word in done.stderr for word in words), done.stderr
