"""test_service.py - the unit file, alone and with the drop-in for GPUs: systemd finds nothing to
say, the sandbox keeps its score.
"""
import os
import re
import shutil
import subprocess

import pytest

from agent_process import ROOT, binary

UNIT = f"{ROOT}/systemd/sluice-agent.service"
DROP_IN = f"{ROOT}/systemd/sluice-agent-gpu.conf"
EXPOSURE_MAX = {"alone": 1.3, "gpu": 1.5}  # Of 10; 1.2 and 1.4 with systemd 252.

pytestmark = pytest.mark.skipif(not shutil.which("systemd-analyze"),
                                reason="systemd-analyze is not installed")


def analyze(*arguments):
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True,
                          timeout=60, check=False)


@pytest.fixture(params=EXPOSURE_MAX)
def unit(request, tmp_path):
    """The unit as installed, but for the place of the binary, which verify looks for. What is at
    "<unit>.d/gpu.conf" belongs to it."""
    with open(UNIT, encoding="ascii") as file:
        text = file.read()
    assert "ExecStart=/usr/bin/sluice-agent --config " in text
    path = tmp_path / "sluice-agent.service"
    path.write_text(text.replace("/usr/bin/sluice-agent", binary("sluice-agent")))
    if request.param == "gpu":
        (tmp_path / "sluice-agent.service.d").mkdir()
        shutil.copy(DROP_IN, tmp_path / "sluice-agent.service.d/gpu.conf")
    return str(path)


def test_verify_prints_nothing(unit):
    # It exits 0 on keys it does not know, so that only silence is success.
    done = analyze("verify", unit)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def last_file(unit):
    """What systemd reads last."""
    drop_in = f"{unit}.d/gpu.conf"
    return drop_in if os.path.exists(drop_in) else unit


def test_verify_would_have_spoken(unit):
    with open(last_file(unit), "a", encoding="ascii") as file:
        file.write("[Service]\nProtectEverything=yes\n")
    assert "ProtectEverything" in analyze("verify", unit).stderr


def test_a_step_has_its_deadline_well_within_the_watchdog(unit):
    with open(unit, encoding="ascii") as file:
        watchdog_s = int(re.search(r"^WatchdogSec=([0-9]+)$", file.read(), re.MULTILINE)[1])
    keys = subprocess.run([binary("sluice-agent"), "--help"], capture_output=True, text=True,
                          timeout=60, check=True).stdout
    step_ms = int(re.search(r"`workers.step_timeout_ms` \|.*?\| ([0-9]+) \|", keys)[1])
    assert 2 * step_ms <= 1000 * watchdog_s


def test_the_sandbox_keeps_its_score(unit):
    told = analyze("security", "--offline=true", unit).stdout
    found = re.search(r"Overall exposure level .*: ([0-9.]+)", told)
    assert found and float(found[1]) <= EXPOSURE_MAX["alone" if last_file(unit) == unit else "gpu"]
    assert ("char-nvidia" in told) == (last_file(unit) != unit)
