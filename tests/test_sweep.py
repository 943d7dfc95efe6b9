"""A sweep tries every listed combination once, in the stated order, and then says so."""

from __future__ import annotations

import itertools

import pytest

from nightlab.errors import ConfigError, Exhausted
from nightlab.model import Better, Claim, Experiment, Objective, Proposal, Verdict
from nightlab.researchers import Context, Settings, open_researcher
from nightlab.researchers.sweep import SweepResearcher

TEXT = 'LR = 0.1\nSIZE = 64\nACT = "relu"\nSEED = 1\nprint(LR, SIZE, ACT, SEED)\n'


NUMBERS = itertools.count(2)


def context(text: str = TEXT, number: int | None = None) -> Context:
    """The next experiment's context: each call is for another one unless told."""
    objective = Objective(metric="loss", better=Better.LOWER)
    number = next(NUMBERS) if number is None else number
    return Context(tag="t", number=number, objective=objective, files={"train.py": text})


def test_a_refused_point_is_offered_once_more_and_not_for_ever() -> None:
    researcher = sweep(LR=(0.01, 1.0))
    first = [researcher.propose(context(number=7)).changes[0].new for _ in range(3)]
    assert first == [0.01, 0.01, 1.0]
    assert researcher.propose(context(number=7)).changes[0].new == 1.0
    with pytest.raises(Exhausted):
        researcher.propose(context(number=7))


def settled(number: int, proposal: Proposal) -> Experiment:
    claim = Claim(description=proposal.description, changes=proposal.changes)
    return Experiment(number, "p", f"c{number}", claim, verdict=Verdict.DISCARD, value=1.0)


def sweep(**values: tuple[float | bool | str, ...]) -> SweepResearcher:
    researcher = open_researcher(Settings(use="sweep", values=values))
    assert isinstance(researcher, SweepResearcher)
    return researcher


def test_one_constant_is_tried_in_order_without_the_incumbents_own_value() -> None:
    researcher = sweep(LR=(0.01, 0.1, 1))
    proposals = [researcher.propose(context()) for _ in range(2)]
    assert [p.description for p in proposals] == [
        "LR 0.1 → 0.01 (sweep 1 of 3)",
        "LR 0.1 → 1 (sweep 3 of 3)",
    ]
    assert proposals[0].files == {"train.py": TEXT.replace("0.1", "0.01")}
    assert proposals[1].files == {"train.py": TEXT.replace("0.1", "1.0")}
    with pytest.raises(Exhausted, match="all 3 combinations"):
        researcher.propose(context())


def test_of_several_constants_the_last_varies_fastest() -> None:
    researcher = sweep(SIZE=(32, 64), ACT=("relu", "odd one"))
    seen = [[c.new for c in researcher.propose(context()).changes] for _ in range(3)]
    assert seen == [[32, "relu"], [32, "odd one"], [64, "odd one"]]


def test_a_resumed_sweep_goes_on_where_it_stopped() -> None:
    first = sweep(LR=(0.01, 0.1, 1.0), SIZE=(32, 64))
    done = [first.propose(context()) for _ in range(2)]
    again = sweep(LR=(0.01, 0.1, 1.0), SIZE=(32, 64))
    for number, proposal in enumerate(done, 2):
        again.learn(settled(number, proposal))
    assert again.propose(context()) == first.propose(context())


def test_the_grid_is_of_absolute_values_when_the_incumbent_moves() -> None:
    researcher = sweep(LR=(0.01, 1.0), SIZE=(32, 64))
    kept = researcher.propose(context())
    text = kept.files["train.py"]
    assert text is not None
    changes = [researcher.propose(context(text)).changes for _ in range(3)]
    assert [[c.new for c in cs] for cs in changes] == [[0.01, 64], [1.0, 32], [1.0, 64]]


def test_what_looks_like_no_knob_may_still_be_swept_by_name() -> None:
    assert sweep(SEED=(1, 2)).propose(context()).files["train.py"] == TEXT.replace("= 1", "= 2")


def test_a_name_that_is_not_there_is_told_with_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        sweep(SIZES=(1, 2)).propose(context())
    assert "SIZES" in caught.value.what
    assert "SIZE" in caught.value.why


@pytest.mark.parametrize(
    ("name", "value"),
    [("LR", "high"), ("LR", True), ("SIZE", 0.5), ("ACT", 3), ("LR", float("nan"))],
)
def test_a_value_of_another_kind_is_refused(name: str, value: float | bool | str) -> None:
    with pytest.raises(ConfigError, match="is no value for"):
        sweep(**{name: (value,)}).propose(context())


def test_a_sweep_without_values_is_refused_at_once() -> None:
    for values in ({}, {"LR": ()}):
        with pytest.raises(ConfigError, match="no values"):
            SweepResearcher(Settings(use="sweep", values=values))
