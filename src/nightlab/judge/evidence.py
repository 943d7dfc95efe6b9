"""What the runs of a case say: the effect, its error, and the words for it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import structs

from nightlab.judge.case import Case
from nightlab.judge.contrast import Model, contrast
from nightlab.judge.covariate import adjustment
from nightlab.model import (
    Evidence,
    Outcome,
    Purpose,
    Run,
    values_of,
)
from nightlab.stats import Comparison, Pool, e_value, t_quantile

LEVEL = 0.9  # of the intervals in Evidence
_NOT_WORSE = 0.9  # probability at which a simpler change counts as not worse
_FLATTERY = 1.0  # what the run that an incumbent was kept for exceeds its value by, in sigma


def fair(runs: Sequence[Run]) -> list[Run]:
    """The runs that did not select their experiment: all but the screening run."""
    return [run for run in runs if run.purpose is not Purpose.SCREEN]


def measured(runs: Sequence[Run], metric: str) -> list[tuple[int, float]]:
    """(seed, value) of the runs that ended well and printed the metric."""
    return [
        (run.seed, run.metrics[metric])
        for run in runs
        if run.outcome is Outcome.OK and metric in run.metrics
    ]


def estimate(runs: Sequence[Run], metric: str) -> float | None:
    """The mean of the metric over the runs, without the bias of selection; None without a run.

    The run on which a candidate was screened is left out where others exist: it was the
    reason to look further, so on average it flatters.
    """
    values = values_of(fair(runs), metric) or values_of(runs, metric)
    return _mean(values) if values else None


class Look:
    """One look at a case that has at least one value of the incumbent.

    ``effect`` is the candidate minus the incumbent (``judge.contrast``), positive is better. An
    incumbent known only from the run that selected it is taken to be worse than that run.
    """

    def __init__(self, case: Case) -> None:
        metric = case.objective.metric
        sign = case.objective.better.sign
        fresh = [run for run in case.incumbent if run.occasion == case.number]
        old = [run for run in case.incumbent if run.occasion != case.number]
        self.adjusted = adjustment(case)
        if self.adjusted is not None:
            old = _shifted(old, metric, self.adjusted.shifts)
        mine, beside, before = (measured(runs, metric) for runs in (case.candidate, fresh, old))
        chosen = measured(fair(old), metric)
        flattered = not chosen and not beside
        before = chosen or (before if flattered else [])
        self.n_candidate, self.n_incumbent = len(mine), len(before) + len(beside)
        self.fresh = len(beside)
        self.sigma, self.df = _noise(case, metric)
        self.deterministic = self.sigma == 0.0 and self.df >= 1
        if self.deterministic:
            mine, before, beside = mine[-1:], [] if beside else before[-1:], beside[-1:]
        drift = case.noise.drift
        if self.adjusted is not None:
            left = max(self.adjusted.rest - (self.sigma or 0.0) ** 2, 0.0)
            drift = min(drift or math.inf, math.hypot(math.sqrt(left), self.adjusted.error))
        model = Model(sigma=self.sigma, drift=drift, rho=case.noise.rho)
        self.value = _mean([value for _, value in mine]) if mine else math.nan
        gain, variance = contrast(mine, before, beside, model)
        if flattered and self.sigma:
            gain += sign * _FLATTERY * self.sigma
        self.reference = self.value - gain
        self.effect = sign * gain if mine else 0.0
        self.comparison = Comparison(
            effect=self.effect, se=math.sqrt(variance), df=self.df, n=self.n_candidate
        )
        self.pairs = _pairs(case)

    def not_worse(self) -> bool:
        """Non-inferiority within one sigma of a single run, at 90 % (one-sided t)."""
        if not self.sigma or self.df < 1:
            return False
        return self.effect + self.sigma >= t_quantile(_NOT_WORSE, self.df) * self.comparison.se

    def certificate(self) -> float | None:
        """The e-value of the fresh pairs; None without a pair or without known noise."""
        if not self.pairs or not self.sigma or self.df < 1:
            return None
        # An estimated sigma is inflated: Var of the t distribution, to first order, on the scale.
        tau = math.sqrt(2.0) * self.sigma * (1.0 + 2.0 / self.df)
        return e_value(self.pairs, tau)

    def evidence(self, threshold: float | None = None) -> Evidence:
        """The numbers of this look, as they are stored."""
        known = self.sigma is not None and self.n_candidate > 0
        low, high = self.comparison.interval(LEVEL) if known else (None, None)
        return Evidence(
            effect=self.effect if self.n_candidate else None,
            low=_finite(low),
            high=_finite(high),
            level=LEVEL,
            z=_finite(self.comparison.z) if known else None,
            threshold=threshold,
            sigma=self.sigma,
            df=self.df,
            n_candidate=self.n_candidate,
            n_incumbent=self.n_incumbent,
        )


def _pairs(case: Case) -> list[float]:
    """Differences of the runs that were asked for as pairs: what a certificate may count.

    They are those on one seed, made after the screening run, which selected the candidate; no
    rule asks for one run of such a seed because of what the other showed.
    """
    metric, sign = case.objective.metric, case.objective.better.sign
    first = min((run.id for run in case.candidate), default=0)
    later = [r for r in case.incumbent if r.occasion == case.number and r.id > first]
    mine = dict(measured(fair(case.candidate), metric))
    return [sign * (mine[seed] - value) for seed, value in measured(later, metric) if seed in mine]


def _shifted(runs: Sequence[Run], metric: str, shifts: dict[int, float]) -> list[Run]:
    """The runs with the metric moved; those that have no shift did not tell their throughput."""
    return [
        structs.replace(run, metrics=run.metrics | {metric: run.metrics[metric] + shifts[run.id]})
        for run in runs
        if run.id in shifts
    ]


def look(case: Case) -> Look | None:
    """The look; None where the incumbent has no value yet."""
    if not values_of(case.incumbent, case.objective.metric):
        return None
    return Look(case)


def say(seen: Look) -> str:
    """The comparison in one clause, with its numbers."""
    unit = seen.sigma or 0.0
    text = f"{_show(seen.value, unit)} against {_show(seen.reference, unit)}"
    if unit:
        text += f" ± {unit:.2g}"
    if seen.effect == 0.0:
        text += ": equal"
    else:
        word = "better" if seen.effect > 0 else "worse"
        text += f": {word} by {_show(abs(seen.effect), unit)}"
        z = abs(seen.comparison.z)
        if unit and math.isfinite(z):
            text += f" ({z:.1f} standard errors)"
    if seen.sigma is None:
        text += ", noise unknown"
    if seen.adjusted is not None:
        text += f"; {seen.adjusted.text};"
    text += f" over {seen.n_candidate} {'run' if seen.n_candidate == 1 else 'runs'}"
    if seen.fresh and seen.n_candidate == 1:
        return f"{text}, paired"
    if seen.fresh:
        return f"{text}, {min(seen.fresh, seen.n_candidate)} of them paired"
    return text


def _noise(case: Case, metric: str) -> tuple[float | None, int]:
    """The study's pooled noise; where there is none yet, that of this case's own replicates."""
    if case.noise.sigma is not None and case.noise.df:
        return case.noise.sigma, case.noise.df
    pool = Pool()
    for key, runs in enumerate((case.candidate, case.incumbent)):
        for value in values_of(runs, metric):
            pool.add(key, value)
    return pool.sigma, pool.df


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _show(value: float, sigma: float) -> str:
    """As many decimals as the noise leaves meaningful: two digits of sigma."""
    if sigma <= 0.0 or not math.isfinite(sigma):
        return f"{value:.6g}"
    decimals = 1 - math.floor(math.log10(sigma))
    return f"{value:.{decimals}f}" if 0 <= decimals <= 12 else f"{value:.6g}"
