"""When it is time to plan, and how a plan becomes a backlog. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator

import msgspec

from nightlab.events import IdeaAdded, IdeaChanged
from nightlab.history import History
from nightlab.history.backlog import Backlog
from nightlab.model import Idea, IdeaState

PLATEAU = 10  # experiments without a keep: then a plan is worth its price, once
MOST_IDEAS = 20  # of one plan
PERSON = "person"
_TEXT_CHARS = 400


def due(history: History, every: int) -> str:
    """Why it is time to plan, in words; "" while it is not. ``every`` 0: never.

    A plan is due ``every`` experiments after the last one, and once when a plateau begins.
    """
    if every <= 0 or history.incumbent_number is None:
        return ""
    count = len(history.experiments)
    since = count - max(history.planned_at, 1)
    if since >= every:
        return f"{since} experiments since the last plan"
    kept = history.incumbent_number
    if count - kept >= PLATEAU > history.planned_at - kept:
        return f"{count - kept} experiments without a keep"
    return ""


def events(
    ideas: Iterable[Idea],
    vetoed: Collection[int],
    backlog: Backlog,
    *,
    source: str,
    experiments: Collection[int],
) -> Iterator[IdeaAdded | IdeaChanged]:
    """A plan as events: ideas best first get falling priorities, those known are not added twice.

    A person's ideas are not the plan's to veto. Ids are given here; the proposer's do not count.
    """
    known = {_key(idea.text): idea for idea in backlog}
    ids = backlog.next_id()
    taken = 0
    for idea in ideas:
        text = _clean(idea.text)
        if not text or taken == MOST_IDEAS:
            continue
        taken += 1
        before = known.get(_key(text))
        priority = _priority(idea.priority)
        if before is not None:
            again = before.state is IdeaState.OPEN and before.source != PERSON
            if again and before.priority != priority:
                changed = msgspec.structs.replace(before, priority=priority)
                known[_key(text)] = changed
                yield IdeaChanged(idea=changed)
            continue
        made = Idea(
            id=ids,
            text=text,
            category=_clean(idea.category)[:60],
            priority=priority,
            expects=_clean(idea.expects),
            cost=_clean(idea.cost)[:120],
            source=source,
            after=tuple(n for n in idea.after if n in experiments),
        )
        known[_key(text)] = made
        ids += 1
        yield IdeaAdded(idea=made)
    for unwanted in dict.fromkeys(vetoed):
        old = backlog.ideas.get(unwanted)
        if old is not None and old.state is IdeaState.OPEN and old.source != PERSON:
            yield IdeaChanged(idea=msgspec.structs.replace(old, state=IdeaState.VETOED))


def _key(text: str) -> str:
    """What makes two ideas the same: their words, whatever the case and the punctuation."""
    return " ".join(re.findall(r"[\w.+-]+", text.casefold())).strip(".")


def _clean(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:_TEXT_CHARS]


def _priority(value: float) -> float:
    return max(-1000.0, min(1000.0, value)) if math.isfinite(value) else 0.0
