"""What a person asks of a lab from the page: the same messages as from the command line."""

from __future__ import annotations

from typing import Any

import msgspec

from nightlab import inbox, nudges
from nightlab.errors import UsageError
from nightlab.inbox import Message
from nightlab.web.answers import Refused
from nightlab.web.following import Followed

VIA = "ui"


class Note(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a note."""

    text: str


class NewIdea(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a new idea."""

    text: str
    priority: float | None = None


class Change(msgspec.Struct, forbid_unknown_fields=True):
    """What becomes of an idea: one of the two."""

    priority: float | None = None
    veto: bool = False


class Stop(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a stop."""

    now: bool = False


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """An empty object."""


def message(what: str, body: bytes, idea: int | None = None) -> Message:
    """The message of a request. Raises Refused where it is none."""
    kinds: dict[str, Any] = {"notes": Note, "ideas": NewIdea, "stop": Stop}
    form = Change if idea is not None else kinds.get(what, Nothing)
    try:
        asked = msgspec.json.decode(body or b"{}", type=form)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(422, "this cannot be understood", str(error), "docs/ui.md") from error
    match asked:
        case Note():
            return Message("note", text=asked.text)
        case NewIdea():
            return Message("idea", text=asked.text, priority=asked.priority)
        case Change() if asked.veto is (asked.priority is not None):
            raise Refused(422, "an idea is vetoed or gets a priority", "", "docs/ui.md")
        case Change():
            kind = "veto" if asked.veto else "priority"
            return Message(kind, idea=idea, priority=asked.priority)
        case Stop():
            return Message("stop", now=asked.now)
        case _:
            return Message(what)


def send(study: Followed, asked: Message) -> dict[str, Any]:
    """Leave it for the lab, after the checks of the command line. Raises Refused."""
    running = study.is_running_now()
    try:
        nudges.check(asked)
    except UsageError as error:
        raise Refused(422, error.what, error.why, error.hint) from error
    with study.read() as history:
        if asked.idea is not None:
            try:
                nudges.check_known(history, asked.idea)
            except UsageError as error:
                raise Refused(404, error.what, error.why, error.hint) from error
    if asked.kind in ("pause", "resume", "stop") and not running:
        raise Refused(
            409, f"no lab works on study {study.tag}", "there is nothing to ask it", "nightlab run"
        )
    try:
        inbox.send(
            study.paths.inbox(study.tag),
            asked.kind,
            text=asked.text,
            now=asked.now,
            idea=asked.idea,
            priority=asked.priority,
            via=VIA,
        )
    except OSError as error:
        why = error.strerror or str(error)
        raise Refused(503, "the message could not be left", why, "nightlab doctor") from error
    told = nudges.told(asked, locked=running)
    return {"asked": asked.kind, "id": study.id, "running": running, "told": told}
