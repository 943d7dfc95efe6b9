"""Which segment, which direction: told by the file or by the person, never guessed. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from nightlab.errors import UsageError
from nightlab.exchange.values import Ledger, Segment
from nightlab.model import Better


@dataclass(frozen=True)
class Chosen:
    """One segment with its metric and its direction, and how the direction is known."""

    ledger: Ledger
    segment: Segment
    metric: str
    better: Better
    better_from: str


def segment(ledger: Ledger, number: int | None = None, metric: str | None = None) -> Segment:
    """The segment meant: by its number, by its metric, or the only one that was measured.

    Raises UsageError, naming --segment, where several could be meant.
    """
    every = ledger.segments
    if number is not None:
        found = next((s for s in every if s.number == number), None)
        if found is None:
            raise UsageError(
                f"there is no segment {number}",
                f"the ledger has {len(every)}",
                "nightlab import PATH  (lists them)",
            )
        return found
    if metric is not None:
        with_it = [s for s in every if s.metric == metric]
        if len(with_it) == 1:
            return with_it[0]
        if not with_it:
            known = sorted({c for s in every for c in s.candidates})
            raise UsageError(
                f"no column {metric!r} with numbers",
                f"it might be: {', '.join(known[:12]) or 'none there'}",
                f"--metric {known[0]}" if known else "nightlab import PATH",
            )
        every = tuple(with_it)
    measured = [s for s in every if any(r.value is not None for r in s.rows)]
    if len(measured) == 1:
        return measured[0]
    if not measured:
        return max(every, key=lambda s: len(s.rows))
    listed = "; ".join(f"{s.number}: {s.metric}, {len(s.rows)} rows" for s in measured[:8])
    raise UsageError(
        f"the ledger has {len(measured)} segments that do not compare",
        listed,
        f"--segment {measured[0].number}",
    )


def metric_of(one: Segment) -> str:
    """The segment's metric. Raises UsageError, naming --metric, where the file does not tell."""
    if one.metric is not None:
        return one.metric
    if not one.candidates:
        raise UsageError(
            "the ledger has no metric", "no column of it holds numbers", "nightlab import PATH"
        )
    raise UsageError(
        "which column counts is not clear",
        f"it might be: {', '.join(one.candidates[:12])}",
        f"--metric '{one.candidates[0]}'",
    )


def choose(
    ledger: Ledger,
    *,
    better: Better | None = None,
    number: int | None = None,
    metric: str | None = None,
) -> Chosen:
    """What is to be looked at. Raises UsageError, naming the flag, for what cannot be known."""
    one = segment(ledger, number, metric)
    name = metric_of(one)
    direction, source = (better, "--better") if better else (one.better, one.better_from)
    if direction is None:
        raise UsageError(
            f"whether a lower or a higher {name} is better is not clear",
            "neither the file nor the name tells, and nightlab never guesses a direction",
            "--better lower  (or higher)",
        )
    return Chosen(ledger, one, name, direction, source)
