"""What the runs of a case say: the effect, its error, and the words for it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nightlab.judge.case import Case
from nightlab.judge.guards import values_of
from nightlab.model import Evidence, Purpose, Run
from nightlab.stats import Comparison, Pool, compare, t_quantile

_NOT_WORSE = 0.9  # probability at which a simpler change counts as not worse


def estimate(runs: Sequence[Run], metric: str) -> float | None:
    """The mean of the metric over the runs, without the bias of selection; None without a run.

    The run on which a candidate was screened is left out where others exist: it was the
    reason to look further, so on average it flatters.
    """
    fair = values_of([run for run in runs if run.purpose is not Purpose.SCREEN], metric)
    values = fair or values_of(runs, metric)
    return math.fsum(values) / len(values) if values else None


class Look:
    """One look at a case that has at least one value of the incumbent.

    ``comparison`` weighs the screening run against all earlier runs of the incumbent, and
    each later run of the candidate against the incumbent's run interleaved with it, by the
    inverse of their variances. ``effect`` is its effect (positive is better).
    """

    def __init__(self, case: Case) -> None:
        metric = case.objective.metric
        self.sign = case.objective.better.sign
        fresh = [run for run in case.incumbent if run.occasion == case.number]
        old = [run for run in case.incumbent if run.occasion != case.number]
        self.candidate = values_of(case.candidate, metric)
        self.old = values_of(old, metric)
        self.fresh = values_of(fresh, metric)
        self.n_candidate = len(self.candidate)
        self.n_incumbent = len(self.old) + len(self.fresh)
        self.sigma, self.df = _noise(case, metric)
        self.deterministic = self.sigma == 0.0 and self.df >= 1
        reference = estimate(case.incumbent, metric)
        self.reference = reference if reference is not None else math.nan
        self.value = estimate(case.candidate, metric)
        self.comparison = self._compare()
        self.effect = self.comparison.effect
        self.pairs = min(len(self.fresh), self.n_candidate)

    def _compare(self) -> Comparison:
        if not self.candidate:
            return Comparison(effect=0.0, se=math.inf, df=0, n=0)
        sigma = self.sigma if self.sigma is not None else math.inf
        incumbent = [*self.old, *self.fresh]
        gain = self.sign * (_mean(self.candidate) - _mean(incumbent))
        if sigma in (0.0, math.inf):
            return Comparison(effect=gain, se=sigma, df=self.df, n=self.n_candidate)
        return compare(gain, sigma, self.df, self.n_candidate, self.n_incumbent)

    def not_worse(self) -> bool:
        """Non-inferiority within one sigma of a single run, at 90 % (one-sided t)."""
        if not self.sigma or self.df < 1:
            return False
        shifted = self.effect + self.sigma
        return shifted >= t_quantile(_NOT_WORSE, self.df) * self.comparison.se

    def needed(self, level: float) -> float | None:
        """The effect in standard errors that the one-sided ``level`` needs."""
        return t_quantile(level, self.df) if self.df else None

    def evidence(self, threshold: float | None = None) -> Evidence:
        known = self.sigma is not None and self.n_candidate > 0
        low, high = self.comparison.interval(0.9) if known else (None, None)
        return Evidence(
            effect=self.effect if self.n_candidate else None,
            low=_finite(low),
            high=_finite(high),
            z=_finite(self.comparison.z) if known else None,
            threshold=threshold,
            sigma=self.sigma,
            df=self.df,
            n_candidate=self.n_candidate,
            n_incumbent=self.n_incumbent,
        )


def look(case: Case) -> Look | None:
    """The look; None where the incumbent has no value yet."""
    if not values_of(case.incumbent, case.objective.metric):
        return None
    return Look(case)


def say(seen: Look) -> str:
    """The comparison in one clause, with its numbers."""
    unit = seen.sigma or 0.0
    mine, theirs = _mean(seen.candidate), _mean([*seen.old, *seen.fresh])
    text = f"{_show(mine, unit)} against {_show(theirs, unit)}"
    if unit:
        text += f" ± {unit:.2g}"
    size = abs(seen.effect)
    if size == 0.0:
        text += ": equal"
    else:
        text += f": {'better' if seen.effect > 0 else 'worse'} by {_show(size, unit)}"
        z = abs(seen.comparison.z)
        if unit and math.isfinite(z):
            text += f" ({z:.1f} σ)"  # noqa: RUF001  sigma is the word for it
    if seen.sigma is None:
        text += ", noise unknown"
    return f"{text} over {seen.n_candidate} {'run' if seen.n_candidate == 1 else 'runs'}"


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
    return f"{value:.{decimals}f}" if 0 <= decimals <= 12 else f"{value:.6g}"  # noqa: PLR2004
