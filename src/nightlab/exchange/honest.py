"""What may be said of a ledger that nobody can run again: numbers in, numbers out. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from nightlab.exchange.choosing import Chosen
from nightlab.exchange.values import Row, Status
from nightlab.stats import group, t_quantile

_LEVEL = 0.95


@dataclass(frozen=True)
class Step:
    """A kept row, and by how much it beat the kept record before it (positive is better)."""

    row: Row
    gain: float | None  # None for the first that was measured


@dataclass(frozen=True)
class Honest:
    """The figures of one segment; every gain is positive where it is better.

    ``start`` is the first measured row; ``record`` the kept row of the extreme value,
    ``last`` the last kept one. ``naive`` is from start to record. ``looked`` measured rows
    came after start, of which ``records`` beat all rows before, and as many independent draws
    of one distribution would have given ``chance`` records: H(looked + 1) - 1 (Renyi 1962).
    ``not_better`` of the ``judged`` keeps did not beat the kept record; ``missed`` rows that
    were not kept did. ``sigma`` is the spread of rows of the same commit and words, with
    ``df``; None without such rows. ``within`` kept steps are within its 95 % bound.
    """

    counts: dict[str, int]
    rows: int
    repeated: int
    measured: int
    start: Row | None
    record: Row | None
    last: Row | None
    naive: float | None
    looked: int
    records: int
    chance: float
    steps: tuple[Step, ...]
    judged: int
    not_better: int
    missed: tuple[Row, ...]
    sigma: float | None
    df: int
    within: int | None
    against: bool  # most keeps go the other way: the direction may be wrong

    @property
    def share_not_better(self) -> float | None:
        return self.not_better / self.judged if self.judged else None


def look(chosen: Chosen) -> Honest:
    """All of the figures; rows without a value, crashes and repetitions measure nothing."""
    sign = chosen.better.sign
    rows = chosen.segment.counting()
    measured = [r for r in rows if r.value is not None and r.status is not Status.CRASH]
    start = measured[0] if measured else None
    steps, missed, records = _walk(measured, sign)
    judged = [s for s in steps if s.gain is not None]
    kept = [s.row for s in steps]
    record = max(kept, key=lambda r: sign * _value(r), default=None)
    sigma, df = _spread(measured)
    within = None
    if sigma is not None:
        bound = t_quantile(0.5 + _LEVEL / 2, df) * sigma * math.sqrt(2.0)
        within = sum(s.gain <= bound for s in judged if s.gain is not None)
    looked = max(0, len(measured) - 1)
    improved = sum(s.gain > 0 for s in judged if s.gain is not None)
    flipped, _, _ = _walk(measured, -sign)
    other_way = sum(s.gain is not None and s.gain > 0 for s in flipped)
    return Honest(
        counts=dict(Counter(r.status.value for r in rows)),
        rows=len(rows),
        repeated=len(chosen.segment.rows) - len(rows),
        measured=len(measured),
        start=start,
        record=record,
        last=kept[-1] if kept else None,
        naive=sign * (_value(record) - _value(start)) if record and start else None,
        looked=looked,
        records=records,
        chance=math.fsum(1.0 / k for k in range(2, looked + 2)),
        steps=tuple(steps),
        judged=len(judged),
        not_better=len(judged) - improved,
        missed=tuple(missed),
        sigma=sigma,
        df=df,
        within=within,
        against=len(judged) >= 4 and other_way > 2 * max(1, improved),
    )


def _value(row: Row) -> float:
    return row.value if row.value is not None else math.nan


def _walk(measured: Sequence[Row], sign: float) -> tuple[list[Step], list[Row], int]:
    """(kept steps, unkept rows that beat the kept record, rows that beat all before them)."""
    steps: list[Step] = []
    missed: list[Row] = []
    records, kept, seen = 0, None, None
    for row in measured:
        value = sign * _value(row)
        if seen is not None and value > seen:
            records += 1
        seen = value if seen is None else max(seen, value)
        if row.status is Status.KEEP:
            steps.append(Step(row, None if kept is None else value - kept))
            kept = value if kept is None else max(kept, value)
        elif kept is not None and value > kept and row.status is not Status.OTHER:
            missed.append(row)
    return steps, missed, records


def _spread(measured: Sequence[Row]) -> tuple[float | None, int]:
    """Pooled (sigma, df) of rows with the same commit and the same description."""
    same: dict[tuple[str, str], list[float]] = {}
    for row in measured:
        if row.commit:
            words = " ".join(row.description.lower().split())
            same.setdefault((row.commit, words), []).append(_value(row))
    squares, df = 0.0, 0
    for values in same.values():
        if len(values) > 1:
            one = group(values)
            squares += (one.sd or 0.0) ** 2 * (one.n - 1)
            df += one.n - 1
    return (math.sqrt(squares / df), df) if df else (None, 0)
