"""A debrief of a part of a study: what happened since a moment. Pure."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile

from nightlab.errors import UsageError
from nightlab.events import AnyEvent, Settled
from nightlab.history import History, fold
from nightlab.model import Experiment

_SPAN = re.compile(r"(\d{1,6}(?:\.\d+)?)\s*(m|min|h|d)")
_UNITS_S = {"m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True)
class Since:
    """The part of a study after ``at`` (Unix second); ``words`` say the moment for people.

    ``before`` is the study's history up to then: what it did not know is what is new.
    """

    before: History
    at: float
    words: str

    @cached_property
    def known(self) -> frozenset[int]:
        """The experiments that were settled already."""
        return frozenset(e.number for e in self.before.settled())


def settled(history: History, since: Since | None = None) -> list[Experiment]:
    """Settled experiments in order of number; only those settled since, where a moment is given."""
    done = history.settled()
    return done if since is None else [e for e in done if e.number not in since.known]


def since(
    events: Iterable[AnyEvent], moment: str, *, now: float, zone: dt.tzinfo | None = None
) -> Since | None:
    """The study after a moment; None where it had not begun by then: that is all of it.

    ``moment``: "yesterday" or "today" (from midnight in ``zone``, local where None), a length of
    time before Unix second ``now`` ("8h", "90m", "2d"), a time of day that was last ("07:00"), a
    date or a date with a time (ISO 8601), or the number of an experiment (after it was settled).
    Raises UsageError for another text and for an experiment that is not settled.
    """
    every = list(events)
    number = re.fullmatch(r"(?:exp\s*)?(\d{1,9})", moment.strip())
    if number is not None:
        return _after(every, int(number[1]))
    at, words = _read(moment.strip().lower(), now, zone)
    return after(every, at, words)


def after(events: Iterable[AnyEvent], at: float, words: str) -> Since | None:
    """The study after Unix second ``at``; None where it had not begun by then."""
    early = list(takewhile(lambda event: event.at < at, events))
    return Since(fold(early), at, words) if early else None


def _after(events: list[AnyEvent], number: int) -> Since:
    for place, event in enumerate(events):
        if isinstance(event, Settled) and event.number == number:
            return Since(fold(events[: place + 1]), event.at, f"experiment {number}")
    raise UsageError(
        f"experiment {number} is not settled",
        "--since takes what happened after an experiment was settled",
        "nightlab status",
    )


def _read(text: str, now: float, zone: dt.tzinfo | None) -> tuple[float, str]:
    """(Unix second, words) of a moment before ``now``."""
    # Naive in local time, so that its clock changes count; aware in a zone that was given.
    here = dt.datetime.fromtimestamp(now, tz=dt.UTC).astimezone(zone).replace(tzinfo=zone)
    midnight = here.replace(hour=0, minute=0, second=0, microsecond=0)
    found: dt.datetime | None = None
    if text in ("today", "yesterday"):
        found = midnight - dt.timedelta(days=text == "yesterday")
    elif span := _SPAN.fullmatch(text):
        found = here - dt.timedelta(seconds=float(span[1]) * _UNITS_S[span[2]])
    elif clock := _CLOCK.fullmatch(text):
        found = midnight.replace(hour=int(clock[1]), minute=int(clock[2]))
        found -= dt.timedelta(days=found > here)
    else:
        try:
            found = dt.datetime.fromisoformat(text.upper())
        except ValueError:
            raise UsageError(
                f"--since {text!r} is no moment",
                "it takes yesterday, today, 8h, 07:00, 2026-03-05, or an experiment's number",
                "nightlab report --since yesterday",
            ) from None
        found = (found.astimezone(zone) if found.tzinfo else found).replace(tzinfo=zone)
    if found > here:
        raise UsageError(
            f"--since {text!r} lies in the future", "", "nightlab report --since yesterday"
        )
    return found.timestamp(), f"{found:%Y-%m-%d %H:%M}"
