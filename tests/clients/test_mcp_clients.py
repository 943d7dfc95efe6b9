"""Real clients that hold the loop: the skill, the tools, the stop hook. No model is ever called."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nightlab import journal
from nightlab.config import Paths
from nightlab.history import History, fold
from nightlab.testing.model_server import ModelServer, scenario
from tests.clients.conftest import Client
from tests.clients.support import STARTS, Place
from tests.support import make_project

PROMPT = "start autoresearch on my training code"


def call(tool: str, **arguments: Any) -> dict[str, Any]:
    return {"call": tool, "arguments": arguments}


def proposed(description: str, search: str, replace: str) -> dict[str, Any]:
    edit = {"path": "train.py", "search": search, "replace": replace}
    return call("begin_experiment", description=description, edits=[edit])


STUDY = [
    call("start_study", max_experiments=20, tag="t"),
    call("await_experiment", number=1),
    call("get_context", tokens=4000),
    proposed("lower the rate to 0.03", "LR = 0.1", "LR = 0.03"),
    call("await_experiment", number=2),
    proposed("less depth", "DEPTH = 2", "DEPTH = 1"),
    call("await_experiment", number=3),
]


@pytest.fixture
def lab(place: Place, tmp_path: Path) -> Place:
    """A project in which ``nightlab skill install`` was run for each client, and trusted."""
    root = make_project(tmp_path / "lab")
    agents = [x for name in ("claude", "codex", "gemini", "opencode") for x in ("--agent", name)]
    subprocess.run(
        [sys.executable, "-m", "nightlab", "skill", "install", *agents], cwd=root, check=True
    )
    trust = {"hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True}
    place.write(".claude.json", {"projects": {str(root): trust}, "hasCompletedOnboarding": True})
    place.write(".codex/config.toml", f'[projects."{root}"]\ntrust_level = "trusted"\n')
    return dataclasses.replace(place, repo=root)


def ran(name: str, program: Path, lab: Place, *flags: str) -> subprocess.CompletedProcess[str]:
    command, environment = STARTS[name](program, lab, PROMPT)
    if name == "claude":  # as a person would start it: the project's own settings and tools
        command = [str(program), "-p", PROMPT, "--output-format", "json", "--model", "scripted"]
        command += ["--permission-prompts", "none"]
    return subprocess.run(
        [*command, *flags],
        cwd=lab.repo,
        env=lab.env | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def history(root: Path) -> History:
    return fold(journal.read(Paths(root).journal("t")))


def verdicts(found: History) -> list[str]:
    return [e.verdict.value for e in found.settled() if e.verdict]


def test_claude_code_runs_the_protocol_by_the_skill_and_is_held_while_the_study_is_open(
    client: Client, lab: Place
) -> None:
    program = client("claude")
    steps = [
        call("Skill", skill="nightlab"),
        *STUDY,
        {"say": "That will do, I stop here."},
        call("status"),  # the stop hook held the session: one more turn
        call("finish"),
        {"say": "Finished."},
    ]
    with ModelServer(scenario(steps)) as server:
        done = ran("claude", program, dataclasses.replace(lab, url=server.url))
        told = [(r.kind, r.played) for r in server.requests]
        bodies = [json.dumps(r.body, ensure_ascii=False) for r in server.requests]
        assert server.spent, (done.stdout[-2000:], done.stderr[-2000:], told)
    assert done.returncode == 0
    result = json.loads(done.stdout)
    assert result["permission_denials"] == []
    assert "开始自动实验" in bodies[0]  # the skill is offered by its description
    assert "The nightlab study t is open" in bodies[-1]
    found = history(lab.repo)
    assert verdicts(found) == ["keep", "keep", "discard"]
    assert found.experiments[2].claim.researcher.startswith("claude-code")
    assert found.ended is not None
    assert found.ended.reason == "stopped"
    assert "LR = 0.1" in (lab.repo / "train.py").read_text()


@pytest.mark.parametrize(
    "name", ["codex", *(pytest.param(n, marks=pytest.mark.slow) for n in ("gemini", "opencode"))]
)
def test_other_clients_drive_two_experiments_through_the_tools(
    name: str, client: Client, lab: Place
) -> None:
    program = client(name)
    steps = [*STUDY, call("finish"), {"say": "Finished."}]
    with ModelServer(scenario(steps)) as server:
        done = ran(name, program, dataclasses.replace(lab, url=server.url))
        told = [(r.kind, r.played) for r in server.requests]
        assert server.spent, (done.stdout[-3000:], done.stderr[-2000:], told)
    assert done.returncode == 0
    found = history(lab.repo)
    assert verdicts(found) == ["keep", "keep", "discard"]
    assert name in found.experiments[3].claim.researcher
    assert found.pending == {}
