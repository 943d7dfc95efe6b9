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
from dataclasses import dataclass
from pathlib import Path

import msgspec

from nightlab._capture import clean
from nightlab.events import Event, IdeaAdded, IdeaChanged, Warned
from nightlab.history import History
from nightlab.model import Idea, IdeaState

MAX_TEXT_CHARS = 4000


@dataclass(frozen=True)
class Message:
    """``kind`` is "note", "stop", "idea", "veto" or "priority".

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
) -> None:
    """Leave a message; it waits there until a lab takes it. Atomic: never seen half written."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
    body = {"kind": kind, "text": text[:MAX_TEXT_CHARS], "now": now, "author": _user()}
    body |= {"idea": idea, "priority": priority}
    draft = folder / f".{name}"
    draft.write_text(json.dumps(body), encoding="utf-8")
    draft.rename(folder / f"{name}.json")


def waiting(folder: Path) -> list[tuple[Path, Message]]:
    """The messages in the order they were sent; unreadable ones are removed.

    The caller deletes a message's file once its effect is in the journal.
    """
    try:
        names = sorted(n for n in os.listdir(folder) if n.endswith(".json"))  # noqa: PTH208  fast
    except OSError:
        return []
    found = []
    for name in names:
        path = folder / name
        try:
            body = json.loads(path.read_text(encoding="utf-8"))
            message = Message(
                kind=str(body["kind"]),
                text=clean(str(body["text"])),
                now=body["now"] is True,
                author=clean(str(body["author"])),
                idea=None if body.get("idea") is None else int(body["idea"]),
                priority=_finite(body.get("priority")),
            )
            found.append((path, message))
        except (OSError, ValueError, KeyError, TypeError):
            path.unlink(missing_ok=True)
    return found


def _finite(value: object) -> float | None:
    number = float(value) if isinstance(value, (int, float)) else math.nan
    return number if math.isfinite(number) else None


def backlog_event(history: History, message: Message, name: str) -> Event | None:
    """What a message about the backlog says, for the journal; None where it says nothing new.

    ``name`` is the message's file's: an event is made of it once. A person's idea without a
    priority goes before all that wait.
    """
    backlog = history.backlog
    if name in history.messages or message.kind not in ("idea", "veto", "priority"):
        return None
    if message.kind == "idea":
        first = max((i.priority for i in backlog.open()), default=0.0) + 1.0
        idea = Idea(
            id=backlog.next_id(),
            text=" ".join(message.text.split()),
            priority=first if message.priority is None else message.priority,
            source="person",
        )
        return IdeaAdded(idea=idea, author=message.author, message=name)
    known = backlog.ideas.get(message.idea or 0)
    if known is None:
        return Warned(text=f"there is no idea {message.idea} in the backlog: nothing was changed")
    if message.kind == "veto":
        changed = msgspec.structs.replace(known, state=IdeaState.VETOED)
    elif message.priority is None:
        return None
    else:
        changed = msgspec.structs.replace(known, priority=message.priority)
    return IdeaChanged(idea=changed, author=message.author, message=name)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""
