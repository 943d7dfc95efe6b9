"""The llm researcher: edits as text, and a model over real HTTP on loopback."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightlab.errors import ConfigError, ResearcherError
from nightlab.judge import open_judge
from nightlab.model import Answer, Better, Objective, Outcome, Verdict
from nightlab.researchers import (
    Closing,
    Context,
    Failure,
    Settings,
    Task,
    Thoughtful,
    edits,
    open_researcher,
)
from nightlab.testing.model_server import ModelServer, scenario
from tests.support import drive, make_project

TRAIN = "import os\n\nLR = 0.1\nDEPTH = 2\n\n\ndef loss():\n    if LR:\n        return LR\n    return 1\n"
WORDS = """
```nightlab
description: LR 0.1 → 0.03
hypothesis: the rate is too high
category: optimizer
expects: -0.05
idea: 4
scratchpad: LR was 0.1
```
"""


def block(search: str, replace: str, path: str = "train.py") -> str:
    return f"{path}\n<<<<<<< SEARCH\n{search}\n=======\n{replace}\n>>>>>>> REPLACE\n"


GOOD = block("LR = 0.1", "LR = 0.03") + WORDS


def applied(text: str, files: dict[str, str] | None = None) -> dict[str, str]:
    return edits.apply(files or {"train.py": TRAIN}, edits.blocks(text))


def problem(text: str, files: dict[str, str] | None = None) -> str:
    with pytest.raises(edits.EditError) as found:
        applied(text, files)
    return " ".join(found.value.problems)


# -- edits as text


@pytest.mark.parametrize(
    "text",
    [
        block("LR = 0.1", "LR = 0.03"),
        "Sure!\n\n```python\n" + block("LR = 0.1", "LR = 0.03") + "```\nThat is all.",
        block("LR = 0.1", "LR = 0.03", "**train.py**"),
        block("LR = 0.1", "LR = 0.03", "### File: `train.py`"),
        block("LR = 0.1", "LR = 0.03", "./train.py:"),
        block("LR = 0.1", "LR = 0.03", "src/train.py"),  # the only file of that name
        block("LR = 0.1", "LR = 0.03", "Here is the change"),
        block("```python\nLR = 0.1\n```", "```python\nLR = 0.03\n```"),
        block("LR = 0.1   ", "LR = 0.03"),
        block("  LR = 0.1", "  LR = 0.03"),
        block("0.1", "0.03").replace("\n", "\r\n"),
        "<<<<<<< ORIGINAL\nLR = 0.1\n=======\nLR = 0.03\n>>>>>>> UPDATED",
        "<think>\n" + block("LR = 9", "LR = 8") + "</think>\n" + block("LR = 0.1", "LR = 0.03"),
        "```python train.py\n" + TRAIN.replace("0.1", "0.03").rstrip("\n") + "\n```",
        "train.py\n```\n" + TRAIN.replace("0.1", "0.03") + "```",
        "Here is the file:\n\n```python\n" + TRAIN.replace("0.1", "0.03").strip() + "\n```" + WORDS,
    ],
)
def test_one_edit_is_understood_in_the_forms_that_models_write(text: str) -> None:
    found = edits.apply({"train.py": TRAIN}, edits.blocks(edits.without_thinking(text)))
    assert found["train.py"].rstrip("\n") == TRAIN.replace("0.1", "0.03").rstrip("\n")


def test_blocks_follow_each_other_on_what_the_last_one_left() -> None:
    text = block("LR = 0.1", "LR = 0.03") + block("LR = 0.03\nDEPTH = 2", "LR = 0.03\nDEPTH = 4")
    assert "LR = 0.03\nDEPTH = 4\n" in applied(text)["train.py"]


def test_other_indentation_is_carried_over_to_what_is_put_in() -> None:
    found = applied(block("if LR:\n    return LR", "if LR > 0:\n    return LR\n    # 1"))
    assert "    if LR > 0:\n        return LR\n        # 1\n" in found["train.py"]


def test_lines_are_removed_and_a_new_file_is_made() -> None:
    assert "DEPTH" not in applied(block("DEPTH = 2\n", ""))["train.py"]
    assert applied(block("", "x = 1", "new.py")) == {"new.py": "x = 1\n"}


def test_windows_line_ends_stay_as_they_are() -> None:
    files = {"train.py": TRAIN.replace("\n", "\r\n")}
    found = applied(block("LR = 0.1\nDEPTH = 2", "LR = 0.2\nDEPTH = 3"), files)["train.py"]
    assert found == TRAIN.replace("0.1", "0.2").replace("= 2", "= 3").replace("\n", "\r\n")


def test_what_is_ambiguous_is_refused_with_the_places() -> None:
    files = {"train.py": "x = 1\ny = 2\nx = 1\n"}
    assert "stands 2 times in train.py (lines 1, 3)" in problem(block("x = 1", "x = 2"), files)
    assert "names no file" in problem(
        "<<<<<<< SEARCH\nx\n=======\ny\n>>>>>>> REPLACE", {"a.py": "x\n", "b.py": "x\n"}
    )


def test_what_does_not_stand_there_is_refused_with_what_does() -> None:
    said = problem(block("LR = 0.5\nDEPTH = 2", "LR = 1"))
    assert "does not stand in train.py" in said
    assert "LR = 0.1\nDEPTH = 2" in said


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (block("LR = 0.1", "LR = 0.1"), "changes nothing"),
        (block("x", "y", "other.py"), "there is no file other.py in scope"),
        (block("", "x = 1"), "SEARCH part is empty"),
        (block("LR = 0.1", "LR = 0.2") + block("nope", "x"), "block 2:"),
        ("train.py\n<<<<<<< SEARCH\nLR = 0.1\n=======\nLR = 0.2\n", "cut off"),
        ("train.py\n<<<<<<< SEARCH\nLR = 0.1\n", "cut off"),
        ("```python\nLR = 0.03\n```", "only a part of train.py"),
        (
            "```python train.py\nLR = 0.03\n# ... rest of the code unchanged\n```",
            "leaves code of train.py out",
        ),
        ("```python\nLR = 0.03\n", "no end"),
    ],
)
def test_what_cannot_be_used_says_why(text: str, says: str) -> None:
    assert says in problem(text)


@given(st.text(alphabet="<>=`SEARCHREPLACE \n\tabx.py~01", max_size=400))
def test_no_answer_breaks_the_reader(text: str) -> None:
    try:
        found = edits.apply({"train.py": TRAIN}, edits.blocks(edits.without_thinking(text)))
    except edits.EditError as error:
        assert error.problems
    else:
        assert all(isinstance(new, str) for new in found.values())


@given(st.data())
def test_any_run_of_lines_is_replaced_where_it_stands_once(data: st.DataObject) -> None:
    lines = [f"line{n} = {n}" for n in range(20)]
    start = data.draw(st.integers(0, 19))
    end = data.draw(st.integers(start + 1, 20))
    text = "\n".join(lines) + "\n"
    new = "\n".join([*lines[:start], "changed = 1", *lines[end:]]) + "\n"
    found = applied(block("\n".join(lines[start:end]), "changed = 1"), {"train.py": text})
    assert found["train.py"] == new


# -- a model over HTTP


def context(**more: Any) -> Context:
    return Context(
        tag="t",
        number=2,
        objective=Objective(metric="val_loss", better=Better.LOWER),
        files={"train.py": TRAIN},
        edit=("train.py",),
        **more,
    )


def llm(url: str, **more: Any) -> Any:
    return open_researcher(Settings(use="llm", model="small", endpoint=f"{url}/v1", **more))


def server(*turns: Any) -> ModelServer:
    return ModelServer(scenario(*turns), tools_required=False)


def failed(steps: list[dict[str, Any]], **more: Any) -> ResearcherError:
    with server(steps) as model, pytest.raises(ResearcherError) as found:
        llm(model.url, **more).propose(context())
    return found.value


def test_a_proposal_carries_its_words_and_what_it_cost() -> None:
    usage = {"input": 1200, "output": 80, "cached": 1000}
    with server({"steps": [{"say": GOOD}], "usage": usage}) as model:
        researcher = llm(model.url)
        assert isinstance(researcher, Thoughtful)
        assert isinstance(researcher, Closing)
        found = researcher.propose(context(brief="the brief"))
        sent = model.requests[-1].body["messages"]
    assert found.files == {"train.py": TRAIN.replace("0.1", "0.03")}
    assert found.description == "LR 0.1 → 0.03"
    assert (found.category, found.expects, found.idea) == ("optimizer", "-0.05", 4)
    assert found.scratchpad == "LR was 0.1"
    assert found.researcher == "llm"
    spent = found.usage
    assert (spent.tokens_in, spent.tokens_out, spent.tokens_cached) == (2200, 80, 1000)
    assert (spent.calls, spent.usd) == (1, None)
    assert spent.seconds > 0
    assert "SEARCH" in sent[0]["content"]
    assert "the brief" in sent[1]["content"]
    assert TRAIN in sent[1]["content"]


def test_a_price_that_the_person_gave_makes_money_of_tokens() -> None:
    usage = {"input": 1000, "output": 100}
    with server({"steps": [{"say": GOOD}], "usage": usage}) as model:
        found = llm(model.url, price={"input": 2.0, "output": 10.0}).propose(context())
    assert found.usage.usd == pytest.approx(0.003)


def test_a_block_that_does_not_fit_is_mended_by_telling_which_and_why() -> None:
    with server([{"say": block("LR = 7", "LR = 0.03")}, {"say": GOOD}]) as model:
        found = llm(model.url).propose(context())
        told = model.requests[-1].body["messages"][-1]["content"]
    assert found.usage.calls == 2
    assert "does not stand in train.py" in told
    assert "LR = 0.1" in told


def test_broken_syntax_goes_back_with_the_line() -> None:
    with server([{"say": block("LR = 0.1", "LR = = 2")}, {"say": GOOD}]) as model:
        found = llm(model.url).propose(context())
        told = model.requests[-1].body["messages"][-1]["content"]
    assert found.files
    assert "LR = = 2" in told


@pytest.mark.parametrize(
    ("steps", "answer", "calls"),
    [
        ([{"say": block("nope", "x"), "repeat": 3}], Answer.UNUSABLE, 3),
        ([{"say": block("LR = 0.1", "LR = = 2"), "repeat": 3}], Answer.BROKEN_SYNTAX, 3),
        ([{"say": "Which optimizer would you like?", "repeat": 3}], Answer.QUESTION, 3),
        ([{"say": "The code looks fine.", "repeat": 3}], Answer.NO_EDIT, 3),
        ([{"nothing": True, "repeat": 3}], Answer.NO_EDIT, 3),
        ([{"say": "I'm sorry, I can't help with that.", "repeat": 3}], Answer.REFUSAL, 3),
        ([{"refuse": "I can't help with that."}], Answer.REFUSAL, 1),
        ([{"status": 401}], Answer.NO_AUTH, 0),
        ([{"status": 403}], Answer.NO_AUTH, 0),
        ([{"status": 402}], Answer.NO_CREDIT, 0),
        ([{"status": 429, "code": "insufficient_quota"}], Answer.NO_CREDIT, 0),
        ([{"status": 429, "retry_after": 17}], Answer.RATE_LIMITED, 0),
        ([{"status": 500}], Answer.OVERLOADED, 0),
        ([{"status": 529}], Answer.OVERLOADED, 0),
        ([{"status": 400, "message": "the context is too long"}], Answer.FAILED, 0),
        ([{"reset": True}], Answer.UNREACHABLE, 0),
        ([{"cut": 0.5}, {"say": GOOD}], Answer.UNREACHABLE, 0),
        ([{"hang": True, "seconds": 30}], Answer.HUNG, 0),
    ],
)
def test_every_failure_is_told_apart(
    steps: list[dict[str, Any]], answer: Answer, calls: int
) -> None:
    error = failed(steps, timeout_s=0.7 if answer is Answer.HUNG else 60.0)
    assert error.answer == answer
    assert error.usage.calls == calls  # type: ignore[attr-defined]  # what failed cost too
    assert error.retry_after_s == (17 if answer is Answer.RATE_LIMITED else None)


def test_a_server_that_is_not_there_is_unreachable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ResearcherError) as found:
        llm(f"http://127.0.0.1:{port}").propose(context())
    assert found.value.answer == Answer.UNREACHABLE


def test_a_call_is_left_at_once_when_the_lab_ends() -> None:
    with server([{"hang": True, "seconds": 60}]) as model:
        researcher = llm(model.url)
        threading.Timer(0.3, researcher.close).start()
        began = time.monotonic()
        with pytest.raises(ResearcherError, match="was left"):
            researcher.propose(context())
        assert time.monotonic() - began < 5.0


def test_the_tokens_that_are_left_bound_the_call() -> None:
    with server([{"say": GOOD}]) as model:
        llm(model.url).propose(context(tokens_left=900))
        assert model.requests[-1].body["max_tokens"] == 900
    assert_no_call = ModelServer(scenario([{"say": GOOD}]), tools_required=False)
    with assert_no_call as model, pytest.raises(ResearcherError):
        llm(model.url).propose(context(tokens_left=10))
    assert not assert_no_call.requests


def test_a_fix_is_told_the_traceback() -> None:
    failure = Failure(2, "wider", Outcome.CRASHED, "", traceback="NameError: stepz")
    with server([{"say": GOOD}]) as model:
        llm(model.url).propose(context(task=Task.FIX, failure=failure))
        assert "NameError: stepz" in model.requests[-1].body["messages"][-1]["content"]


def test_a_plan_is_ideas_and_vetoes() -> None:
    said = "```nightlab\nidea: warm up longer\npriority: 3\nafter: 2\nidea: wider\nveto: 1\n```"
    with server([{"say": "hm"}, {"say": said}]) as model:
        found = llm(model.url).plan(context(task=Task.PLAN))
    assert [i.text for i in found.ideas] == ["warm up longer", "wider"]
    assert found.ideas[0].after == (2,)
    assert found.vetoed == (1,)
    assert found.usage.calls == 2


def test_no_real_model_is_ever_called_with_the_switch_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTLAB_OFFLINE", "1")
    monkeypatch.setenv("A_KEY", "x")
    researcher = open_researcher(
        Settings(use="llm", model="m", endpoint="https://192.0.2.1/v1", key_env="A_KEY")
    )
    with pytest.raises(ResearcherError, match="no model is called"):
        researcher.propose(context())


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (Settings(use="llm"), "has no model"),
        (Settings(use="llm", model="m"), "OPENAI_API_KEY is not set"),
        (Settings(use="llm", model="m", endpoint="http://x/v1", key_env="NO_KEY"), "NO_KEY"),
        (Settings(use="llm", model="m", endpoint="file:///etc/passwd"), "is no address"),
    ],
)
def test_what_cannot_work_is_said_before_the_night(
    settings: Settings, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigError, match=says):
        open_researcher(settings)


def test_the_key_is_sent_and_to_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "sesame")
    with server([{"say": GOOD}]) as model:
        llm(model.url, key_env="A_KEY").propose(context())
        assert model.requests[-1].with_key
    with server([{"say": GOOD}]) as model:
        llm(model.url).propose(context())
        assert not model.requests[-1].with_key


def test_a_night_with_a_model_a_rate_limit_a_crash_and_its_fix(tmp_path: Path) -> None:
    """The whole of it: HTTP, edits, commits, runs, verdicts, accounts."""
    root = make_project(tmp_path / "p")
    slip = block("LR = 0.1", "LR = 0.03\nprint(stepz)")
    mended = block("print(stepz)", "print(LR)")
    worse = block("DEPTH = 2", "DEPTH = 9")
    usage = {"input": 100, "output": 10}
    model = server(
        {"steps": [{"status": 429, "retry_after": 0.2}, {"say": slip}], "usage": usage},
        {"steps": [{"say": mended}], "usage": usage},
        {"steps": [{"say": worse}], "usage": usage},
    )
    with model:
        _, opened = drive(root, llm(model.url), 3, judge=open_judge("greedy"))
    history = opened.engine.history
    assert [e.verdict for e in history.experiments.values()] == [
        Verdict.KEEP,
        Verdict.KEEP,
        Verdict.DISCARD,
    ]
    books = history.accounts
    assert books.answers == {Answer.RATE_LIMITED: 1, Answer.PROPOSED: 3}
    assert books.spent.tokens == 330
    assert books.by_experiment[2].tokens == 220  # the proposal and its fix
