"""The values a constant may take: a scale, bounds, and where a value lies between them.

A ``Space`` maps a value to a place in [0, 1] and back, so that equal steps in place are
equal steps in effect: factors for a learning rate, powers of two for a batch size, and
factors of ``1 - x`` for a momentum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

Scalar = float | bool | str  # an int is a float to the type checker; kinds are told apart below


class Scale(StrEnum):
    """How a constant moves."""

    LINEAR = "linear"  # equal differences
    LOG = "log"  # equal factors
    ZERO_LOG = "zero_log"  # 0 (off), or equal factors between low and high
    COMPLEMENT = "complement"  # equal factors of 1 - x: 0.9, 0.99, 0.999
    INT = "int"  # whole numbers, equal differences
    INT_LOG = "int_log"  # whole numbers, equal factors
    POW2 = "pow2"  # powers of two
    CHOICE = "choice"  # one of ``options``


_OFF = 0.15  # the part of a ZERO_LOG's [0, 1] that means 0
WHOLE = frozenset({Scale.INT, Scale.INT_LOG, Scale.POW2})


@dataclass(frozen=True)
class Space:
    """Where one constant may move. ``fixed_bounds``: a person wrote them, never widen."""

    scale: Scale
    low: float = 0.0
    high: float = 1.0
    options: tuple[Scalar, ...] = ()
    fixed_bounds: bool = False

    def place(self, value: Scalar) -> float:
        """Where ``value`` lies, in [0, 1]; a value outside the bounds lies at the nearer end."""
        if self.scale is Scale.CHOICE:
            last = max(1, len(self.options) - 1)
            return float(self.options.index(value) / last) if value in self.options else 0.0
        number = float(value)
        if self.scale is Scale.ZERO_LOG:
            if number < self.low / 2:
                return 0.0
            inner = _between(_bend(Scale.LOG, number), self._ends())
            return _OFF + (1 - _OFF) * inner
        return _between(_bend(self.scale, number), self._ends())

    def value(self, place: float) -> Scalar:
        """The value at a place in [0, 1], rounded as a person would write it."""
        place = min(1.0, max(0.0, place))
        if self.scale is Scale.CHOICE:
            return self.options[round(place * (len(self.options) - 1))]
        if self.scale is Scale.ZERO_LOG:
            if place < _OFF / 2:
                return 0.0
            place = max(0.0, (place - _OFF) / (1 - _OFF))
        bottom, top = self._ends()
        bent = bottom + place * (top - bottom)
        if self.scale is Scale.POW2:
            return int(2.0 ** round(bent))
        if self.scale in WHOLE:
            raw = _tidy_int(math.exp(bent)) if self.scale is Scale.INT_LOG else round(bent)
            return int(min(self.high, max(self.low, raw)))
        if self.scale is Scale.COMPLEMENT:
            written = clean(1.0 - tidy(math.exp(-bent)))
        elif self.scale is Scale.LINEAR:
            written = _on_grid(bent, self.high - self.low)
        else:
            written = tidy(math.exp(bent), 2 if self.high > 2 * self.low else 4)
        return min(self.high, max(self.low, written))

    def spacing(self) -> float:
        """The smallest step of place that changes the value; 0 where any step does."""
        if self.scale is Scale.CHOICE:
            return 1.0 / max(1, len(self.options) - 1)
        if self.scale in (Scale.INT, Scale.POW2):
            bottom, top = self._ends()
            return 1.0 / max(1.0, top - bottom)
        return 0.0

    @property
    def whole(self) -> bool:
        """Whether it takes whole numbers only."""
        return self.scale in WHOLE

    def holds(self, value: Scalar) -> bool:
        """Whether ``value`` is of the constant's kind: not whether it lies within the bounds."""
        if self.scale is Scale.CHOICE:
            return any(kind(value) == kind(o) for o in self.options)
        if isinstance(value, (bool, str)) or not math.isfinite(value):
            return False
        return self.scale not in WHOLE or float(value).is_integer()

    def _ends(self) -> tuple[float, float]:
        scale = Scale.LOG if self.scale is Scale.ZERO_LOG else self.scale
        return _bend(scale, self.low), _bend(scale, self.high)


def _bend(scale: Scale, number: float) -> float:
    if scale in (Scale.LOG, Scale.INT_LOG):
        return math.log(max(number, 1e-300))
    if scale is Scale.POW2:
        return math.log2(max(number, 1e-300))
    if scale is Scale.COMPLEMENT:
        return -math.log(max(1.0 - number, 1e-12))
    return number


def _between(number: float, ends: tuple[float, float]) -> float:
    bottom, top = ends
    return 0.0 if top <= bottom else min(1.0, max(0.0, (number - bottom) / (top - bottom)))


def tidy(number: float, digits: int = 2) -> float:
    """``number`` with so many significant digits: 0.0316… is written 0.032."""
    return float(f"{number:.{digits}g}")


def _tidy_int(number: float) -> int:
    return round(tidy(number)) if abs(number) >= 100 else round(number)


def clean(number: float) -> float:
    """Without the dust of binary arithmetic: 0.30000000000000004 is 0.3."""
    return round(number, 12)


def _on_grid(number: float, width: float) -> float:
    # The power of ten below a fiftieth of the width is as fine as a person writes.
    step = 10.0 ** math.floor(math.log10(width / 50 * 1.000001)) if width > 0 else 0.01
    return clean(round(number / step) * step)


def kind(value: Scalar) -> str:
    """What sort of value it is, in words; values of two sorts never replace each other."""
    if isinstance(value, bool):
        return "yes or no"
    return "a word" if isinstance(value, str) else "a number"
