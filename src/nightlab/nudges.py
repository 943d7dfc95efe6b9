"""A person's messages: what may be asked, and as the journal takes them, by whom and when."""

from __future__ import annotations

import math

import msgspec

from nightlab import inbox
from nightlab.errors import UsageError
from nightlab.events import Event, IdeaAdded, IdeaChanged, Noted, Paused, Resumed, Warned
from nightlab.history import History
from nightlab.inbox import Message
from nightlab.model import Idea, IdeaState


def check(message: Message) -> Message:
    """The message, whoever drew it up. Raises UsageError where no lab could take it."""
    hint = "nightlab note 'try a lower warmup'"
    if message.kind in ("note", "idea") and not message.text.strip():
        raise UsageError(f"the {message.kind} is empty", "", hint)
    if len(message.text) > inbox.MAX_TEXT_CHARS:
        raise UsageError(
            f"the {message.kind} has {len(message.text)} characters",
            f"at most {inbox.MAX_TEXT_CHARS} are passed on",
            "put the long form into program.md, which the researcher reads too",
        )
    if message.priority is not None and not math.isfinite(message.priority):
        raise UsageError("a priority is a finite number", "", "nightlab note --priority 12=5")
    return message


def check_known(history: History, idea: int) -> None:
    """Raises UsageError where the backlog has no such idea."""
    backlog = history.backlog
    if idea not in backlog.ideas:
        raise UsageError(
            f"there is no idea {idea} in the backlog",
            f"ideas there: {', '.join(str(i.id) for i in backlog.open()[:20]) or 'none'}",
            "nightlab status",
        )


def told(message: Message, *, locked: bool) -> str:
    """What happens with the message, for the person; ``locked``: a lab runs now."""
    at_once = "at once" if locked else "when the lab runs again"
    match message.kind:
        case "note":
            when = "with its next proposal" if locked else at_once
            return f"a researcher that reads is shown it {when} (optuna and sweep do not read)"
        case "idea":
            return f"the idea joins the backlog {at_once} (optuna and sweep do not read it)"
        case "veto":
            return f"idea {message.idea} leaves the backlog {at_once}"
        case "priority":
            return f"idea {message.idea} gets priority {message.priority or 0:g} {at_once}"
        case "pause":
            return "the lab waits after the run in flight; it goes on when it is resumed"
        case "resume":
            return "the lab goes on"
        case _:
            return f"the lab ends {'at once' if message.now else 'after the run in flight'}"


def event(history: History, message: Message, name: str) -> Event | None:
    """What a message says, for the journal; None where it says nothing new, or is a "stop".

    ``name`` is the message's file's: an event is made of it once.
    """
    author = message.author
    if name in history.messages:
        return None
    match message.kind:
        case "note":
            return Noted(text=message.text, author=author, message=name)
        case "pause" if history.held is None:
            return Paused(reason=f"asked by {author or 'a person'}", author=author, message=name)
        case "resume" if history.held is not None:
            return Resumed(author=author, message=name)
        case "idea" | "veto" | "priority":
            return _about_backlog(history, message, name)
        case _:
            return None


def _about_backlog(history: History, message: Message, name: str) -> Event | None:
    """A person's idea without a priority goes before all that wait."""
    backlog = history.backlog
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
