"""agent_process.py - an agent as a process: start, look inside /proc, stop, and leave nothing."""
import collections
import os
import re
import signal
import subprocess
import threading
import time
import uuid

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.path.abspath(os.environ.get("SLUICE_BIN", os.path.join(ROOT, "build/release/bin")))
SCALE = float(os.environ.get("SLUICE_TEST_SCALE", "1"))  # Sanitizer builds wait longer.
MARK = "SLUICE_TEST_MARK"

REPORT = re.compile(r"Sanitizer|runtime error:|must failed")

Process = collections.namedtuple("Process", "pid parent name executable state")


def binary(name):
    return os.path.join(BIN, name)


def read_process(pid):
    """One process of /proc, or None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            stat = file.read()
        executable = os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return None
    name = stat[stat.index("(") + 1:stat.rindex(")")]
    state, parent = stat[stat.rindex(")") + 2:].split()[:2]
    return Process(pid, int(parent), name, executable, state)


def marked(mark):
    """Live processes that inherited the mark in their environment."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/environ", "rb") as file:
                ours = f"{MARK}={mark}".encode() in file.read().split(b"\0")
        except OSError:
            continue
        process = ours and read_process(int(entry))
        if process and process.state not in "ZX":
            found.append(process)
    return found


def wait_until(condition, timeout_s):
    """The first true value of condition(), or what it last said."""
    deadline = time.monotonic() + timeout_s * SCALE
    value = condition()
    while not value and time.monotonic() < deadline:
        time.sleep(0.005)
        value = condition()
    return value


class Agent:
    """sluice-agent on ipc endpoints of its own, in folder. settings are --set pairs."""

    def __init__(self, folder, settings, environment=None):
        self.folder = str(folder)
        self.endpoint = f"ipc://{self.folder}/api.sock"
        self.settings = {"zmq.bind": self.endpoint, **settings}
        self.mark = uuid.uuid4().hex
        self.environment = {**os.environ, MARK: self.mark, **(environment or {})}
        self.process = None
        self.lines, self.errors = [], []
        self.readers = []
        self.first = None  # Processes at the first ready; None once a test killed one.

    def spawn(self):
        command = [binary("sluice-agent"), "--config", os.path.join(ROOT, "configs/cpu.yaml")]
        for key, value in self.settings.items():
            command += ["--set", f"{key}={value}"]
        self.process = subprocess.Popen(
            command, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, errors="replace")
        for stream, lines in ((self.process.stdout, self.lines),
                              (self.process.stderr, self.errors)):
            reader = threading.Thread(target=lines.extend, args=(map(str.rstrip, stream),),
                                      daemon=True)
            reader.start()
            self.readers.append(reader)
        return self

    def start(self, timeout_s=30):
        self.spawn()
        assert wait_until(lambda: "ready" in self.lines or self.process.poll() is not None,
                          timeout_s), f"not ready in {timeout_s} s:\n{self.log()}"
        assert "ready" in self.lines, f"exit {self.process.poll()}:\n{self.log()}"
        self.first = {p.pid for p in self.processes()}
        return self

    def log(self):
        return "\n".join(self.errors[-60:])

    def processes(self):
        return marked(self.mark)

    def workers(self):
        return [p for p in self.processes() if p.executable.startswith("sluice-worker")]

    def worker(self, timeout_s=10):
        """Pid of the one worker; waits for a restart."""
        found = wait_until(self.workers, timeout_s)
        assert len(found) == 1, f"{found}\n{self.log()}"
        return found[0].pid

    def core(self, timeout_s=10):
        """Pid of the core: the agent's child of the same binary."""
        found = wait_until(lambda: [p for p in self.processes() if p.parent == self.process.pid and
                                    p.executable == "sluice-agent"], timeout_s)
        assert len(found) == 1, f"{found}\n{self.log()}"
        return found[0].pid

    def kill_one(self, pid, number=signal.SIGKILL):
        """Kills a child of the agent; from here on its processes may change."""
        self.first = None
        os.kill(pid, number)

    def terminate(self, number=signal.SIGTERM):
        self.first = None
        self.process.send_signal(number)

    def wait(self, timeout_s=5):
        """Exit status of the supervisor."""
        status = self.process.wait(timeout_s * SCALE)
        for reader in self.readers:
            reader.join(5)
        return status

    def stop(self):
        """Orderly end: status 0 within 5 s and no process left. Raises what it finds, and what
        went wrong unseen before: a child that died and came back, a report of a sanitizer."""
        if self.process is None:
            return
        try:
            now = {p.pid for p in self.processes()}
            assert self.first in (None, now), \
                f"a process died: {self.first} became {now}\n{self.log()}"
            if self.process.poll() is None:
                self.terminate()
            status = self.wait()
            left = wait_until(lambda: not self.processes(), 1) or self.processes()
            assert status == 0, f"exit {status}:\n{self.log()}"
            assert left is True, f"left behind: {left}\n{self.log()}"
            reports = [line for line in self.errors if REPORT.search(line)]
            assert not reports, "\n".join(reports[:5]) + "\n" + self.log()
        finally:
            self.kill()

    def kill(self):
        """Ends whatever is left, without a question."""
        for process in self.processes():
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait(10)


def resident_bytes(pid):
    """Private (not shared) resident memory of a process."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
        return sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Private_"))
