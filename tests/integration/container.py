"""container.py - a machine of its own for the service: real systemd, booted by systemd-nspawn.

The root is links and an empty /etc; /usr is the host's under what `cmake --install` writes, both
read-only, so that nothing is downloaded and nothing of the host changes. Everything is below one
folder, one namespace and one cgroup of the container's own, and dies with the process that booted
it, also when that is killed.
"""
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys

from agent_process import BIN, ROOT, read_process, wait_until

MODEL = "/var/lib/sluice/model"  # As configs/service.yaml has it.
UNIT = "sluice-agent.service"

# In the outer namespace, of which it is process 1. nspawn leaves locks and folders in /run.
BOOT = """
for group in $GROUPS_JOINED; do echo 0 >"$group/cgroup.procs" || exit 1; done
mount -t tmpfs tmpfs /run && exec systemd-nspawn "$@"
"""


def cgroups():
    """Where this process is in the hierarchies that systemd divides among its units."""
    unified = "/sys/fs/cgroup/unified"
    mounts = {"name=systemd": "/sys/fs/cgroup/systemd",
              "": unified if os.path.isdir(unified) else "/sys/fs/cgroup"}
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        lines = [line.rstrip("\n").split(":", 2) for line in file]
    return [mounts[name] + path for _, name, path in lines if name in mounts]


def missing():
    """Why no container can run here, or None."""
    if os.geteuid() != 0:
        return "needs root"
    for program in ("cmake", "nsenter", "setpriv", "systemd-nspawn", "unshare"):
        if not shutil.which(program):
            return f"{program} is not installed"
    with open("/proc/filesystems", encoding="ascii") as file:
        if "\toverlay\n" not in file.read():
            return "the kernel has no overlayfs"
    if not cgroups() or not all(os.access(f"{group}/cgroup.procs", os.W_OK)
                                for group in cgroups()):
        return "no cgroup of systemd's that can be written"
    probe = subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True,
                           text=True, timeout=20, check=False)
    return f"no namespaces: {probe.stderr.strip()}" if probe.returncode else None


def every_process():
    return filter(None, map(read_process, map(int, filter(str.isdigit, os.listdir("/proc")))))


def alive(pid):
    """False also for a process that only waits to be reaped."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Container:
    """folder must be new; nothing is left of it after close()."""

    def __init__(self, folder):
        self.folder = str(folder)
        self.root = os.path.join(self.folder, "root")
        self.stage = os.path.join(self.folder, "stage")
        self.machine = f"sluice-test-{os.getpid()}"
        self.groups = [os.path.join(group, self.machine) for group in cgroups()]
        self.outer = None  # unshare, whose child is nspawn.
        self.leader = None  # The container's init, as the host numbers it.

    def build(self):
        """Installs the programs as an administrator would, and makes the root."""
        subprocess.run(["cmake", "--install", os.path.dirname(BIN), "--prefix", "/usr"],
                       env={**os.environ, "DESTDIR": self.stage}, check=True, timeout=60,
                       stdout=subprocess.DEVNULL)
        subprocess.run(["systemctl", f"--root={self.stage}", "enable", UNIT], check=True,
                       timeout=20, capture_output=True)
        shutil.copytree(f"{self.stage}/etc", f"{self.root}/etc", symlinks=True)
        for name in ("usr", "var/lib", "var/log", "tmp", "run", "proc", "sys", "dev"):
            os.makedirs(f"{self.root}/{name}")
        for name in ("bin", "sbin", "lib", "lib64"):
            os.symlink(f"usr/{name}", f"{self.root}/{name}")
        os.chmod(f"{self.root}/tmp", 0o1777)
        os.chmod(self.root, 0o755)  # Whatever the umask: services of other users enter /.
        shutil.copy("/etc/os-release", f"{self.root}/etc")
        with open(f"{self.root}/etc/machine-id", "w", encoding="ascii"):
            pass
        subprocess.run([sys.executable, f"{ROOT}/tests/golden/make_model.py", self.root + MODEL],
                       check=True, timeout=60)

    def boot(self, timeout_s=20):
        """Returns once systemd answers; its services may still be starting. It gets version 2 of
        cgroups, as Debian 12 has it: with version 1 no container hears that a cgroup is empty, so
        that systemd would wait in vain for the children of a dead service."""
        for group in self.groups:
            os.mkdir(group)
        with open(f"{self.folder}/boot.log", "wb") as log:
            self.outer = subprocess.Popen(  # pylint: disable=consider-using-with
                ["setpriv", "--pdeathsig", "KILL",
                 "unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child",
                 "sh", "-c", BOOT, "boot", "--quiet", "--boot", f"--directory={self.root}",
                 f"--machine={self.machine}", "--register=no", "--keep-unit", "--private-network",
                 "--link-journal=no", "--console=pipe",
                 f"--overlay-ro=/usr:{self.stage}/usr:/usr"],
                env={**os.environ, "GROUPS_JOINED": " ".join(self.groups),
                     "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        self.leader = wait_until(self._find_leader, timeout_s)
        assert self.leader, f"no init in {timeout_s} s:\n{self.boot_log()}"
        assert wait_until(lambda: self.inside("systemctl", "is-system-running").stdout.strip() in
                          ("starting", "running", "degraded"), timeout_s), self.boot_log()

    def boot_log(self):
        with open(f"{self.folder}/boot.log", encoding="utf-8", errors="replace") as log:
            return log.read()[-4000:]

    def _find_leader(self):
        """The child of nspawn, itself the child of unshare, that is process 1 of a namespace."""
        for process in every_process():
            parent = read_process(process.parent)
            if not parent or parent.parent != self.outer.pid:
                continue
            with open(f"/proc/{process.pid}/status", encoding="utf-8") as file:
                if re.search(r"^NSpid:.*\t1$", file.read(), re.MULTILINE):
                    return process.pid
        return None

    def inside(self, *command, timeout_s=30, mounts_of=None):
        """Runs a command in the container, with the mounts of one of its processes."""
        return subprocess.run(
            ["nsenter", f"--mount=/proc/{mounts_of or self.leader}/ns/mnt",
             f"--target={self.leader}", "--pid", "--uts", "--ipc", "--net", *command],
            capture_output=True, text=True, timeout=timeout_s, check=False,
            stdin=subprocess.DEVNULL)

    def processes(self):
        """Everything that lives in the container."""
        space = os.readlink(f"/proc/{self.leader}/ns/pid")
        found = []
        for process in every_process():
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{process.pid}/ns/pid") == space and alive(process.pid):
                    found.append(process)
        return found

    def _remove_groups(self):
        """The cgroups, from the leaves up; False while one is still in use."""
        try:
            for group in self.groups:
                for folder, _, _ in os.walk(group, topdown=False):
                    os.rmdir(folder)
        except OSError:
            return False
        return True

    def close(self):
        """Ends all at once, as the death of this process would: unshare's child is process 1 of
        the outer namespace, so that nothing outlives it; mounts go with their namespaces. Raises
        where something stays all the same."""
        left = self.processes() if self.leader else []
        if self.outer:
            for process in every_process():
                if process.parent == self.outer.pid:
                    os.kill(process.pid, signal.SIGKILL)  # unshare reaps it and ends.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.outer.wait(5)
            self.outer.kill()
            self.outer.wait(10)
        gone = wait_until(lambda: not any(alive(process.pid) for process in left), 10)
        assert gone, f"left behind: {left}"
        assert wait_until(self._remove_groups, 10), f"left behind: {self.groups}"
        shutil.rmtree(self.folder)
        with open("/proc/self/mounts", encoding="utf-8") as file:
            assert self.folder not in file.read()
