"""Constants to the embedded optimizer, structure to an agent; the split follows what has paid.

Two arms of a bandit. An experiment's pay is its gain, as a share of the largest so far, if it
was kept, and nothing otherwise; its price is the device time of its runs and the time that
passed before it, in which the device waited for a thought. Both fade by ``FADE`` an experiment,
since what pays changes as a study goes on. For each arm a rate of pay is drawn from

    Gamma(1 + faded pays, 1 + faded prices / mean price)

and the arm with the higher draw proposes: Thompson sampling (W. R. Thompson, Biometrika 25,
1933) with the Gamma-Poisson pair, discounted as in V. Raj and S. Kalyani, "Taming
Non-stationary Bandits", arXiv:1707.09727. All of it is computed anew from what was learned, so
a resumed study chooses as one that never stopped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from nightlab.errors import ConfigError, Exhausted
from nightlab.model import Experiment, Proposal, Verdict
from nightlab.researchers import (
    Closing,
    Context,
    Plan,
    Researcher,
    Settings,
    Task,
    Thoughtful,
    open_researcher,
)

FADE = 0.95  # an experiment twenty ago weighs a third
LEAST_PAY = 0.1  # of a keep that gained nothing in the objective: it is shorter
_WINDOW = 200  # 0.95 ** 200 is 3.5e-5
_WAIT_MOST_S = 3600.0  # a longer pause before an experiment was no thought


class Arm(StrEnum):
    """Whose turn it is."""

    CONSTANTS = "constants"
    STRUCTURE = "structure"


@dataclass(frozen=True)
class _Paid:
    arm: Arm
    gain: float | None  # None: not kept
    seconds: float


class HybridResearcher:
    """Needs ``[researcher] agent``. Raises ConfigError for one that reads no words."""

    name = "hybrid"

    def __init__(self, settings: Settings) -> None:
        if not settings.agent or settings.agent == self.name:
            raise ConfigError(
                "the hybrid researcher has no agent",
                "[researcher] agent says who changes the structure; constants need none",
                'set agent = "claude" (or another agent, or "llm") under [researcher]',
            )
        agent = open_researcher(replace(settings, use=settings.agent))
        if not isinstance(agent, Thoughtful):
            raise ConfigError(
                f"[researcher] agent = {settings.agent!r} is no agent",
                "the hybrid researcher already has the embedded optimizer for constants",
                'set agent = "claude" (or another agent, or "llm") under [researcher]',
            )
        self._agent = agent
        self._arms: dict[Arm, Researcher] = {
            Arm.CONSTANTS: open_researcher(replace(settings, use="optuna")),
            Arm.STRUCTURE: agent,
        }
        self._seed = settings.seed
        self._paid: deque[_Paid] = deque(maxlen=_WINDOW)
        self._last_settled_at: float | None = None

    def learn(self, experiment: Experiment) -> None:
        for researcher in self._arms.values():
            researcher.learn(experiment)
        before, self._last_settled_at = self._last_settled_at, experiment.settled_at
        if experiment.number == 1 or experiment.verdict is None:
            return
        waited_s = experiment.started_at - before if before is not None else 0.0
        seconds = sum(run.duration_s + (run.evaluate_s or 0.0) for run in experiment.runs)
        arm = Arm.CONSTANTS if experiment.claim.changes else Arm.STRUCTURE
        price_s = seconds + min(max(waited_s, 0.0), _WAIT_MOST_S)
        self._paid.append(_Paid(arm, _gain(experiment), price_s))

    def propose(self, context: Context) -> Proposal:
        if context.task is Task.FIX or self.choose(context) is Arm.STRUCTURE:
            return self._arms[Arm.STRUCTURE].propose(context)
        try:
            return self._arms[Arm.CONSTANTS].propose(context)
        except Exhausted:  # no constant is left to turn; there is always structure
            return self._arms[Arm.STRUCTURE].propose(context)

    def plan(self, context: Context) -> Plan:
        return self._agent.plan(context)

    def close(self) -> None:
        if isinstance(self._agent, Closing):
            self._agent.close()

    def choose(self, context: Context) -> Arm:
        """Whose turn it is: depends on the seed, the context and what was learned only."""
        random = np.random.default_rng([self._seed, context.number, len(context.refused)])
        drawn = {
            arm: float(random.gamma(pay + 1.0) / (price + 1.0))
            for arm, (pay, price) in rates(self._paid).items()
        }
        return max(drawn, key=drawn.__getitem__)


def rates(paid: Iterable[_Paid]) -> dict[Arm, tuple[float, float]]:
    """(faded pays, faded prices in units of the mean price) of each arm."""
    records = list(paid)
    largest = max((p.gain for p in records if p.gain is not None), default=0.0)
    mean_s = sum(p.seconds for p in records) / len(records) if records else 1.0
    found = dict.fromkeys(Arm, (0.0, 0.0))
    for age, record in enumerate(reversed(records)):
        weight = FADE**age
        pay, price = found[record.arm]
        if record.gain is not None:
            share = record.gain / largest if largest > 0.0 else 0.0
            pay += weight * max(LEAST_PAY, share)
        price += weight * (record.seconds / mean_s if mean_s > 0.0 else 1.0)
        found[record.arm] = (pay, price)
    return found


def _gain(experiment: Experiment) -> float | None:
    if experiment.verdict is not Verdict.KEEP:
        return None
    decision = experiment.decision
    effect = decision.evidence.effect if decision is not None else None
    return max(0.0, effect) if effect is not None else 0.0
