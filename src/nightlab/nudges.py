"""A person's messages, as the journal takes them: who asked for what, and when."""

from __future__ import annotations

import msgspec

from nightlab.events import Event, IdeaAdded, IdeaChanged, Noted, Paused, Resumed, Warned
from nightlab.history import History
from nightlab.inbox import Message
from nightlab.model import Idea, IdeaState


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
