"""An ordered sweep over named constants: no guessing, no agent.

``[researcher.values] LR = [0.01, 0.03, 0.1]`` tries the values in that order; with several
constants every combination, where the constant written last varies fastest.
"""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Mapping

from nightlab.errors import ConfigError, Exhausted
from nightlab.model import Change, Experiment, Proposal
from nightlab.researchers import Context, Settings
from nightlab.researchers.constants import Constant, apply, nameable, spoken, survey, written
from nightlab.researchers.spaces import Scalar

_Point = tuple[Scalar, ...]
_OFFERS = 2
_HINT = "correct the [researcher.values] table in nightlab.toml"


class SweepResearcher:
    """Proposes each combination once, skips what the incumbent already has, then Exhausted.

    Every proposal states all swept constants in ``changes``, moved or not, so that a resumed
    study knows from ``learn`` alone which combinations were tried. Raises ConfigError where
    no values are given, and at the first ``propose`` for a name or a value that does not fit.
    """

    name = "sweep"

    def __init__(self, settings: Settings) -> None:
        self._values = {n: tuple(dict.fromkeys(v)) for n, v in settings.values.items()}
        empty = [n for n, v in self._values.items() if not v]
        if not self._values or empty:
            raise ConfigError(
                f"the sweep has no values{f' for {empty[0]}' if empty else ''}",
                "it tries the values that [researcher.values] lists",
                "write [researcher.values] and below it LR = [0.01, 0.03, 0.1] in nightlab.toml",
            )
        self._done: set[_Point] = set()
        self._handed: dict[_Point, tuple[int, int]] = {}  # for which experiment, how often

    @property
    def size(self) -> int:
        """The number of combinations, the incumbent's own included."""
        return math.prod(len(v) for v in self._values.values())

    def propose(self, context: Context) -> Proposal:
        known = self._constants(context)
        own = tuple(known[n].value for n in self._values)
        for at, point in enumerate(itertools.product(*self._values.values()), 1):
            if point == own or point in self._done:
                continue
            number, times = self._handed.get(point, (context.number, 0))
            # Asked for the same experiment again, the point was refused: the incumbent had moved.
            # It is offered once more, on the new one. For another experiment, it is in the works.
            if number != context.number or times >= _OFFERS:
                continue
            self._handed[point] = (number, times + 1)
            return self._proposal(context, known, at, point)
        raise Exhausted(
            f"all {self.size} combinations of the sweep have been tried",
            f"it swept {', '.join(self._values)}",
            "nightlab report",
        )

    def learn(self, experiment: Experiment) -> None:
        new = {c.name: c.new for c in experiment.claim.changes}
        point = [new.get(n) for n in self._values]
        if all(v is not None for v in point):
            self._done.add(tuple(v for v in point if v is not None))

    def _proposal(
        self, context: Context, known: Mapping[str, Constant], at: int, point: _Point
    ) -> Proposal:
        values = dict(zip(self._values, point, strict=True))
        moves = tuple(Change(name=n, old=known[n].value, new=v) for n, v in values.items())
        said = ", ".join(
            f"{c.name} {spoken(c.old)} → {spoken(c.new)}"
            if c.old != c.new
            else f"{c.name} {spoken(c.new)}"
            for c in moves
            if c.old is not None and c.new is not None
        )
        return Proposal(
            description=f"{said} (sweep {at} of {self.size})",
            files=dict(apply(context.files, values)),
            hypothesis=f"One of the {self.size} listed combinations is better than the rest.",
            category="sweep",
            researcher=self.name,
            changes=moves,
        )

    def _constants(self, context: Context) -> dict[str, Constant]:
        found = {c.name: c for c in survey(context.files, wanted=self._values).constants}
        for name, values in self._values.items():
            if name not in found:
                have = nameable(context.files)
                near = difflib.get_close_matches(name, have, 1, 0.4)
                raise ConfigError(
                    f"the files in scope have no constant {name}",
                    f"the nearest is {near[0]}"
                    if near
                    else f"they have {', '.join(have) or 'none'}",
                    _HINT,
                )
            constant = found[name]
            for value in values:
                if not constant.space.holds(value):
                    raise ConfigError(
                        f"{value!r} is no value for {name}",
                        f"it is {written(constant.value)} in {constant.path}:{constant.line}",
                        _HINT,
                    )
        return found
