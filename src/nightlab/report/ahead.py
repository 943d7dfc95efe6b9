"""Where the search has room left: what waits, what was hardly tried, what may combine. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nightlab.history import History
from nightlab.report import lessons
from nightlab.report.schema import Attempt, Discovery, Noise, Step
from nightlab.report.words import clean, count, signed

_ENOUGH = 12  # experiments before a category can be called neglected
_NAMED = 6


def steps(
    history: History, seen: Noise, found: Sequence[Discovery], misses: Sequence[Attempt]
) -> Iterator[Step]:
    """Recommendations about what to try, the surest first."""
    yield from _backlog(history)
    yield from _settled_before(history, seen, found)
    yield from _together(history, seen, misses)
    yield from _neglected(history, seen)


def _backlog(history: History) -> Iterator[Step]:
    waiting = history.backlog.open()
    if waiting:
        top = waiting[0]
        expects = f"; it is expected to {clean(top.expects, 120)}" if top.expects else ""
        yield Step(
            kind="backlog",
            do=f"Try next what is on top of the backlog: {clean(top.text, 200)}",
            why=f"{count(len(waiting), 'idea waits', 'ideas wait')} there"
            f"{f', this one by {clean(top.source, 40)}' if top.source else ''}{expects}",
            command="nightlab run",
        )


def _settled_before(history: History, seen: Noise, found: Sequence[Discovery]) -> Iterator[Step]:
    """Constants that were moved only before the largest keep changed what they act on."""
    largest = next(iter(found), None)
    if largest is None or not largest.effect or largest.effect <= 0:
        return
    last: dict[str, int] = {}
    own = {c.name for c in history.experiments[largest.experiment].claim.changes}
    for experiment in lessons.tried(history):
        for change in experiment.claim.changes:
            last[change.name] = experiment.number
    stale = [n for n, at in last.items() if at < largest.experiment and n not in own]
    if stale:
        more = f" and {len(stale) - _NAMED} more" if len(stale) > _NAMED else ""
        yield Step(
            kind="interaction",
            do=f"Move again what was settled before experiment {largest.experiment}: "
            f"{', '.join(stale[:_NAMED])}{more}",
            why=f"that experiment ({signed(largest.effect, seen.sigma)}) changed what they were "
            "measured on, and nobody has moved them since",
        )


def _together(history: History, seen: Noise, misses: Sequence[Attempt]) -> Iterator[Step]:
    """Two near misses that touch different constants: each alone was too small to be shown."""
    hopeful = [m for m in misses if m.effect is not None and m.effect > 0][:4]
    for place, one in enumerate(hopeful):
        mine = {c.name for c in history.experiments[one.experiment].claim.changes}
        for other in hopeful[place + 1 :]:
            theirs = {c.name for c in history.experiments[other.experiment].claim.changes}
            if mine & theirs or clean(one.description) == clean(other.description):
                continue
            yield Step(
                kind="together",
                do=f"Try experiments {one.experiment} and {other.experiment} together: "
                f"{clean(one.description, 80)}, and {clean(other.description, 80)}",
                why=f"{signed(one.effect, seen.sigma)} and {signed(other.effect, seen.sigma)} "
                "alone, neither beyond noise, and they change different things",
            )
            return


def _neglected(history: History, seen: Noise) -> Iterator[Step]:
    """Categories with less than half of an even share of the experiments, and some hope."""
    named = [t for t in lessons.categories(history) if t.name != "(no category)"]
    total = sum(t.tried for t in named)
    if len(named) < 3 or total < _ENOUGH:
        return
    few = [
        t
        for t in named
        if 2 * t.tried * len(named) < total and (t.keep or t.inconclusive or (t.largest or 0) > 0)
    ]
    for tally in sorted(few, key=lambda t: (-t.keep / t.tried, -(t.largest or 0.0)))[:2]:
        kept = f"{tally.keep} of them kept, " if tally.keep else ""
        yield Step(
            kind="neglected",
            do=f"Try more in the category {clean(tally.name, 60)}",
            why=f"it had {tally.tried} of {count(total, 'experiment')}: {kept}the largest effect "
            f"{signed(tally.largest, seen.sigma)}",
        )
