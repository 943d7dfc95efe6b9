"""The driver of coding agents, with plain programs as agents: edits, diffs, JSON, hostile ones."""

from __future__ import annotations

import json
import socket
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightlab.errors import ConfigError, ResearcherError
from nightlab.model import Answer, Better, Objective, Outcome, Usage
from nightlab.process import Finished
from nightlab.researchers import (
    Context,
    Desk,
    Failure,
    Settings,
    Task,
    Thoughtful,
    open_researcher,
)
from nightlab.researchers.agents import AGENTS, endings, examine, open_agent, patches
from nightlab.researchers.agents.prices import priced
from nightlab.researchers.agents.seam import Order, Said
from nightlab.sandboxes import open_sandbox

FILES = {"train.py": "LR = 0.1\nprint(LR)\n", "prepare.py": "X = 1\n", "lib/net.py": "W = 8\n"}
NEW = {"train.py": "LR = 0.2\nprint(LR)\n"}
SED = "sed -i 's/0.1/0.2/' train.py"
OUTSIDE = Answer.OUT_OF_SCOPE
BLOCK = "```nightlab\ndescription: raise LR\ncategory: optimizer\nidea: 3\n```"


def context(folder: Path, sandbox: str = "process", **fields: Any) -> Context:
    def checkout(place: Path) -> None:
        for name, text in FILES.items():
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_text(text)

    fields = {"edit": ("train.py",)} | fields
    return Context(
        tag="t",
        number=2,
        objective=Objective("loss", Better.LOWER),
        files={"train.py": FILES["train.py"]},
        desk=Desk(folder, checkout, open_sandbox(sandbox)),
        **fields,
    )


def researcher(command: str, **fields: Any) -> Any:
    return open_researcher(Settings(use="command", command=command, **{"timeout_s": 20.0} | fields))


def failure(command: str, asked: Context, **fields: Any) -> ResearcherError:
    with pytest.raises(ResearcherError) as caught:
        researcher(command, **fields).propose(asked)
    return caught.value


def program(folder: Path, source: str) -> str:
    path = folder / "agent.py"
    path.write_text(textwrap.dedent(source))
    return f"{sys.executable} {path}"


def command_lines() -> list[bytes]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(path.read_bytes())
    return found


def test_a_program_that_edits_in_place_proposes_what_it_left(tmp_path: Path) -> None:
    found = researcher(f"{SED}; printf '%s' '{BLOCK}'").propose(context(tmp_path / "desk"))
    assert found.files == NEW
    assert (found.description, found.category, found.idea) == ("raise LR", "optimizer", 3)
    assert found.researcher == "command"
    assert found.usage.seconds > 0
    assert found.usage.usd is None


def test_without_a_block_the_first_sentence_describes_the_change_or_else_the_files(
    tmp_path: Path,
) -> None:
    said = researcher(f"{SED}; echo '**Raised** the rate. It was low.'")
    assert said.propose(context(tmp_path / "a")).description == "Raised the rate."
    assert researcher(SED).propose(context(tmp_path / "b")).description == "change train.py"


DIFF = "--- a/train.py\n+++ b/train.py\n@@ -1,2 +1,2 @@\n-LR = 0.1\n+LR = 0.2\n print(LR)\n"


@pytest.mark.parametrize("fence", ["{}", "Here it is.\n\n```diff\n{}```\n"], ids=["bare", "fenced"])
def test_a_diff_on_stdout_is_applied(fence: str, tmp_path: Path) -> None:
    (tmp_path / "answer").write_text(fence.format(DIFF) + BLOCK)
    found = researcher(f"cat {tmp_path}/answer").propose(context(tmp_path / "desk"))
    assert found.files == NEW
    assert found.description == "raise LR"


def test_a_diff_that_does_not_fit_is_unusable(tmp_path: Path) -> None:
    (tmp_path / "answer").write_text(DIFF.replace("LR = 0.1", "LR = 0.7"))
    error = failure(f"cat {tmp_path}/answer", context(tmp_path / "desk"))
    assert error.answer == Answer.UNUSABLE


def test_json_on_stdout_is_a_proposal_with_its_account(tmp_path: Path) -> None:
    command = program(
        tmp_path,
        """
        import json, os
        asked = json.load(open(os.environ["NIGHTLAB_CONTEXT"]))
        text = asked["files"]["train.py"].replace("0.1", "0.2")
        print("thinking...")
        print(json.dumps({
            "files": {"train.py": text, "prepare.py": "X = 2"},
            "description": "raise LR", "category": "Optimizer", "expects": "-0.1", "idea": 3,
            "usage": {"tokens_in": 900, "tokens_out": 40, "usd": 0.01, "calls": 1},
        }))
        """,
    )
    found = researcher(command).propose(context(tmp_path / "desk"))
    assert found.files == NEW
    assert (found.description, found.category, found.idea) == ("raise LR", "optimizer", 3)
    assert (found.usage.tokens_in, found.usage.tokens_out, found.usage.usd) == (900, 40, 0.01)
    assert any("prepare.py" in line for line in found.told)


def test_the_brief_comes_on_stdin_and_as_a_file_and_the_context_as_json(tmp_path: Path) -> None:
    command = program(
        tmp_path,
        """
        import json, os, sys
        brief = sys.stdin.read()
        assert brief == open(os.environ["NIGHTLAB_BRIEF"]).read()
        assert "THE BRIEF" in brief and "scratchpad.md" in brief
        asked = json.load(open(os.environ["NIGHTLAB_CONTEXT"]))
        assert asked["objective"]["metric"] == "loss" and asked["failure"]["outcome"] == "oom"
        assert open("scratchpad.md").read() == "old"
        open("scratchpad.md", "w").write("new")
        open("train.py", "a").write("x = 1\\n")
        """,
    )
    failed = Failure(4, "too wide", Outcome.OOM, "it used 9 GB")
    asked = context(
        tmp_path / "desk", brief="THE BRIEF", scratchpad="old", task=Task.FIX, failure=failed
    )
    found = researcher(command).propose(asked)
    assert found.scratchpad == "new"
    assert found.files["train.py"].endswith("x = 1\n")


def test_a_plan_is_read_and_its_edits_are_not_taken(tmp_path: Path) -> None:
    plan = "```nightlab\nidea: warm up\npriority: 2\nveto: 4\n```"
    asker = researcher(f"{SED}; printf '%s' '{plan}'")
    assert isinstance(asker, Thoughtful)
    found = asker.plan(context(tmp_path / "desk"))
    assert [(i.text, i.source) for i in found.ideas] == [("warm up", "command")]
    assert found.vetoed == (4,)
    with pytest.raises(ResearcherError) as caught:
        researcher("echo nothing comes to mind").plan(context(tmp_path / "desk"))
    assert caught.value.answer == Answer.UNUSABLE


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("true", Answer.NO_EDIT),
        ("echo 'Should I change the rate?'", Answer.QUESTION),
        ("echo \"I'm sorry, but I can't help with that.\"", Answer.REFUSAL),
        ("echo X = 2 > prepare.py", Answer.OUT_OF_SCOPE),
        ("exit 3", Answer.DIED),
        ("kill -9 $$", Answer.DIED),
        ("echo 'HTTP 429 Too Many Requests, retry after 7 s' >&2; exit 1", Answer.RATE_LIMITED),
        ("echo 'connect ECONNREFUSED 127.0.0.1:1' >&2; exit 1", Answer.UNREACHABLE),
        (f'{SED}; echo \'{{"error": "overloaded", "status": 529}}\'; exit 1', Answer.OVERLOADED),
        ('echo \'{"error": "overloaded"}\'', Answer.OVERLOADED),
        ('echo \'{"error": "it broke"}\'', Answer.FAILED),
        ("printf -- '--- a/prepare.py\n+++ b/prepare.py\n@@ -1 +1 @@\n-A = 1\n+A = 2\n'", OUTSIDE),
    ],
)
def test_endings_are_told_apart(command: str, answer: Answer, tmp_path: Path) -> None:
    error = failure(command, context(tmp_path / "desk"))
    assert error.answer == answer, (error.what, error.why)
    assert isinstance(error.usage, Usage)
    if answer is Answer.RATE_LIMITED:
        assert error.retry_after_s == 7


def test_what_was_not_taken_is_told_now_and_in_the_next_brief(tmp_path: Path) -> None:
    asker = researcher(f"cat > {tmp_path}/seen; {SED}; echo 2 > prepare.py; echo 3 > new.py")
    found = asker.propose(context(tmp_path / "desk"))
    assert found.files == NEW
    assert [line.split()[0] for line in found.told] == ["new.py", "prepare.py"]
    asker.propose(context(tmp_path / "desk"))
    assert "new.py is not in scope" in (tmp_path / "seen").read_text()


def test_a_program_that_hangs_dies_with_what_it_started(tmp_path: Path) -> None:
    command = "trap '' TERM; (setsid sleep 1234.5 &) ; sleep 60"
    began = time.monotonic()
    error = failure(command, context(tmp_path / "desk"), timeout_s=0.5)
    assert error.answer == Answer.HUNG
    assert time.monotonic() - began < 10
    assert not any(b"1234.5" in line for line in command_lines())


def test_no_link_of_an_agent_s_making_is_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("SECRET = 1\n")
    command = (
        f"ln -sf {secret} train.py; rm scratchpad.md; ln -s {secret} scratchpad.md;"
        f" mkdir -p $HOME/.x; rm -rf $HOME/.cache; ln -s {tmp_path} $HOME/.cache"
    )
    asker = researcher(command)
    for _ in range(2):  # the second call writes into the home that the first one left
        with pytest.raises(ResearcherError) as caught:
            asker.propose(context(tmp_path / "desk"))
        assert "plain text" in caught.value.why
    assert secret.read_text() == "SECRET = 1\n"
    assert not (tmp_path / ".keep").exists()


@pytest.mark.parametrize(
    "made",
    [
        "rm train.py; mkfifo train.py",
        "printf '\\377\\376' > train.py",
        "ln prepare.py hard.py; rm train.py; ln prepare.py train.py",
        "truncate -s 100M train.py",
        "mkdir -p a/b; chmod 000 a; rm train.py; ln -s / train.py",
    ],
)
def test_what_is_no_plain_text_is_not_taken(made: str, tmp_path: Path) -> None:
    asker = researcher(made)
    for _ in range(2):
        with pytest.raises(ResearcherError):
            asker.propose(context(tmp_path / "desk"))


def test_a_flood_of_output_is_bounded_and_its_end_still_read(tmp_path: Path) -> None:
    command = f"head -c 40000000 /dev/zero | tr '\\0' 'x'; echo; {SED}; printf '%s' '{BLOCK}'"
    found = researcher(command).propose(context(tmp_path / "desk"))
    assert found.files == NEW
    assert (tmp_path / "desk" / "log.txt").stat().st_size < 20e6


def test_a_file_may_be_removed_and_added_in_a_folder_in_scope(tmp_path: Path) -> None:
    command = "rm lib/net.py; mkdir lib/sub; echo D=1 > lib/sub/deep.py"
    asked = context(tmp_path / "desk", edit=("train.py", "lib"))
    found = researcher(command).propose(asked)
    assert found.files == {"lib/net.py": None, "lib/sub/deep.py": "D=1\n"}


def test_the_environment_is_built_and_not_inherited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SECRET_TOKEN", "s1")
    monkeypatch.setenv("PASSED_ON", "s2")
    monkeypatch.setenv("MODEL_KEY", "s3")
    command = f"env > {tmp_path}/env; {SED}"
    researcher(command, env=("PASSED_ON",), key_env="MODEL_KEY", model="m").propose(
        context(tmp_path / "desk")
    )
    env = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert "MY_SECRET_TOKEN" not in env
    assert (env["PASSED_ON"], env["MODEL_KEY"], env["NIGHTLAB_MODEL"]) == ("s2", "s3", "m")
    assert Path(env["HOME"]) == tmp_path / "desk" / "home"


def test_a_server_that_is_not_there_is_told_before_the_agent_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}/v1"
    error = failure(f"touch {tmp_path}/started", context(tmp_path / "desk"), endpoint=endpoint)
    assert error.answer == Answer.UNREACHABLE
    assert not (tmp_path / "started").exists()


def test_no_agent_calls_a_real_model_while_the_switch_is_on(tmp_path: Path) -> None:
    fake = tmp_path / "claude"
    fake.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    fake.chmod(0o755)
    asker = open_researcher(Settings(use="claude", command=str(fake)))
    with pytest.raises(ResearcherError, match="no model is called"):
        asker.propose(context(tmp_path / "desk"))
    assert not (tmp_path / "started").exists()


def test_in_a_box_a_program_changes_the_files_in_scope_alone(tmp_path: Path) -> None:
    asked = context(tmp_path / "desk", sandbox="auto")
    if asked.desk is None or asked.desk.sandbox.name == "process":
        pytest.skip("no box works on this machine")
    found = researcher(f"{SED}; echo 2 > prepare.py; echo 3 > {tmp_path}/out").propose(asked)
    assert found.files == NEW
    assert not (tmp_path / "out").exists()


def test_an_agent_that_is_not_installed_is_told_at_once_with_the_cure() -> None:
    for name in AGENTS:
        missing = "" if name == "command" else "/nowhere/agent"
        with pytest.raises(ConfigError) as caught:
            open_researcher(Settings(use=name, command=missing))
        assert caught.value.hint == open_agent(name).install
        if name != "command":
            assert examine(name, missing)[0] is False


def test_a_login_is_copied_into_the_agent_s_home_only_where_no_key_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "person"
    (home / ".claude").mkdir(parents=True)
    (home / ".claude/.credentials.json").write_text('{"token": 1}')
    (home / ".claude/history.jsonl").write_text("private")
    monkeypatch.setenv("HOME", str(home))
    for name in open_agent("claude").keys:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NIGHTLAB_OFFLINE", "0")
    fake = tmp_path / "claude"
    fake.write_text("#!/bin/sh\nfind $HOME -type f > seen.txt\n")
    fake.chmod(0o755)
    for key in ("", "sk-1"):
        if key:
            monkeypatch.setenv("ANTHROPIC_API_KEY", key)
        asker = open_researcher(Settings(use="claude", command=str(fake)))
        desk = tmp_path / f"desk{key}"
        with pytest.raises(ResearcherError):
            asker.propose(context(desk))
        seen = (desk / "project/seen.txt").read_text()
        assert (".credentials.json" in seen) == (not key)
        assert "history" not in seen


ENDED = Finished(0, None, False, False, False, 1.0, 1.0, 1, 0)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('429 {"error":{"code":"insufficient_quota"}}', Answer.NO_CREDIT),
        ("Error: 402 Payment Required", Answer.NO_CREDIT),
        ("rate_limit_error: please try again in 12.5s", Answer.RATE_LIMITED),
        ("status 503 Service Unavailable", Answer.OVERLOADED),
        ("Invalid API key · Please run /login", Answer.NO_AUTH),
        ("stream disconnected before completion", Answer.UNREACHABLE),
        ("status: 400 model does not exist", Answer.FAILED),
        ("something else went wrong", Answer.FAILED),
    ],
)
def test_a_provider_s_words_name_the_trouble(text: str, answer: Answer) -> None:
    found = endings.of_trouble(Said(ended=True, error=text), ENDED, "", 9.0)
    assert found is not None
    assert found.answer is answer
    assert found.retry_after_s == (12.5 if "12.5" in text else None)


@given(st.text(), st.text())
def test_no_output_is_too_odd_to_read(out: str, err: str) -> None:
    here = Path("/nowhere")
    order = Order(Settings(), "x", here, here, here, here, "", ("train.py",), ("train.py",))
    for name in AGENTS:
        said = open_agent(name).read(out, err, order)
        endings.of_trouble(said, ENDED, err, 9.0)
        endings.of_nothing(said, (), ())


KEYS = [
    "type",
    "message",
    "usage",
    "part",
    "item",
    "error",
    "result",
    "content",
    "id",
    "stats",
    "permission_denials",
    "modelUsage",
    "tokens",
    "state",
    "subtype",
    "files",
    "stop_reason",
    "is_error",
    "parameters",
    "tool_id",
    "args",
    "claim",
    "status",
]
KINDS = [
    "result",
    "assistant",
    "error",
    "system",
    "user",
    "item.completed",
    "turn.completed",
    "turn.failed",
    "thread.started",
    "tool_use",
    "tool_result",
    "text",
    "step_finish",
    "init",
    "message",
    "message_end",
    "agent_end",
    "session",
]
HOSTILE = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.sampled_from([*KINDS, ""]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)
    ),
    max_leaves=12,
)
EVENTS = st.dictionaries(st.sampled_from(KEYS), HOSTILE, max_size=6)


@given(st.lists(st.tuples(st.sampled_from(KINDS), EVENTS), max_size=4))
def test_no_event_is_too_odd_to_read(events: list[tuple[str, dict[str, object]]]) -> None:
    out = "\n".join(json.dumps(fields | {"type": kind}) for kind, fields in events)
    here = Path("/nowhere")
    order = Order(Settings(), "x", here, here, here, here, "", ("train.py",), ("train.py",))
    for name in AGENTS:
        open_agent(name).read(out, out, order)


def test_a_cost_is_the_agent_s_own_or_the_list_s_or_the_person_s_and_else_unknown() -> None:
    usage = Usage(1_000_000, 100_000, 400_000, model="gpt-5.5-pro")
    assert priced(usage, {}).usd is None  # a name that the list does not hold
    listed = Usage(1_000_000, 100_000, 400_000, model="openai/gpt-5-mini-2025-08-07")
    assert priced(listed, {}).usd == pytest.approx(0.6 * 0.25 + 0.4 * 0.025 + 0.1 * 2.0)
    own = {"input": 1.0, "output": 2.0}
    assert priced(usage, own).usd == pytest.approx(1.2)
    reported = Usage(10, 10, 0, 0.5, model="claude-x")
    assert priced(reported, {}).usd == 0.5
    assert priced(reported, own).usd == pytest.approx(3e-5)


LINES = st.lists(st.sampled_from(["a", "b", "c", "", "  d"]), max_size=12)


@given(LINES, LINES)
def test_a_diff_that_difflib_made_is_applied_whole(old: list[str], new: list[str]) -> None:
    import difflib

    before, after = ("".join(f"{line}\n" for line in lines) for lines in (old, new))
    made = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), "a/f.py", "b/f.py"
    )
    found = patches.apply("".join(made), {"f.py": before})
    assert found.get("f.py", before) == after


def test_closing_ends_the_agent_and_all_it_started_before_it_returns(tmp_path: Path) -> None:
    asker = researcher("(setsid sleep 4321.5 &) ; touch begun; sleep 60", timeout_s=60)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(asker.propose, context(tmp_path / "desk"))
        while not (tmp_path / "desk/project/begun").exists():
            time.sleep(0.01)
        began = time.monotonic()
        asker.close()
        assert not any(b"4321.5" in line for line in command_lines())
        assert time.monotonic() - began < 8
        with pytest.raises(ResearcherError, match="was ended"):
            asked.result(10)
