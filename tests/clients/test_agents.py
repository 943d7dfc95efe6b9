"""Real coding agents as researchers, against the scripted model server. No model is ever called."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nightlab.errors import ResearcherError
from nightlab.model import Answer, Better, Objective, Proposal
from nightlab.researchers import Context, Desk, Researcher, Settings, Task, open_researcher
from nightlab.researchers.agents import examine
from nightlab.sandboxes import Sandbox, open_sandbox
from nightlab.testing.model_server import ModelServer, scenario
from tests.clients.conftest import Client
from tests.clients.install import CLIENTS

FILES = {
    "train.py": 'LR = 0.1\nprint("loss:", LR)\n',
    "prepare.py": "DATA = 1\n",
    "model/net.py": "WIDTH = 8\n",
}
MODELS = {"claude": "claude-sonnet-4-5", "codex": "gpt-5.5", "gemini": "gemini-2.5-pro"}
BLOCK = """I raised the rate.

```nightlab
description: raise LR to 0.2
hypothesis: the loss falls faster
category: optimizer
expects: -0.01
idea: 3
```
"""
CLAIM = ("raise LR to 0.2", "the loss falls faster", "optimizer", "-0.01", 3)
READ: dict[str, Any] = {"read": "train.py"}
EDIT: dict[str, Any] = {"edit": "train.py", "old": "LR = 0.1", "new": "LR = 0.2"}
FORBIDDEN = [
    {"read": "prepare.py"},
    {"edit": "prepare.py", "old": "DATA = 1", "new": "DATA = 2"},
]
SAY = {"say": BLOCK}
NEW = {"train.py": FILES["train.py"].replace("0.1", "0.2")}
QUICK = ("claude", "codex", "pi")
Ask = Callable[..., Proposal]


@pytest.fixture(scope="session")
def box() -> Sandbox:
    return open_sandbox("auto")


def context(folder: Path, sandbox: Sandbox, **fields: Any) -> Context:
    def checkout(tree: Path) -> None:
        for name, text in FILES.items():
            (tree / name).parent.mkdir(exist_ok=True)
            (tree / name).write_text(text)

    edit = fields.pop("edit", ("train.py",))
    return Context(
        tag="t",
        number=2,
        objective=Objective("loss", Better.LOWER),
        files={"train.py": FILES["train.py"]},
        edit=edit,
        desk=Desk(folder, checkout, sandbox),
        **fields,
    )


@pytest.fixture
def researcher(client: Client) -> Callable[..., Researcher]:
    def made(name: str, server: ModelServer, **fields: Any) -> Researcher:
        url = server.url if name in ("claude", "gemini") else f"{server.url}/v1"
        fields = {"model": MODELS.get(name, "scripted"), "timeout_s": 60.0} | fields
        return open_researcher(
            Settings(use=name, command=str(client(name)), endpoint=url, **fields)
        )

    return made


def alive(folder: Path) -> list[int]:
    """Processes that work below a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.readlink(entry / "cwd").startswith(str(folder)):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def failure(researcher: Researcher, asked: Context) -> ResearcherError:
    with pytest.raises(ResearcherError) as caught:
        researcher.propose(asked)
    return caught.value


@pytest.mark.parametrize(
    "name",
    [
        *(*QUICK, "gemini"),
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("opencode",)),
    ],
)
def test_an_edit_in_scope_is_taken_and_a_forbidden_one_is_told_and_not(
    name: str, researcher: Any, tmp_path: Path, box: Sandbox
) -> None:
    turn = {"steps": [*FORBIDDEN, READ, EDIT, SAY], "usage": {"input": 1000, "output": 50}}
    with ModelServer(scenario(turn)) as server:
        found = researcher(name, server).propose(context(tmp_path / "desk", box))
        assert server.spent
        answers = [r for r in server.requests if r.kind == "answer"]
    assert found.files == NEW
    said = (found.description, found.hypothesis, found.category, found.expects, found.idea)
    assert said == CLAIM
    assert any("prepare.py" in line for line in found.told), found.told
    usage = found.usage
    assert (usage.tokens_in, usage.tokens_out) == (1000 * len(answers), 50 * len(answers))
    assert usage.calls > 0
    assert usage.seconds > 0
    assert (usage.usd is not None) == (name in MODELS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["aider", "mini"])
def test_agents_that_restrict_nothing_are_held_by_the_box(
    name: str, researcher: Any, tmp_path: Path, box: Sandbox
) -> None:
    if box.name == "process":
        pytest.skip("no box works on this machine, and these agents confine nothing")
    both = [{**EDIT, "say": BLOCK}] if name == "aider" else [*FORBIDDEN, READ, EDIT, SAY]
    with ModelServer(scenario(both), tools_required=name != "aider") as server:
        found = researcher(name, server).propose(context(tmp_path / "desk", box))
    assert found.files == NEW
    assert found.description == CLAIM[0]
    assert found.usage.tokens_in > 0


@pytest.mark.parametrize("name", ["claude", "codex"])
def test_without_a_box_the_agent_s_own_permissions_hold(
    name: str, researcher: Any, tmp_path: Path
) -> None:
    steps = [*FORBIDDEN, READ, EDIT, SAY]
    with ModelServer(scenario(steps)) as server:
        desk, agent = tmp_path / "desk", researcher(name, server)
        try:
            found = agent.propose(context(desk, open_sandbox("process")))
        except ResearcherError as error:
            if name != "codex" or error.answer != Answer.DENIED:
                raise
            pytest.skip("Codex's own sandbox lets nothing be written here")
        finally:
            assert (desk / "project/prepare.py").read_text() == FILES["prepare.py"]
    assert found.files == NEW
    assert found.told


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize(
    ("steps", "answer"),
    [
        ([{"say": "I'm sorry, but I can't help with that."}], Answer.REFUSAL),
        ([READ, {"ask": "Should I raise LR or lower it?"}], Answer.QUESTION),
        ([READ, {"say": "LR = 0.1 looks good to me."}], Answer.NO_EDIT),
        ([*FORBIDDEN, {"say": "I edited prepare.py."}], Answer.DENIED),
    ],
    ids=["refusal", "question", "no edit", "denied"],
)
def test_endings_without_an_edit_are_told_apart(
    name: str, steps: list[dict[str, Any]], answer: Answer, researcher: Any, tmp_path: Path,
    box: Sandbox,
) -> None:  # fmt: skip
    with ModelServer(scenario(steps)) as server:
        error = failure(researcher(name, server), context(tmp_path / "desk", box))
    assert error.answer == answer, (error.what, error.why)
    assert error.usage.tokens_in > 0
    assert error.usage.seconds > 0


@pytest.mark.parametrize(
    ("name", "step", "answer"),
    [
        ("claude", {"status": 429, "retry_after": 0.1, "repeat": 9}, Answer.RATE_LIMITED),
        ("claude", {"status": 529, "repeat": 9}, Answer.OVERLOADED),
        ("claude", {"status": 401, "repeat": 9}, Answer.NO_AUTH),
        (
            "claude",
            {"status": 400, "message": "Your credit balance is too low to access the API"},
            Answer.NO_CREDIT,
        ),
        ("codex", {"status": 429, "repeat": 20}, Answer.RATE_LIMITED),
        ("codex", {"status": 401, "repeat": 20}, Answer.NO_AUTH),
        ("pi", {"status": 429, "repeat": 20}, Answer.RATE_LIMITED),
        ("pi", {"status": 529, "repeat": 20}, Answer.OVERLOADED),
        ("gemini", {"status": 401, "repeat": 20}, Answer.NO_AUTH),
        pytest.param(
            "codex", {"status": 529, "repeat": 20}, Answer.OVERLOADED, marks=pytest.mark.slow
        ),
        pytest.param(
            "gemini", {"status": 429, "repeat": 20}, Answer.RATE_LIMITED, marks=pytest.mark.slow
        ),
        pytest.param(
            "opencode", {"status": 429, "repeat": 20}, Answer.RATE_LIMITED, marks=pytest.mark.slow
        ),
        pytest.param(
            "aider", {"status": 401, "repeat": 20}, Answer.NO_AUTH, marks=pytest.mark.slow
        ),
    ],
)
def test_a_provider_s_troubles_are_told_apart(
    name: str, step: dict[str, Any], answer: Answer, researcher: Any, tmp_path: Path, box: Sandbox
) -> None:
    with ModelServer(scenario([step, SAY]), tools_required=name != "aider") as server:
        error = failure(researcher(name, server), context(tmp_path / "desk", box))
    assert error.answer == answer, (error.what, error.why)


def test_a_long_wait_that_a_provider_asks_for_is_passed_on_and_not_slept_through(
    researcher: Any, tmp_path: Path, box: Sandbox
) -> None:
    with ModelServer(scenario([{"status": 429, "retry_after": 25}, SAY])) as server:
        began = time.monotonic()
        error = failure(researcher("claude", server), context(tmp_path / "desk", box))
    assert error.answer == Answer.RATE_LIMITED, (error.what, error.why)
    assert error.retry_after_s == pytest.approx(25, rel=0.3)
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("name", ["claude", "codex", "pi"])
def test_a_stream_cut_midway_is_tried_again(
    name: str, researcher: Any, tmp_path: Path, box: Sandbox
) -> None:
    with ModelServer(scenario([READ, {"cut": 0.5}, EDIT, SAY])) as server:
        found = researcher(name, server).propose(context(tmp_path / "desk", box))
    assert found.files == NEW


@pytest.mark.parametrize("name", ["claude", "codex"])
def test_an_agent_that_hangs_is_killed_with_all_its_descendants(
    name: str, researcher: Any, tmp_path: Path, box: Sandbox
) -> None:
    with ModelServer(scenario([READ, {"hang": True, "seconds": 60}, SAY])) as server:
        asked = context(tmp_path / "desk", box)
        began = time.monotonic()
        error = failure(researcher(name, server, timeout_s=4.0), asked)
    assert error.answer == Answer.HUNG
    assert time.monotonic() - began < 15
    assert alive(tmp_path) == []


@pytest.mark.parametrize("name", QUICK)
def test_an_agent_that_is_killed_is_told_from_one_that_failed(
    name: str, client: Client, tmp_path: Path, box: Sandbox
) -> None:
    launcher = tmp_path / "agent"
    launcher.write_text(f'#!/bin/sh\n"{client(name)}" "$@" &\nsleep 1\nkill -9 $!\nkill -9 $$\n')
    launcher.chmod(0o755)
    with ModelServer(scenario([{"hang": True}, SAY])) as server:
        url = server.url if name == "claude" else f"{server.url}/v1"
        settings = Settings(
            use=name, model=MODELS.get(name, "scripted"), endpoint=url, command=str(launcher),
            timeout_s=30,
        )  # fmt: skip
        error = failure(open_researcher(settings), context(tmp_path / "desk", box))
    assert error.answer == Answer.DIED, (error.what, error.why)
    assert alive(tmp_path) == []


@pytest.mark.parametrize("name", ["claude", "codex"])
def test_a_resumed_session_books_only_what_is_new(
    name: str, researcher: Any, tmp_path: Path, box: Sandbox
) -> None:
    usage = {"input": 1000, "output": 50}
    turns = [{"steps": [READ, EDIT, SAY], "usage": usage}] * 2
    with ModelServer(scenario(*turns)) as server:
        asked = context(tmp_path / "desk", box)
        first = researcher(name, server, resume=True).propose(asked).usage
        again = researcher(name, server, resume=True).propose(asked).usage
        bodies = [str(r.body) for r in server.requests if r.kind == "answer"]
    assert first.tokens_in > 0
    assert again.tokens_in == first.tokens_in
    if name == "claude":
        assert again.usd == pytest.approx(first.usd)
    assert bodies[-1].count("# How to work here") == 2  # it did go on


def test_a_refusal_in_the_protocol_s_own_field_is_one(
    researcher: Any, tmp_path: Path, box: Sandbox
) -> None:
    with ModelServer(scenario([{"refuse": "No."}])) as server:
        error = failure(researcher("claude", server), context(tmp_path / "desk", box))
    assert error.answer == Answer.REFUSAL


def test_an_agent_that_uses_up_its_turns_has_looped(
    researcher: Any, tmp_path: Path, box: Sandbox
) -> None:
    with ModelServer(scenario([{**READ, "repeat": 9}, SAY])) as server:
        error = failure(researcher("claude", server, max_turns=3), context(tmp_path / "desk", box))
    assert error.answer == Answer.LOOPED


@pytest.mark.parametrize("name", QUICK)
def test_the_scratchpad_comes_back(
    name: str, researcher: Any, tmp_path: Path, box: Sandbox
) -> None:
    note = {"edit": "scratchpad.md", "old": "nothing yet", "new": "0.2 is promising"}
    steps = [{"read": "scratchpad.md"}, note, READ, EDIT, SAY]
    with ModelServer(scenario(steps)) as server:
        asked = context(tmp_path / "desk", box, scratchpad="nothing yet\n")
        found = researcher(name, server).propose(asked)
    assert found.scratchpad == "0.2 is promising\n"
    assert found.files == NEW


@pytest.mark.parametrize("name", ["claude", "codex"])
def test_a_plan_is_read_from_the_last_message(
    name: str, researcher: Any, tmp_path: Path, box: Sandbox
) -> None:
    plan = "```nightlab\nidea: warm up\ncategory: schedule\npriority: 2\nafter: 2\n"
    plan += "idea: wider\nveto: 4\n```"
    with ModelServer(scenario([READ, {"say": plan}])) as server:
        found = researcher(name, server).plan(context(tmp_path / "desk", box, task=Task.PLAN))
    assert [(i.text, i.category, i.after) for i in found.ideas] == [
        ("warm up", "schedule", (2,)),
        ("wider", "", ()),
    ]
    assert found.vetoed == (4,)
    assert found.ideas[0].source == name
    assert found.usage.tokens_in > 0


@pytest.mark.parametrize(
    ("name", "tool"),
    [("claude", "WebSearch"), ("codex", "web_search"), ("gemini", "google_web_search")],
)
def test_the_web_is_offered_where_the_phase_says_so_and_nowhere_else(
    name: str, tool: str, researcher: Any, tmp_path: Path, box: Sandbox
) -> None:
    with ModelServer(scenario([READ, EDIT, SAY], [READ, EDIT, SAY])) as server:
        for web in (True, False):
            researcher(name, server).propose(context(tmp_path / "desk", box, web=web))
        bodies = [json.dumps(r.body.get("tools")) for r in server.requests if r.kind == "answer"]
    half = len(bodies) // 2
    assert all(f'"{tool}"' in body for body in bodies[:half])
    assert not any(f'"{tool}"' in body for body in bodies[half:])


def test_a_new_file_in_a_folder_in_scope_is_taken(
    researcher: Any, tmp_path: Path, box: Sandbox
) -> None:
    new = {"write": "model/extra.py", "content": "DEPTH = 3\n"}
    with ModelServer(scenario([new, SAY])) as server:
        asked = context(tmp_path / "desk", box, edit=("train.py", "model"))
        found = researcher("claude", server).propose(replace(asked))
    assert found.files == {"model/extra.py": "DEPTH = 3\n"}


@pytest.mark.parametrize("name", [*QUICK, "gemini"])
def test_doctor_finds_an_agent_s_version(name: str, client: Client) -> None:
    found, version, _ = examine(name, str(client(name)))
    assert found
    assert any(c.isdigit() for c in version)
    assert CLIENTS[name].packages[0].rsplit("@", 1)[1] in version
