"""Blocks of records -> segments of rows: numbers, verdicts, ids, order, repetitions. Pure."""

from __future__ import annotations

import itertools
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence

from nightlab.exchange import cells, roles
from nightlab.exchange.roles import Roles
from nightlab.exchange.values import Block, Record, Repair, Row, Segment, Status
from nightlab.process import clean
from nightlab.project import direction

_FAR = 10.0  # times the largest other value: 999 among values around 1 is no measurement
_CODES = frozenset({-1.0, -999.0, 999.0, 9999.0, 99999.0, 999999.0, 1e6, 1e9, 1e10})
_TEXT_CHARS = 2000
_EXTRA_CHARS = 500


def segments(
    blocks: Iterable[Block], *, metric: str | None = None
) -> tuple[list[Segment], list[Repair]]:
    """Every block as a segment, split by target where one column holds several.

    ``metric`` names the column that counts, where a block has it. Raises nothing.
    """
    found: list[Segment] = []
    repairs: list[Repair] = []
    for block in blocks:
        if metric is not None and any(metric in r.cells for r in block.records):
            if block.metric not in (None, metric):
                block.better, block.better_from, block.unit = None, "", ""
            block.metric = metric
        seen = roles.of(block)
        for name, records in _by_target(block, seen, repairs):
            found.append(_Segment(block, seen, repairs).make(len(found) + 1, name, records))
    return found, repairs


def _by_target(block: Block, seen: Roles, repairs: list[Repair]) -> list[tuple[str, list[Record]]]:
    if sum(bool(_text(r, seen.target)) for r in block.records) < 0.8 * len(block.records):
        return [(block.name, block.records)]
    groups: dict[str, list[Record]] = {}
    for record in block.records:
        groups.setdefault(_text(record, seen.target) if seen.target else "", []).append(record)
    if len(groups) == 1 or len(groups) > max(2, len(block.records) // 3):
        return [(block.name, block.records)]
    repairs.append(
        Repair(
            block.records[0].line, f"{len(groups)} targets in column {seen.target}: a segment each"
        )
    )
    return [(f"{seen.target} {name}".strip(), records) for name, records in groups.items()]


def _text(record: Record, column: str | None, most: int = _TEXT_CHARS) -> str:
    value = record.cells.get(column) if column else None
    return "" if value is None else " ".join(clean(str(value)[: 2 * most]).split())[:most]


class _Segment:
    def __init__(self, block: Block, seen: Roles, repairs: list[Repair]) -> None:
        self.block, self.seen, self.repairs = block, seen, repairs

    def repair(self, line: int, what: str, shown: str = "") -> None:
        self.repairs.append(Repair(line, what, shown))

    def make(self, number: int, name: str, records: Sequence[Record]) -> Segment:
        block, seen = self.block, self.seen
        records = self._in_order(self._without_details(records))
        read = [
            cells.number(r.cells.get(seen.metric)) if seen.metric else (None, "") for r in records
        ]
        units = Counter(unit for value, unit in read if value is not None and unit)
        rows: list[Row] = []
        for at, (record, (value, unit)) in enumerate(zip(records, read, strict=True), 1):
            rows.append(self._row(at, record, value, unit))
        rows = self._without_sentinels(rows)
        rows = self._commits(self._repetitions(rows))
        if len(units) > 1:
            self.repair(0, f"several units in {seen.metric}: {', '.join(list(units)[:4])}")
        better, source = block.better, block.better_from
        if better is None and seen.metric:
            better = direction(seen.metric)
            source = f"the meaning of {seen.metric}" if better else ""
        return Segment(
            number=number,
            name=name,
            metric=seen.metric,
            candidates=seen.candidates,
            better=better,
            better_from=source,
            unit=block.unit or (units.most_common(1)[0][0] if units else ""),
            rows=tuple(rows),
        )

    def _without_details(self, records: Sequence[Record]) -> Sequence[Record]:
        """Parallel workers of leo's write rows 5a, 5b; the row 5 is the experiment."""
        if self.block.kind != "leo" or not self.seen.number:
            return records
        found = []
        for record in records:
            if re.fullmatch(r"\d+[a-z]+", _text(record, self.seen.number, 20)):
                self.repair(
                    record.line, "a worker's row, left out", _text(record, self.seen.number)
                )
            else:
                found.append(record)
        return found

    def _in_order(self, records: Sequence[Record]) -> Sequence[Record]:
        """Oldest first. Only times tell for certain; ids do where all of them fall."""
        for column, read in ((self.seen.time, cells.when), (self.seen.number, _id)):
            marks = [read(r.cells.get(column)) for r in records] if column else []
            known = [m for m in marks if m is not None]
            if len(known) < max(3, 0.8 * len(records)):
                continue
            steps = [b - a for a, b in itertools.pairwise(known) if b != a]
            falls = sum(s < 0 for s in steps)
            if steps and falls >= (0.9 if read is cells.when else 1.0) * len(steps):
                self.repair(records[0].line, f"newest first by {column}: turned round")
                return list(reversed(records))
            return records
        return records

    def _row(self, at: int, record: Record, value: float | None, unit: str) -> Row:
        seen = self.seen
        word = record.cells.get(seen.status) if seen.status else None
        status = cells.status(word)
        if status is None:
            status = Status.OTHER
            if word is not None and str(word).strip() not in ("", "-"):
                self.repair(record.line, "unknown verdict", _text(record, seen.status, 40))
        cell = record.cells.get(seen.metric) if seen.metric else None
        if seen.metric and value is None and not cells.is_nothing(cell):
            self.repair(record.line, f"no number in {seen.metric}", _text(record, seen.metric, 40))
        elif unit:
            self.repair(record.line, "unit taken off", _text(record, seen.metric, 60))
        named = _text(record, seen.commit, 100)
        commit = cells.commit(named)
        if named and commit is None and not cells.is_nothing(named):
            self.repair(record.line, "no commit id", named[:40])
        metrics = {
            c: v for c in seen.numbers
            if c != seen.metric and (v := cells.number(record.cells.get(c))[0]) is not None
        }  # fmt: skip
        used = {seen.metric, seen.status, seen.description, seen.hypothesis, seen.commit, *metrics}
        extra = {
            c: _text(record, c, _EXTRA_CHARS)
            for c in self.block.columns
            if c not in used and record.cells.get(c) not in (None, "")
        }
        return Row(
            number=at,
            line=record.line,
            status=status,
            word="" if word is None else _text(record, seen.status, 100),
            label=_text(record, seen.number, 100) or (named if commit is None else ""),
            commit=commit.removesuffix("-dirty") if commit else None,
            value=value,
            unit=unit,
            metrics=metrics,
            description=_text(record, seen.description),
            hypothesis=_text(record, seen.hypothesis),
            category=_text(record, seen.category, 100),
            at=cells.when(record.cells.get(seen.time)) if seen.time else None,
            extra=extra,
            raw=record.raw,
        )

    def _without_sentinels(self, rows: list[Row]) -> list[Row]:
        """Values that stand for none: 0 of a crash, 999, -1, a 0 that nothing comes near."""
        whole = [r for r in rows if r.status is not Status.CRASH]
        real = [
            r.value
            for r in (whole if any(r.value is not None for r in whole) else rows)
            if r.value is not None and r.value not in {0.0, *_CODES}
        ]
        zeros = sum(r.value == 0.0 for r in whole)
        largest = max(map(abs, real), default=0.0)
        usual = statistics.median(map(abs, real)) if real else 0.0
        one_sign = bool(real) and (min(real) > 0 or max(real) < 0)
        found = []
        for row in rows:
            why = ""
            value = row.value
            if value is not None and value == 0.0:
                near = any(abs(v) < 0.05 * usual for v in real)
                if row.status is Status.CRASH:
                    why = "0 of a crash"
                elif not real and zeros > 2:
                    why = "0, as in every row,"
                elif one_sign and not near and row.status is not Status.KEEP:
                    why = f"0 under {row.word or 'no verdict'}"
                elif one_sign and not near:
                    self.repair(row.line, "0 under keep: taken as measured; it may mean no result")
            elif value in _CODES and (
                row.status is Status.CRASH
                or (real and abs(value or 0.0) > _FAR * largest)
                or (real and value == -1.0 and min(real) > 0)
            ):
                why = f"{value:g}"
            if why:
                self.repair(row.line, f"{why} read as no value")
                row = _replaced(row, value=None)  # noqa: PLW2901
            found.append(row)
        return found

    def _repetitions(self, rows: list[Row]) -> list[Row]:
        """A row that says what another says counts once; the later one has the last word."""
        seen: dict[tuple[object, ...], int] = {}
        found = list(rows)
        for at, row in enumerate(rows):
            if not (row.description or row.commit) or row.value is None:
                continue
            metrics = tuple(sorted(row.metrics.items()))
            said = (row.value, metrics, row.description)
            keys: list[tuple[object, ...]] = [(row.commit or row.label, *said, row.at)]
            if len(row.description) > 20:
                keys.append(
                    said
                )  # judged again: another commit, another verdict, all else the same
            before = next((seen[k] for k in keys if k in seen), None)
            exactly = keys[0] in seen
            seen |= dict.fromkeys(keys, at)
            if before is None or not (exactly or rows[before].status is not row.status):
                continue
            old = rows[before]
            other = "" if old.status is row.status else f", as {row.word or 'undecided'}"
            self.repair(old.line, "said again further on: counts once", f"line {row.line}{other}")
            found[before] = _replaced(old, same_as=row.line)
        return found

    def _commits(self, rows: list[Row]) -> list[Row]:
        """Commits of others: what is not kept often carries the commit that was gone back to."""
        if self.block.kind not in ("pi", "leo"):
            return rows
        found, kept = [], None
        for row in rows:
            if row.status is Status.KEEP:
                kept = row.commit or kept
            elif row.commit and (row.commit == kept or self.block.kind == "leo"):
                self.repair(row.line, "its commit is the one gone back to, not its own", row.commit)
                row = _replaced(row, commit=None)  # noqa: PLW2901
            found.append(row)
        return found


def _id(cell: object) -> float | None:
    return cells.number(str(cell).strip().lstrip("#"))[0] if cell is not None else None


def _replaced(row: Row, **changes: object) -> Row:
    return Row(**(row.__dict__ | changes))
