"""The Pareto front of declared metrics: experiments that no other beats in all of them. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from nightlab.history import History
from nightlab.judge import estimate, fair
from nightlab.model import Experiment, Objective, Verdict, values_of
from nightlab.stats import Pool, t_quantile

_SURE = 0.9  # that noise put nothing on the front, over all comparisons with one experiment
_REFUSED = ("guard", "check", "quarantine")


@dataclass(frozen=True)
class Point:
    """An experiment as the front sees it: turned means (higher is better) and runs behind each."""

    experiment: Experiment
    means: tuple[float, ...]
    counts: tuple[int, ...]

    def beats(self, other: Point) -> bool:
        """No worse in any metric and better in one: Pareto dominance of the means."""
        pairs = list(zip(self.means, other.means, strict=True))
        return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def front(history: History) -> dict[str, Any] | None:
    """``{metrics, front, measured}`` for ``[pareto]``; None where none was declared.

    Means leave out the run on which an experiment was screened, where there are others. Crashes,
    and what a guard, a check or the person's quarantine refuses, take no part. ``measured``
    counts the experiments that have every metric. In ``front``, best in the first metric first,
    ``dominated_within_noise_by`` is the best measured experiment that may be as good in all of
    them: it is better in one, and this one is clearly better in none (None: no such).
    """
    declared = history.study.pareto
    if not declared:
        return None
    points = _points(history, declared)
    noise = [_noise(history, one.metric) for one in declared]
    kept: list[Point] = []
    for point in points:
        if not any(other.beats(point) for other in kept):
            kept = [other for other in kept if not point.beats(other)]
            kept.append(point)
    kept.sort(key=lambda p: (*(-m for m in p.means), p.experiment.number))
    return {
        "metrics": [{"name": m.metric, "better": m.better.value} for m in declared],
        "measured": len(points),
        "front": [_shown(history, point, points, noise) for point in kept],
    }


def _points(history: History, declared: tuple[Objective, ...]) -> list[Point]:
    found = []
    for experiment in history.settled():
        decision = experiment.decision
        if experiment.verdict is Verdict.CRASH or (decision and decision.rule in _REFUSED):
            continue
        means = [estimate(experiment.runs, one.metric) for one in declared]
        turned = tuple(
            one.better.sign * mean
            for one, mean in zip(declared, means, strict=True)
            if mean is not None
        )
        if len(turned) < len(declared):
            continue
        counts = tuple(
            len(values_of(fair(experiment.runs), one.metric))
            or len(values_of(experiment.runs, one.metric))
            for one in declared
        )
        found.append(Point(experiment, turned, counts))
    return found


def _noise(history: History, metric: str) -> tuple[float, int] | None:
    """(sigma, df) of one run's metric, pooled over every code that ran more than once."""
    pool = Pool()
    for experiment in history.experiments.values():
        for value in values_of(experiment.runs, metric):
            pool.add(experiment.number, value)
    return None if pool.sigma is None else (pool.sigma, pool.df)


def _shown(
    history: History, point: Point, points: list[Point], noise: list[tuple[float, int] | None]
) -> dict[str, Any]:
    experiment, declared = point.experiment, history.study.pareto
    rivals = [
        other
        for other in points
        if other is not point and _may_dominate(other, point, noise, len(points))
    ]
    rival = max(rivals, key=lambda o: (min(o.counts), -o.experiment.number), default=None)
    return {
        "experiment": experiment.number,
        "commit": experiment.commit,
        "ref": f"refs/nightlab/{history.study.tag}/{experiment.number}",
        "verdict": experiment.verdict.value if experiment.verdict else None,
        "description": experiment.claim.description,
        "values": {
            one.metric: one.better.sign * mean
            for one, mean in zip(declared, point.means, strict=True)
        },
        "runs": min(point.counts),
        "dominated_within_noise_by": rival.experiment.number if rival else None,
    }


def _may_dominate(
    other: Point, point: Point, noise: list[tuple[float, int] | None], count: int
) -> bool:
    """Whether noise leaves it open that ``other``, at least as well measured, dominates."""
    if (min(other.counts), -other.experiment.number) < (
        min(point.counts),
        -point.experiment.number,
    ):
        return False
    if not any(theirs > mine for theirs, mine in zip(other.means, point.means, strict=True)):
        return False
    rows = zip(point.means, other.means, point.counts, other.counts, noise, strict=True)
    for mine, theirs, n_mine, n_theirs, known in rows:
        if known is None or known[1] < 1:
            if mine > theirs:
                return False  # nothing is known of the noise: the numbers as they are
            continue
        sigma, df = known
        # Bonferroni: one experiment is compared with all others.
        sure = t_quantile(1.0 - (1.0 - _SURE) / max(count - 1, 1), df)
        if mine - theirs > sure * sigma * math.sqrt(1.0 / n_mine + 1.0 / n_theirs):
            return False
    return True
