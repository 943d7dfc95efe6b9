"""Throughput as a covariate: the machine's doing is taken out, the candidate's is not."""

from __future__ import annotations

import csv
import math
import random
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from nightlab.judge import Case, Noise, open_judge
from nightlab.judge.covariate import adjustment
from nightlab.judge.evidence import Look
from nightlab.judge.slope import common_slope
from nightlab.model import Action, Better, Objective, Purpose
from tests.support import CONFIG, Steps, drive, lr, make_project
from tests.test_judge import LOWER, run

LEDGER = (
    Path(__file__).parents[2] / "shared" / "ledgers" / "derived_h200_default_config_repeats.tsv"
)
PER_STEP = -5.8e-5
SIGMA = 1.2e-4
ONE_RUN = math.hypot(SIGMA, 2.0 * PER_STEP)  # with the steps that differ within an hour


def made(value, steps, *, occasion, experiment=1, id=0, seed=1, purpose=Purpose.INCUMBENT):
    return run(
        value,
        metrics={"num_steps": steps},
        occasion=occasion,
        experiment=experiment,
        id=id,
        seed=seed,
        purpose=purpose,
    )


def slow_night(rng, *, slower=40.0, gain=0.0, faster=0.0, number=9, pairs=1):
    """An incumbent with runs of fast hours, then ``pairs`` beside a candidate on a slow machine.

    The candidate gains ``gain`` by itself and does ``faster`` more steps than the incumbent.
    """

    def loss(steps):
        return 1.0 + PER_STEP * (steps - 1000.0) + rng.gauss(0.0, SIGMA)

    old = []
    for occasion, speed in ((1, 1010.0), (4, 1000.0), (6, 990.0)):
        for _ in range(3):
            steps = speed + rng.gauss(0.0, 2.0)
            old.append(made(loss(steps), steps, occasion=occasion, id=len(old) + 1, seed=len(old)))
    fresh, candidate = [], []
    for i in range(pairs):
        steps = 1000.0 - slower + rng.gauss(0.0, 2.0)
        fresh.append(made(loss(steps), steps, occasion=number, id=200 + i, seed=20 + i))
        steps = 1000.0 - slower + faster + rng.gauss(0.0, 2.0)
        value = loss(steps) - gain
        purpose = Purpose.CONFIRM if i else Purpose.SCREEN
        candidate.append(
            made(
                value,
                steps,
                occasion=number,
                experiment=number,
                id=100 + i,
                seed=20 + i,
                purpose=purpose,
            )
        )
    drift = abs(PER_STEP) * 10.0
    return Case(
        number=number,
        objective=LOWER,
        candidate=tuple(candidate),
        incumbent=(*old, *fresh),
        baseline=tuple(old),
        noise=Noise(sigma=ONE_RUN, df=20, drift=drift),
    )


def test_a_slow_hour_does_not_look_like_a_worse_candidate() -> None:
    rng = random.Random(1)
    with_it = [Look(slow_night(rng)) for _ in range(300)]
    without = [Look(replace(slow_night(rng), covariate="none")) for _ in range(300)]
    assert all(seen.adjusted for seen in with_it)
    assert not any(seen.adjusted for seen in without)
    error = math.sqrt(fmean(seen.effect**2 for seen in with_it))
    plain = math.sqrt(fmean(seen.effect**2 for seen in without))
    assert error < 0.85 * plain
    # And what it says of its own error is true: two-sided 5 % of a known-sigma z.
    beyond = fmean(abs(seen.comparison.z) > 2.1 for seen in with_it)
    assert beyond < 0.09


def test_a_true_speed_up_of_the_candidate_is_not_adjusted_away() -> None:
    """100 more steps are worth .0058; with the machine itself slower by 40 they still are."""
    rng = random.Random(2)
    for slower in (0.0, 40.0):
        effects = [Look(slow_night(rng, slower=slower, faster=100.0)).effect for _ in range(200)]
        assert fmean(effects) == pytest.approx(-PER_STEP * 100.0, rel=0.03)


def test_where_the_incumbents_throughput_did_not_move_nothing_is_adjusted() -> None:
    rng = random.Random(3)
    moved = sum(Look(slow_night(rng, slower=0.0)).adjusted is not None for _ in range(200))
    assert moved < 40  # a t test at 5 %, on runs whose occasions differ a little


@pytest.mark.skipif(not LEDGER.exists(), reason="the real series is not part of the project")
def test_on_the_real_series_the_error_between_sessions_shrinks() -> None:
    """888 runs of unchanged code: old runs of other sessions, one pair in this one."""
    sessions = {}
    with LEDGER.open() as file:
        for row in csv.DictReader(file, delimiter="\t"):
            found = float(row["num_steps"]), float(row["val_bpb"])
            sessions.setdefault(row["session"], []).append(found)
    long = [runs for runs in sessions.values() if len(runs) >= 6]
    rng = random.Random(4)
    adjusted, plain = [], []
    for _ in range(400):
        first, second, now = rng.sample(long, 3)
        old = [
            made(y, x, occasion=occasion, id=10 * occasion + i, seed=i)
            for occasion, runs in ((1, first), (3, second))
            for i, (x, y) in enumerate(rng.sample(runs, 4))
        ]
        at = rng.randrange(len(now) - 1)  # a pair is made back to back
        (x1, y1), (x2, y2) = now[at : at + 2]
        fresh = made(y1, x1, occasion=9, id=200, seed=20)
        candidate = made(y2, x2, occasion=9, experiment=9, id=100, seed=20)
        case = Case(
            number=9,
            objective=LOWER,
            candidate=(candidate,),
            incumbent=(*old, fresh),
            baseline=tuple(old),
            noise=Noise(sigma=SIGMA, df=20, drift=5.7e-4),
        )
        if adjustment(case) is None:
            continue
        adjusted.append(Look(case).effect)
        plain.append(Look(replace(case, covariate="none")).effect)
    assert len(adjusted) > 100
    rms = [math.sqrt(fmean(e * e for e in found)) for found in (adjusted, plain)]
    assert rms[0] < 0.9 * rms[1]


@settings(deadline=None)  # the first case loads scipy
@given(st.floats(1e-6, 1e6), st.floats(1e-3, 1e3), st.booleans())
def test_the_adjustment_does_not_depend_on_scale_or_direction(scale, speed, turned) -> None:
    case = slow_night(random.Random(5))
    sign = -scale if turned else scale

    def moved(runs):
        return tuple(
            replace(
                r,
                metrics={
                    "loss": sign * r.metrics["loss"],
                    "num_steps": speed * r.metrics["num_steps"],
                },
            )
            for r in runs
        )

    other = Case(
        number=case.number,
        objective=Objective("loss", Better.HIGHER) if turned else LOWER,
        candidate=moved(case.candidate),
        incumbent=moved(case.incumbent),
        baseline=moved(case.baseline),
        noise=Noise(sigma=ONE_RUN * scale, df=20, drift=abs(PER_STEP) * 10.0 * scale),
    )
    one, two = Look(case), Look(other)
    assert two.effect == pytest.approx(scale * one.effect, rel=1e-6, abs=1e-9 * scale)
    assert two.comparison.z == pytest.approx(one.comparison.z, rel=1e-6, abs=1e-9)


def test_the_reason_says_what_was_adjusted_and_why() -> None:
    case = slow_night(random.Random(6), gain=0.01, pairs=3)
    decision = open_judge("record").decide(case)
    assert decision.action is Action.KEEP
    assert "the incumbent's own num_steps moved from 999.318 to 960.759" in decision.reason


def test_a_slope_needs_replicates_that_vary() -> None:
    assert common_slope([[(1.0, 2.0)], [(2.0, 3.0)]]) is None
    assert common_slope([[(1.0, 2.0), (1.0, 3.0), (1.0, 2.5), (1.0, 2.6), (1.0, 2.7)]]) is None
    # Two codes at different levels: what lies between them is no slope.
    found = common_slope([[(0, 0.0), (1, 1.1), (2, 1.9)], [(50, -100.0), (51, -99.1), (52, -98.0)]])
    assert found is not None
    assert found.b == pytest.approx(1.0, abs=0.1)
    assert found.df == 3


def test_key_judge_covariate_names_the_metric(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", toml=CONFIG, more='[judge]\ncovariate = "speed"\n')
    _, opened = drive(root, Steps([lr(0.03)]), 1)
    assert opened.engine.case(1).covariate == "speed"
    named = replace(slow_night(random.Random(7)), covariate="num_steps")
    assert adjustment(named) is not None
    assert adjustment(replace(named, covariate="speed")) is None
