"""What forbids a claim though the numbers are good: the study's guards and checks."""

from __future__ import annotations

from nightlab.final.state import Finalization
from nightlab.final.values import BASELINE, CLEANED, Stage, Turn
from nightlab.judge import Case, veto
from nightlab.model import Outcome


def unchecked(f: Finalization) -> tuple[Turn, ...]:
    """The next check of the cleaned tree, if one is left and none has failed."""
    turns = (Turn(Stage.CHECK, CLEANED, n) for n in range(1, len(f.plan.checks) + 1))
    left = [turn for turn in turns if turn not in f.measured]
    return () if failed_check(f) else tuple(left[:1])


def failed_check(f: Finalization) -> str:
    """Which check the cleaned tree fails, and how; "" for none."""
    for turn, run in f.measured.items():
        if turn.stage is Stage.CHECK and run.outcome is not Outcome.OK:
            return f"check {f.plan.checks[turn.seed - 1]} fails: {run.detail}"
    return ""


def broken_guard(f: Finalization, stage: Stage, arm: str) -> str:
    """The guard that an arm breaks in a stage's fresh runs; "" where it breaks none."""
    mine, its = (
        tuple(
            run
            for seed in f.plan.seeds_of(stage)
            if (run := f.measured.get(Turn(stage, one, seed))) and run.outcome is Outcome.OK
        )
        for one in (arm, BASELINE)
    )
    case = Case(
        number=f.plan.experiment,
        objective=f.plan.objective,
        candidate=mine,
        baseline=its,
        guards=f.plan.guards,
    )
    return veto(case) or "" if mine and its else ""
