"""The embedded researcher: tunes the constants it finds, with no key and no network.

With a dozen constants and thirty experiments there is no time to sample the whole space, so:

1. **cover**: every constant is moved by a decent step, two at a time, once one way and once
   the other, around the incumbent; whoever helps shows early;
2. **follow**: after a keep the same move is made once more, further;
3. **guide**: then TPE (Optuna's multivariate sampler) proposes a point from everything seen,
   and the incumbent takes over a few of its constants; in every other proposal cover goes on.

Everything is computed anew for each proposal from the observations, in a bounded window and
in the constants' own scales, so a resumed study, a moved incumbent, and constants that
appeared or vanished are all the same case.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import TPESampler
from optuna.trial import create_trial

from nightlab.errors import Exhausted
from nightlab.model import Better, Change, Experiment, Proposal
from nightlab.researchers import Context, Settings
from nightlab.researchers.constants import Constant, apply, spoken, survey
from nightlab.researchers.memory import Assignment, Memory
from nightlab.researchers.spaces import Scalar, Scale, Space

_STEP = 0.2  # of a space's width: a factor of 2.5 for a learning rate of a hundredfold range
_MOVED = 2  # constants that a covering proposal moves
_GUIDED = (2, 6)  # how many constants a guided proposal takes over: from 2 to 5
_COVERED = 12  # observations before TPE is asked
_SHARE_GUIDED = 0.5  # of the proposals after that
_ROOM = 0.03  # a side with less of the space's width left is not looked at
_TRIES = 32


@dataclass(frozen=True)
class _Situation:
    """What one proposal starts from: the incumbent's values and where each may go."""

    values: Assignment
    spaces: Mapping[str, Space]
    random: np.random.Generator
    better: Better
    incumbent: Experiment | None


@dataclass(frozen=True)
class _Idea:
    values: Assignment
    hypothesis: str


class OptunaResearcher:
    """Proposes new values for constants in the files in scope.

    ``propose`` raises Exhausted where there is no constant or every point has been tried, and
    ConfigError for a ``# nightlab:`` comment that cannot be understood. Proposals depend on
    the settings' seed, the context, and what was learned; on nothing else.
    """

    name = "optuna"

    def __init__(self, settings: Settings) -> None:
        self._seed = settings.seed
        self._memory = Memory()
        optuna.logging.set_verbosity(optuna.logging.ERROR)

    def learn(self, experiment: Experiment) -> None:
        self._memory.learn(experiment)

    def propose(self, context: Context) -> Proposal:
        constants = _constants(context)
        values: Assignment = {c.name: c.value for c in constants}
        self._memory.anchor(context.incumbent, values, context.objective.better)
        now = _Situation(
            values=values,
            spaces={c.name: self._roomy(c) for c in constants},
            random=np.random.default_rng(
                [self._seed, context.number, len(context.refused), len(self._memory.pending)]
            ),
            better=context.objective.better,
            incumbent=context.incumbent,
        )
        for idea in self._ideas(now):
            if idea.values != values and self._memory.is_new(idea.values):
                moved = {n: v for n, v in idea.values.items() if v != values[n]}
                self._memory.proposed(idea.values, moved)
                return self._proposal(context, values, moved, idea.hypothesis)
        raise Exhausted(
            f"every value of the {len(constants)} constants worth trying has been tried",
            f"they are {', '.join(values)}",
            "nightlab report",
        )

    def _proposal(
        self, context: Context, values: Assignment, moved: Assignment, hypothesis: str
    ) -> Proposal:
        changes = tuple(Change(name=n, old=values[n], new=v) for n, v in moved.items())
        return Proposal(
            description=", ".join(f"{c.name} {spoken(c.old)} → {spoken(c.new)}" for c in changes),
            files=dict(apply(context.files, moved)),
            hypothesis=hypothesis,
            category="constants",
            researcher=self.name,
            changes=changes,
        )

    def _roomy(self, constant: Constant) -> Space:
        """The constant's space, wide enough for where it has been; a person's bounds stay."""
        space = constant.space
        if space.fixed_bounds or space.scale is Scale.CHOICE:
            return space
        been = [
            o.values[constant.name] for o in self._memory.observations if constant.name in o.values
        ]
        numbers = [float(v) for v in been if space.holds(v)]
        return replace(
            space,
            low=min([space.low, *(n for n in numbers if n > 0 or space.scale is Scale.LINEAR)]),
            high=max([space.high, *numbers]),
        )

    # ---- ideas, most wanted first

    def _ideas(self, now: _Situation) -> Iterator[_Idea]:
        if now.incumbent is not None:
            yield _further(now, now.incumbent.claim.changes)
        seen = len(self._memory.observations) + len(self._memory.pending)
        guided = seen > _COVERED and now.random.random() < _SHARE_GUIDED
        target = self._target(now) if guided else {}
        for _ in range(_TRIES):
            yield _guided(now, target) if guided else self._cover(now)
        for name in now.values:  # the last resort, for spaces of a few points
            for at in range(_TRIES + 1):
                yield _moved(now, {name: at / _TRIES}, "Nothing likelier is left to try.")
        for _ in range(_TRIES * _TRIES):
            places = {n: float(now.random.random()) for n in now.values}
            yield _moved(now, places, "Nothing likelier is left to try.")

    def _cover(self, now: _Situation) -> _Idea:
        """Move the constants moved least so far, each to the side that was looked at least."""
        # A crash tells more than a look: it weighs as three, and the other side comes first.
        points = [(o.values, 1 if o.value is not None else 3) for o in self._memory.observations]
        points += [(p, 1) for p in self._memory.pending]
        moves = self._memory.moves
        ranked = sorted(now.spaces, key=lambda n: moves[n] + 0.9 * now.random.random())
        places: dict[str, float] = {}
        for name in ranked[:_MOVED]:
            space = now.spaces[name]
            here = space.place(now.values[name])
            been = [(space.place(p[name]), w) for p, w in points if _fits(p, name, space)]
            looks = {
                side: sum(w for place, w in been if (place - here) * side > 0)
                + 0.9 * now.random.random()
                for side in (-1, 1)
                if 0.0 < here + side * _ROOM < 1.0
            }
            side = min(looks, key=looks.__getitem__) if looks else 1
            stride = _STEP * math.exp(0.3 * now.random.standard_normal())
            places[name] = here + side * max(stride, space.spacing())
        names = " and ".join(places)
        return _moved(now, places, f"{names} may be off; this direction was tried least so far.")

    def _target(self, now: _Situation) -> dict[str, Any]:
        """A point that TPE proposes from everything seen: places, or the option of a choice."""
        axes: dict[str, BaseDistribution] = {
            n: CategoricalDistribution(s.options)
            if s.scale is Scale.CHOICE
            else FloatDistribution(0.0, 1.0)
            for n, s in now.spaces.items()
        }
        sampler = TPESampler(
            multivariate=True, n_startup_trials=1, seed=int(now.random.integers(2**31))
        )
        study = optuna.create_study(sampler=sampler)
        for params, cost in self._experience(now):
            study.add_trial(create_trial(params=params, distributions=axes, value=cost))
        return study.ask(axes).params

    def _experience(self, now: _Situation) -> Iterator[tuple[dict[str, Any], float]]:
        """Every observation and pending point as TPE takes it, with its cost (lower is better).

        A crash and a pending point get the highest cost seen. TPE only asks which points are
        among the best few, never by how much, so that steers away and distorts nothing.
        """
        seen = self._memory.observations
        costs = [None if o.value is None else -now.better.sign * o.value for o in seen]
        worst = max((c for c in costs if c is not None), default=0.0)
        points = [o.values for o in seen] + list(self._memory.pending)
        costs += [None] * (len(points) - len(costs))
        for point, cost in zip(points, costs, strict=True):
            params: dict[str, Any] = {}
            for name, space in now.spaces.items():
                value = point[name] if _fits(point, name, space) else now.values[name]
                params[name] = value if space.scale is Scale.CHOICE else space.place(value)
            yield params, worst if cost is None else cost


def _further(now: _Situation, changes: tuple[Change, ...]) -> _Idea:
    """The incumbent's own move once more."""
    places: dict[str, float] = {}
    for change in changes:
        space = now.spaces.get(change.name)
        if space is None or space.scale is Scale.CHOICE or change.old is None:
            continue
        if change.new is not None and space.holds(change.old):
            here = space.place(change.new)
            places[change.name] = 2 * here - space.place(change.old)
    names = " and ".join(places)
    return _moved(now, places, f"Moving {names} helped; the same step again may help again.")


def _guided(now: _Situation, target: Mapping[str, Any]) -> _Idea:
    """The incumbent with a few constants taken over from the target."""
    count = min(len(target), int(now.random.integers(*_GUIDED)))
    names = [str(n) for n in now.random.choice(list(target), count, replace=False)]
    values = dict(now.values)
    for name in names:
        space, aim = now.spaces[name], target[name]
        values[name] = aim if space.scale is Scale.CHOICE else space.value(aim)
    said = " and ".join(n for n in names if values[n] != now.values[n])
    return _Idea(values, f"The experiments that did well so far point to these values of {said}.")


def _moved(now: _Situation, places: Mapping[str, float], hypothesis: str) -> _Idea:
    new = {n: now.spaces[n].value(p) for n, p in places.items()}
    for name, value in new.items():
        space = now.spaces[name]
        if space.scale is Scale.CHOICE and value == now.values[name]:
            others = [o for o in space.options if o != value]
            new[name] = others[int(now.random.integers(len(others)))]
    return _Idea({**now.values, **new}, hypothesis)


def _fits(point: Mapping[str, Scalar], name: str, space: Space) -> bool:
    value = point.get(name)
    if value is None or not space.holds(value):
        return False
    return space.scale is not Scale.CHOICE or value in space.options


def _constants(context: Context) -> tuple[Constant, ...]:
    found = survey(context.files)
    if not found.constants:
        skipped = "; ".join(f"{p}: {why}" for p, why in found.skipped.items())
        raise Exhausted(
            f"there is no constant to tune in {', '.join(context.files) or 'the files in scope'}",
            skipped or "it finds ALL_CAPS literals, dataclass fields and argparse defaults",
            "write a constant such as LR = 0.1 at the top of the file",
        )
    return found.constants
