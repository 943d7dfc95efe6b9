"""One simulated night: the loop of an engine, with the real judge and simulated runs."""

from __future__ import annotations

import math
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from msgspec import structs

from bench.judge.worlds import Machine, World
from nightlab import early
from nightlab.judge import Case, Judge, estimate, noise_of
from nightlab.model import (
    Action,
    Arm,
    Better,
    Claim,
    Curve,
    Decision,
    Early,
    Experiment,
    Objective,
    Outcome,
    Purpose,
    Run,
    Verdict,
    Want,
)
from nightlab.stats import Pool

OBJECTIVE = Objective(metric="loss", better=Better.LOWER)
CLAIM_PAIRS = 6  # of baseline and final in the morning: 12 runs on top of the night's
_FRESH_SEED = 1_000_001
_EARLY = 0.1  # the product's defaults
_AUDIT = 0.1
_ORIGIN = 3.0  # where the baseline's loss is; nothing may depend on it

Measure = Callable[[float, int], float]  # (true gain in sigma, seed) -> measured gain


@dataclass(frozen=True)
class Kept:
    """A provisional keep: its true effect, and its decision."""

    number: int
    effect: float
    decision: Decision


@dataclass(frozen=True)
class Night:
    """What a night came to, in sigma.

    ``recorded`` is what the numbers that the loop itself wrote down say was gained. ``fresh``
    are the differences of the morning's pairs, baseline against final, empty where nothing was
    kept; ``tau`` is their standard deviation as the night's noise lets one expect it.
    """

    gain: float
    recorded: float
    fresh: tuple[float, ...]
    tau: float
    kept: tuple[Kept, ...]
    decisions: tuple[tuple[int, Decision], ...]
    ideas: int
    runs: int
    stopped: int
    audited: int
    wrong: int

    @property
    def false(self) -> int:
        """Provisional keeps that do not help."""
        return sum(kept.effect <= 0.0 for kept in self.kept)


class Lab:
    """The bookkeeping that the engine and History do in the product."""

    def __init__(
        self, judge: Judge, measure: Measure, runs: int, blur: Callable[[], float] | None
    ) -> None:
        self.judge, self.measure, self.blur = judge, measure, blur
        self.left = float(runs)  # of the device's time, in runs
        self.lessons = early.Lessons()
        self.noise = Pool()
        self.true = 0.0  # gain of the incumbent
        self.baseline: tuple[Run, ...] = ()
        self.incumbent: tuple[Run, ...] = ()
        self.since_refresh = 0
        self.count = 0

    def run(self, want: Want, number: int, gain: float, purpose: Purpose) -> Run:
        self.left -= 1
        self.count += 1
        value = _ORIGIN - self.measure(gain, want.seed)
        experiment = number if want.arm is Arm.CANDIDATE else self.incumbent[0].experiment
        curve = self._curve(value)
        found = self._glance(curve) if purpose is Purpose.SCREEN else None
        if found is not None and not found.audited:
            self.left += 1.0 - found.at_s
            return self._run(number, want, purpose, found.at_s, curve, found)
        self.noise.add(experiment, value, number, want.seed)
        run = self._run(experiment, want, purpose, 1.0, curve, found)
        return structs.replace(run, occasion=number, outcome=Outcome.OK, metrics={"loss": value})

    def _run(
        self,
        experiment: int,
        want: Want,
        purpose: Purpose,
        duration_s: float,
        curve: Curve | None,
        found: Early | None,
    ) -> Run:
        return Run(
            id=self.count,
            experiment=experiment,
            occasion=experiment,
            purpose=purpose,
            commit="",
            seed=want.seed,
            device="",
            outcome=Outcome.HOPELESS,
            duration_s=duration_s,
            curve=curve,
            early=found,
        )

    def _curve(self, value: float) -> Curve | None:
        """What the run prints on its way to ``value``; its time is one second."""
        if self.blur is None:
            return None
        shares = (*early.CHECKS, 1.0)
        points = tuple((f, value + (1.0 - f) * self.blur()) for f in shares)
        return Curve(name="loss", points=points)

    def _glance(self, curve: Curve | None) -> Early | None:
        """What early stop says, at the first check at which it says something."""
        for share in early.CHECKS:
            found = early.find(
                self.lessons, curve, self.incumbent, share + 1e-9, level=_EARLY,
                audited=early.drawn("bench", self.count, _AUDIT),
            )  # fmt: skip
            if found is not None:
                return found
        return None

    def learn(self, number: int, candidate: tuple[Run, ...], decision: Decision) -> None:
        """Pass a settled experiment on to early stop."""
        if self.blur is not None and self.incumbent:
            verdict = Verdict.KEEP if decision.action is Action.KEEP else Verdict.DISCARD
            parts = {"runs": candidate, "verdict": verdict}
            base = Experiment(number=number, parent="", commit="", claim=Claim(description=""))
            before = structs.replace(base, number=0, runs=self.incumbent)
            self.lessons.take(structs.replace(base, **parts), before, OBJECTIVE)

    def case(self, number: int, candidate: tuple[Run, ...]) -> Case:
        return Case(
            number=number,
            objective=OBJECTIVE,
            candidate=candidate,
            incumbent=self.incumbent,
            baseline=self.baseline if number > 1 else candidate,
            noise=noise_of(self.noise),
            since_refresh=self.since_refresh,
        )

    def experiment(self, number: int, effect: float) -> tuple[Decision | None, tuple[Run, ...]]:
        """Judge one experiment to its end; None when the night ended first."""
        candidate: tuple[Run, ...] = ()
        while True:
            decision = early.given_up(candidate) or self.judge.decide(self.case(number, candidate))
            if decision.action is not Action.REPEAT:
                return decision, candidate
            for want in decision.wants:
                if self.left <= 0:
                    return None, candidate
                if want.arm is Arm.INCUMBENT:
                    again = self.run(want, number, self.true, Purpose.INCUMBENT)
                    self.incumbent = (*self.incumbent, again)
                    self.since_refresh = 0
                    continue
                purpose = Purpose.CONFIRM if candidate else Purpose.SCREEN
                if number == 1:
                    purpose = Purpose.BASELINE
                run = self.run(want, number, self.true + effect, purpose)
                candidate = (*candidate, run)


def play(
    judge: Judge,
    idea: Callable[[float], float | None],
    measure: Measure,
    runs: int,
    blur: Callable[[], float] | None = None,
) -> Night:
    """A night of ``runs`` runs; ``idea(gain so far)`` is the next true effect, None a crash.

    With ``blur`` runs have curves and early stop works beside the judge: it takes device time
    back, so that the night holds more runs.
    """
    lab = Lab(judge, measure, runs, blur)
    _, lab.baseline = lab.experiment(1, 0.0)
    lab.incumbent = lab.baseline
    kept: list[Kept] = []
    decisions: list[tuple[int, Decision]] = []
    number = 1
    while lab.left > 0:
        number += 1
        effect = idea(lab.true)
        if effect is None:  # a crash costs its run and tells nothing
            lab.left -= 1
            continue
        decision, candidate = lab.experiment(number, effect)
        if decision is None:
            break
        decisions.append((number, decision))
        lab.learn(number, candidate, decision)
        lab.since_refresh += 1
        if decision.action is Action.KEEP:
            kept.append(Kept(number, effect, decision))
            lab.true += effect
            lab.incumbent = candidate
            lab.since_refresh = 0
    return ended(lab, kept, decisions, number - 1)


def ended(lab: Lab, kept: list[Kept], decisions: list[tuple[int, Decision]], ideas: int) -> Night:
    """The night's figures, with the morning's fresh pairs."""
    recorded = 0.0
    if kept:
        before = estimate(lab.baseline, "loss")
        after = estimate(lab.incumbent, "loss")
        recorded = (before or 0.0) - (after or 0.0)
    noise, df = lab.noise.sigma or 0.0, max(lab.noise.df, 1)
    return Night(
        gain=lab.true,
        recorded=recorded,
        fresh=_morning(lab.measure, lab.true) if kept else (),
        tau=math.sqrt(2.0) * noise * (1.0 + 2.0 / df),
        kept=tuple(kept),
        decisions=tuple(decisions),
        ideas=ideas,
        runs=lab.count,
        stopped=lab.lessons.stopped,
        audited=lab.lessons.audited,
        wrong=lab.lessons.wrong,
    )


def _morning(measure: Measure, gain: float) -> tuple[float, ...]:
    """Fresh pairs of baseline and final on seeds that the night never used, order by lot."""
    differences = []
    for pair in range(CLAIM_PAIRS):
        seed = _FRESH_SEED + pair
        final_first = zlib.crc32(f"claim:{pair}".encode()) & 1
        one = measure(gain if final_first else 0.0, seed)
        two = measure(0.0 if final_first else gain, seed)
        differences.append(one - two if final_first else two - one)
    return tuple(differences)


def simulated(judge: Judge, world: World, seed: int, series: tuple[float, ...] = ()) -> Night:
    """A night in a parametric world; the same seed gives every judge the same luck's source.

    Greedy, the reference's rule, has no early stop.
    """
    if world.devices > 1:
        from bench.judge.devices import Clocked  # noqa: PLC0415  it is built on this module

        return Clocked(judge, world, seed).play()
    ideas, noise = random.Random(f"ideas {seed}"), random.Random(f"noise {seed}")
    machine = Machine(world, noise, series)
    return play(
        judge,
        lambda gained: world.idea(ideas, gained),
        lambda gain, run_seed: gain + machine(run_seed),
        world.runs,
        (lambda: noise.gauss(0.0, world.blur)) if world.blur and judge.name != "greedy" else None,
    )
