"""Guards: limits on other metrics that veto a keep."""

from __future__ import annotations

import math
import re
from typing import Literal, cast

from nightlab.errors import ConfigError
from nightlab.judge.case import Case
from nightlab.model import (
    Guard,
    values_of,
)
from nightlab.stats import Pool, t_quantile

_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_TEXT = re.compile(
    rf"\s*(<=|>=|<|>)\s*(?:({_NUMBER})|baseline(?:\s*\*\s*({_NUMBER}))?|({_NUMBER})\s*\*\s*baseline)\s*",
    re.ASCII,
)
_SURE = 0.9  # a violation counts when noise explains it with less than 10 %

Relation = Literal["<=", ">=", "<", ">"]


def parse_guard(metric: str, text: str) -> Guard:
    """A guard from a person's words: ``"<= baseline * 1.2"``, ``">= 0.6"``, ``"< 40000"``.

    Raises ConfigError, with examples, for anything else.
    """
    match = _TEXT.fullmatch(text)
    limit = math.inf
    if match:
        factor = match[3] or match[4] or "1"
        limit = float(match[2] or factor)
    if match is None or not math.isfinite(limit):
        raise ConfigError(
            f"guard {metric} = {text!r} is not a limit",
            "a guard is <=, >=, < or > with a number or a multiple of the baseline",
            f'write, in nightlab.toml: {metric} = "<= baseline * 1.2", ">= 0.6" or "< 40000"',
        )
    return Guard(
        metric=metric,
        relation=cast("Relation", match[1]),
        limit=limit,
        of_baseline=match[2] is None,
        text=text.strip(),
    )


def veto(case: Case) -> str | None:
    """Why the guards forbid to keep the candidate, as one clause; None where they do not.

    A metric that the candidate did not print is a veto. Otherwise the candidate's mean is
    held against the limit. Where replicates tell the metric's own noise, a violation counts
    only when noise explains it with less than 10 % (one-sided t on the pooled noise), so
    that ``<= baseline`` is not a coin toss; without replicates the plain numbers count.
    """
    for guard in case.guards:
        found = values_of(case.candidate, guard.metric)
        if not found:
            return f"guard {guard.metric} {guard.text}: {guard.metric} was not measured"
        limit, spread = guard.limit, 1.0 / len(found)
        if guard.of_baseline:
            base = values_of(case.baseline, guard.metric)
            if not base:
                return f"guard {guard.metric} {guard.text}: the baseline has no {guard.metric}"
            limit *= math.fsum(base) / len(base)
            spread += guard.limit**2 / len(base)
        value = math.fsum(found) / len(found)
        excess = value - limit if guard.relation.startswith("<") else limit - value
        strict = len(guard.relation) == 1
        if excess < 0 or (excess == 0 and not strict):
            continue
        if excess > _allowance(case, guard.metric, spread) or (excess == 0 and strict):
            return f"guard {guard.metric} {guard.text}: {value:.6g}, limit {limit:.6g}"
    return None


def _allowance(case: Case, metric: str, spread: float) -> float:
    """How far beyond its limit noise may carry the metric's mean; 0 where noise is unknown."""
    pool = Pool()
    # The incumbent may be the baseline: each run counts once.
    runs = {run.id: run for run in (*case.candidate, *case.incumbent, *case.baseline)}
    for run in runs.values():
        for value in values_of((run,), metric):
            pool.add(run.experiment, value)
    if not pool.sigma:
        return 0.0
    return t_quantile(_SURE, pool.df) * pool.sigma * math.sqrt(spread)
