"""conftest.py - gives the fixtures to every test of this folder: those of the integration tests."""
from agent_fixtures import agent, client, make_agent, model, own_agent

__all__ = ["agent", "client", "make_agent", "model", "own_agent"]
