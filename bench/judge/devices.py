"""A night on several devices, by the clock: a thinker, slots, and keeps that must be rebased.

As the engine does it: one researcher thinks, one proposal ahead; wanted runs go before new
experiments; an experiment is judged against the incumbent it stands on, and a keep whose
incumbent has moved meanwhile is put on the new one and measured anew. Time is in run lengths.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from dataclasses import dataclass, field

from bench.judge.night import OBJECTIVE, Kept, Lab, Night, ended
from bench.judge.worlds import Machine, World
from nightlab.judge import Case, Judge, noise_of
from nightlab.model import Action, Arm, Decision, Purpose, Run, Want


@dataclass
class _Open:
    """An experiment on its way."""

    number: int
    effect: float
    parent: int
    runs: tuple[Run, ...] = ()
    wants: deque[Want] = field(default_factory=deque)
    in_flight: int = 0


@dataclass
class _Code:
    """An accepted experiment: its true gain and its runs."""

    gain: float
    runs: tuple[Run, ...]


class Clocked:
    """The night of one judge in one world."""

    def __init__(self, judge: Judge, world: World, seed: int) -> None:
        self.world = world
        self.ideas, noise = random.Random(f"ideas {seed}"), random.Random(f"noise {seed}")
        machine = Machine(world, noise)
        self.lab = Lab(judge, lambda gain, run_seed: gain + machine(run_seed), world.runs, None)
        self.judge = judge
        self.codes: dict[int, _Code] = {}
        self.tip = 1
        self.open: list[_Open] = []
        self.kept: list[Kept] = []
        self.decisions: list[tuple[int, Decision]] = []
        self.count = 0
        self.proposals = 0  # thought of and waiting: at most one
        self.thought_at = 0.0

    def play(self) -> Night:
        """Drive by events to the end of the night."""
        end = self.world.runs / self.world.devices
        flights: list[tuple[float, int, _Open, Want]] = []
        baseline = _Open(1, 0.0, 1)
        self.open = [baseline]
        self._decide(baseline)
        now, turn = 0.0, 0
        while True:
            while len(flights) < self.world.devices:
                chosen = self._next(now)
                if chosen is None:
                    break
                turn += 1
                experiment, want = chosen
                experiment.in_flight += 1
                heapq.heappush(flights, (now + 1.0, turn, experiment, want))
            times = [flights[0][0]] if flights else []
            if len(flights) < self.world.devices and 1 in self.codes and not self.proposals:
                times.append(self.thought_at)
            now = min(times)
            if now > end:
                break
            self._think(now)
            if flights and flights[0][0] <= now:
                _, _, experiment, want = heapq.heappop(flights)
                self._finish(experiment, want)
        self.lab.incumbent = self.codes[self.tip].runs if self.codes else ()
        return ended(self.lab, self.kept, self.decisions, self.count)

    def _think(self, now: float) -> None:
        if now >= self.thought_at and not self.proposals and 1 in self.codes:
            self.proposals = 1

    def _next(self, now: float) -> tuple[_Open, Want] | None:
        for experiment in self.open:
            if experiment.wants:
                return experiment, experiment.wants.popleft()
        self._think(now)
        if not self.proposals:
            return None
        self.proposals = 0
        self.thought_at = now + self.world.thinking
        effect = self.world.idea(self.ideas, self.codes[self.tip].gain)
        self.count += 1
        fresh = _Open(self.count + 1, 0.0 if effect is None else effect, self.tip)
        self.open.append(fresh)
        self._decide(fresh)
        return fresh, fresh.wants.popleft()

    def _finish(self, experiment: _Open, want: Want) -> None:
        experiment.in_flight -= 1
        lab, number = self.lab, experiment.number
        code = self.codes.get(experiment.parent, _Code(0.0, ()))
        if want.arm is Arm.INCUMBENT:
            lab.incumbent = code.runs
            run = lab.run(want, number, code.gain, Purpose.INCUMBENT)
            code.runs = (*code.runs, run)
            lab.since_refresh = 0
        else:
            purpose = Purpose.CONFIRM if experiment.runs else Purpose.SCREEN
            purpose = Purpose.BASELINE if number == 1 else purpose
            run = lab.run(want, number, code.gain + experiment.effect, purpose)
            experiment.runs = (*experiment.runs, run)
        if not experiment.in_flight and not experiment.wants:
            self._decide(experiment)

    def _decide(self, experiment: _Open) -> None:
        number = experiment.number
        code = self.codes.get(experiment.parent, _Code(0.0, ()))
        case = Case(
            number=number,
            objective=OBJECTIVE,
            candidate=experiment.runs,
            incumbent=code.runs,
            baseline=self.codes[1].runs if self.codes else experiment.runs,
            noise=noise_of(self.lab.noise),
            since_refresh=self.lab.since_refresh,
        )
        decision = self.judge.decide(case)
        if decision.action is Action.REPEAT:
            experiment.wants.extend(decision.wants)
            return
        keep = decision.action is Action.KEEP
        if keep and number > 1 and experiment.parent != self.tip:
            experiment.parent, experiment.runs = self.tip, ()
            self._decide(experiment)
            return
        self.open.remove(experiment)
        self.lab.since_refresh += 1
        if number == 1:
            self.codes[1] = _Code(0.0, experiment.runs)
            self.lab.baseline = experiment.runs
            return
        self.decisions.append((number, decision))
        if keep:
            self.kept.append(Kept(number, experiment.effect, decision))
            gain = self.codes[self.tip].gain + experiment.effect
            self.codes[number] = _Code(gain, experiment.runs)
            self.tip, self.lab.true, self.lab.since_refresh = number, gain, 0
