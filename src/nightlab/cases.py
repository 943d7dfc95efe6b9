"""What the judge may look at: one experiment of a history, its opponent, the noise. Pure."""

from __future__ import annotations

from nightlab.history import History
from nightlab.judge import Case, noise_of
from nightlab.model import Arm, Experiment, Purpose, Run, Want


def of(history: History, number: int, *, covariate: str = "") -> Case:
    """All that the judge may look at for one experiment.

    After a move to another machine only its runs compare, but for the baseline's: guards need one.
    """
    subject = history.experiments[number]
    incumbent = opponent(history, subject)
    baseline, since = history.baseline, history.runs_before_move
    return Case(
        number=number,
        objective=history.study.objective,
        candidate=_counting(subject, since),
        incumbent=_counting(incumbent, since) if incumbent and number > 1 else (),
        baseline=_counting(baseline) if baseline else (),
        guards=history.study.guards,
        noise=noise_of(history.noise),
        lines_added=subject.claim.lines_added,
        lines_removed=subject.claim.lines_removed,
        nodes=subject.claim.nodes,
        since_refresh=history.since_refresh,
        covariate=covariate,
        checks=tuple(history.study.checks),
        checked=tuple(run for run in subject.checks if run.outcome.counts),
    )


def opponent(history: History, subject: Experiment) -> Experiment | None:
    """Whom a candidate is held against: the incumbent it stands on, though that has moved."""
    number = history.kept.get(subject.parent, history.incumbent_number)
    if subject.verdict is not None or number is None:
        return history.incumbent
    return history.experiments[number]


def purpose(number: int, want: Want, subject: Experiment) -> Purpose:
    """Why a run that experiment ``number`` wants of ``subject``'s code is made."""
    if want.check:
        return Purpose.CHECK
    if number == 1:
        return Purpose.BASELINE
    if want.arm is Arm.INCUMBENT:
        return Purpose.INCUMBENT
    return Purpose.CONFIRM if any(r.outcome.counts for r in subject.runs) else Purpose.SCREEN


def _counting(experiment: Experiment, since: int = 0) -> tuple[Run, ...]:
    """Runs that count, of this machine: those with an id above ``since``."""
    return tuple(run for run in experiment.runs if run.outcome.counts and run.id > since)
