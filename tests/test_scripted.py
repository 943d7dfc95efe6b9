"""The scripted researcher plays its list, no more and no less."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nightlab.errors import ConfigError, Exhausted, ResearcherError
from nightlab.model import Better, Claim, Experiment, Objective, Proposal, Verdict
from nightlab.researchers import Context, Settings, open_researcher
from nightlab.researchers.scripted import ScriptedResearcher, from_settings

CONTEXT = Context(
    tag="t",
    number=2,
    objective=Objective(metric="loss", better=Better.LOWER),
    files={"train.py": "LR = 0.1\n", "old.py": "x = 1\n"},
)
STEPS: list[dict[str, Any]] = [
    {
        "description": "higher LR",
        "hypothesis": "It is too low.",
        "replace": [{"path": "train.py", "old": "0.1", "new": "0.3"}],
    },
    {"raise": "the model is overloaded"},
    {"description": "no old.py", "path": "old.py", "text": None},
]


def mine(number: int) -> Experiment:
    claim = Claim(description="x", researcher="scripted")
    return Experiment(number, "p", "c", claim, verdict=Verdict.DISCARD)


def test_it_plays_tables_proposals_callables_and_errors_in_order() -> None:
    ready = Proposal(description="ready", files={"train.py": ""})
    researcher = ScriptedResearcher(
        [*STEPS, ready, lambda c: Proposal(description=c.tag, files={}), KeyError("odd")]
    )
    first = researcher.propose(CONTEXT)
    assert first.files == {"train.py": "LR = 0.3\n"}
    assert (first.hypothesis, first.researcher) == ("It is too low.", "scripted")
    with pytest.raises(ResearcherError, match="overloaded"):
        researcher.propose(CONTEXT)
    assert researcher.propose(CONTEXT).files == {"old.py": None}
    assert researcher.propose(CONTEXT).description == "ready"
    assert researcher.propose(CONTEXT).description == "t"
    with pytest.raises(KeyError):
        researcher.propose(CONTEXT)
    for _ in range(2):
        with pytest.raises(Exhausted):
            researcher.propose(CONTEXT)


@pytest.mark.parametrize("text", ["LR = 1\n", "0.1 0.1\n"])
def test_a_replacement_that_does_not_fit_exactly_once_is_an_error(text: str) -> None:
    researcher = ScriptedResearcher(STEPS)
    context = Context("t", 2, CONTEXT.objective, {"train.py": text})
    with pytest.raises(ResearcherError, match="does not fit"):
        researcher.propose(context)


def test_a_resumed_script_goes_on_behind_what_it_already_did() -> None:
    researcher = ScriptedResearcher(STEPS)
    other = Experiment(1, "p", "c", Claim(description="baseline"), verdict=Verdict.KEEP)
    for experiment in (other, mine(2), mine(3)):
        researcher.learn(experiment)
    with pytest.raises(Exhausted):
        researcher.propose(CONTEXT)


def test_what_it_proposed_itself_does_not_move_it_twice() -> None:
    researcher = ScriptedResearcher(STEPS)
    researcher.propose(CONTEXT)
    researcher.learn(mine(2))
    with pytest.raises(ResearcherError, match="overloaded"):
        researcher.propose(CONTEXT)


def test_scripts_are_read_from_json_and_toml(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(STEPS))
    (tmp_path / "b.json").write_text(json.dumps({"steps": STEPS}))
    (tmp_path / "c.toml").write_text(
        '[[steps]]\ndescription = "higher LR"\nhypothesis = "It is too low."\n'
        'replace = [{path = "train.py", old = "0.1", new = "0.3"}]\n'
    )
    for name in ("a.json", "b.json", "c.toml"):
        settings = Settings(use="scripted", script=str(tmp_path / name))
        proposal = open_researcher(settings).propose(CONTEXT)
        assert proposal.files == {"train.py": "LR = 0.3\n"}


@pytest.mark.parametrize(
    "content",
    [
        "not json",
        "{}",
        '["a"]',
        '[{"description": "no edit"}]',
        '[{"path": "a.py", "text": "no description"}]',
        '[{"description": "x", "path": "a.py"}]',
        '[{"description": "x", "replace": [{"path": "a.py", "old": "1"}]}]',
        '[{"descriptoin": "x", "path": "a.py", "text": ""}]',
    ],
)
def test_a_script_that_is_not_one_is_refused_before_the_night(content: str, tmp_path: Path) -> None:
    path = tmp_path / "steps.json"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        from_settings(Settings(use="scripted", script=str(path)))
    assert all(caught.value.lines())


@pytest.mark.parametrize("script", ["", "no/such.json"])
def test_a_missing_script_is_refused(script: str) -> None:
    with pytest.raises(ConfigError):
        from_settings(Settings(use="scripted", script=script))
