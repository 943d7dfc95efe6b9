"""What happened: the replay of a journal in memory.

``fold(events)`` is the only way from a journal to a History, for the running lab, for
``status`` and for the report alike.
"""

from __future__ import annotations

from collections.abc import Iterable

from nightlab.errors import JournalError
from nightlab.events import FORMAT, AnyEvent, StudyStarted
from nightlab.history.replay import Counts, History

__all__ = ["Counts", "History", "fold"]


def fold(events: Iterable[AnyEvent]) -> History:
    """Replay a journal. Raises JournalError when it is empty or does not start a study."""
    history: History | None = None
    for event in events:
        if history is None:
            if not isinstance(event, StudyStarted):
                break
            if event.format > FORMAT:
                raise JournalError(
                    f"the journal has format {event.format}; this nightlab reads up to {FORMAT}",
                    "it was written by a newer nightlab",
                    "upgrade nightlab, then run the same command again",
                )
            history = History(event)
            continue
        history.apply(event)
    if history is None:
        raise JournalError(
            "the journal does not begin with a study",
            "it is empty, or another program wrote it",
            "move it away, then: nightlab run",
        )
    return history
