"""The ``[notify]`` table: whom to tell what, while nobody looks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nightlab.config import values
from nightlab.errors import ConfigError

EVENTS = ("kept", "plateau", "storm", "bound", "morning")
_NAME = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})", re.ASCII)


@dataclass(frozen=True)
class Notify:
    """``to`` are names of environment variables that hold the addresses; none: nobody is told.

    ``morning`` is the time of day of the summary, "" for the end of the session; ``per_hour`` is
    the most messages of an hour.
    """

    to: tuple[str, ...] = ()
    on: tuple[str, ...] = EVENTS
    morning: str = ""
    per_hour: int = 6


def read(table: Mapping[str, Any]) -> Notify:
    """The table as values. Raises ConfigError, which never repeats what may be a secret."""
    on = tuple(table.get("on", EVENTS))
    for name in on:
        if name not in EVENTS:
            raise values.bad("[notify] on", list(on), f"some of {', '.join(EVENTS)}")
    morning = table.get("morning", "")
    if morning and not re.fullmatch(r"([01]?\d|2[0-3]):[0-5]\d", morning):
        raise values.bad("[notify] morning", morning, 'a time of day like "07:00"')
    per_hour = table.get("per_hour", Notify.per_hour)
    if per_hour < 1:
        raise values.bad("[notify] per_hour", per_hour, "a whole number from 1")
    return Notify(tuple(map(_variable, table.get("to", []))), on, morning, per_hour)


def _variable(value: object) -> str:
    found = _NAME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ConfigError(
            "[notify] to holds something else than the name of a variable",
            "an address is as good as a password: it is kept in your environment, not in a file",
            "export NIGHTLAB_NOTIFY_URL='…'  and write  to = [\"$NIGHTLAB_NOTIFY_URL\"]",
        )
    return found[1] or found[2]
