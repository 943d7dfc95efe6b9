"""Coding agents as researchers: one driver, and a small adapter for each client."""

from __future__ import annotations

import shutil
from importlib import import_module

from nightlab import process
from nightlab.errors import NightlabError
from nightlab.researchers import Settings
from nightlab.researchers.agents.driver import AgentResearcher
from nightlab.researchers.agents.seam import Agent

# name -> where its adapter lives; loaded on use.
AGENTS: dict[str, str] = {
    name: f"nightlab.researchers.agents.{name}:{name.capitalize()}"
    for name in ("claude", "codex", "gemini", "opencode", "aider", "mini", "pi", "command")
}
_ASK_S = 30.0


def from_settings(settings: Settings) -> AgentResearcher:
    """The researcher that ``settings.use`` names. Raises ConfigError without its program."""
    return AgentResearcher(settings, open_agent(settings.use))


def open_agent(name: str) -> Agent:
    """The adapter of this name."""
    module, _, attribute = AGENTS[name].partition(":")
    agent: Agent = getattr(import_module(module), attribute)()
    return agent


def examine(name: str, command: str = "") -> tuple[bool, str, str]:
    """Whether an agent is there and answers: (found, its version or why not, the cure).

    ``command`` is the program to look for in place of its usual one.
    """
    agent = open_agent(name)
    wanted = command or agent.program
    found = shutil.which(wanted)
    if found is None:
        return False, f"{wanted} is not on the PATH", agent.install
    try:
        done = process.call((found, "--version"), timeout_s=_ASK_S)
    except NightlabError as error:
        return False, error.why or error.what, agent.install
    said = process.clean((done.stdout + done.stderr).decode("utf-8", "replace")).strip()
    if done.exit_code != 0:
        return False, said[-300:] or f"{found} --version ended with {done.exit_code}", agent.install
    return True, said.splitlines()[0][:80] if said else "no version said", ""
