"""Certificates: valid evidence from fresh pairs, and what of it is claimed over a night."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from msgspec.structs import replace

from nightlab import devices, report, views
from nightlab.certificates import certificates
from nightlab.cli import texts
from nightlab.events import Warned
from nightlab.journal import read
from nightlab.judge import Noise, open_judge
from nightlab.judge.evidence import Look
from nightlab.model import Action, Arm, Decision, Evidence, Purpose, Verdict
from tests.support import Steps, drive, git, lr, make_project
from tests.test_judge import SEQUENTIAL, again, base, case, play, tried
from tests.test_pareto import lab


def with_e_values(*found):
    """A history whose experiments 2, 3 … have (verdict, e-value)."""
    history = lab(*[[(0.5, 1)] for _ in range(len(found) + 1)])
    for number, (verdict, value) in enumerate(found, 2):
        action = Action.KEEP if verdict is Verdict.KEEP else Action.DISCARD
        decision = Decision(action, "confirmed", "r", evidence=Evidence(e_value=value))
        history.experiments[number] = replace(
            history.experiments[number], verdict=verdict, decision=decision
        )
    return history


def test_keeps_are_certified_by_e_bh_over_all_that_were_tested() -> None:
    keep, discard = Verdict.KEEP, Verdict.DISCARD
    found = certificates(with_e_values((keep, 25.0)))
    assert found["certified"] == [2]
    # The same evidence among five tested experiments is not enough any more.
    found = certificates(with_e_values((keep, 25.0), *[(discard, 0.1)] * 4))
    assert found["certified"] == []
    assert found["tested"] == 5
    # Two together may lift each other over the line: 5 / (2 * .05) = 50.
    found = certificates(with_e_values((keep, 60.0), (keep, 51.0), *[(discard, 0.1)] * 3))
    assert found["certified"] == [2, 3]


def test_what_was_not_kept_or_had_no_pair_is_no_claim() -> None:
    history = with_e_values((Verdict.DISCARD, 1e9), (Verdict.KEEP, None))
    found = certificates(history)
    assert found["certified"] == []
    assert found["tested"] == 1
    assert found["keeps"] == [{"experiment": 3, "e_value": None, "certified": False}]


@pytest.mark.parametrize("name", [n for n in SEQUENTIAL if n != "explore"])
def test_a_keep_of_every_policy_that_pairs_carries_an_e_value(name: str) -> None:
    rng = random.Random(3)

    def draw(arm, seed):
        return rng.gauss(10.0 - 8.0 * (arm is Arm.CANDIDATE), 1.0)

    decision, _, _ = play(open_judge(name), draw, base(10.1, 9.8, 10.3, 9.9))
    assert decision.action is Action.KEEP
    assert decision.evidence.e_value is not None
    assert decision.evidence.e_value > 5


def test_only_runs_that_were_asked_for_as_pairs_count() -> None:
    """A candidate's run that made us look at the incumbent has selected itself."""
    ran = tried(8.0, 5.0, 9.0)  # seeds 1, 2, 3
    assert Look(case(ran, (*base(10.0, 10.0), *again(10.0)))).pairs == [5.0]  # seed 2 only
    early = replace(again(10.0)[0], id=5)  # before the screening run: a refresh
    assert Look(case(ran, (*base(10.0, 10.0), early))).pairs == []


@pytest.mark.parametrize("name", SEQUENTIAL)
@pytest.mark.parametrize("df", [3, 30])
def test_the_level_of_the_e_value_holds_when_sigma_is_estimated(name: str, df: int) -> None:
    """Over ideas that do nothing, E exceeds 20 in at most one of twenty (here: of the tested)."""
    judge = open_judge(name)
    rng = random.Random(11)
    above = tested = 0
    for number in range(2, 1500):
        chi = sum(rng.gauss(0.0, 1.0) ** 2 for _ in range(df))
        noise = Noise(sigma=(chi / df) ** 0.5, df=df)
        incumbent = base(*(rng.gauss(0.0, 1.0) for _ in range(4)))
        decision, _, _ = play(
            judge, lambda arm, seed: rng.gauss(0.0, 1.0), incumbent, noise=noise, number=number
        )
        found = decision.evidence.e_value
        tested += found is not None
        above += found is not None and found >= 20
    assert above <= max(3, 0.05 * tested)


def test_the_ledger_is_in_status_show_report_and_trailers(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", noise=0.0005)
    _, opened = drive(root, Steps([lr(0.03)]), 2)
    history = opened.engine.history
    found = views.status(history, locked=False, now=0.0)
    assert found["certificates"]["certified"] == [2]
    assert "certified  1 of 1 keep at a false discovery rate of 5 %: exp 2" in texts.status(found)
    assert views.row(history.experiments[2], "val_loss")["e_value"] >= 20
    page = report.markdown(history, locked=False, now=0.0, plot=None)
    assert "Certified at a false discovery rate of 5" in page
    trailers = git(root, "log", "-1", "--format=%B", history.experiments[2].commit)
    assert "Nightlab-E-value: " in trailers


def test_on_another_machine_the_noise_is_learnt_anew_before_anything_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_project(tmp_path / "p")
    _, opened = drive(root, Steps([lr(0.03)]), 2)
    path, runs = opened.engine.journal.path, opened.engine.history.last_run_id
    here = devices.describe()
    monkeypatch.setattr(devices, "describe", lambda: here | {"kernel": "9.9"})
    _, opened = drive(root, Steps([lr(0.3)]), 3)
    assert not any(isinstance(e, Warned) for e in read(path))  # a new kernel is no new machine
    old = opened.engine.history.last_run_id
    assert old == runs + 1

    monkeypatch.setattr(devices, "describe", lambda: here | {"cpus": 1000})
    _, opened = drive(root, Steps([lr(0.2)]), 4)
    history = opened.engine.history
    assert "another machine" in history.warnings[0].text
    made = sorted(
        (r for e in history.experiments.values() for r in e.runs if r.id > old),
        key=lambda r: r.id,
    )
    assert [r.purpose for r in made[:4]] == [Purpose.INCUMBENT] * 4
    assert [r.seed for r in made[:4]] == [1, 2, 3, 4]
    assert made[4].purpose is Purpose.SCREEN
    assert history.noise.df == 3
    assert history.experiments[4].decision.evidence.n_incumbent == 4  # type: ignore[union-attr]
