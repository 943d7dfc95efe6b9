"""Candidate against incumbent: the best linear unbiased estimate of the difference.

A run's value is its code's mean, plus what its seed does to any code (a share ``rho`` of the
variance), plus what the machine did to the incumbent's older runs (``drift``), plus noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from nightlab.model import Value

_DRIFT_GUESS = 0.02  # variance of older runs on top of sigma's, in its units, until measured
_MOST_OLD = 24  # the newest of the incumbent's older runs: more tell nothing new

Runs = Sequence[tuple[int, float]]


class Model(Value, frozen=True):
    """Noise of one run: ``sigma`` (None unknown), ``drift`` (None not measured), ``rho``."""

    sigma: float | None
    drift: float | None = None
    rho: float = 0.0


def contrast(mine: Runs, before: Runs, beside: Runs, model: Model) -> tuple[float, float]:
    """``(candidate - incumbent, variance)`` from (seed, value) runs.

    ``before`` are the incumbent's older runs, ``beside`` those interleaved with the candidate.
    Without a candidate's run the difference is NaN; where sigma is unknown the variance is
    infinite and the means are plain.
    """
    if not mine:
        return math.nan, math.inf
    sigma = model.sigma
    if not sigma:
        gain = _mean(mine) - _mean([*before, *beside])
        return gain, 0.0 if sigma == 0.0 else math.inf
    before = before[-_MOST_OLD:]
    shared = {seed for seed, _ in mine} & {seed for seed, _ in (*before, *beside)}
    if model.rho > 0.0 and shared:
        return _generalised(mine, before, beside, model)
    total = weight = 0.0
    for runs, extra in ((before, _between(model)), (beside, 0.0)):
        if runs:
            precision = 1.0 / (sigma**2 / len(runs) + extra)
            total += precision * _mean(runs)
            weight += precision
    return _mean(mine) - total / weight, sigma**2 / len(mine) + 1.0 / weight


def _generalised(mine: Runs, before: Runs, beside: Runs, model: Model) -> tuple[float, float]:
    """Generalised least squares (Aitken 1936) with a random seed effect and the drift."""
    import numpy as np  # noqa: PLC0415  loaded on use: most studies never need it

    runs = [*mine, *before, *beside]
    old = slice(len(mine), len(mine) + len(before))
    seeds = np.array([seed for seed, _ in runs])
    variance = (model.sigma or 0.0) ** 2
    cov = variance * model.rho * (seeds[:, None] == seeds[None, :])
    cov[np.diag_indices(len(runs))] = variance
    cov[old, old] += _between(model)
    design = np.ones((len(runs), 2))  # the incumbent's mean, and the difference
    design[len(mine) :, 1] = 0.0
    solved = np.linalg.solve(cov, np.column_stack([design, [value for _, value in runs]]))
    information = design.T @ solved[:, :2]
    inverse = np.linalg.inv(information)
    effect = inverse[1] @ (design.T @ solved[:, 2])
    return float(effect), float(inverse[1, 1])


def _between(model: Model) -> float:
    if model.drift is None:
        return _DRIFT_GUESS * (model.sigma or 0.0) ** 2
    return model.drift**2


def _mean(runs: Runs) -> float:
    return math.fsum(value for _, value in runs) / len(runs)
