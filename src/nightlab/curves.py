"""What a run prints on its way: one metric over time. Pure: bytes and seconds in, points out.

Scripts print intermediate values in two ways, and both are read: a line that speaks of a step
or an epoch (``step 00120 (4.1%) | loss: 3.21 | …``), and ``METRIC loss=3.21``. Lines end with
a newline or, as progress lines do, with a carriage return.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Sequence

from nightlab.model import Curve

POINTS = 48  # of a stored curve: enough to draw, little enough for ten thousand runs
_LINE_BYTES = 4096
_NAMES = 16  # different names that are followed
_SEEN_AT_MOST = 4 * POINTS
_STEP = re.compile(rb"\b(?:step|iter|iteration|epoch|batch)\b", re.IGNORECASE)
_PAIR = re.compile(
    rb"([A-Za-z_][A-Za-z0-9_./@-]{0,63})[ \t]{0,4}[:=][ \t]{0,4}"
    rb"([+-]?(?:[0-9]{1,32}(?:\.[0-9]{0,32})?|\.[0-9]{1,32})(?:[eE][+-]?[0-9]{1,3})?)(?![0-9A-Za-z_.])"
)
_MARKED = re.compile(rb"METRIC[ \t]")


class Track:
    """Follows the output of one run. ``feed`` it as it comes; each name has its own curve."""

    def __init__(self) -> None:
        self._rest = b""
        self._seen: dict[str, list[tuple[float, float]]] = {}

    def feed(self, data: bytes, elapsed_s: float) -> None:
        """Take the next part of the output, read at ``elapsed_s`` seconds. Never raises."""
        *lines, rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        self._rest = rest[-_LINE_BYTES:]
        latest: dict[str, float] = {}
        for line in lines:
            if len(line) <= _LINE_BYTES and (_STEP.search(line) or _MARKED.match(line)):
                for name, number in _PAIR.findall(line):
                    latest[name.decode("ascii")] = float(number)
        for label, value in latest.items():  # the last of what came at once
            if math.isfinite(value) and (label in self._seen or len(self._seen) < _NAMES):
                points = self._seen.setdefault(label, [])
                points.append((round(elapsed_s, 3), value))
                if len(points) > _SEEN_AT_MOST:
                    del points[1:-1:2]

    def curve(self, names: Sequence[str]) -> Curve | None:
        """The curve of the first of ``names`` that was printed at two times or more."""
        for name in names:
            points = self._seen.get(name, ())
            if len(points) > 1:
                return Curve(name=name, points=thinned(points))
        return None


def thinned(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """At most POINTS of them, evenly spread, the first and the last among them."""
    if len(points) <= POINTS:
        return tuple(points)
    step = (len(points) - 1) / (POINTS - 1)
    return tuple(points[round(i * step)] for i in range(POINTS))


def at(curve: Curve, elapsed_s: float) -> float | None:
    """What the run had printed last at that time; None before its first value."""
    index = bisect_right(curve.points, (elapsed_s, math.inf))
    return curve.points[index - 1][1] if index else None
