"""Checks by exit code: asked for when a keep is near, never measurements, never storms."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nightlab import report, views
from nightlab.errors import ConfigError
from nightlab.events import RunFinished
from nightlab.journal import read
from nightlab.judge import Case, checks, open_judge
from nightlab.model import Action, Decision, Outcome, Purpose, Verdict
from tests.support import CONFIG, Steps, drive, lr, make_project
from tests.test_judge import LOWER, run

PY = sys.executable
NO_TWO = f'{PY} -c \'import sys; print(\\"looking\\"); sys.exit(\\"LR = 0.02\\" in open(\\"train.py\\").read())\''


def toml(command: str, name: str = "tests") -> str:
    return CONFIG + f'[judge]\nuse = "greedy"\n[checks]\n{name} = "{command}"\n'


def test_key_checks_refuse_a_keep_and_let_another_through(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", toml=toml(NO_TWO))
    _, opened = drive(root, Steps([lr(0.02), lr(0.045), lr(0.3)]), 4)
    history = opened.engine.history
    refused, kept, worse = (history.experiments[n] for n in (2, 3, 4))
    assert refused.verdict is Verdict.DISCARD
    assert refused.decision is not None
    assert refused.decision.rule == "check"
    assert "check tests fails: looking" in refused.decision.reason
    assert kept.verdict is Verdict.KEEP
    assert [c.outcome for c in kept.checks] == [Outcome.OK]
    assert worse.checks == ()  # it was not near a keep
    assert all(c.purpose is Purpose.CHECK and not c.metrics for c in refused.checks)
    # No measurement: not in the runs, not in the noise, not a crash.
    assert history.runs == 4
    assert history.noise.df == 0
    assert history.crashes_in_a_row == 0
    page = report.markdown(history, locked=False, now=0.0, plot=None)
    assert "refused 1 (exp 2)" in page
    assert views.row(refused, "val_loss")["checks"] == {"tests": "crashed"}


def test_a_baseline_that_fails_its_check_ends_the_study_before_any_run(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", toml=toml("echo one test failed; exit 3"))
    ending, opened = drive(root, Steps([lr(0.03)]), 3)
    assert ending.reason == "baseline"
    assert "check tests fails: one test failed" in ending.detail
    assert opened.engine.history.runs == 0


def test_a_check_that_does_not_end_is_a_failure(tmp_path: Path) -> None:
    slow = f'{PY} -c \'import time; time.sleep(60 * (\\"LR = 0.03\\" in open(\\"train.py\\").read()))\''
    text = toml(slow).replace('"10s"', '"1s"')
    root = make_project(tmp_path / "p", toml=text)
    _, opened = drive(root, Steps([lr(0.03)]), 2)
    experiment = opened.engine.history.experiments[2]
    assert experiment.verdict is Verdict.DISCARD
    assert experiment.checks[0].outcome is Outcome.TIMED_OUT
    assert "deadline" in experiment.decision.reason  # type: ignore[union-attr]


def test_a_check_may_not_change_what_is_sealed(tmp_path: Path) -> None:
    command = "grep -q 'LR = 0.1' train.py || echo x > prepare.py"
    root = make_project(tmp_path / "p", toml=toml(command) + '[sandbox]\nuse = "process"\n')
    _, opened = drive(root, Steps([lr(0.03)]), 2)
    reason = opened.engine.history.experiments[2].decision.reason  # type: ignore[union-attr]
    assert "prepare.py, which is sealed" in reason


def test_its_runs_are_in_the_journal_with_their_purpose(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", toml=toml("true"))
    _, opened = drive(root, Steps([lr(0.03)]), 2)
    path = opened.engine.journal.path
    runs = [e.run for e in read(path) if isinstance(e, RunFinished)]
    assert [r.check for r in runs] == ["tests", "", "", "tests"]
    assert [r.purpose for r in runs if r.check] == [Purpose.CHECK] * 2


@pytest.mark.parametrize("more", ['"a b" = "true"', "tests = 5", 'tests = " "'])
def test_what_is_no_check_is_refused(tmp_path: Path, more: str) -> None:
    root = make_project(tmp_path / "p", more=f"[checks]\n{more}\n")
    with pytest.raises(ConfigError, match="checks"):
        drive(root, Steps([lr(0.03)]), 1)


def test_checks_are_asked_one_by_one_and_change_no_other_decision() -> None:
    keep = Decision(action=Action.KEEP, rule="confirmed", reason="better")
    passed = run(None, outcome=Outcome.OK, check="a")
    one = checks.review(keep, Case(2, LOWER, checks=("a", "b")))
    assert [w.check for w in one.wants] == ["a"]
    two = checks.review(keep, Case(2, LOWER, checks=("a", "b"), checked=(passed,)))
    assert [w.check for w in two.wants] == ["b"]
    both = (passed, run(None, outcome=Outcome.OK, check="b"))
    assert checks.review(keep, Case(2, LOWER, checks=("a", "b"), checked=both)) is keep
    for action in (Action.DISCARD, Action.INCONCLUSIVE, Action.CRASH):
        other = Decision(action=action, rule="x", reason="y")
        assert checks.review(other, Case(2, LOWER, checks=("a",))) is other
    first = checks.review(open_judge().decide(Case(1, LOWER)), Case(1, LOWER, checks=("a",)))
    assert [w.check for w in first.wants] == ["a"]
