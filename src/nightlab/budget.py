"""What is left and when to stop: bounds a person set, and the failure storm. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nightlab.history import History

STORM_CRASHES = 8  # experiments in a row that crashed: the machine or the researcher is ill
STORM_LOST = 4  # runs in a row lost to infrastructure
_PAUSE_FIRST_S = 30.0
_PAUSE_MOST_S = 1800.0


@dataclass(frozen=True)
class Bounds:
    """What the person allowed. None everywhere: for ever.

    ``max_experiments`` counts all experiments of the study, the baseline included, so that
    the same command after a crash means the same end. ``until`` is Unix seconds.
    """

    max_experiments: int | None = None
    until: float | None = None

    def describe(self) -> str:
        """For the journal: "30 experiments", "no bound"."""
        words = []
        if self.max_experiments is not None:
            words.append(f"{self.max_experiments} experiments")
        if self.until is not None:
            words.append(f"until {self.until:.0f}")
        return ", ".join(words) or "no bound"


@dataclass(frozen=True)
class Left:
    """What is left of the bounds; None: no such bound. Never negative."""

    experiments: int | None
    seconds: float | None

    @property
    def spent(self) -> bool:
        return self.experiments == 0 or self.seconds == 0.0


def left(bounds: Bounds, history: History, now: float) -> Left:
    """What is left at Unix second ``now``. Open experiments count as used."""
    experiments = seconds = None
    if bounds.max_experiments is not None:
        experiments = max(0, bounds.max_experiments - len(history.experiments))
    if bounds.until is not None:
        seconds = max(0.0, bounds.until - now)
    return Left(experiments, seconds)


def stop_reason(bounds: Bounds, history: History, now: float) -> str | None:
    """Why no new experiment may begin, in words; None while one may."""
    rest = left(bounds, history, now)
    if rest.experiments == 0:
        return f"the bound of {bounds.max_experiments} experiments is reached"
    if rest.seconds == 0.0:
        return "the time that was set is over"
    return None


def storm(history: History, lost_in_a_row: int) -> str | None:
    """Why to pause: too many failures in a row; None when all is well."""
    if lost_in_a_row >= STORM_LOST:
        return f"{lost_in_a_row} runs in a row were lost to the machine, not to the candidate"
    if history.crashes_in_a_row >= STORM_CRASHES:
        return f"{history.crashes_in_a_row} experiments in a row crashed"
    return None


def pause_s(pauses_in_a_row: int) -> float:
    """How long to wait before the next probe: doubling, capped at half an hour."""
    return min(_PAUSE_MOST_S, _PAUSE_FIRST_S * math.pow(2.0, min(pauses_in_a_row, 10)))
