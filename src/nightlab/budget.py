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
    the same command after a crash means the same end; so do money, tokens (in and out) and
    seconds of device time. ``until`` is Unix seconds.
    """

    max_experiments: int | None = None
    until: float | None = None
    max_usd: float | None = None
    max_tokens: int | None = None
    max_device_s: float | None = None

    def describe(self) -> str:
        """For the journal: "30 experiments", "no bound"."""
        words = []
        if self.max_experiments is not None:
            words.append(f"{self.max_experiments} experiments")
        if self.until is not None:
            words.append(f"until {self.until:.0f}")
        if self.max_usd is not None:
            words.append(f"{self.max_usd:g} USD")
        if self.max_tokens is not None:
            words.append(f"{self.max_tokens} tokens")
        if self.max_device_s is not None:
            words.append(f"{self.max_device_s / 3600:g} device hours")
        return ", ".join(words) or "no bound"


@dataclass(frozen=True)
class Left:
    """What is left of the bounds; None: no such bound. Never negative."""

    experiments: int | None
    seconds: float | None
    usd: float | None = None
    tokens: int | None = None
    device_seconds: float | None = None

    @property
    def spent(self) -> bool:
        """Whether no new experiment may begin."""
        return self.experiments == 0 or self.over or self.broke

    @property
    def over(self) -> bool:
        """Whether no run may start any more: what is open waits for another session."""
        return self.seconds == 0.0 or self.device_seconds == 0.0

    @property
    def broke(self) -> bool:
        """Whether no researcher may be asked any more."""
        return self.usd == 0.0 or self.tokens == 0


def left(bounds: Bounds, history: History, now: float) -> Left:
    """What is left at Unix second ``now``. Open experiments count as used."""
    experiments = seconds = None
    if bounds.max_experiments is not None:
        experiments = max(0, bounds.max_experiments - len(history.experiments))
    if bounds.until is not None:
        seconds = max(0.0, bounds.until - now)
    spent = history.accounts.spent
    return Left(
        experiments,
        seconds,
        _rest(bounds.max_usd, spent.usd or 0.0),
        None if bounds.max_tokens is None else max(0, bounds.max_tokens - spent.tokens),
        _rest(bounds.max_device_s, history.device_seconds),
    )


def _rest(most: float | None, used: float) -> float | None:
    return None if most is None else max(0.0, most - used)


def stop_reason(bounds: Bounds, history: History, now: float) -> str | None:
    """Why no new experiment may begin, in words; None while one may."""
    rest = left(bounds, history, now)
    if rest.experiments == 0:
        total = history.counts.total
        more = f" (the study has {total})" if total > (bounds.max_experiments or 0) else ""
        return f"the bound of {bounds.max_experiments} experiments is reached{more}"
    if rest.seconds == 0.0:
        return "the time that was set is over"
    if rest.usd == 0.0:
        usd = history.accounts.spent.usd or 0.0
        return f"the bound of {bounds.max_usd:g} USD is reached ({usd:.2f} were spent)"
    if rest.tokens == 0:
        tokens = history.accounts.spent.tokens
        return f"the bound of {bounds.max_tokens} tokens is reached ({tokens} were used)"
    if rest.device_seconds == 0.0 and bounds.max_device_s is not None:
        return f"the bound of {bounds.max_device_s / 3600:g} device hours is reached"
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
