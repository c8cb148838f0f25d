"""agent_fixtures.py - models, agents and clients for the tests of real processes.

SLUICE_BIN names the folder of the binaries. With SLUICE_TEST_DATA the model is stories260K, else
the small one that tests/golden/make_model.py makes from a seed.
"""
import itertools
import os
import shutil
import subprocess
import sys
import tempfile

import pytest

from agent_process import ROOT, SCALE, Agent
from sluice_client import Client

DATA = os.environ.get("SLUICE_TEST_DATA")

# Small and quick to start; the streams of a test never wait for one another's pages.
SETTINGS = {
    "model.dtype": "f32", "workers.count": 1, "workers.threads": 2, "workers.device": "cpu",
    "kv.page_tokens": 16, "kv.device_pages": 2304, "batch.tokens_max": 512, "batch.slots_max": 80,
    "chat.template": "none", "workers.step_timeout_ms": int(5000 * SCALE),
}
numbers = itertools.count(1)


@pytest.fixture(scope="session")
def model():
    """Path of the model under test."""
    if DATA:
        path = os.path.join(DATA, "models/stories260K-hf")
        assert os.path.isdir(path), f"SLUICE_TEST_DATA is set, {path} is missing"
        yield path
        return
    folder = tempfile.mkdtemp(prefix="sluice-model-")
    path = os.path.join(folder, "tiny")
    subprocess.run([sys.executable, os.path.join(ROOT, "tests/golden/make_model.py"), path],
                   check=True, timeout=120)
    yield path
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def make_agent(model):
    """make_agent(settings, environment): an Agent, not yet started, with a socket path of its own.
    Whoever starts it stops it; what a failed test leaves is killed at the end."""
    made = []
    folder = tempfile.mkdtemp(prefix="sluice-", dir="/tmp")  # sun_path holds 107 bytes.

    def make(settings=None, environment=None):
        home = os.path.join(folder, str(next(numbers)))
        os.mkdir(home, 0o750)
        made.append(Agent(home, {"model.path": model, **SETTINGS, **(settings or {})}, environment))
        return made[-1]
    yield make
    for agent in made:
        if agent.process is not None:
            agent.kill()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def agent(make_agent):
    """One agent for the tests of a file; its end is part of them."""
    started = make_agent().start()
    yield started
    started.stop()


@pytest.fixture
def own_agent(make_agent):
    """own_agent(settings, environment): a started agent for one test alone."""
    started = []

    def start(settings=None, environment=None):
        started.append(make_agent(settings, environment).start())
        return started[-1]
    yield start
    for one in started:
        one.stop()


@pytest.fixture
def client(agent):
    with Client(agent.endpoint) as one:
        yield one
