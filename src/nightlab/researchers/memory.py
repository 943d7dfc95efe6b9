"""What was tried: full assignments of constants, rebuilt from the changes that experiments record.

An experiment says which constants it changed and on which commit. Read along the commits, from
the incumbent's files backwards over the kept experiments and forwards to all others, that gives
every experiment's full assignment; a resumed study learns the same as one that never stopped.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from nightlab.model import Better, Experiment, Verdict
from nightlab.researchers.spaces import Scalar

Assignment = dict[str, Scalar]

# Observations kept for modelling: so many of the latest, and of the others the most promising.
# What a proposal costs is then the same at experiment 300 and at 10,000.
_LATEST = 200
_TOP = 100
_PARENTS = 64  # commits that an experiment still under way may have as its parent
_PENDING = 16  # a proposal that was refused is never learned; it must not stay for ever


@dataclass(frozen=True)
class Observation:
    """One experiment as the model sees it.

    ``value`` is the mean of the objective; None for a crash.
    """

    number: int
    values: Mapping[str, Scalar]
    value: float | None


@dataclass(frozen=True)
class _Step:
    number: int
    parent: str
    commit: str
    old: Mapping[str, Scalar]
    new: Mapping[str, Scalar]
    value: float | None
    kept: bool
    seen: bool  # it says something about its constants


class Memory:
    """Observations in a bounded window, and the points tried (all of them, as hashes).

    Nothing here raises for any experiment.
    """

    def __init__(self) -> None:
        self.observations: list[Observation] = []
        self.moves: Counter[str] = Counter()  # how often each constant was moved, ever
        self._unplaced: list[_Step] = []
        self._known: dict[str, Assignment] = {}
        self._tried: set[int] = set()
        self._pending: list[tuple[Assignment, Assignment]] = []  # whole, and what moved

    @property
    def pending(self) -> tuple[Assignment, ...]:
        """Proposed here and not yet learned, oldest first."""
        return tuple(values for values, _ in self._pending)

    def proposed(self, values: Assignment, moved: Assignment) -> None:
        """Note that a point has been handed out, and what in it was changed."""
        self._tried.add(_key(values))
        self.moves.update(list(moved))
        self._pending.append((values, moved))
        del self._pending[:-_PENDING]

    def is_new(self, values: Assignment) -> bool:
        """Whether the point has been neither tried nor handed out."""
        return _key(values) not in self._tried

    def learn(self, experiment: Experiment) -> None:
        """Take a settled experiment; one without constants only links its commit to its parent."""
        changes = [c for c in experiment.claim.changes if c.new is not None]
        kept = experiment.verdict is Verdict.KEEP or experiment.number == 1
        crashed = experiment.verdict is Verdict.CRASH
        if not changes and not kept:
            return
        step = _Step(
            number=experiment.number,
            parent=experiment.parent,
            commit=experiment.commit,
            old={c.name: c.old for c in changes if c.old is not None},
            new={c.name: c.new for c in changes if c.new is not None},
            value=None if crashed else experiment.value,
            kept=kept,
            seen=(bool(changes) or experiment.number == 1)
            and (crashed or experiment.value is not None),
        )
        if step.parent in self._known:
            self._place(step, self._known[step.parent])
        else:
            self._unplaced.append(step)

    def anchor(self, incumbent: Experiment | None, values: Assignment, better: Better) -> None:
        """Be told the incumbent's assignment, as its files have it; places what waited for it."""
        commit = incumbent.commit if incumbent else ""
        self._known[commit] = dict(values)
        self._tried.add(_key(values))
        if self._unplaced:
            self._place_waiting(commit, values)
        while len(self._known) > _PARENTS:
            del self._known[next(iter(self._known))]
        if len(self.observations) > _LATEST + _TOP:
            old, latest = self.observations[:-_LATEST], self.observations[-_LATEST:]
            old.sort(key=lambda o: math.inf if o.value is None else -better.sign * o.value)
            self.observations = sorted(old[:_TOP], key=lambda o: o.number) + latest
        if incumbent is not None and incumbent.value is not None:
            # A keep is measured again and again: its value now is better than its first.
            for at, seen in enumerate(self.observations):
                if seen.number == incumbent.number:
                    self.observations[at] = replace(seen, value=incumbent.value)

    def _place_waiting(self, commit: str, values: Assignment) -> None:
        waiting, self._unplaced = self._unplaced, []
        at, here = commit, dict(values)
        for step in reversed(waiting):
            if step.commit == at and step.kept:
                self._known.setdefault(at, dict(here))
                here.update(step.old)
                at = step.parent
        self._known.setdefault(at, here)
        for step in waiting:
            self._place(step, self._known.get(step.parent, values))

    def _place(self, step: _Step, parent: Mapping[str, Scalar]) -> None:
        values: Assignment = {**parent, **step.new}
        if step.kept:
            self._known.setdefault(step.commit, values)
        self._tried.add(_key(values))
        for pending in self._pending:
            if pending[1] == step.new:  # by what moved: its parent is chosen at dispatch
                self._pending.remove(pending)
                break
        else:
            self.moves.update(list(step.new))
        if step.seen:
            self.observations.append(Observation(step.number, values, step.value))


def _key(values: Mapping[str, Scalar]) -> int:
    return hash(frozenset(values.items()))
