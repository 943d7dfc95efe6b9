"""Early stop: what a run prints on its way, what a gap means, and how wrong it is."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightlab import curves, early
from nightlab.cli import texts
from nightlab.curves import POINTS, Track
from nightlab.early import CHECKS, Lessons, Sample
from nightlab.model import (
    Better,
    Claim,
    Curve,
    Early,
    Experiment,
    Objective,
    Outcome,
    Purpose,
    Run,
    Verdict,
)
from tests.support import Steps, drive, make_project

LOSS = Objective("loss", Better.LOWER)


# -- reading


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"step 00010 (3.2%) | loss: 5.25 | lrm: 1.00 | dt: 300ms\r", 5.25),
        (b"epoch 3/10 loss=0.5 acc=0.9\n", 0.5),
        (b"METRIC loss=-1.5e-3\n", -0.0015),
        (b"[iter 7] train_loss: 9, loss: 4\n", 4.0),
    ],
)
def test_values_on_lines_of_a_step_are_read(line: bytes, value: float) -> None:
    track = Track()
    track.feed(line, 1.0)
    track.feed(line, 2.0)
    curve = track.curve(["loss"])
    assert curve is not None
    assert curve.points == ((1.0, value), (2.0, value))


@pytest.mark.parametrize(
    "line",
    [
        b"loss: 5.25\n",  # a summary, not a step
        b"step 3 loss: nan\n",
        b"step 3 loss: 1_0\n",
        b"step 3 xloss: 5\n",
        b"step 3 loss: \xd9\xa3\n",
        b"step 3 loss: 5",  # not ended yet
        b"step 3 loss: 1e999\n",
    ],
)
def test_nothing_else_is_a_point(line: bytes) -> None:
    track = Track()
    track.feed(line, 1.0)
    track.feed(b"", 2.0)
    track.feed(b"", 3.0)
    assert track.curve(["loss"]) is None


@given(st.lists(st.binary(max_size=200), max_size=30))
def test_any_bytes_may_come(parts: list[bytes]) -> None:
    track = Track()
    for second, part in enumerate(parts):
        track.feed(part, float(second))


def test_a_line_that_comes_in_two_parts_is_one_line() -> None:
    track = Track()
    track.feed(b"step 1 loss: 1.", 1.0)
    track.feed(b"5\nstep 2 loss: 1.25\n", 2.0)
    track.feed(b"step 3 loss: 1\n", 3.0)
    curve = track.curve(["loss"])
    assert curve is not None
    assert curve.points == ((2.0, 1.25), (3.0, 1.0))  # of what came at once, the last


def test_a_million_steps_make_a_short_curve_from_the_first_to_the_last() -> None:
    track = Track()
    for step in range(20_000):
        track.feed(b"step %d loss: %d\n" % (step, 20_000 - step), step / 10)
    curve = track.curve(["loss"])
    assert curve is not None
    assert len(curve.points) == POINTS
    assert curve.points[0] == (0.0, 20_000.0)
    assert curve.points[-1] == (1999.9, 1.0)
    assert list(curve.points) == sorted(curve.points)
    for name in range(1000):
        track.feed(b"step 1 m%d: 1\n" % name, 2000.0)  # many names cost no memory
    assert len(track._seen) <= 16


def test_the_first_name_that_was_printed_counts_and_time_reads_the_last_value() -> None:
    track = Track()
    for second in (1.0, 2.0):
        track.feed(b"step 1 train_loss: %d acc: 0.5\n" % second, second)
    assert track.curve(["val", "acc", "train_loss"]) == Curve("acc", ((1.0, 0.5), (2.0, 0.5)))
    curve = Curve("x", ((1.0, 5.0), (2.0, 6.0)))
    assert [curves.at(curve, t) for t in (0.5, 1.0, 1.9, 9.0)] == [None, 5.0, 5.0, 6.0]


# -- the rule


def run(value: float | None, path: Curve | None, **more: object) -> Run:
    fields = {
        "id": 1, "experiment": 2, "occasion": 2, "purpose": Purpose.SCREEN, "commit": "c",
        "seed": 1, "device": "cpu", "outcome": Outcome.OK if value is not None else Outcome.CRASHED,
        "metrics": {} if value is None else {"loss": value}, "duration_s": 10.0, "curve": path,
    }  # fmt: skip
    return Run(**(fields | more))  # type: ignore[arg-type]


def line(end: float, noise: float, rng: random.Random) -> Curve:
    """A loss that falls to ``end``, the closer the later."""
    shares = [i / 20 for i in range(1, 21)]
    return Curve(
        "loss",
        tuple((10.0 * f, end + 3.0 * (1 - f) + noise * (1 - f) * rng.gauss(0, 1)) for f in shares),
    )


def experiment(number: int, runs: tuple[Run, ...], verdict: Verdict) -> Experiment:
    claim = Claim(description="x")
    return Experiment(
        number=number, parent="p", commit="c", claim=claim, runs=runs, verdict=verdict
    )


def taught(
    noise: float, finished: int = 40, better: Better = Better.LOWER
) -> tuple[Lessons, Experiment]:
    rng = random.Random(5)
    base = experiment(1, tuple(run(1.0, line(1.0, noise, rng)) for _ in range(4)), Verdict.KEEP)
    lessons = Lessons()
    for _ in range(finished):
        end = 1.0 + rng.gauss(0.3, 0.5)
        settled = experiment(2, (run(end, line(end, noise, rng)),), Verdict.DISCARD)
        lessons.take(settled, base, Objective("loss", better))
    return lessons, base


def test_a_run_far_behind_is_given_up_and_one_that_leads_is_not() -> None:
    lessons, base = taught(noise=0.2)
    rng = random.Random(6)
    behind, ahead = line(2.5, 0.2, rng), line(0.5, 0.2, rng)
    low = early.chance(lessons, behind, base.runs, 5.0)
    high = early.chance(lessons, ahead, base.runs, 5.0)
    assert low is not None
    assert high is not None
    assert low < 0.01
    assert high > 0.9
    found = early.find(lessons, behind, base.runs, 5.0, level=0.1, audited=False)
    assert found is not None
    assert found.chance == low
    assert early.find(lessons, ahead, base.runs, 5.0, level=0.1, audited=False) is None


def test_the_curves_direction_is_learnt_not_guessed() -> None:
    lessons, base = taught(noise=0.2, better=Better.HIGHER)
    rng = random.Random(6)
    low = early.chance(lessons, line(0.2, 0.2, rng), base.runs, 5.0)
    high = early.chance(lessons, line(2.5, 0.2, rng), base.runs, 5.0)
    assert low is not None
    assert high is not None
    assert low < 0.05
    assert high > 0.9


def test_nothing_is_given_up_before_enough_was_learnt_or_where_curves_say_nothing() -> None:
    rng = random.Random(6)
    few, base = taught(noise=0.2, finished=11)
    behind = line(3.0, 0.2, rng)
    assert early.chance(few, behind, base.runs, 5.0) is None
    blind, base = taught(noise=50.0)
    assert early.chance(blind, behind, base.runs, 3.0) is None
    lessons, base = taught(noise=0.2)
    assert early.chance(lessons, behind, base.runs, 1.9) is None  # before the first check
    assert early.chance(lessons, Curve("other", behind.points), base.runs, 5.0) is None
    assert early.chance(lessons, behind, (), 5.0) is None


def test_shorter_code_is_held_to_less() -> None:
    lessons, base = taught(noise=0.2)
    curve = line(1.6, 0.2, random.Random(6))
    plain = early.find(lessons, curve, base.runs, 5.0, level=0.1, audited=False, sigma=1.0)
    simpler = early.find(
        lessons, curve, base.runs, 5.0, level=0.1, audited=False, sigma=1.0, simpler=True
    )
    assert plain is not None
    assert simpler is None


def test_one_diverged_run_is_not_the_regression() -> None:
    lessons, base = taught(noise=0.2)
    curve = line(0.9, 0.2, random.Random(6))
    before = early.chance(lessons, curve, base.runs, 5.0)
    wild = Sample(name="loss", gaps=(1e9,) * len(CHECKS), effect=-1e9)
    lessons.samples.append(wild)
    after = early.chance(lessons, curve, base.runs, 5.0)
    assert before is not None
    assert after is not None
    assert abs(before - after) < 0.2


def test_the_stated_level_is_held_where_the_model_is_true() -> None:
    """Of runs whose chance is said to be below 10 %, no more than that end better."""
    lessons, base = taught(noise=0.5, finished=60)
    rng = random.Random(7)
    wrong = stopped = 0
    for _ in range(600):
        end = 1.0 + rng.gauss(0.3, 0.5)
        chance = early.chance(lessons, line(end, 0.5, rng), base.runs, 4.0)
        assert chance is not None
        if chance < 0.1:
            stopped += 1
            wrong += end < 1.0
    assert stopped > 100
    assert wrong / stopped < 0.1


# -- the audit


def test_the_books_tell_stopped_audited_and_wrong() -> None:
    _, base = taught(noise=0.2)
    lessons = Lessons()
    stopped = run(None, None, outcome=Outcome.HOPELESS, duration_s=4.0,
                  early=Early(at_s=4.0, chance=0.01, audited=False))  # fmt: skip
    lessons.take(experiment(2, (stopped,), Verdict.DISCARD), base, LOSS)
    went_on = run(0.5, None, early=Early(at_s=4.0, chance=0.01, audited=True))
    lessons.take(experiment(3, (went_on,), Verdict.KEEP), base, LOSS)
    lessons.take(experiment(4, (went_on,), Verdict.DISCARD), base, LOSS)
    assert (lessons.stopped, lessons.audited, lessons.wrong) == (1, 2, 1)
    assert lessons.saved_s == 6.0
    assert not lessons.samples  # no curve, no lesson


def test_a_rule_that_the_audit_refutes_stops_nothing_more() -> None:
    lessons, base = taught(noise=0.2)
    behind = line(3.0, 0.2, random.Random(6))
    lessons.audited, lessons.wrong = 20, 2
    assert early.find(lessons, behind, base.runs, 5.0, level=0.1, audited=False) is not None
    lessons.wrong = 7
    assert lessons.refuted(0.1)
    assert early.find(lessons, behind, base.runs, 5.0, level=0.1, audited=False) is None


def test_the_lot_is_the_same_again_and_has_the_share() -> None:
    drawn = [early.drawn("nov21", i, 0.1) for i in range(5000)]
    assert drawn == [early.drawn("nov21", i, 0.1) for i in range(5000)]
    assert 0.08 < sum(drawn) / 5000 < 0.12
    assert not any(early.drawn("nov21", i, 0.0) for i in range(100))


# -- a whole study

TRAIN = """\
import os, random, time

LR = 0.1

rng = random.Random(int(os.environ["NIGHTLAB_SEED"]))
end = 1.0 + abs(LR - 0.1) + rng.gauss(0, 0.01)
for step in range(20):
    time.sleep(0.02)
    print(f"step {step:03d} | loss: {end + (19 - step) / 19:.4f}", flush=True)
print("---")
print(f"loss: {end:.6f}")
"""
TOML = """\
[study]
command = "{python} train.py"
edit = ["train.py"]
budget = "1s"

[objective]
metric = "loss"
better = "lower"

[judge]
early_audit = 0.0
"""


def lrs(values: list[float]) -> Steps:
    def to(value: float):
        return lambda text: "\n".join(
            f"LR = {value}" if x.startswith("LR = ") else x for x in text.split("\n")
        )

    return Steps([to(v) for v in values])


def test_a_study_learns_its_curves_and_stops_the_hopeless(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", train=TRAIN, toml=TOML)
    rng = random.Random(1)
    values = [round(0.1 + rng.uniform(0.02, 0.6), 3) for _ in range(13)] + [1.91, 1.92]
    _, opened = drive(root, lrs(values), 16)
    history = opened.engine.history
    last = history.experiments[16]
    assert last.verdict is Verdict.DISCARD
    assert last.decision is not None
    assert last.decision.rule == "early"
    first = last.runs[0]
    assert first.outcome is Outcome.HOPELESS
    assert first.early is not None
    assert not first.early.audited
    usual = early.usual_s(history.experiments[1].runs)
    assert first.duration_s < usual
    assert "its chance to end better" in last.decision.reason
    assert history.early.stopped >= 1
    assert history.counts.crash == 0
    assert history.experiments[3].runs[0].curve is None  # in memory no longer …
    assert history.experiments[1].runs[0].curve is not None  # … but for the incumbent's

    from nightlab import report, views
    from nightlab.history import fold
    from nightlab.journal import read

    again = fold(read(opened.engine.paths.journal(history.study.tag)))
    assert again.early.stopped == history.early.stopped
    found = views.status(again, locked=False, now=0.0)
    assert found["early_stop"]["stopped"] >= 1
    assert any(x.startswith("stopped    ") and "hopeless run" in x for x in texts.status(found))
    page = report.markdown(again, locked=False, now=again.last_at)
    assert "stopped early gave back" in page
