"""The Pareto front: who is on it, who may be there by luck."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from nightlab import front, report, views
from nightlab.cli import texts
from nightlab.errors import ConfigError
from nightlab.events import StudyStarted
from nightlab.history import History
from nightlab.model import (
    Action,
    Better,
    Claim,
    Decision,
    Experiment,
    Objective,
    Outcome,
    Purpose,
    Run,
    Study,
    Verdict,
)
from tests.support import CONFIG, Steps, drive, git, lr, make_project

TWO = (Objective("acc", Better.HIGHER), Objective("ms", Better.LOWER))


def lab(*points, rule="looks", metrics=TWO):
    """A history of settled experiments; each point is a list of (acc, ms) runs."""
    study = Study("t", "x", ("x",), 1.0, TWO[0], pareto=metrics)
    history = History(StudyStarted(study=study, base_commit="c"))
    for number, runs in enumerate(points, 1):
        made = tuple(
            Run(
                id=100 * number + i,
                experiment=number,
                occasion=number,
                purpose=Purpose.SCREEN if i == 0 and len(runs) > 1 else Purpose.CONFIRM,
                commit="c",
                seed=i,
                device="d",
                outcome=Outcome.OK,
                metrics=dict(zip(("acc", "ms"), values, strict=False)),
            )
            for i, values in enumerate(runs)
        )
        history.experiments[number] = Experiment(
            number=number,
            parent="p",
            commit=f"c{number}",
            claim=Claim("a change"),
            runs=made,
            verdict=Verdict.DISCARD,
            decision=Decision(action=Action.DISCARD, rule=rule, reason="r"),
        )
    return history


def on_front(history):
    return [
        (p["experiment"], p["dominated_within_noise_by"]) for p in front.front(history)["front"]
    ]


def test_the_front_is_what_no_other_beats_in_all() -> None:
    history = lab([(0.9, 50)], [(0.8, 20)], [(0.7, 30)], [(0.95, 80)], [(0.8, 21)])
    assert on_front(history) == [(4, None), (1, None), (2, None)]


def test_the_screening_run_does_not_count_where_there_are_others() -> None:
    lucky = [(0.99, 1), (0.5, 50), (0.5, 50)]
    assert on_front(lab([(0.6, 40)], lucky)) == [(1, None)]


def test_crashes_refusals_and_what_lacks_a_metric_take_no_part() -> None:
    history = lab([(0.5, 50)], [(0.9,)], [(0.9, 10)])
    assert on_front(history) == [(3, None)]
    history.experiments[3] = replace(history.experiments[3], verdict=Verdict.CRASH)
    assert on_front(history) == [(1, None)]
    for rule in ("guard", "check", "quarantine"):
        assert on_front(lab([(0.9, 10)], rule=rule)) == []


def test_luck_is_marked_and_a_clear_trade_off_is_not() -> None:
    rng = random.Random(1)

    def runs(acc, ms, n):
        return [(rng.gauss(acc, 0.01), rng.gauss(ms, 1.0)) for _ in range(n)]

    history = lab(runs(0.8, 50, 8), [(0.812, 50.5)], runs(0.95, 90, 3))
    found = dict(on_front(history))
    assert found[3] is None
    assert found[2] == 1  # a hair above the well measured one in a metric, below in the other
    assert found[1] is None


def test_without_known_noise_nothing_is_marked() -> None:
    assert on_front(lab([(0.8, 50)], [(0.8001, 50.1)])) == [(2, None), (1, None)]


@given(
    st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=1, max_size=12),
    st.sampled_from([0.5, 4.0]),
    st.booleans(),
)
def test_the_front_does_not_depend_on_scale_or_direction(points, scale, turned) -> None:
    history = lab(*[[point] for point in points])
    numbers = {n for n, _ in on_front(history)}
    assert numbers
    for n in numbers:  # by definition
        for other in points:
            mine = points[n - 1]
            better = other[0] >= mine[0] and other[1] <= mine[1] and other != mine
            assert not better
    flip = (Objective("acc", Better.LOWER), Objective("ms", Better.HIGHER)) if turned else TWO
    sign = -scale if turned else scale
    moved = lab(*[[(a * sign, b * sign)] for a, b in points], metrics=flip)
    assert {n for n, _ in on_front(moved)} == numbers


TRADE = """\
import os, random
LR = 0.1
rng = random.Random(int(os.environ["NIGHTLAB_SEED"]))
print("val_loss:", 1 + LR + rng.gauss(0, 0.0001))
print("dice:", 0.5 + LR + rng.gauss(0, 0.0001))
"""


def test_key_pareto_shows_the_front_and_steers_nothing(tmp_path: Path) -> None:
    more = '[pareto]\nval_loss = "lower"\ndice = "higher"\n'
    root = make_project(tmp_path / "p", TRADE, CONFIG + more)
    _, opened = drive(root, Steps([lr(0.03), lr(0.3)]), 3)
    history = opened.engine.history
    found = views.status(history, locked=False, now=0.0)
    assert [p["experiment"] for p in found["pareto"]["front"]] == [2, 1, 3]
    assert found["pareto"]["front"][2]["verdict"] == "discard"
    for point in found["pareto"]["front"]:
        assert git(root, "rev-parse", point["ref"]).strip() == point["commit"]
    assert "front      val_loss (lower), dice (higher): 3 of 3" in texts.status(found)
    page = report.markdown(history, locked=False, now=0.0, plot=None)
    assert "## The Pareto front" in page
    assert history.experiments[3].commit[:7] in page


def test_without_the_table_there_is_no_front(tmp_path: Path) -> None:
    assert front.front(lab([(0.5, 1)], metrics=())) is None


@pytest.mark.parametrize("more", ['a = "up"', 'a = "lower"', '"a b" = "lower"\nc = "lower"'])
def test_what_is_no_front_is_refused(tmp_path: Path, more: str) -> None:
    root = make_project(tmp_path / "p", more=f"[pareto]\n{more}\n")
    with pytest.raises(ConfigError):
        drive(root, Steps([lr(0.03)]), 1)
