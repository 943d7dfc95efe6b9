"""Throughput as a covariate: the incumbent's older runs, as if the machine were as fast as now.

Where a run is bound by time, steps done in that time explain most of what a machine's drift does
to the metric. But a change that makes the code faster moves them too, and must not be adjusted
away. So no run of the candidate is ever touched, and its throughput is not looked at: only the
incumbent's runs are, which are one code. What differs between those made beside the candidate and
those made before is the machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from nightlab.judge.case import Case
from nightlab.judge.slope import common_slope
from nightlab.model import Outcome, Run, Value
from nightlab.stats import group, t_quantile

# As scripts name what a run got done in its time, the most direct first.
NAMES = (
    "num_steps",
    "steps",
    "total_steps",
    "tok_per_sec",
    "tokens_per_sec",
    "tokens_per_second",
    "steps_per_sec",
    "steps_per_second",
    "it_per_sec",
    "throughput",
    "total_tokens_M",
)
_MOVED = 0.95  # two-sided: what its own spread explains with less than 5 % has moved


class Adjustment(Value, frozen=True):
    """What to add to each older run of the incumbent, by run id, and how uncertain that is.

    ``error`` is the standard error of the mean shift: of the slope, and of the throughput that the
    machine has now, which the runs beside the candidate only sample; ``rest`` the variance within
    one code that the covariate does not explain; ``text`` says it for a person.
    """

    shifts: dict[int, float]
    error: float
    rest: float
    text: str


def adjustment(case: Case) -> Adjustment | None:
    """How to bring the incumbent's older runs to the throughput that it has beside the candidate.

    None unless it ran beside it, its throughput moved beyond its spread on one occasion, and the
    objective clearly follows throughput within replicates of the baseline and the incumbent.
    """
    metric = case.objective.metric
    name = case.covariate or next(
        (n for n in NAMES if any(n in run.metrics for run in case.incumbent)), ""
    )
    if not name or name == metric:
        return None
    runs = [r for r in case.incumbent if _has(r, name, metric)]
    fresh = [r for r in runs if r.occasion == case.number]
    old = [r for r in runs if r.occasion != case.number]
    spread = _moved(old, fresh, name) if fresh and old else None
    if spread is None:
        return None
    baseline = [r for r in case.baseline if _has(r, name, metric)]
    codes = {run.id: run for run in (*baseline, *runs)}.values()  # the incumbent may be it
    keys = dict.fromkeys(run.experiment for run in codes)
    slope = common_slope(
        [(r.metrics[name], r.metrics[metric]) for r in codes if r.experiment == key] for key in keys
    )
    if slope is None or not slope.clear():
        return None
    now = math.fsum(r.metrics[name] for r in fresh) / len(fresh)
    before = math.fsum(r.metrics[name] for r in old) / len(old)
    return Adjustment(
        shifts={r.id: slope.b * (now - r.metrics[name]) for r in old},
        error=math.hypot(slope.se * (now - before), slope.b * spread / math.sqrt(len(fresh))),
        rest=slope.rest,
        text=f"the incumbent's own {name} moved from {before:.6g} to {now:.6g}: its older runs "
        f"are adjusted by {slope.b * (now - before):+.2g}",
    )


def _has(run: Run, name: str, metric: str) -> bool:
    return run.outcome is Outcome.OK and name in run.metrics and metric in run.metrics


def _moved(old: Sequence[Run], fresh: Sequence[Run], name: str) -> float | None:
    """The covariate's sd within occasions, if its means differ beyond that (t test); else None."""
    occasions: dict[int, list[float]] = {}
    for run in (*old, *fresh):
        occasions.setdefault(run.occasion, []).append(run.metrics[name])
    ss = math.fsum(group(values).ss for values in occasions.values())
    df = sum(len(values) - 1 for values in occasions.values())
    if df < 1:
        return None
    means = [math.fsum(r.metrics[name] for r in runs) / len(runs) for runs in (old, fresh)]
    error = math.sqrt(ss / df * (1.0 / len(old) + 1.0 / len(fresh)))
    if abs(means[1] - means[0]) <= t_quantile(0.5 + _MOVED / 2.0, df) * error:
        return None
    return math.sqrt(ss / df)
