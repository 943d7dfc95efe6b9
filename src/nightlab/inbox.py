"""Messages to a running lab, dropped as files into the study's folder.

So the journal keeps its one writer.
"""

from __future__ import annotations

import getpass
import json
import math
import os
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nightlab.process import clean

MAX_TEXT_CHARS = 4000


@dataclass(frozen=True)
class Message:
    """``kind`` is "note", "stop", "pause", "resume", "idea", "veto" or "priority".

    ``now`` (stop only) means: do not wait for the run. ``idea`` is the id of the one that is
    vetoed or whose ``priority`` changes.
    """

    kind: str
    text: str = ""
    now: bool = False
    author: str = ""
    idea: int | None = None
    priority: float | None = None


def send(
    folder: Path,
    kind: str,
    *,
    text: str = "",
    now: bool = False,
    idea: int | None = None,
    priority: float | None = None,
    via: str = "",
) -> None:
    """Leave a message; it waits there until a lab takes it. Atomic: never seen half written.

    ``via`` is what the person used where it is not the command line; the journal names it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
    body = {"kind": kind, "text": text[:MAX_TEXT_CHARS], "now": now, "author": _user(via)}
    body |= {"idea": idea, "priority": priority}
    draft = folder / f".{name}"
    draft.write_text(json.dumps(body), encoding="utf-8")
    draft.rename(folder / f"{name}.json")


def waiting(folder: Path) -> list[tuple[Path, Message]]:
    """The messages in the order they were sent; unreadable ones are removed.

    The caller deletes a message's file once its effect is in the journal.
    """
    found = []
    for path in _files(folder):
        try:
            found.append((path, _read(path)))
        except (OSError, ValueError, KeyError, TypeError):
            path.unlink(missing_ok=True)
    return found


def peek(folder: Path) -> list[tuple[float, Message]]:
    """What no lab has taken yet, with the Unix second it was sent at. Changes nothing."""
    found = []
    for path in _files(folder):
        with suppress(OSError, ValueError, KeyError, TypeError):
            found.append((int(path.name.partition("-")[0]) / 1e9, _read(path)))
    return found


def _files(folder: Path) -> list[Path]:
    try:
        names = sorted(n for n in os.listdir(folder) if n.endswith(".json"))  # noqa: PTH208  fast
    except OSError:
        return []
    return [folder / name for name in names]


def _read(path: Path) -> Message:
    body = json.loads(path.read_text(encoding="utf-8"))
    return Message(
        kind=str(body["kind"]),
        text=clean(str(body["text"])),
        now=body["now"] is True,
        author=clean(str(body["author"])),
        idea=None if body.get("idea") is None else int(body["idea"]),
        priority=_finite(body.get("priority")),
    )


def _finite(value: object) -> float | None:
    number = float(value) if isinstance(value, (int, float)) else math.nan
    return number if math.isfinite(number) else None


def _user(via: str) -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = ""
    return " via ".join(part for part in (user, via) if part)
