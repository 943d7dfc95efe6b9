"""What the progress plot shows, in the metric's own values. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nightlab.history import History
from nightlab.model import Experiment
from nightlab.report import claims
from nightlab.report.schema import LEVEL, Drift, Estimate, Noise, Stretch
from nightlab.stats import t_quantile


@dataclass(frozen=True)
class Scene:
    """One study as it is drawn. ``points`` are the settled experiments with their estimates.

    ``drift`` is, for each incumbent that ran again later, the line that its re-runs follow: their
    own mean, and the slope over time that all re-runs have in common (``drifted``).
    """

    history: History
    metric: str
    sign: float  # +1 where higher is better
    noise: Noise
    points: list[tuple[Experiment, float | None]]  # settled, and their value
    chain: list[Experiment]
    levels: list[Estimate]
    xs: list[int]  # where each incumbent of ``chain`` begins
    last: int  # the highest experiment number
    low: float
    high: float
    phases: tuple[Stretch, ...]
    drifted: Drift | None
    drift: list[list[tuple[float, float]]]

    def inside(self, value: float) -> bool:
        return self.low <= value <= self.high

    @property
    def pad(self) -> float:
        """Room left of the first experiment and right of the last."""
        return max(0.6, 0.015 * self.last)

    @property
    def worse(self) -> float:
        """The edge of the axis where bad values lie."""
        return self.low if self.sign > 0 else self.high


def scene_of(history: History, phases: Sequence[Stretch] = ()) -> Scene:
    """Everything that the plot needs of a study; ``phases`` as they went."""
    metric, sign = history.study.objective.metric, history.study.objective.better.sign
    chain = claims.lineage(history)
    levels = [claims.estimated(e, metric) for e in chain]
    xs: list[int] = []
    for experiment in chain:  # two slots may settle out of order: the line never goes back
        xs.append(max(experiment.number, xs[-1] if xs else 1))
    noise = claims.noise(history)
    points = [(e, claims.estimated(e, metric).mean) for e in history.settled()]
    drifted = claims.drift(history)
    low, high = _limits([v for _, v in points if v is not None], levels, noise, sign)
    return Scene(
        history=history,
        metric=metric,
        sign=sign,
        noise=noise,
        points=points,
        chain=chain,
        levels=levels,
        xs=xs,
        last=max(history.experiments, default=1),
        low=low,
        high=high,
        phases=tuple(phases),
        drifted=drifted,
        drift=[] if drifted is None else _drift(chain, metric, sign * drifted.per_hour),
    )


def half_width(level: Estimate, noise: Noise) -> float:
    """Half of the interval of one incumbent's mean; 0 where noise is nil or unknown."""
    if not noise.sigma or noise.df < 1 or not level.n:
        return 0.0
    return t_quantile(0.5 + LEVEL / 2, noise.df) * noise.sigma / math.sqrt(level.n)


def _drift(
    chain: Sequence[Experiment], metric: str, per_hour: float
) -> list[list[tuple[float, float]]]:
    """(experiment, value) along each incumbent's re-runs, where there were any later ones."""
    lines = []
    for _, runs in claims.reruns(chain, metric):
        if len({r.occasion for r in runs}) < 2:
            continue
        hours = [r.started_at / 3600.0 for r in runs]
        middle = math.fsum(hours) / len(runs)
        mean = math.fsum(r.metrics[metric] for r in runs) / len(runs)
        at = {r.occasion: mean + per_hour * (h - middle) for r, h in zip(runs, hours, strict=True)}
        lines.append([(float(x), at[x]) for x in sorted(at)])
    return lines


def _limits(
    tried: Sequence[float], levels: Sequence[Estimate], noise: Noise, sign: float
) -> tuple[float, float]:
    """The axis: all of the incumbents and the better side, and most of the worse side.

    The worse side ends at the 90 % quantile of what was tried, and at most one and a half
    times the incumbents' own range beyond the baseline: one disaster must not flatten a night.
    """
    values = sorted(sign * v for v in tried)
    means = [sign * e.mean for e in levels if e.mean is not None]
    sigma = noise.sigma or 0.0
    core = means or values or [0.0]
    bottom, top = min(core) - 2.5 * sigma, max(core) + 2.5 * sigma
    span = top - bottom
    if values:
        top = max(top, min(values[-1], top + span))
        worst = values[math.floor(0.1 * (len(values) - 1))]
        if span > 0:
            worst = max(worst, bottom - 1.5 * span)
        bottom = min(bottom, worst)
    span = (top - bottom) or abs(top) * 0.02 or 1.0
    top += 0.16 * span  # room for the labels, on the empty side
    bottom -= 0.10 * span  # and for the marks at the edge
    return (bottom, top) if sign > 0 else (-top, -bottom)
