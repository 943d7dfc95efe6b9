"""Who asked for what, of the journal: every wish of a person, as an entry. Pure."""

from __future__ import annotations

from typing import Any

from nightlab import events
from nightlab.events import AnyEvent
from nightlab.model import IdeaState


def entry(event: AnyEvent) -> dict[str, Any] | None:
    """What a person asked by this event; None where nobody asked for anything."""
    author = getattr(event, "author", "")
    match event:
        case events.Noted():
            what, text, idea = "note", event.text, None
        case events.IdeaAdded() if event.author:
            what, text, idea = "idea", event.idea.text, event.idea.id
        case events.IdeaChanged() if event.author:
            vetoed = event.idea.state is IdeaState.VETOED
            what, text, idea = "veto" if vetoed else "priority", event.idea.text, event.idea.id
        case events.Paused() if event.author:
            what, text, idea = "pause", "", None
        case events.Resumed() if event.author:
            what, text, idea = "resume", "", None
        case events.SessionEnded() if event.reason == "stopped":
            author, what, text, idea = event.detail.removeprefix("asked by "), "stop", "", None
        case _:
            return None
    return {"at": event.at, "author": author, "what": what, "text": text, "idea": idea}
