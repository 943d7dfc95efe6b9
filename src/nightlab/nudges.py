"""A person's messages about the backlog, as the journal takes them: ideas, priorities, vetoes."""

from __future__ import annotations

import msgspec

from nightlab.events import Event, IdeaAdded, IdeaChanged, Warned
from nightlab.history import History
from nightlab.inbox import Message
from nightlab.model import Idea, IdeaState


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
