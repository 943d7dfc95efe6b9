"""Small pictures inside tables: intervals about nil, shares of verdicts. Safe markup out. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

from markupsafe import Markup

from nightlab.report.schema import Tally

_WIDE = 160.0


class Scale:
    """Where numbers lie in a strip: all of them, and nil, from edge to edge."""

    def __init__(self, values: Iterable[float | None]) -> None:
        known = [v for v in values if v is not None and math.isfinite(v)]
        self.low, self.high = min([0.0, *known]), max([0.0, *known])

    def at(self, value: float) -> float:
        """In pixels, with room for a mark at either edge."""
        span = (self.high - self.low) or 1.0
        return round(5.0 + (value - self.low) / span * (_WIDE - 10.0), 1)


def strip(scale: Scale, low: float | None, mid: float | None, high: float | None) -> Markup:
    """An interval and its middle beside nil; empty where nothing is known."""
    if mid is None:
        return Markup()
    zero, dot = scale.at(0.0), scale.at(mid)
    parts = [f'<path class="zero" d="M{zero} 0V16"/>']
    if low is not None and high is not None:
        parts.append(f'<path class="span" d="M{scale.at(low)} 8H{scale.at(high)}"/>')
    parts.append(f'<circle class="mid" cx="{dot}" cy="8" r="3.5"/>')
    return _svg("strip", 16, parts)


def bar(tally: Tally) -> Markup:
    """The verdicts of a group side by side."""
    parts, at = [], 0.0
    for kind in ("keep", "inconclusive", "discard", "crash"):
        share = getattr(tally, kind) / (tally.tried or 1)
        if share:
            wide = round(share * _WIDE, 2)
            parts.append(f'<rect class="{kind}" x="{at}" y="0" width="{wide}" height="8"/>')
            at = round(at + wide, 2)
    return _svg("bar", 8, parts, stretch=True)


def reach(tally: Tally, among: Sequence[Tally]) -> Markup:
    """The median effect (a dot) and the largest (a ring), on one scale for all groups."""
    if tally.median is None or tally.largest is None:
        return Markup()
    scale = Scale([v for t in among for v in (t.median, t.largest)])
    zero, mid, far = scale.at(0.0), scale.at(tally.median), scale.at(tally.largest)
    return _svg(
        "strip",
        16,
        [
            f'<path class="zero" d="M{zero} 0V16"/>',
            f'<circle class="mid" cx="{mid}" cy="8" r="3.2"/>',
            f'<circle class="far" cx="{far}" cy="8" r="3.8"/>',
        ],
    )


def link(experiment: int, listed: Collection[int]) -> Markup | str:
    """The number, leading to its row where the page has it."""
    if experiment not in listed:
        return str(experiment)
    return Markup('<a href="#e{0}">{0}</a>').format(experiment)


def _svg(kind: str, tall: int, parts: Iterable[str], *, stretch: bool = False) -> Markup:
    fit = ' preserveAspectRatio="none"' if stretch else ""
    head = f'<svg class="{kind}" viewBox="0 0 {_WIDE:g} {tall}"{fit} aria-hidden="true">'
    return Markup(head + "".join(parts) + "</svg>")  # noqa: S704  numbers and our own words only
