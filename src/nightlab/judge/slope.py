"""How a metric moves with another within replicates of one code: an analysis of covariance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from nightlab.model import Value
from nightlab.stats import t_quantile


class Slope(Value, frozen=True):
    """``b`` of y on x within groups, its error on ``df``; ``rest``: the residual mean square."""

    b: float
    se: float
    df: int
    rest: float

    def clear(self, level: float = 0.99) -> bool:
        """Whether noise explains a slope like this with less than ``1 - level`` (two-sided t)."""
        return abs(self.b) > t_quantile(0.5 + level / 2.0, self.df) * self.se


def common_slope(groups: Iterable[Sequence[tuple[float, float]]]) -> Slope | None:
    """The slope common to groups of (x, y), each about its own means.

    None with fewer than three degrees of freedom left, or where x does not vary. Snedecor &
    Cochran 1989, Statistical Methods, ch. 18: b = sum Sxy / sum Sxx, and the residual mean
    square on sum (n - 1) - 1.
    """
    xx = xy = yy = 0.0
    df = -1
    for group in groups:
        if len(group) < 2:
            continue
        mid_x = math.fsum(x for x, _ in group) / len(group)
        mid_y = math.fsum(y for _, y in group) / len(group)
        xx += math.fsum((x - mid_x) ** 2 for x, _ in group)
        xy += math.fsum((x - mid_x) * (y - mid_y) for x, y in group)
        yy += math.fsum((y - mid_y) ** 2 for _, y in group)
        df += len(group) - 1
    if df < 3 or xx <= 0.0 or yy <= 0.0:
        return None
    b = xy / xx
    rest = max(yy - b * xy, 0.0)
    return Slope(b=b, se=math.sqrt(rest / df / xx), df=df, rest=rest / df)
