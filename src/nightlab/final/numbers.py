"""The statistics of a finalization: pairs of two arms, blocks of several."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nightlab import stats
from nightlab.final.state import Finalization
from nightlab.final.values import Contest, Side, Stage, Turn
from nightlab.model import Value

LEVEL = 0.95  # of the planned interval


def contest(f: Finalization, stage: Stage, arm: str, against: str, *, metric: str = "") -> Contest:
    """``arm`` against ``against`` over the seeds on which both measured the metric."""
    name = metric or f.plan.objective.metric
    seeds = f.plan.seeds_of(stage)
    pairs = []
    for seed in seeds:
        mine = f.value(Turn(stage, arm, seed), name)
        its = f.value(Turn(stage, against, seed), name)
        if mine is not None and its is not None:
            pairs.append((seed, mine, its))
    found = Contest(
        arm=arm,
        mine=_side(f, stage, arm, name),
        against=_side(f, stage, against, name),
        planned=len(seeds),
        n=len(pairs),
        seeds=tuple(seed for seed, _, _ in pairs),
        level=LEVEL,
    )
    if not pairs:
        return found
    sign = f.plan.objective.better.sign
    return _tested(found, [sign * (mine - its) for _, mine, its in pairs])


def _tested(found: Contest, differences: Sequence[float]) -> Contest:
    """With the paired t interval and test (Gosset 1908) and the signed-rank test (Wilcoxon 1945).

    Differences without any spread are their own interval and need no test: nothing is random.
    """
    values = {"effect": stats.group(differences).mean}
    compared = stats.paired(differences)
    rest: dict[str, float | None] = {}
    if compared is not None:
        low, high = compared.interval(LEVEL)
        rest = {"low": low, "high": high}
        if compared.se > 0.0:
            rest["p"] = stats.t_p_value(compared.z, compared.df)
            rest["p_wilcoxon"] = stats.wilcoxon_p_value(differences)
    fields = {name: getattr(found, name) for name in found.__struct_fields__}
    return Contest(**fields | values | rest)


def _side(f: Finalization, stage: Stage, arm: str, metric: str) -> Side:
    turns = [Turn(stage, arm, seed) for seed in f.plan.seeds_of(stage)]
    values = [v for t in turns if (v := f.value(t, metric)) is not None]
    whole = stats.group(values)
    ended = sum(turn in f.measured for turn in turns)
    return Side(
        mean=whole.mean if whole.n else None, sd=whole.sd, n=whole.n, failed=ended - whole.n
    )


class Blocks(Value, frozen=True):
    """A randomised complete block design: every arm once on every seed (Fisher 1935, ch. 4).

    ``means`` by arm; ``ms`` is the residual mean square of the additive model
    arm + block on ``df = (arms - 1)(blocks - 1)``; ``within`` the sd of one run about its
    arm's mean, blocks left in.
    """

    seeds: tuple[int, ...]
    means: dict[str, float]
    ms: float
    df: int
    within: float

    def difference(self, arm: str, other: str, sign: float) -> stats.Comparison:
        """``arm`` over ``other``, positive is better, with se = sqrt(2 ms / blocks)."""
        n = len(self.seeds)
        effect = sign * (self.means[arm] - self.means[other])
        return stats.Comparison(effect=effect, se=math.sqrt(2.0 * self.ms / n), df=self.df, n=n)


def blocks(f: Finalization, stage: Stage, arms: Sequence[str]) -> Blocks | None:
    """The design over the seeds on which every arm measured; None for fewer than two."""
    metric = f.plan.objective.metric
    rows: dict[int, dict[str, float]] = {}
    for seed in f.plan.seeds_of(stage):
        known = {
            arm: value
            for arm in arms
            if (value := f.value(Turn(stage, arm, seed), metric)) is not None
        }
        if len(known) == len(arms):
            rows[seed] = known
    n, k = len(rows), len(arms)
    if n < 2 or k < 2:
        return None
    # About the first block: equal values then leave exactly nothing, whatever their size.
    first = next(iter(rows.values()))[arms[0]]
    by_arm = {arm: math.fsum(row[arm] - first for row in rows.values()) / n for arm in arms}
    grand = math.fsum(by_arm.values()) / k
    residual = within = 0.0
    for row in rows.values():
        level = math.fsum(row[arm] - first for arm in arms) / k
        for arm in arms:
            off = row[arm] - first - by_arm[arm]
            within += off**2
            residual += (off - (level - grand)) ** 2
    df = (n - 1) * (k - 1)
    return Blocks(
        seeds=tuple(rows),
        means={arm: mean + first for arm, mean in by_arm.items()},
        ms=residual / df,
        df=df,
        within=math.sqrt(within / (k * (n - 1))),
    )
