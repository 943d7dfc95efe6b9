"""How much was gained, by what, and what chance alone would have shown. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

from nightlab import views
from nightlab.history import History
from nightlab.model import (
    Experiment,
    Outcome,
    Purpose,
    Run,
    Verdict,
    values_of,
)
from nightlab.report.schema import LEVEL, Discovery, Drift, Estimate, Gain, Naive, Noise
from nightlab.report.since import Since, settled
from nightlab.stats import compare, group, t_quantile

_DRIFT_DF = 5  # fewer re-runs than that say nothing about time
_DRIFT_TAIL = 0.995  # two-sided 1 %: one study looks once


def fair_runs(runs: Sequence[Run], metric: str) -> tuple[list[Run], bool]:
    """The measured runs that did not select the experiment; all of them (and True) if none.

    Their mean is ``nightlab.judge.estimate``.
    """
    every = measured(runs, metric)
    fair = [r for r in every if r.purpose is not Purpose.SCREEN]
    return (fair, False) if fair else (every, bool(every))


def estimated(experiment: Experiment, metric: str) -> Estimate:
    """The experiment's value without the luck that selected it."""
    runs, screened = fair_runs(experiment.runs, metric)
    whole = group(values_of(runs, metric))
    return Estimate(
        experiment=experiment.number,
        commit=experiment.commit,
        description=experiment.claim.description,
        mean=whole.mean if whole.n else None,
        sd=whole.sd,
        n=whole.n,
        seeds=tuple(sorted({r.seed for r in runs})),
        screened=screened,
    )


def noise(history: History) -> Noise:
    """The noise of one run, drift left in: the debrief compares runs of different hours."""
    sigma, df = history.noise.overall
    return Noise(sigma=sigma, df=df, deterministic=sigma == 0.0 and df >= 1)


def lineage(history: History, since: Since | None = None) -> list[Experiment]:
    """The incumbents in the order in which they came: the baseline, then each keep.

    After a moment: the incumbent of then, and each keep since.
    """
    baseline = history.baseline
    if baseline is None or baseline.verdict is not Verdict.KEEP:
        return []
    kept = sorted(views.keeps(history), key=lambda e: (e.settled_at or 0.0, e.number))
    chain = [baseline, *kept]
    if since is None:
        return chain
    return chain[max(0, sum(e.number in since.known for e in chain) - 1) :]


def difference(
    before: Estimate, after: Estimate, sign: float, seen: Noise
) -> tuple[float | None, float | None, float | None]:
    """(effect, low, high) of two estimates with the pooled noise; bounds None where unknown."""
    if before.mean is None or after.mean is None:
        return None, None, None
    effect = sign * (after.mean - before.mean)
    if seen.sigma is None or seen.df < 1:
        return effect, None, None
    compared = compare(effect, seen.sigma, seen.df, after.n, before.n)
    return effect, *compared.interval(LEVEL)


def gain(history: History, chain: Sequence[Experiment], seen: Noise) -> Gain | None:
    """Baseline to incumbent; None unless something was kept and both were measured."""
    if len(chain) < 2:
        return None
    metric, sign = history.study.objective.metric, history.study.objective.better.sign
    start, end = estimated(chain[0], metric), estimated(chain[-1], metric)
    effect, low, high = difference(start, end, sign, seen)
    if effect is None or start.mean is None:
        return None
    return Gain(
        effect=effect,
        low=low,
        high=high,
        level=LEVEL,
        relative=effect / abs(start.mean) if start.mean else None,
        fresh=not end.screened or seen.deterministic,
    )


def naive(history: History, since: Since | None = None) -> Naive | None:
    """The luckiest single run of code that neither crashed nor met a guard's or a check's veto.

    After a moment: of what was settled since, against the first run of the incumbent of then.
    """
    metric, sign = history.study.objective.metric, history.study.objective.better.sign
    chain = lineage(history, since)
    start = chain[0] if chain else history.baseline
    first = values_of(start.runs, metric)[:1] if start else []
    if not first:
        return None
    lucky: tuple[float, Run] | None = None
    for experiment in settled(history, since):
        rule = experiment.decision.rule if experiment.decision else ""
        vetoed = rule in ("guard", "check")
        if vetoed or experiment.verdict is Verdict.CRASH:
            continue
        for run in measured(experiment.runs, metric):
            turned = sign * run.metrics[metric]
            if lucky is None or turned > lucky[0]:
                lucky = turned, run
    if lucky is None:
        return None
    run = lucky[1]
    return Naive(
        experiment=run.experiment,
        run=run.id,
        value=run.metrics[metric],
        gain=lucky[0] - sign * first[0],
    )


def measured(runs: Iterable[Run], metric: str) -> list[Run]:
    """Every run that ended ok and measured the metric."""
    return [r for r in runs if r.outcome is Outcome.OK and metric in r.metrics]


def discoveries(
    history: History, chain: Sequence[Experiment], seen: Noise, whole: Gain | None
) -> list[Discovery]:
    """Each keep against the incumbent it replaced, largest effect first.

    The effects add up to the gain, for each incumbent has one estimate on both sides.
    """
    metric, sign = history.study.objective.metric, history.study.objective.better.sign
    found = []
    for before, kept in pairwise(chain):
        start, end = estimated(before, metric), estimated(kept, metric)
        effect, low, high = difference(start, end, sign, seen)
        share = None
        if effect is not None and whole is not None and whole.effect > 0:
            share = effect / whole.effect
        found.append(
            Discovery(
                experiment=kept.number,
                replaced=before.number,
                commit=kept.commit,
                description=kept.claim.description,
                category=kept.claim.category,
                rule=kept.decision.rule if kept.decision else "",
                effect=effect,
                low=low,
                high=high,
                level=LEVEL,
                runs=end.n,
                share=share,
                lines_added=kept.claim.lines_added,
                lines_removed=kept.claim.lines_removed,
            )
        )
    return sorted(found, key=lambda d: -(d.effect if d.effect is not None else -math.inf))


def chance_keeps(history: History, seen: Noise, since: Since | None = None) -> float | None:
    """How many of as many changes that do nothing keep-if-lower would keep: H(n + 1) - 1.

    The k-th of independent equal looks is a record with probability 1/k (Renyi 1962); the
    baseline is the first. None where there is no noise to be lucky in.
    """
    if seen.deterministic:
        return None
    looked = sum(e.number > 1 and e.value is not None for e in settled(history, since))
    return math.fsum(1.0 / k for k in range(2, looked + 2))


def drift(history: History) -> Drift | None:
    """The common slope over time of re-runs about their own code's mean (analysis of covariance).

    Selecting runs are left out: luck at first sight would look like decay. None where
    fewer than ``_DRIFT_DF`` degrees of freedom, or no spread of time or value, are left.
    """
    metric, sign = history.study.objective.metric, history.study.objective.better.sign
    xx = xy = yy = 0.0
    df, times = -1, []
    for experiment in history.settled():
        runs, screened = fair_runs(experiment.runs, metric)
        if screened or len(runs) < 2:
            continue
        hours = [(r.started_at - history.started.at) / 3600.0 for r in runs]
        values = [sign * r.metrics[metric] for r in runs]
        mid_x, mid_y = math.fsum(hours) / len(runs), math.fsum(values) / len(runs)
        xx += math.fsum((x - mid_x) ** 2 for x in hours)
        yy += math.fsum((y - mid_y) ** 2 for y in values)
        xy += math.fsum((x - mid_x) * (y - mid_y) for x, y in zip(hours, values, strict=True))
        df += len(runs) - 1
        times += hours
    if df < _DRIFT_DF or xx <= 0.0 or yy <= 0.0:
        return None
    slope = xy / xx
    rest = max(yy - slope * xy, 0.0)
    error = math.sqrt(rest / df / xx)
    if error == 0.0:
        return None
    return Drift(
        per_hour=slope,
        total=slope * (max(times) - min(times)),
        t=slope / error,
        df=df,
        significant=abs(slope / error) > t_quantile(_DRIFT_TAIL, df),
    )


def top_share(found: Sequence[Discovery]) -> float | None:
    """The share of the gain that the three largest discoveries carry; None where unknown."""
    shares = [d.share for d in found[:3] if d.share is not None]
    return sum(shares) if shares else None
