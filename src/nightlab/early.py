"""Early stop: is this run still worth its time? Pure.

A candidate's first run is compared, at a few fixed times, with the incumbent's own curves at
the same elapsed time. What such a gap means is learned from this study's finished runs: a
regression of their effect (in the objective, on the incumbent of their time) on their gap at
that time. The chance that the finished run would beat the incumbent at all, which is more
than the chance of a keep, follows from the regression's predictive t distribution (Draper &
Smith, Applied Regression Analysis, section 1.4). Below a stated level the run is stopped; a
random share of those runs on all the same, so that the rate of wrong stops is measured.

Runs that were stopped have no effect and teach nothing; that leaves out candidates by their
gap, the regressor, which does not bias a regression.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from statistics import fmean, median

from nightlab import curves
from nightlab.model import (
    Action,
    Curve,
    Decision,
    Early,
    Experiment,
    Objective,
    Outcome,
    Purpose,
    Run,
    Value,
    Verdict,
    values_of,
)
from nightlab.stats import t_cdf

CHECKS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # of the incumbent's usual time
RULE = "early"
_LEARN = 12  # finished runs before a gap means anything
_REMEMBER = 120
_CORRELATION = 0.6  # below, the curve says too little of the end
_CLIP = 4.0  # times the median size: one diverged run must not be the regression
_PROOF = 0.05  # of the audit: as unlikely as this, and the rule has shown to be wrong


class Sample(Value, frozen=True):
    """A finished run: its gap to the incumbent's curve at each of CHECKS, and its effect."""

    name: str
    gaps: tuple[float | None, ...]
    effect: float


class Lessons:
    """What finished runs have taught, and how often the rule was right. Only ``take`` changes it.

    ``stopped`` runs were ended early, which saved ``saved_s`` seconds; ``audited`` ones would
    have been and ran on, ``wrong`` of those became keeps.
    """

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.stopped = 0
        self.audited = 0
        self.wrong = 0
        self.saved_s = 0.0

    def take(self, experiment: Experiment, incumbent: Experiment, objective: Objective) -> None:
        """Learn of a settled experiment, held against the incumbent of its time."""
        first = next((r for r in experiment.runs if r.purpose is Purpose.SCREEN), None)
        if first is None or (first.early is None and first.curve is None):
            return
        usual = usual_s(incumbent.runs)
        if first.early is not None:
            self.audited += first.early.audited
            self.wrong += first.early.audited and experiment.verdict is Verdict.KEEP
            if not first.early.audited:
                self.stopped += 1
                self.saved_s += max(0.0, usual - first.duration_s)
        value = values_of((first,), objective.metric)
        theirs = values_of(incumbent.runs, objective.metric)
        if not value or not theirs or first.curve is None:
            return
        gaps = tuple(gap(first.curve, incumbent.runs, share * usual) for share in CHECKS)
        effect = objective.better.sign * (value[0] - fmean(theirs))
        if any(g is not None for g in gaps):
            sample = Sample(name=first.curve.name, gaps=gaps, effect=effect)
            self.samples = [*self.samples[1 - _REMEMBER :], sample]

    def summary(self) -> dict[str, float]:
        """For ``nightlab status``."""
        return {
            "stopped": self.stopped,
            "saved_seconds": round(self.saved_s, 3),
            "audited": self.audited,
            "wrong": self.wrong,
        }

    def refuted(self, level: float) -> bool:
        """Whether the audit has shown that more is stopped wrongly than ``level`` allows."""
        tail = sum(
            math.comb(self.audited, k) * level**k * (1.0 - level) ** (self.audited - k)
            for k in range(self.wrong, self.audited + 1)
        )
        return self.wrong > 1 and tail < _PROOF


def usual_s(runs: Sequence[Run]) -> float:
    """The time that the incumbent's runs take; 0 where none ended well."""
    times = [r.duration_s for r in runs if r.outcome is Outcome.OK]
    return median(times) if times else 0.0


def passed(usual: float, elapsed_s: float) -> int:
    """How many of CHECKS lie behind a run, by the incumbent's usual time; 0 without one."""
    return sum(share * usual <= elapsed_s for share in CHECKS) if usual else 0


def gap(curve: Curve, incumbent: Sequence[Run], elapsed_s: float) -> float | None:
    """The curve minus the mean of the incumbent's own at that time; None where either is blank."""
    mine = curves.at(curve, elapsed_s)
    own = [r.curve for r in incumbent if r.curve is not None and r.curve.name == curve.name]
    theirs = [v for c in own if (v := curves.at(c, elapsed_s)) is not None]
    return None if mine is None or not theirs else mine - fmean(theirs)


def chance(
    lessons: Lessons, curve: Curve, incumbent: Sequence[Run], elapsed_s: float, needed: float = 0.0
) -> float | None:
    """The chance that the run ends with an effect above ``needed``; None while it is not known.

    ``elapsed_s`` should be one of CHECKS times the incumbent's usual time, or shortly after.
    """
    usual = usual_s(incumbent)
    check = passed(usual, elapsed_s) - 1
    if check < 0:
        return None
    mine = gap(curve, incumbent, CHECKS[check] * usual)
    pairs = [
        (g, s.effect)
        for s in lessons.samples
        if s.name == curve.name and (g := s.gaps[check]) is not None
    ]
    if mine is None or len(pairs) < _LEARN:
        return None
    return _predict([g for g, _ in pairs], [e for _, e in pairs], mine, needed)


def find(
    lessons: Lessons,
    curve: Curve | None,
    incumbent: Sequence[Run],
    elapsed_s: float,
    *,
    level: float,
    audited: bool,
    simpler: bool = False,
    sigma: float | None = None,
) -> Early | None:
    """What to note of a run in flight: that its chance is below ``level``; None while it is not.

    Shorter code is kept when it is no worse, so it is held to one ``sigma`` less.
    """
    if curve is None or lessons.refuted(level):
        return None
    needed = -(sigma or 0.0) if simpler else 0.0
    found = chance(lessons, curve, incumbent, elapsed_s, needed)
    if found is None or found >= level:
        return None
    return Early(at_s=round(elapsed_s, 3), chance=found, audited=audited)


def _predict(
    gaps: Sequence[float], effects: Sequence[float], mine: float, needed: float
) -> float | None:
    x, limit = _clipped(gaps)
    y, most = _clipped(effects)
    mine = max(-limit, min(limit, mine))
    n, mean_x, mean_y = len(x), fmean(x), fmean(y)
    sxx = math.fsum((v - mean_x) ** 2 for v in x)
    syy = math.fsum((v - mean_y) ** 2 for v in y)
    sxy = math.fsum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    if not sxx or not syy or sxy * sxy < _CORRELATION**2 * sxx * syy or abs(needed) > most:
        return None
    slope = sxy / sxx
    rest = max(syy - slope * sxy, 0.0) / (n - 2)
    spread = math.sqrt(rest * (1.0 + 1.0 / n + (mine - mean_x) ** 2 / sxx))
    expected = mean_y + slope * (mine - mean_x)
    if not spread:
        return float(expected > needed)
    return 1.0 - t_cdf((needed - expected) / spread, n - 2)


def _clipped(values: Sequence[float]) -> tuple[list[float], float]:
    limit = _CLIP * median(abs(v) for v in values)
    return [max(-limit, min(limit, v)) for v in values], limit


def drawn(tag: str, run: int, share: float) -> bool:
    """Whether a run that would be stopped is let run on: a lot that a resumed night draws again."""
    return zlib.crc32(f"{tag}:{run}".encode()) < share * 2**32


def given_up(candidate: Sequence[Run]) -> Decision | None:
    """The decision on a candidate whose run was stopped early; None where none was."""
    run = next((r for r in candidate if r.outcome is Outcome.HOPELESS), None)
    if run is None:
        return None
    return Decision(action=Action.DISCARD, rule=RULE, reason=run.detail)


def told(found: Early, name: str) -> str:
    """Why a run was stopped, in a sentence."""
    return (
        f"stopped after {found.at_s:.3g} s: by its {name} so far, its chance to end better than "
        f"the incumbent was {100 * found.chance:.1f} %"
    )
