"""The hybrid researcher: constants here, structure there, the split by what has paid."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from nightlab.budget import Bounds
from nightlab.errors import ConfigError, ResearcherError
from nightlab.events import Asked
from nightlab.journal import read
from nightlab.judge import open_judge
from nightlab.lab import open_study
from nightlab.loop import Loop
from nightlab.model import (
    Action,
    Answer,
    Better,
    Change,
    Claim,
    Decision,
    Evidence,
    Experiment,
    Objective,
    Outcome,
    Purpose,
    Run,
    Verdict,
)
from nightlab.researchers import Closing, Context, Settings, Task, Thoughtful, open_researcher
from nightlab.researchers.hybrid import Arm, HybridResearcher
from nightlab.testing.model_server import ModelServer, scenario
from tests.support import make_project

TEXT = "LR = 0.1\nDEPTH = 2\nprint(LR)\n"


def hybrid(url: str = "http://127.0.0.1:9", seed: int = 0) -> HybridResearcher:
    settings = Settings(use="hybrid", agent="llm", model="m", endpoint=f"{url}/v1", seed=seed)
    found = open_researcher(settings)
    assert isinstance(found, HybridResearcher)
    return found


def context(number: int, refused: tuple[str, ...] = ()) -> Context:
    return Context(
        tag="t",
        number=number,
        objective=Objective(metric="loss", better=Better.LOWER),
        files={"train.py": TEXT},
        edit=("train.py",),
        refused=refused,
    )


def experiment(
    number: int, arm: Arm, gain: float | None, seconds: float = 300.0, wait_s: float = 0.0
) -> Experiment:
    """A settled experiment of an arm: kept with a gain, or discarded."""
    changes = (Change(name="LR", old=0.1, new=0.2),) if arm is Arm.CONSTANTS else ()
    keep = gain is not None
    action = Action.KEEP if keep else Action.DISCARD
    at = 1000.0 * number
    run = Run(
        id=number,
        experiment=number,
        occasion=number,
        purpose=Purpose.SCREEN,
        commit=f"c{number}",
        seed=1,
        device="cpu0",
        outcome=Outcome.OK,
        duration_s=seconds,
    )
    return Experiment(
        number=number,
        parent="c0",
        commit=f"c{number}",
        claim=Claim(description="x", researcher="optuna" if changes else "llm", changes=changes),
        runs=(run,),
        decision=Decision(
            action=action, rule="r", reason="r", evidence=Evidence(effect=gain or -1.0)
        ),
        verdict=Verdict.KEEP if keep else Verdict.DISCARD,
        started_at=at + wait_s,
        settled_at=at + wait_s + seconds,
    )


def share(researcher: HybridResearcher, first: int = 100, count: int = 200) -> float:
    """How often structure is chosen."""
    chosen = Counter(researcher.choose(context(n)) for n in range(first, first + count))
    return chosen[Arm.STRUCTURE] / count


def test_before_anything_is_known_both_have_their_turn() -> None:
    assert 0.35 < share(hybrid()) < 0.65


@pytest.mark.parametrize("pays", list(Arm))
def test_turns_go_to_what_has_paid(pays: Arm) -> None:
    researcher = hybrid()
    for number in range(2, 42):
        arm = list(Arm)[number % 2]
        researcher.learn(experiment(number, arm, 0.1 if arm is pays else None))
    found = share(researcher)
    assert found > 0.85 if pays is Arm.STRUCTURE else found < 0.15


def test_a_gain_that_took_four_times_as_long_is_worth_less() -> None:
    researcher = hybrid()
    for number in range(2, 62):
        arm = list(Arm)[number % 2]
        seconds = 1200.0 if arm is Arm.STRUCTURE else 300.0
        researcher.learn(experiment(number, arm, 0.1, seconds))
    assert share(researcher) < 0.2


def test_time_that_the_device_waited_for_a_thought_is_paid_for() -> None:
    researcher, last = hybrid(), 0.0
    for number in range(2, 62):
        arm = list(Arm)[number % 2]
        made = experiment(number, arm, 0.1)
        begins = last + (900.0 if arm is Arm.STRUCTURE else 1.0)
        last = begins + 300.0
        researcher.learn(msgspec.structs.replace(made, started_at=begins, settled_at=last))
    assert share(researcher) < 0.2


def test_what_paid_long_ago_fades() -> None:
    researcher = hybrid()
    for number in range(2, 22):
        researcher.learn(experiment(number, Arm.CONSTANTS, 0.1))
    for number in range(22, 122):
        arm = list(Arm)[number % 2]
        researcher.learn(experiment(number, arm, 0.1 if arm is Arm.STRUCTURE else None))
    assert share(researcher) > 0.85


def test_the_choice_depends_on_the_seed_and_on_what_was_learned_only() -> None:
    learned = [experiment(n, list(Arm)[n % 2], 0.1 if n % 3 else None) for n in range(2, 30)]
    one, resumed, other = hybrid(), hybrid(), hybrid(seed=1)
    for e in learned:
        one.learn(e)
    [one.choose(context(n)) for n in range(50)]  # choosing changes nothing
    for e in learned:
        resumed.learn(e)
        other.learn(e)
    turns = [[r.choose(context(n)) for n in range(30, 90)] for r in (one, resumed, other)]
    assert turns[0] == turns[1]
    assert turns[0] != turns[2]


def test_neither_is_ever_starved() -> None:
    researcher = hybrid()
    for number in range(2, 202):
        researcher.learn(experiment(number, Arm.CONSTANTS, 0.1))
    assert share(researcher, count=2000) > 0.0


def test_a_fix_and_a_plan_are_the_agent_s() -> None:
    said = "train.py\n<<<<<<< SEARCH\nLR = 0.1\n=======\nLR = 0.3\n>>>>>>> REPLACE\n"
    plan = "```nightlab\nidea: wider\n```"
    with ModelServer(scenario([{"say": said}], [{"say": plan}]), tools_required=False) as model:
        researcher = hybrid(model.url)
        assert isinstance(researcher, Thoughtful)
        assert isinstance(researcher, Closing)
        fix = replace(context(2), task=Task.FIX)
        assert researcher.propose(fix).researcher == "llm"
        assert [i.text for i in researcher.plan(replace(fix, task=Task.PLAN)).ideas] == ["wider"]


def test_without_a_constant_to_turn_it_is_structure() -> None:
    researcher = hybrid()  # nobody listens at that address
    for number in range(40):
        bare = replace(context(number), files={"train.py": "print(1)\n"})
        with pytest.raises(ResearcherError) as found:
            researcher.propose(bare)
        assert found.value.answer == Answer.UNREACHABLE


@pytest.mark.parametrize(
    ("agent", "says"), [("", "has no agent"), ("hybrid", "no agent"), ("optuna", "is no agent")]
)
def test_an_agent_is_needed(agent: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        open_researcher(Settings(use="hybrid", agent=agent))


def test_a_night_of_both_books_only_what_costs(tmp_path: Path) -> None:
    said = "train.py\n<<<<<<< SEARCH\nDEPTH = 2\n=======\nDEPTH = 2 + {n}\n>>>>>>> REPLACE\n"
    turns = [
        {"steps": [{"say": said.replace("{n}", str(n))}], "usage": {"input": 10, "output": 1}}
        for n in range(1, 12)
    ]
    root = make_project(tmp_path / "p")
    with ModelServer(scenario(*turns), tools_required=False) as model:
        opened = open_study(root, tag="t", judge=open_judge("greedy"))
        with opened.engine.journal:
            Loop(opened.engine, hybrid(model.url), Bounds(max_experiments=9)).run()
    history = opened.engine.history
    by = Counter(e.claim.researcher for e in history.experiments.values())
    assert by["optuna"] >= 1
    assert by["llm"] >= 1
    asked = [e for e in read(root / ".nightlab" / "t" / "journal.jsonl") if isinstance(e, Asked)]
    assert {a.researcher for a in asked if a.answer is Answer.PROPOSED} == {"llm"}
    assert set(history.accounts.by_experiment) == {
        e.number for e in history.experiments.values() if e.claim.researcher == "llm"
    }
